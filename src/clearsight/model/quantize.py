"""Quantised models: linear layers as int8 or int4 on load, and such models saved and loaded back.

int8 keeps all large products in 8 bits. int4 stores the language model's layers in 4 bits; vision tower, merger and
head stay at 8, where a picture's details and the choice of a token are more easily spoilt and little time is spent.
Embeddings, norms and the patch embedding keep their dtype. The products are kernels/linear.py's.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clearsight.config import ModelConfig, config_to_json, read_json
from clearsight.kernels.decoder import Decoder, LayerWeights, Product, can_run
from clearsight.kernels.linear import GROUPS, QuantizedWeight, quantize_weight, quantized_linear
from clearsight.model import packed_formats
from clearsight.model.language import DecoderLayer
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.weights import WeightsError, empty_model, fill, load_model, read_tensors, save_files, write_json

MODES = ("int8", "int4")
_HEAD = "lm_head"
_INT4_GROUP = 64
_INT8_GROUP = 128


class QuantizedLinear(nn.Module):
    """A linear layer with packed weights, for inference on the CPU.

    order: where groups gather scattered input channels, the input channels in packed order (int64); otherwise None.
    """

    data: Tensor
    scales: Tensor
    zeros: Tensor | None
    bias: Tensor | None
    order: Tensor | None

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None, order: Tensor | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = weight.in_features, weight.out_features
        self.bits, self.group = weight.bits, weight.group
        self.register_buffer("data", weight.data)
        self.register_buffer("scales", weight.scales)
        self.register_buffer("zeros", weight.zeros)
        self.register_buffer("bias", None if bias is None else bias.float())
        self.register_buffer("order", order)
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        if self.order is not None:
            x = x.index_select(-1, self.order)
        return quantized_linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.bits}, group={self.group}"


# --- quantising --------------------------------------------------------------------------------------------


@torch.no_grad()
def quantize(model: Qwen2VL, mode: str, *, mapped: bool = False) -> Qwen2VL:
    """Replace the linear layers of `model` in place, one by one, and drop their full weights. Returns the model.

    mode: "int8" or "int4". mapped: the weights are views of mapped files and nothing else uses them. Layers that are
    quantised already stay as they are. Raises WeightsError for other modes, and for models that are not on the CPU.
    """
    if mode not in MODES:
        raise WeightsError(f"quantisation {mode!r} is not supported; use one of {', '.join(MODES)}")
    _require_cpu(model.device)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            bits = 4 if mode == "int4" and name.startswith("model.layers.") else 8
            _replace(model, name, _quantized(module.weight, module.bias, bits))
            if mapped:
                _release(module.weight)
    if model.lm_head is None:
        model.lm_head = _quantized(model.model.embed_tokens.weight, None, 8)
    model.model.stack = _stack(model)
    return model.eval()


def _stack(model: Qwen2VL) -> Decoder | None:
    """The decoder's layers for one native call, or None if any is not quantised or its kind is not served there."""
    text = model.config.text
    layers = [_layer_weights(layer) for layer in model.model.layers]
    found = [layer for layer in layers if layer is not None]
    if len(found) < len(layers) or not can_run(found, text.head_dim):
        return None
    return Decoder(found, text.num_heads, text.norm_eps)


def _layer_weights(layer: nn.Module) -> LayerWeights | None:
    assert isinstance(layer, DecoderLayer)
    attention, mlp = layer.self_attn, layer.mlp
    linears = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    products: list[Product] = []
    for linear in (*linears, mlp.gate_proj, mlp.up_proj, mlp.down_proj):
        if not isinstance(linear, QuantizedLinear) or linear.order is not None:
            return None
        products.append((linear.weight, linear.bias))
    norms = layer.input_layernorm.weight.detach(), layer.post_attention_layernorm.weight.detach()
    return LayerWeights(tuple(products), *norms)


