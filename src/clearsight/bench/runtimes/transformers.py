"""The reference library on the same weights, tokens and pixels. Only the bench's own process imports it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clearsight.bench.cases import Case, make_inputs
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


class Transformers:
    """bfloat16, its own fused attention. Texts are answered in one batch; with pictures one request at a time."""

    def __init__(self, folder: Path) -> None:
        from transformers import Qwen2VLForConditionalGeneration

        self.config = read_config(folder)
        library: Any = Qwen2VLForConditionalGeneration
        self.model = library.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = self.config.tokens.end_of_text

    @property
    def token_bytes(self) -> int:
        inner = self.model.model.language_model
        layers = sum(parameter.nbytes for parameter in inner.layers.parameters())
        return layers + int(self.model.lm_head.weight.nbytes)

    @torch.inference_mode()
    def vision(self, case: Case) -> float:
        kwargs = self._kwargs([make_inputs(case, self.config)])
        begin = time.perf_counter()
        self.model.model.get_image_features(kwargs["pixel_values"], kwargs["image_grid_thw"])
        return time.perf_counter() - begin

    def answer(self, case: Case) -> Answer:
        return self._generate([case])[0]

    def answer_together(self, cases: Sequence[Case]) -> list[Answer]:
        if len({(case.size, case.text, case.answer) for case in cases}) == 1 and cases[0].size is None:
            return self._generate(cases)
        begin = time.perf_counter()
        return [Answer(begin, self.answer(case).times) for case in cases]

    @torch.inference_mode()
    def _generate(self, cases: Sequence[Case]) -> list[Answer]:
        kwargs, clock, wanted = self._kwargs([make_inputs(c, self.config) for c in cases]), Clock(), cases[0].answer
        begin = time.perf_counter()
        self.model.generate(
            **kwargs, max_new_tokens=wanted, min_new_tokens=wanted, do_sample=False, logits_processor=[clock]
        )
        return [Answer(begin, tuple(clock.times)) for _ in cases]

    def _kwargs(self, items: Sequence[ModelInputs]) -> dict[str, Any]:
        """Sequences of one length; only a single one may have a picture."""
        ids = torch.stack([item.ids for item in items])
        kinds = (ids == self.config.tokens.image_pad).int()
        kwargs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds}
        vision = items[0].vision
        if vision is not None:
            kwargs["pixel_values"] = vision.pixels.bfloat16()
            kwargs["image_grid_thw"] = torch.tensor([list(grid) for grid in vision.grids])
        return kwargs


def load(folder: Path) -> Transformers:
    return Transformers(folder)
