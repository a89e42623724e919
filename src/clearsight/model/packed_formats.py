"""Quantised weights as files hold them: our own packed form, and the published GPTQ and AWQ forms.

GPTQ (AutoGPTQ): qweight int32 (K*bits/32, N), low bits first along K; qzeros int32 (G, N*bits/32), low bits first
along N and one less than the zero point; scales (G, N); g_idx (K), the group of each input channel, which "desc_act"
scatters. AWQ (gemm): qweight int32 (K, N/8) and qzeros int32 (G, N/8), eight columns to a word in the order
0, 2, 4, 6, 1, 3, 5, 7; scales (G, N). Both read a weight as (u - zero) * scale.

Shape suffixes: N output channels, K input channels, G groups of input channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from clearsight.config import ConfigError
from clearsight.kernels.linear import GROUPS, QuantizedWeight, check_weight, pack

Parts = Mapping[str, Tensor]


class Scheme(Protocol):
    """One stored form: which tensors a packed layer has, and how they become a weight."""

    @property
    def leaves(self) -> frozenset[str]: ...

    def read(self, name: str, parts: Parts, shape: tuple[int, int]) -> tuple[QuantizedWeight, Tensor | None]:
        """The weight of the layer `name` with shape (N, K), and the order of its input channels if scattered.

        Raises KeyError for a missing tensor and ValueError or RuntimeError for one that does not fit.
        """
        ...


def scheme_from_json(data: Any) -> Scheme | None:
    """Read config.json's "quantization_config" (None if there is none). Raises ConfigError naming key and value."""
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise ConfigError(f"quantization_config must be an object, not {data!r}")
    readers = {"clearsight": _own_scheme, "gptq": _gptq_scheme, "awq": _awq_scheme}
    method = data.get("quant_method")
    if method not in readers:
        raise ConfigError(f"quantization_config has quant_method {method!r}; {', '.join(readers)} are supported")
    return readers[method](data)


# --- our own -----------------------------------------------------------------------------------------------

_LAYOUT = 1


