"""This engine, asked through the door that servers use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from clearsight.bench.cases import Case, make_inputs
from clearsight.bench.memory import peak_bytes
from clearsight.bench.runtimes import Answer
from clearsight.engine import Engine, EngineSettings, Request
from clearsight.inputs import SamplingParams, TokenEvent
from clearsight.model.hub import read_config
from clearsight.model.quantize import load as load_model

_KV_BYTES = 2**30


class Ours:
    """Drafts are off: answers of random weights repeat themselves, which would flatter them."""

    def __init__(self, folder: Path, quantize: str) -> None:
        self.config = read_config(folder)
        mode = None if quantize == "none" else quantize
        self.model = load_model(folder, self.config, dtype=torch.bfloat16, mode=mode)
        settings = EngineSettings(draft_tokens=0, kv_bytes=_KV_BYTES)
        self.engine = Engine(self.model, stop_tokens=(), settings=settings)

    @property
    def token_bytes(self) -> int:
        language = self.model.model
        layers = sum(t.nbytes for t in (*language.layers.parameters(), *language.layers.buffers()))
        head = self.model.lm_head
        tensors = (language.embed_tokens.weight,) if head is None else (*head.parameters(), *head.buffers())
        return layers + sum(t.nbytes for t in tensors)

    @torch.inference_mode()
    def vision(self, case: Case) -> float:
        patches = make_inputs(case, self.config).vision
        assert patches is not None
        begin = time.perf_counter()
        self.model.encode_vision(patches)
        return time.perf_counter() - begin

    def answer(self, case: Case) -> Answer:
        return self.answer_together([case])[0]

    def answer_together(self, cases: Sequence[Case]) -> list[Answer]:
        requests = [self._request(case) for case in cases]
        begin = time.perf_counter()
        times: list[list[float]] = []
        for request in requests:
            seen: list[float] = []
            times.append(seen)
            self.engine.submit(request, self._watch(seen))
        while self.engine.has_work:
            self.engine.step()
        return [Answer(begin, tuple(seen)) for seen in times]

    def peak_bytes(self) -> int:
        return peak_bytes()

    def _request(self, case: Case) -> Request:
        params = SamplingParams(max_tokens=case.answer, repetition_guard=False)
        return Request(inputs=make_inputs(case, self.config), params=params)

    @staticmethod
    def _watch(seen: list[float]) -> Callable[[TokenEvent], None]:
        def sink(_: TokenEvent) -> None:
            seen.append(time.perf_counter())

        return sink


def load(folder: Path, quantize: str) -> Ours:
    return Ours(folder, quantize)
