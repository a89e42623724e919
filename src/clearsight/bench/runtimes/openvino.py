"""OpenVINO through optimum-intel, on the same weights, tokens and pixels. Only the bench's own processes import it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from clearsight.bench.cases import Case, make_inputs
from clearsight.bench.runtimes.transformers import Greedy

_GROUP = 128  # numbers that share a scale


class OpenVINO(Greedy):
    """Weights of 8 bits everywhere, or of 4 in the language model; activations are made bytes in groups as it runs."""

    def __init__(self, folder: Path, converted: Path, settings: dict[str, str]) -> None:
        from optimum.intel import OVModelForVisualCausalLM

        self.weights = converted / "openvino_language_model.bin"
        super().__init__(folder, OVModelForVisualCausalLM.from_pretrained(converted, ov_config=settings), torch.float32)

    @property
    def token_bytes(self) -> int:
        """The head included; the embeddings are a file of their own."""
        return self.weights.stat().st_size

    def vision(self, case: Case) -> float:
        arguments = self.arguments([make_inputs(case, self.config)])
        begin = time.perf_counter()
        self.model.get_vision_embeddings(arguments["pixel_values"], arguments["image_grid_thw"])
        return time.perf_counter() - begin


def convert(folder: Path, to: Path, weights: str) -> None:
    """weights: "int8", "int4", or "none" to keep them as float32."""
    from optimum.intel import OVModelForVisualCausalLM, OVWeightQuantizationConfig

    kwargs: dict[str, Any] = {"load_in_8bit": weights == "int8"}
    if weights == "int4":
        kwargs = {"quantization_config": OVWeightQuantizationConfig(bits=4, sym=False, group_size=_GROUP, ratio=1.0)}
    OVModelForVisualCausalLM.from_pretrained(folder, export=True, compile=False, **kwargs).save_pretrained(to)


def load(folder: Path, converted: Path, weights: str) -> OpenVINO:
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(torch.get_num_threads())}
    if weights == "none":
        settings |= {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    else:
        settings |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(_GROUP)}
    return OpenVINO(folder, converted, settings)
