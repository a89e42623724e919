"""The one-pass kernels equal the definitions, for any shape, stride and format; gradients flow where wanted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clearsight.kernels.rowwise import (
    add,
    layer_norm,
    layer_norm_reference,
    quick_gelu,
    quick_gelu_reference,
    rms_norm,
    rms_norm_reference,
    rotate,
    rotate_reference,
    swiglu,
    swiglu_reference,
)

# The definitions round to bfloat16 after each step, the kernels once.
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-6}, torch.bfloat16: {"rtol": 2**-6, "atol": 2**-9}}
dtypes = st.sampled_from((torch.float32, torch.bfloat16))
shapes = st.tuples(st.integers(1, 40), st.integers(1, 600))


def random_rows(rows, width, dtype, seed, scale=3.0):
    """Rows that lie apart in memory."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, width + 3, generator=generator) * scale).to(dtype)[:, 1 : width + 1]


@settings(max_examples=40)
@given(shape=shapes, dtype=dtypes, seed=st.integers(0, 2**31))
def test_rms_norm(shape, dtype, seed):
    x, weight = random_rows(*shape, dtype, seed), random_rows(1, shape[1], dtype, seed + 1)[0].clone()
    torch.testing.assert_close(rms_norm(x, weight, 1e-6), rms_norm_reference(x, weight, 1e-6), **TOLERANCE[dtype])


@settings(max_examples=40)
@given(shape=shapes, dtype=dtypes, seed=st.integers(0, 2**31), offset=st.sampled_from((0.0, 50.0)))
def test_layer_norm(shape, dtype, seed, offset):
    x = (random_rows(*shape, torch.float32, seed) + offset).to(dtype)
    weight, bias = (random_rows(1, shape[1], dtype, seed + i)[0].clone() for i in (1, 2))
    exact = layer_norm_reference(x.float(), weight.float(), bias.float(), 1e-6).to(dtype)
    limits = {"rtol": 2**-6, "atol": 2**-5} if dtype is torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(layer_norm(x, weight, bias, 1e-6), exact, **limits)


@settings(max_examples=20)
@given(shape=shapes, dtype=dtypes, seed=st.integers(0, 2**31))
def test_add(shape, dtype, seed):
    x, other = (random_rows(*shape, dtype, seed + i).contiguous() for i in (0, 1))
    assert torch.equal(add(x, other), x + other)


@settings(max_examples=40)
@given(shape=shapes, dtype=dtypes, seed=st.integers(0, 2**31), scale=st.sampled_from((0.1, 3.0, 100.0)))
def test_gated_activations(shape, dtype, seed, scale):
    x, up = random_rows(*shape, dtype, seed, scale), random_rows(*shape, dtype, seed + 1)
    exact = {"gelu": quick_gelu_reference(x.float()), "swiglu": swiglu_reference(x.float(), up.float())}
    for name, found in (("gelu", quick_gelu(x)), ("swiglu", swiglu(x, up))):
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), exact[name], **TOLERANCE[dtype])


@settings(max_examples=40)
@given(
    rows=st.integers(1, 40), heads=st.integers(1, 5), half=st.integers(1, 128), dtype=dtypes, seed=st.integers(0, 2**31)
)
def test_rotate(rows, heads, half, dtype, seed):
    x = random_rows(rows, heads * 2 * half, dtype, seed).unflatten(-1, (heads, 2 * half))
    angles = random_rows(rows, 2 * half, torch.float32, seed + 1)[:, None]
    tables = angles.cos(), angles.sin()
    torch.testing.assert_close(rotate(x, *tables), rotate_reference(x, *tables), **TOLERANCE[dtype])


@settings(max_examples=40)
@given(
    rows=st.integers(1, 40), heads=st.integers(1, 5), half=st.integers(1, 128), dtype=dtypes, seed=st.integers(0, 2**31)
)
def test_the_gradient_of_a_rotation_is_that_of_its_definition(rows, heads, half, dtype, seed):
    wanted = random_rows(rows, heads * 2 * half, dtype, seed + 2).unflatten(-1, (heads, 2 * half))
    angles = random_rows(rows, half, torch.float32, seed + 1).repeat(1, 2)[:, None]
    gradients = []
    for turn in (rotate, rotate_reference):
        x = random_rows(rows, heads * 2 * half, dtype, seed).unflatten(-1, (heads, 2 * half)).requires_grad_()
        turn(x, angles.cos(), angles.sin()).backward(wanted)
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_extreme_values_stay_what_they_are(dtype):
    x = torch.tensor([[0.0, -0.0, 1e4, -1e4, float("inf"), 88.0, -88.0, 1e-30]]).to(dtype)
    torch.testing.assert_close(quick_gelu(x), quick_gelu_reference(x), rtol=1e-6, atol=1e-30)
    assert rms_norm(torch.full((1, 8), float("nan")).to(dtype), torch.ones(8).to(dtype), 1e-6).isnan().all()
    assert torch.equal(
        rms_norm(torch.zeros(2, 8).to(dtype), torch.ones(8).to(dtype), 1e-6), torch.zeros(2, 8).to(dtype)
    )


def test_gradients_flow():
    x, weight = torch.randn(3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    tables = torch.randn(3, 1, 4), torch.randn(3, 1, 4)
    rotated = rotate(x.unflatten(-1, (2, 4)), *tables)
    (rms_norm(x, weight, 1e-6) + swiglu(x, x) + quick_gelu(x) + rotated.flatten(1)).sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