def own_json(modules: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The "quantization_config" of packed layers, given {name: {"bits": ..., "group_size": ...}}."""
    return {"quant_method": "clearsight", "layout": _LAYOUT, "modules": {name: dict(modules[name]) for name in modules}}


@dataclass(frozen=True, slots=True)
class Own:
    """Tensors as the kernels use them, so files can be mapped."""

    modules: Mapping[str, tuple[int, int]]
    leaves: frozenset[str] = field(default=frozenset({"data", "scales", "zeros", "order"}), init=False)

    def read(self, name: str, parts: Parts, shape: tuple[int, int]) -> tuple[QuantizedWeight, Tensor | None]:
        if name not in self.modules:
            raise ValueError("quantization_config does not name this layer")
        bits, group = self.modules[name]
        rows, columns = shape
        weight = QuantizedWeight(parts["data"], parts["scales"], parts.get("zeros"), bits, group, rows, columns)
        check_weight(weight)
        order = parts.get("order")
        if order is not None and not torch.equal(order.sort().values, torch.arange(columns)):
            raise ValueError("the order of the input channels is not a permutation")
        return weight, order


def _own_scheme(data: Mapping[str, Any]) -> Scheme:
    _check(data, {"layout": (_LAYOUT,)}, {"quant_method", "modules"})
    modules = {}
    for name, settings in data.get("modules", {}).items():
        _check(settings, {"bits": (4, 8), "group_size": GROUPS}, set())
        modules[name] = (settings["bits"], settings["group_size"])
    return Own(modules)


# --- GPTQ --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gptq:
    bits: int
    group_size: int  # -1: all input channels
    zero_offset: int  # what the stored zero points lack
    leaves: frozenset[str] = field(default=frozenset({"qweight", "qzeros", "scales", "g_idx"}), init=False)

    def read(self, name: str, parts: Parts, shape: tuple[int, int]) -> tuple[QuantizedWeight, Tensor | None]:
        rows, columns = shape
        levels_NK = _words_to_levels(parts["qweight"].T, self.bits)
        zeros_GN = (_words_to_levels(parts["qzeros"], self.bits) + self.zero_offset) & ((1 << self.bits) - 1)
        _expect_shape("qweight", levels_NK, (rows, columns))
        group_size = columns if self.group_size == -1 else self.group_size
        order = _channel_order(parts.get("g_idx"), columns, group_size)
        if order is not None:
            levels_NK = levels_NK[:, order]
        return _to_weight(levels_NK, parts["scales"].T, zeros_GN.T, group_size, self.bits), order


def _channel_order(group_of_K: Tensor | None, columns: int, group_size: int) -> Tensor | None:
    """Input channels sorted by group, or None if they are already. Raises ValueError for uneven groups."""
    plain = torch.arange(columns) // group_size
    if group_of_K is None or torch.equal(group_of_K.long(), plain):
        return None
    _expect_shape("g_idx", group_of_K, (columns,))
    order = torch.argsort(group_of_K.long(), stable=True)
    if not torch.equal(group_of_K[order].long(), plain):
        raise ValueError(f"g_idx does not make groups of {group_size} channels")
    return order


_GPTQ_IGNORED = frozenset(
    "quant_method sym desc_act true_sequential static_groups damp_percent damp_auto_increment dataset tokenizer"
    " batch_size block_name_to_quantize cache_block_outputs exllama_config max_input_length model_seqlen"
    " module_name_preceding_first_block modules_in_block_to_quantize pad_token_id use_cuda_fp16 use_exllama"
    " disable_exllama model_name_or_path model_file_base_name lm_head meta backend modules_to_not_convert".split()
)


def _gptq_scheme(data: Mapping[str, Any]) -> Scheme:
    formats = {"gptq": 1, "gptq_v2": 0}
    wanted = {"bits": (4, 8), "checkpoint_format": tuple(formats), "is_marlin_format": (False,), "group_size": None}
    _check({"checkpoint_format": "gptq", "is_marlin_format": False, **data}, wanted, _GPTQ_IGNORED)
    return Gptq(data["bits"], _group_size(data), formats[data.get("checkpoint_format", "gptq")])


# --- AWQ ---------------------------------------------------------------------------------------------------

# Where column 0, 1, ... of eight stands in its word.
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


@dataclass(frozen=True, slots=True)
class Awq:
    group_size: int
    leaves: frozenset[str] = field(default=frozenset({"qweight", "qzeros", "scales"}), init=False)

    def read(self, name: str, parts: Parts, shape: tuple[int, int]) -> tuple[QuantizedWeight, Tensor | None]:
        rows, columns = shape
        levels_KN, zeros_GN = (
            _words_to_levels(words, 4).view(words.shape[0], -1, 8)[:, :, _AWQ_PLACES].flatten(1)
            for words in (parts["qweight"], parts["qzeros"])
        )
        _expect_shape("qweight", levels_KN, (columns, rows))
        group_size = columns if self.group_size == -1 else self.group_size
        return _to_weight(levels_KN.T, parts["scales"].T, zeros_GN.T, group_size, 4), None


_AWQ_IGNORED = frozenset(
    "quant_method zero_point modules_to_not_convert backend do_fuse fuse_max_seq_len modules_to_fuse"
    " exllama_config".split()
)


def _awq_scheme(data: Mapping[str, Any]) -> Scheme:
    version = str(data.get("version", "gemm")).lower()
    _check({**data, "version": version}, {"bits": (4,), "version": ("gemm",), "group_size": None}, _AWQ_IGNORED)
    return Awq(_group_size(data))


# --- shared ------------------------------------------------------------------------------------------------


def _words_to_levels(words: Tensor, bits: int) -> Tensor:
    """The unsigned numbers in 32-bit words along the last axis, low bits first, as uint8."""
    if words.dtype != torch.int32:
        raise ValueError(f"packed words are {words.dtype}; torch.int32 is needed")
    octets = words.contiguous().view(torch.uint8)
    return octets if bits == 8 else torch.stack((octets & 15, octets >> 4), dim=-1).flatten(-2)


def _to_weight(levels_NK: Tensor, scales_NG: Tensor, zeros_NG: Tensor, group_size: int, bits: int) -> QuantizedWeight:
    """Pack for the kernels, which know some group sizes only: larger groups are split."""
    rows, columns = levels_NK.shape
    groups = -(-columns // group_size)
    _expect_shape("scales", scales_NG, (rows, groups))
    _expect_shape("qzeros", zeros_NG, (rows, groups))
    group = next((g for g in reversed(GROUPS) if group_size % g == 0), None)
    if group is None:
        raise ValueError(f"groups of {group_size} channels are no multiple of {GROUPS[0]}")
    filled = torch.nn.functional.pad(levels_NK, (0, -columns % group))
    scales_NG, zeros_NG = (
        x.repeat_interleave(group_size // group, dim=1)[:, : filled.shape[1] // group] for x in (scales_NG, zeros_NG)
    )
    same = bool((zeros_NG == 1 << (bits - 1)).all())
    return pack(filled, scales_NG, None if same else zeros_NG, bits=bits, in_features=columns)


def _expect_shape(what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{what} holds {tuple(tensor.shape)} values; {shape} are needed")


def _group_size(data: Mapping[str, Any]) -> int:
    size = data["group_size"]
    if not isinstance(size, int) or isinstance(size, bool) or (size != -1 and size < GROUPS[0]):
        raise ConfigError(f"quantization_config has group_size {size!r}; -1 or at least {GROUPS[0]} is needed")
    return size


def _check(data: Any, wanted: Mapping[str, tuple[object, ...] | None], ignored: frozenset[str] | set[str]) -> None:
    """Every wanted key is there with one of its values (None: any), and no key is unknown."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"quantization_config must be an object, not {data!r}")
    for key, values in wanted.items():
        if key not in data:
            raise ConfigError(f"quantization_config key {key!r} is missing")
        if values is not None and data[key] not in values:
            raise ConfigError(f"quantization_config has {key} {data[key]!r}; it must be one of {list(values)}")
    unknown = sorted(set(data) - set(wanted) - ignored)
    if unknown:
        raise ConfigError(f"unknown quantization_config key {unknown[0]!r}")