def _quantized(weight: Tensor, bias: Tensor | None, bits: int) -> QuantizedLinear:
    wanted = _INT4_GROUP if bits == 4 else _INT8_GROUP
    # A group that does not divide the width would be filled up with zeros, which cost time.
    group = next((g for g in reversed(GROUPS) if g <= wanted and weight.shape[1] % g == 0), GROUPS[0])
    return QuantizedLinear(quantize_weight(weight.detach(), bits, group), None if bias is None else bias.detach())


def _replace(model: Qwen2VL, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _release(weight: Tensor) -> None:
    """Give back the memory of a weight that is a view of a mapped file and not needed again.

    The mapping lives on as long as any other tensor of the file, and what was read of it would count as ours.
    """
    start = -(-weight.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (weight.data_ptr() + weight.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if sys.platform == "linux" and stop > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def _require_cpu(device: torch.device) -> None:
    if device.type != "cpu":
        raise WeightsError(f"quantised weights run on the CPU; the device is {device}")


# --- files -------------------------------------------------------------------------------------------------


def load(
    folder: Path,
    config: ModelConfig,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    mode: str | None = None,
) -> Qwen2VL:
    """Load any supported checkpoint folder: full weights, our own quantised ones, GPTQ or AWQ.

    dtype: of what is not quantised; None keeps the stored one (float16 becomes bfloat16). mode: None, "int8" or
    "int4": how to quantise the linear layers that the folder holds in full.
    """
    stored = packed_formats.scheme_from_json(read_json(folder / "config.json").get("quantization_config"))
    if stored is None:
        model = load_model(folder, config, device=device, dtype=dtype)
    else:
        _require_cpu(torch.device(device))
        model = _load_packed(folder, config, stored, dtype)
    return model if mode is None else quantize(model, mode, mapped=True)


def _load_packed(
    folder: Path, config: ModelConfig, scheme: packed_formats.Scheme, dtype: torch.dtype | None
) -> Qwen2VL:
    model = empty_model(config)
    packed: dict[str, dict[str, Tensor]] = {}
    full: dict[str, Tensor] = {}
    for name, tensor in read_tensors(folder):
        module, _, leaf = name.rpartition(".")
        if leaf in scheme.leaves and _can_be_packed(model, module):
            packed.setdefault(module, {})[leaf] = tensor
        else:
            full[name] = tensor.to(dtype or torch.bfloat16) if tensor.dtype == torch.float16 else tensor
    for name, parts in packed.items():
        try:
            weight, order = scheme.read(name, parts, _shape(model, name))
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{folder}: the packed weights of {name!r} do not fit: {error}") from error
        _replace(model, name, QuantizedLinear(weight, full.pop(f"{name}.bias", None), order))
    fill(model, full.items(), folder, dtype=dtype)
    model.model.stack = _stack(model)
    return model.requires_grad_(False).eval()


def _can_be_packed(model: Qwen2VL, name: str) -> bool:
    if name == _HEAD:
        return True
    try:
        return isinstance(model.get_submodule(name), nn.Linear)
    except AttributeError:
        return False


def _shape(model: Qwen2VL, name: str) -> tuple[int, int]:
    """(N, K) of the layer `name`."""
    if name == _HEAD:
        return model.config.text.vocab_size, model.config.text.hidden_size
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer.out_features, layer.in_features


def save_quantized(model: Qwen2VL, folder: Path) -> None:
    """Write a quantised model as config.json and safetensors with packed weights, which load memory-mapped."""
    modules = {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}
    if not modules:
        raise WeightsError("the model is not quantised, so there is nothing to save in packed form")
    settings = {name: {"bits": module.bits, "group_size": module.group} for name, module in modules.items()}
    save_files(model.state_dict(), folder)
    dtype = str(model.dtype).removeprefix("torch.")
    config: dict[str, Any] = {**config_to_json(model.config), "torch_dtype": dtype}
    write_json(folder / "config.json", {**config, "quantization_config": packed_formats.own_json(settings)})
