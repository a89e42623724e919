"""The reference library on the same weights, tokens and pixels. Only the bench's own process imports it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clearsight.bench.cases import Case, make_inputs
from clearsight.bench.memory import peak_bytes
from clearsight.bench.runtimes import Answer
from clearsight.inputs import ModelInputs
from clearsight.model.hub import read_config


class Clock:
    """A logits processor that changes nothing and notes when scores are known."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, _ids: Tensor, scores: Tensor) -> Tensor:
        self.times.append(time.perf_counter())
        return scores


class Greedy:
    """Asks a model that has the library's `generate`. Texts are answered in one batch; with pictures one at a time."""

    def __init__(self, folder: Path, model: Any, pixels: torch.dtype) -> None:
        """pixels: the type in which the model takes them."""
        self.config = read_config(folder)
        self.model = model
        self.pixels = pixels
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = self.config.tokens.end_of_text

    def answer(self, case: Case) -> Answer:
        return self._generate([case])[0]

    def answer_together(self, cases: Sequence[Case]) -> list[Answer]:
        if len({(case.size, case.text, case.answer) for case in cases}) == 1 and cases[0].size is None:
            return self._generate(cases)
        begin = time.perf_counter()
        return [Answer(begin, self.answer(case).times) for case in cases]

    def peak_bytes(self) -> int:
        return peak_bytes()

    @torch.inference_mode()
    def generate(self, arguments: dict[str, Any], count: int, clock: Clock) -> Tensor:
        """The `count` likeliest tokens, (B, count)."""
        ids = self.model.generate(
            **arguments, max_new_tokens=count, min_new_tokens=count, do_sample=False, logits_processor=[clock]
        )
        return ids[:, -count:]

    def arguments(self, items: Sequence[ModelInputs]) -> dict[str, Any]:
        """Of `generate`, for sequences of one length; only a single one may have a picture."""
        ids = torch.stack([item.ids for item in items])
        kinds = (ids == self.config.tokens.image_pad).int()
        kwargs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds}
        vision = items[0].vision
        if vision is not None:
            kwargs["pixel_values"] = vision.pixels.to(self.pixels)
            kwargs["image_grid_thw"] = torch.tensor([list(grid) for grid in vision.grids])
        return kwargs

    def _generate(self, cases: Sequence[Case]) -> list[Answer]:
        arguments, clock = self.arguments([make_inputs(case, self.config) for case in cases]), Clock()
        begin = time.perf_counter()
        self.generate(arguments, cases[0].answer, clock)
        return [Answer(begin, tuple(clock.times)) for _ in cases]


class Transformers(Greedy):
    """bfloat16, its own fused attention."""

    def __init__(self, folder: Path) -> None:
        from transformers import Qwen2VLForConditionalGeneration

        library: Any = Qwen2VLForConditionalGeneration
        super().__init__(folder, library.from_pretrained(folder, dtype=torch.bfloat16).eval(), torch.bfloat16)

    @property
    def token_bytes(self) -> int:
        inner = self.model.model.language_model
        layers = sum(parameter.nbytes for parameter in inner.layers.parameters())
        return layers + int(self.model.lm_head.weight.nbytes)

    @torch.inference_mode()
    def vision(self, case: Case) -> float:
        arguments = self.arguments([make_inputs(case, self.config)])
        begin = time.perf_counter()
        self.model.model.get_image_features(arguments["pixel_values"], arguments["image_grid_thw"])
        return time.perf_counter() - begin


def load(folder: Path) -> Transformers:
    return Transformers(folder)
