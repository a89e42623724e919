"""Model shapes as frozen, strict values: every field is set, unknown keys are errors (facts, 1.1 and 13.1).

The JSON read here is the published `config.json`, in both of its layouts: flat (language fields at the
top level) and nested (`text_config`). What we write is the flat layout, which every reader understands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """A configuration holds an unknown key, a missing key or a value that does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """The vision tower and its merger (facts, 1.1)."""

    depth: int
    embed_dim: int
    num_heads: int
    out_dim: int
    mlp_ratio: int = 4
    in_channels: int = 3
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _require_positive(self)
        if self.embed_dim % (4 * self.num_heads):
            raise ConfigError(f"vision {self.embed_dim=} must be a multiple of 4 x {self.num_heads=}")

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads

    @property
    def patch_dim(self) -> int:
        """Numbers in one flattened patch: channels x frames x height x width."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """The Qwen2 decoder (facts, 1.1)."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    tie_word_embeddings: bool
    mrope_section: tuple[int, int, int] = (16, 24, 24)
    rope_theta: float = 1_000_000.0
    norm_eps: float = 1e-6
    max_positions: int = 32_768

    def __post_init__(self) -> None:
        _require_positive(self)
        if self.hidden_size % self.num_heads:
            raise ConfigError(f"{self.hidden_size=} must be a multiple of {self.num_heads=}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(f"{self.num_heads=} must be a multiple of {self.num_kv_heads=}")
        if 2 * sum(self.mrope_section) != self.head_dim:
            raise ConfigError(
                f"mrope_section {self.mrope_section} adds up to {sum(self.mrope_section)};"
                f" half of the head size {self.head_dim} is needed"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Ids of the tokens that structure a prompt (facts, 1.4)."""

    end_of_text: int = 151_643
    im_start: int = 151_644
    im_end: int = 151_645
    vision_start: int = 151_652
    vision_end: int = 151_653
    vision_pad: int = 151_654
    image_pad: int = 151_655
    video_pad: int = 151_656

    @property
    def never_generated(self) -> tuple[int, ...]:
        """Vision ids that would break the next turn if the model wrote them (facts, 13.20)."""
        return (self.vision_start, self.vision_end, self.vision_pad, self.image_pad, self.video_pad)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    vision: VisionConfig
    text: TextConfig
    tokens: SpecialTokens = SpecialTokens()

    def __post_init__(self) -> None:
        if self.vision.out_dim != self.text.hidden_size:
            raise ConfigError(
                f"the merger's width {self.vision.out_dim} must equal the language width {self.text.hidden_size}"
            )


def _require_positive(config: VisionConfig | TextConfig) -> None:
    for name in config.__slots__:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(number <= 0 for number in numbers if not isinstance(number, bool)):
            raise ConfigError(f"{name} must be positive, not {value}")


# --- presets -----------------------------------------------------------------------------------------------


def _official(width: int, layers: int, heads: int, kv: int, inner: int, vocab: int, tied: bool) -> ModelConfig:
    return ModelConfig(
        vision=VisionConfig(depth=32, embed_dim=1280, num_heads=16, out_dim=width),
        text=TextConfig(
            hidden_size=width,
            intermediate_size=inner,
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=kv,
            vocab_size=vocab,
            tie_word_embeddings=tied,
        ),
    )


# nano has its own vocabulary: 256 bytes, whole common words, then the 14 special tokens at the end of the rows.
NANO_SPECIAL_START = 1010
NANO = ModelConfig(
    vision=VisionConfig(depth=8, embed_dim=192, num_heads=3, out_dim=256),
    text=TextConfig(
        hidden_size=256,
        intermediate_size=768,
        num_layers=8,
        num_heads=4,
        num_kv_heads=2,
        vocab_size=1024,
        tie_word_embeddings=True,
        mrope_section=(8, 12, 12),
        max_positions=8192,
    ),
    tokens=SpecialTokens(
        end_of_text=NANO_SPECIAL_START,
        im_start=NANO_SPECIAL_START + 1,
        im_end=NANO_SPECIAL_START + 2,
        vision_start=NANO_SPECIAL_START + 9,
        vision_end=NANO_SPECIAL_START + 10,
        vision_pad=NANO_SPECIAL_START + 11,
        image_pad=NANO_SPECIAL_START + 12,
        video_pad=NANO_SPECIAL_START + 13,
    ),
)

PRESETS: Mapping[str, ModelConfig] = {
    "nano": NANO,
    "2b": _official(1536, 28, 12, 2, 8960, 151_936, True),
    "7b": _official(3584, 28, 28, 4, 18_944, 152_064, False),
    "72b": _official(8192, 80, 64, 8, 29_568, 152_064, False),
}


# --- config.json -------------------------------------------------------------------------------------------

# Keys that published files carry and that do not shape the model.
_BOOKKEEPING = frozenset(
    "architectures model_type transformers_version torch_dtype dtype use_cache initializer_range attention_dropout"
    " output_attentions output_hidden_states return_dict chunk_size_feed_forward is_encoder_decoder id2label label2id"
    " problem_type _name_or_path pad_token_id bos_token_id eos_token_id max_window_layers sliding_window"
    " layer_types _attn_implementation_autoset vision_token_id".split()
)
_TEXT_KEYS = {
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "vocab_size": "vocab_size",
    "rms_norm_eps": "norm_eps",
    "max_position_embeddings": "max_positions",
}
_VISION_KEYS = {
    "depth": "depth",
    "embed_dim": "embed_dim",
    "num_heads": "num_heads",
    "hidden_size": "out_dim",
    "mlp_ratio": "mlp_ratio",
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "spatial_merge_size": "merge_size",
}
_TOKEN_KEYS = {
    "vision_start_token_id": "vision_start",
    "vision_end_token_id": "vision_end",
    "image_token_id": "image_pad",
    "video_token_id": "video_pad",
}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a settings file. Raises ConfigError naming the file if it is missing or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a JSON object, not a {type(data).__name__}")
    return data


def config_from_json(data: Mapping[str, Any]) -> ModelConfig:
    """Read a published `config.json` (flat or nested). Raises ConfigError naming the key (facts, 1.1)."""
    if data.get("model_type") != "qwen2_vl":
        raise ConfigError(f"model_type is {data.get('model_type')!r}; only 'qwen2_vl' is supported")
    data = dict(data)
    vision = data.pop("vision_config", None)
    if not isinstance(vision, Mapping):
        raise ConfigError("config key 'vision_config' is missing")
    special = {ours: data.pop(theirs) for theirs, ours in _TOKEN_KEYS.items() if theirs in data}
    if "vision_token_id" in data:
        special["vision_pad"] = data["vision_token_id"]
    nested = data.pop("text_config", None)
    if nested is not None:
        if "tie_word_embeddings" in data:
            nested = {**nested, "tie_word_embeddings": data.pop("tie_word_embeddings")}
        _refuse_unknown(data, "config", {"quantization_config"})
    return ModelConfig(
        vision=_vision_from_json(vision),
        text=_text_from_json(data if nested is None else nested),
        tokens=_tokens_from_json(special, data if nested is None else {**data, **nested}),
    )


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """The flat `config.json` of `config`; `config_from_json` is its inverse."""
    text, vision, tokens = config.text, config.vision, config.tokens
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "torch_dtype": "bfloat16",
        **{theirs: getattr(text, ours) for theirs, ours in _TEXT_KEYS.items()},
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "rope_theta": text.rope_theta,
        "rope_scaling": {"type": "mrope", "mrope_section": list(text.mrope_section)},
        "tie_word_embeddings": text.tie_word_embeddings,
        "use_cache": True,
        "use_sliding_window": False,
        "bos_token_id": tokens.end_of_text,
        "eos_token_id": tokens.im_end,
        **{theirs: getattr(tokens, ours) for theirs, ours in _TOKEN_KEYS.items()},
        "vision_token_id": tokens.vision_pad,
        "vision_config": {
            **{theirs: getattr(vision, ours) for theirs, ours in _VISION_KEYS.items()},
            "in_channels": vision.in_channels,
            "hidden_act": "quick_gelu",
        },
    }


def _text_from_json(data: Mapping[str, Any]) -> TextConfig:
    data = dict(data)
    _expect(data, "hidden_act", "silu")
    _expect(data, "use_sliding_window", False)
    scaling = data.pop("rope_parameters", None) or {}
    scaling = {**scaling, **(data.pop("rope_scaling", None) or {})}
    theta = data.pop("rope_theta", scaling.pop("rope_theta", None))
    section = scaling.pop("mrope_section", None)
    kind = {scaling.pop("type", "mrope"), scaling.pop("rope_type", "mrope")}
    # A development version of the reference rewrote the type to "default"; the section is what counts (13.17).
    if not kind <= {"mrope", "default"} or section is None or scaling:
        raise ConfigError(f"rope_scaling must be mrope with an mrope_section; found types {sorted(kind)}, {scaling}")
    if theta is None:
        raise ConfigError("config key 'rope_theta' is missing")
    fields = _take(data, _TEXT_KEYS, "text config")
    tied = data.pop("tie_word_embeddings", False)
    _refuse_unknown(data, "text config", {"quantization_config"})
    return TextConfig(
        **fields,
        tie_word_embeddings=bool(tied),
        rope_theta=float(theta),
        mrope_section=tuple(section),
    )


def _vision_from_json(data: Mapping[str, Any]) -> VisionConfig:
    data = dict(data)
    _expect(data, "hidden_act", "quick_gelu")
    channels = {data.pop(key) for key in ("in_channels", "in_chans") if key in data} or {3}
    data.pop("spatial_patch_size", None)
    rope = data.pop("rope_parameters", None) or {}
    theta = float(rope.get("rope_theta", 10_000.0))
    # Published files leave to the library what all released sizes share.
    shared = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14}
    shared |= {"temporal_patch_size": 2, "spatial_merge_size": 2}
    fields = _take({**shared, **data}, _VISION_KEYS, "vision config")
    _refuse_unknown({key: data[key] for key in data if key not in _VISION_KEYS}, "vision config", set())
    if len(channels) != 1:
        raise ConfigError(f"vision config names two channel counts: {sorted(channels)}")
    return VisionConfig(**fields, in_channels=channels.pop(), rope_theta=theta)


def _tokens_from_json(special: dict[str, int], data: Mapping[str, Any]) -> SpecialTokens:
    """All 14 specials are consecutive, so `vision_start` fixes those that config.json does not name."""
    start = special.get("vision_start", 151_652)
    if "image_pad" not in special and start != 151_652:
        raise ConfigError("config key 'image_token_id' is missing")
    known = {"vision_start": start, "vision_end": start + 1, "vision_pad": start + 2} | {
        "image_pad": start + 3,
        "video_pad": start + 4,
    }
    base = start - 9
    return SpecialTokens(end_of_text=base, im_start=base + 1, im_end=base + 2, **{**known, **special})


def _expect(data: dict[str, Any], key: str, value: object) -> None:
    found = data.pop(key, value)
    if found != value:
        raise ConfigError(f"config key {key!r} is {found!r}; only {value!r} is supported")


def _take(data: dict[str, Any], names: Mapping[str, str], where: str) -> dict[str, Any]:
    missing = [key for key in names if key not in data and key not in ("rms_norm_eps", "max_position_embeddings")]
    if missing:
        raise ConfigError(f"{where} key {missing[0]!r} is missing")
    return {ours: data.pop(theirs) for theirs, ours in names.items() if theirs in data}


def _refuse_unknown(data: Mapping[str, Any], where: str, allowed: set[str]) -> None:
    unknown = sorted(set(data) - _BOOKKEEPING - allowed)
    if unknown:
        raise ConfigError(f"unknown {where} key {unknown[0]!r}")
