"""Quantised products: the kernels equal the reference that defines them, whatever the shape and the processor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clearsight.kernels import native
from clearsight.kernels.linear import (
    GROUPS,
    dequantize,
    pack,
    quantize_weight,
    quantize_weight_reference,
    quantized_linear,
    quantized_linear_reference,
    unpack,
)

TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-4}, torch.bfloat16: {"rtol": 2**-7, "atol": 1e-4}}

shapes = st.tuples(st.integers(1, 40), st.integers(1, 100), st.integers(1, 300))


def make(rows, outputs, inputs, seed):
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias = (
        torch.randn(*size, generator=generator) for size in ((rows, inputs), (outputs, inputs), (outputs,))
    )
    x[:, : inputs // 3] *= 50  # unequal channels
    weight[: outputs // 4] = 0
    return x, weight, bias


def check_product(rows, outputs, inputs, bits, group, dtype, bias, seed):
    x, weight, shift = make(rows, outputs, inputs, seed)
    packed = quantize_weight(weight, bits, group)
    arguments = (x.to(dtype), packed, shift if bias else None)
    torch.testing.assert_close(quantized_linear(*arguments), quantized_linear_reference(*arguments), **TOLERANCE[dtype])


@settings(max_examples=80)
@given(
    shape=shapes,
    bits=st.sampled_from((4, 8)),
    group=st.sampled_from(GROUPS),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_product_equals_reference(shape, bits, group, dtype, bias, seed):
    check_product(*shape, bits, group, dtype, bias, seed)


@pytest.mark.parametrize("rows", [*range(1, 9), 12, 13, 40])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_number_of_rows(rows, bits, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check_product(rows, 70, 200, bits, 64, torch.bfloat16, True, rows)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", [0, 1])
def test_the_largest_sums_do_not_overflow(bits, group, zero):
    """All weights and activations at their ends, of equal and of changing sign: no sum on the way may be too small."""
    top = (1 << bits) - 1
    levels = torch.full((33, 512), top, dtype=torch.uint8)
    weight = pack(levels, torch.ones(33, 512 // group), torch.full((33, 512 // group), top * zero, dtype=torch.uint8),
                  bits=bits)  # fmt: skip
    signs = torch.ones(3, 512)
    signs[1] = -1
    signs[2, ::3] = -1
    expected = (signs * (top - top * zero)).sum(1, keepdim=True).expand(-1, 33)
    torch.testing.assert_close(quantized_linear(signs, weight), expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_may_lie_apart_and_have_many_axes(bits):
    x, weight, _ = make(24, 40, 96, 0)
    packed = quantize_weight(weight, bits, 32)
    expected = quantized_linear(x, packed)
    apart = torch.zeros(24, 200)
    apart[:, 10:106] = x
    assert torch.equal(quantized_linear(apart[:, 10:106], packed), expected)
    assert torch.equal(quantized_linear(x.T.contiguous().T, packed), expected)
    assert torch.equal(quantized_linear(x.view(2, 3, 4, 96), packed), expected.view(2, 3, 4, 40))
    assert quantized_linear(x[:0], packed).shape == (0, 40)
    assert torch.equal(quantized_linear(x[0], packed), expected[0])


@pytest.mark.parametrize("bits", [4, 8])
def test_a_row_does_not_depend_on_the_rows_beside_it(bits):
    x, weight, bias = make(40, 70, 300, 1)
    packed = quantize_weight(weight, bits, 128)
    together = quantized_linear(x, packed, bias)
    for count in (1, 2, 5, 7):
        parts = [quantized_linear(part, packed, bias) for part in x.split(count)]
        assert torch.equal(torch.cat(parts), together)


@settings(max_examples=40)
@given(outputs=st.integers(1, 80), groups=st.integers(1, 5), bits=st.sampled_from((4, 8)), seed=st.integers(0, 2**31))
def test_unpack_is_the_inverse_of_pack(outputs, groups, bits, seed):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 1 << bits, (outputs, 32 * groups), dtype=torch.uint8, generator=generator)
    zeros = torch.randint(0, 1 << bits, (outputs, groups), dtype=torch.uint8, generator=generator)
    scales = torch.rand(outputs, groups, generator=generator).half()
    found = unpack(pack(levels, scales, zeros, bits=bits))
    assert torch.equal(found[0], levels)
    assert torch.equal(found[1], scales.float())
    assert torch.equal(found[2], zeros)


@settings(max_examples=40)
@given(
    shape=shapes,
    bits=st.sampled_from((4, 8)),
    group=st.sampled_from(GROUPS),
    dtype=st.sampled_from((torch.float32, torch.bfloat16)),
    seed=st.integers(0, 2**31),
)
def test_quantised_weights_equal_the_reference_s(shape, bits, group, dtype, seed):
    weight = make(*shape, seed)[1].to(dtype)
    ours, reference = (function(weight, bits, group) for function in (quantize_weight, quantize_weight_reference))
    assert torch.equal(ours.data, reference.data)
    assert torch.equal(ours.scales, reference.scales)
    assert (ours.zeros is None) == (reference.zeros is None)
    assert ours.zeros is None or torch.equal(ours.zeros, reference.zeros)


@pytest.mark.parametrize(("bits", "limit"), [(8, 0.01), (4, 0.13)])
def test_the_product_is_near_the_full_one(bits, limit):
    """The error in standard deviations of the output, for normal weights and activations."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(64, 512, generator=generator), torch.randn(128, 512, generator=generator)
    exact = x @ weight.T
    error = quantized_linear(x, quantize_weight(weight, bits, 64)) - exact
    assert error.std() < limit * exact.std()


def test_eight_bits_err_by_half_a_step_at_most():
    weight = make(1, 64, 256, 3)[1]
    packed = quantize_weight(weight, 8, 128)
    steps = weight.unflatten(1, (-1, 128)).abs().amax(-1, keepdim=True) / 127
    error = (dequantize(packed) - weight).unflatten(1, (-1, 128)).abs()
    assert (error <= 0.51 * steps + 127 * 2**-11 * steps).all()  # the scale itself is rounded to float16


def test_other_bits_and_groups_are_refused():
    with pytest.raises(ValueError, match="3 bits in groups of 64"):
        quantize_weight(torch.zeros(4, 64), 3, 64)
    with pytest.raises(ValueError, match="4 bits in groups of 48"):
        quantize_weight(torch.zeros(4, 64), 4, 48)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors' flags")
@pytest.mark.skipif(native.features() == "none", reason="no C compiler")
@pytest.mark.parametrize(
    ("march", "features", "attention"), [("haswell", "avx2", "256 channels"), ("x86-64", "plain", "0 channels")]
)
def test_other_processors_kernels_equal_the_reference(march, features, attention):
    """Compiled for an older processor, this file's own product tests hold too, and those of attention that it has."""
    other = Path(__file__).with_name("test_attention_kernels.py")
    names = ("few_queries_over_many_keys", "scores_of_any_size", "a_sequence_does_not_depend_on_those_beside_it")
    chosen = [f"{__file__}::test_every_number_of_rows", *(f"{other}::test_{name}" for name in names)]
    script = (
        "import pytest, sys; from clearsight.kernels import native; "
        f"assert native.features() == {features!r}; "
        f"assert f'{{native.library().cs_attention_channels()}} channels' == {attention!r}; "
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *{chosen!r}]))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env={**os.environ, "CFLAGS": f"-march={march}"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
