"""What bfloat16, int8 and int4 cost in accuracy against float32 on the same weights.

`python benchmarks/accuracy.py` prints one JSON line. nano: over its own float32 answers about held-out drawn pictures,
the mean per-token KL divergence (nats), the share of tokens whose likeliest successor stays the same, and the share of
answers that are exactly right. 2b: KL and agreement for random weights of the true shape, over a picture and text.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clearsight.config import PRESETS, ModelConfig
from clearsight.engine import Engine
from clearsight.inputs import Grid, ModelInputs, SamplingParams, VisionPatches
from clearsight.model.hub import read_config, resolve
from clearsight.model.quantize import load, quantize
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.weights import random_model
from clearsight.processor import Processor
from clearsight.processor.positions import mrope_positions
from clearsight.train.worlds import Sample, draw

VARIANTS: dict[str, tuple[torch.dtype, str | None]] = {
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "int8": (torch.bfloat16, "int8"),
    "int4": (torch.bfloat16, "int4"),
}
GREEDY = SamplingParams(max_tokens=96)
WORLDS = ("word", "line", "page", *["shapes"] * 4)


def nano(samples: int) -> dict[str, Any]:
    folder = resolve("nano")
    config = read_config(folder)
    processor = Processor.from_folder(folder, config)
    drawn = [draw(WORLDS[seed % len(WORLDS)], 3_000_000 + seed, "test") for seed in range(samples)]
    prompts = [prompt(processor, sample) for sample in drawn]
    ends = (config.tokens.im_end, config.tokens.end_of_text)
    answers: list[list[int]] = []
    exact: list[Tensor] = []
    result: dict[str, Any] = {}
    for name, (dtype, mode) in VARIANTS.items():
        model = load(folder, config, dtype=dtype, mode=mode)
        engine = Engine(model)
        given = [[event.token for event in engine.generate(inputs, GREEDY)] for inputs in prompts]
        answers = answers or given  # the first variant's, float32, are everybody's text
        logits = [answer_logits(model, inputs, tokens) for inputs, tokens in zip(prompts, answers, strict=True)]
        exact = exact or logits
        right = [
            processor.tokenizer.decode([t for t in tokens if t not in ends]) == sample.answer
            for tokens, sample in zip(given, drawn, strict=True)
        ]
        result[name] = {**distance(torch.cat(logits), torch.cat(exact)), "exactly_right": sum(right) / len(right)}
    return {"samples": samples, "tokens": sum(map(len, answers)), **result}


def prompt(processor: Processor, sample: Sample) -> ModelInputs:
    return processor.prepare(sample.prompt, tools=sample.tools).inputs


@torch.inference_mode()
def answer_logits(model: Qwen2VL, inputs: ModelInputs, answer: list[int]) -> Tensor:
    """Scores (answer tokens, V) that each token of the answer was chosen from."""
    count = len(answer)
    positions = inputs.next_position + torch.arange(count - 1)
    whole = replace(
        inputs,
        ids=torch.cat((inputs.ids, torch.tensor(answer[:-1], dtype=torch.int64))),
        positions=torch.cat((inputs.positions, positions.expand(3, -1)), dim=1),
        lengths=(inputs.lengths[0] + count - 1,),
    )
    return model.logits(model(whole)[-count:]).float()


def two_b(layers: int | None) -> dict[str, Any]:
    config = PRESETS["2b"]
    if layers is not None:
        config = replace(
            config, text=replace(config.text, num_layers=layers), vision=replace(config.vision, depth=layers)
        )
    inputs = random_inputs(config, Grid(1, 8, 8), 24)
    result: dict[str, Any] = {}
    exact = None
    for name, (dtype, mode) in VARIANTS.items():
        model = random_model(config, dtype=torch.bfloat16).to(dtype)
        if mode is not None:
            quantize(model, mode)
        with torch.inference_mode():
            logits = model.logits(model(inputs)).float()
        del model
        exact = logits if exact is None else exact
        result[name] = distance(logits, exact)
    return {"layers": config.text.num_layers, "tokens": inputs.ids.shape[0], **result}


def random_inputs(config: ModelConfig, grid: Grid, text: int) -> ModelInputs:
    """A picture of random pixels, then random text."""
    generator = torch.Generator().manual_seed(0)
    pads = [config.tokens.image_pad] * grid.tokens(config.vision.merge_size)
    words = torch.randint(0, config.tokens.end_of_text, (text,), generator=generator).tolist()
    ids = [config.tokens.vision_start, *pads, config.tokens.vision_end, *words]
    pixels = torch.randn(grid.patches, config.vision.patch_dim, generator=generator)
    positions = mrope_positions(len(ids), [(1, grid)], config.vision.merge_size)
    return ModelInputs(torch.tensor(ids), positions, (len(ids),), VisionPatches(pixels, (grid,)), (1,))


def distance(found: Tensor, exact: Tensor) -> dict[str, float]:
    """Mean KL divergence from `exact` (T, V) in nats, and the share of rows with the same best token."""
    total = sum([kl(found[row], exact[row]) for row in range(exact.shape[0])])
    agreement = (found.argmax(-1) == exact.argmax(-1)).double().mean()
    return {"kl": float(f"{total / exact.shape[0]:.3g}"), "top1_agreement": round(float(agreement), 5)}


def kl(found: Tensor, exact: Tensor) -> float:
    """Of one row, in float64: the smallest divergences are far below float32's rounding."""
    p, q = exact.double().log_softmax(-1), found.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=400, help="drawn pictures for nano")
    parser.add_argument("--layers", type=int, help="fewer layers of the 2b shape (default: all, in 9 GB)")
    arguments = parser.parse_args()
    print(json.dumps({"nano": nano(arguments.samples), "2b": two_b(arguments.layers)}))


if __name__ == "__main__":
    main()
