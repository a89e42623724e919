"""A checkpoint's own generation settings (facts, 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clearsight.config import ConfigError, SpecialTokens
from clearsight.inputs import SamplingParams

_SAMPLED = ("temperature", "top_p", "top_k", "min_p")
_IGNORED = frozenset(("bos_token_id", "pad_token_id", "transformers_version", "_from_model_config", "use_cache"))


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """sampling: what a request starts from. stop_tokens: ids that end an answer."""

    sampling: SamplingParams
    stop_tokens: tuple[int, ...]

    @staticmethod
    def from_json(data: Mapping[str, Any], tokens: SpecialTokens) -> GenerationDefaults:
        """Read `generation_config.json`; an empty mapping means greedy. Unknown keys raise ConfigError."""
        known = {"do_sample", "eos_token_id", "repetition_penalty", "max_new_tokens", "max_length", *_SAMPLED}
        unknown = sorted(set(data) - known - _IGNORED)
        if unknown:
            raise ConfigError(f"unknown generation_config key {unknown[0]!r}")
        values = {name: data[name] for name in (*_SAMPLED, "repetition_penalty") if data.get(name) is not None}
        if not data.get("do_sample", False):
            values = {name: value for name, value in values.items() if name not in _SAMPLED}
        elif "temperature" not in values:
            values["temperature"] = 1.0
        if data.get("max_new_tokens"):
            values["max_tokens"] = data["max_new_tokens"]
        stops = data.get("eos_token_id", [tokens.im_end, tokens.end_of_text])
        return GenerationDefaults(SamplingParams(**values), tuple(stops) if isinstance(stops, list) else (stops,))
