"""The native kernels beside the machine's own limits and torch's best, measured in turns in one run.

`python benchmarks/kernels.py` prints one JSON line. limits: bf16 and int8 products of torch at 2048 (G operations/s),
memory reads (GB/s). attention: of a vision tower's segment (head size 80) and of a causal prompt (128), G operations/s.
linear: rows times an int8 or int4 weight, G operations/s. decode: weights read per second for a few rows, GB/s.
paged: keys and values read per second by one new token of each of some sequences, GB/s.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from clearsight.kernels import native
from clearsight.kernels.attention import packed_attention
from clearsight.kernels.linear import quantize_weight, quantized_linear
from clearsight.kernels.native_attention import Layout
from clearsight.kernels.paged import paged_attention

BF16 = torch.bfloat16
Works = dict[str, tuple[float, Callable[[], object]]]
"""By name: an amount of work, and what does it."""


def rates(works: Works, turns: int) -> dict[str, float]:
    """Work per nanosecond at each one's best, taken in turns so that all meet the same neighbours."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(turns):
        for name, (_, run) in works.items():
            for _ in range(3):  # the first ones still meet the threads of the work before, which wait by spinning
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
    return {name: round(amount / best[name] / 1e9, 1) for name, (amount, _) in works.items()}


def limits() -> Works:
    size = 2048
    square, stream = torch.randn(size, size).to(BF16), torch.zeros(2**25, dtype=torch.int64).random_()
    rows = torch.randint(0, 255, (size, size), dtype=torch.uint8)
    signed = torch.randint(-127, 127, (size, size), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(signed, [size, size])
    scales, zeros = torch.rand(size), torch.zeros(size, dtype=torch.int64)
    product = torch.ops.onednn.qlinear_pointwise
    return {
        "bf16": (2 * size**3, lambda: square @ square),
        "int8": (
            2 * size**3,
            lambda: product(rows, 0.1, 0, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""),
        ),
        "memory": (stream.nbytes, lambda: stream.sum()),
    }


def attention(tokens: int, heads: int, kv_heads: int, channels: int, causal: bool) -> Works:
    q, k, v = (torch.randn(tokens, h, channels).to(BF16) for h in (heads, kv_heads, kv_heads))
    work = (2 if causal else 4) * tokens**2 * heads * channels

    def torch_s() -> object:
        batch = (x[None].transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(*batch, is_causal=causal, enable_gqa=heads != kv_heads)

    name = f"{tokens} tokens, {heads}/{kv_heads} heads of {channels}"
    return {
        name: (work, lambda: packed_attention(q, k, v, (tokens,), causal)),
        f"{name}, torch": (work, torch_s),
    }


def linear(rows: int, inputs: int, outputs: int, bits: int) -> Works:
    weight, x = quantize_weight(torch.randn(outputs, inputs), bits, 128 if bits == 8 else 64), torch.randn(rows, inputs)
    x = x.to(BF16)
    return {
        f"int{bits}, {rows} x {inputs} x {outputs}": (
            2 * rows * inputs * outputs,
            lambda: quantized_linear(x, weight),
        )
    }


def decode(rows: int, bits: int) -> Works:
    """Twelve weights, more than any cache holds."""
    weights = [quantize_weight(torch.randn(8960, 1536), bits, 128 if bits == 8 else 64) for _ in range(12)]
    x = torch.randn(rows, 1536).to(BF16)
    work = sum(weight.nbytes for weight in weights)
    return {f"int{bits}, {rows} rows": (work, lambda: [quantized_linear(x, weight) for weight in weights])}


def paged(count: int, context: int) -> Works:
    per = -(-context // 16)
    keys, values = (torch.randn(count * per, 16, 2, 128).to(BF16) for _ in range(2))
    q = torch.randn(count, 12, 128).to(BF16)
    layout = Layout([1] * count, [context] * count, torch.randperm(count * per).int().split(per))
    work = count * context * 2 * 2 * 128 * 2
    return {f"{count} x {context} tokens": (work, lambda: paged_attention(q, keys, values, layout))}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    result: dict[str, object] = {"features": native.features(), "threads": native.threads()}
    groups = {
        "attention": {
            **attention(1024, 16, 16, 80, False),
            **attention(6912, 16, 16, 80, False),
            **attention(290, 12, 2, 128, True),
            **attention(1762, 12, 2, 128, True),
        },
        "linear": {
            **linear(1024, 1280, 3840, 8),
            **linear(1024, 5120, 1280, 8),
            **linear(290, 1536, 8960, 8),
            **linear(290, 1536, 8960, 4),
        },
        "decode": {**decode(1, 8), **decode(1, 4), **decode(8, 4)},
        "paged": {**paged(1, 350), **paged(1, 2048), **paged(8, 2048)},
    }
    for name, works in groups.items():
        result[name] = rates({**limits(), **works}, turns)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
