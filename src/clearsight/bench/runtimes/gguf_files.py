"""A checkpoint as the two GGUF files that llama.cpp reads: the language model, and the vision tower with its merger.

The layout is llama.cpp's: architecture `qwen2vl`, and a `clip` file whose projector is `qwen2vl_merger`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clearsight.config import SpecialTokens
from clearsight.model.hub import read_config
from clearsight.model.weights import read_tensors
from clearsight.processor.image import ImageSettings

TEXT, VISION = "text.gguf", "vision.gguf"
_IMAGE_SIZE = 560  # llama.cpp wants one, and takes pictures of any size all the same

_OUTER = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "visual.merger.ln_q": "v.post_ln",
    "visual.merger.mlp.0": "mm.0",
    "visual.merger.mlp.2": "mm.2",
}
_LAYERS = {"model.layers": "blk", "visual.blocks": "v.blk"}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "norm1": "ln1",
    "attn.q": "attn_q",
    "attn.k": "attn_k",
    "attn.v": "attn_v",
    "attn.proj": "attn_out",
    "norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


def gguf_tensors(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """One tensor of a checkpoint by its published name, in GGUF's names: joined ones apart, frames apart."""
    if name == "visual.patch_embed.proj.weight":
        first, second = tensor.unbind(2)
        yield from (("v.patch_embd.weight", first), ("v.patch_embd.weight.1", second))
    elif ".attn.qkv." in name:
        for which, part in zip("qkv", tensor.chunk(3), strict=True):
            yield _gguf_name(name.replace(".qkv.", f".{which}.")), part
    else:
        yield _gguf_name(name), tensor


def _gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{kind}"
    found = re.fullmatch(r"(model\.layers|visual\.blocks)\.(\d+)\.(.+)", stem)
    assert found is not None, name
    return f"{_LAYERS[found[1]]}.{found[2]}.{_IN_LAYER[found[3]]}.{kind}"


def spelled(token: int, tokens: SpecialTokens) -> str:
    """A token's text in the vocabulary that `write_text` makes up: no text is the beginning of another one."""
    marks = {tokens.vision_start: "<|vision_start|>", tokens.vision_end: "<|vision_end|>"}
    return marks.get(token, f"<{token}>")


def write_text(folder: Path, path: Path, kind: str) -> None:
    """The language model. kind: what its matrices become, as GGUF names it; vectors stay float32.

    The vocabulary is made up, so that the text of any tokens is read as just these.
    """
    import gguf

    config = read_config(folder)
    text = config.text
    file = gguf.GGUFWriter(path, "qwen2vl")
    file.add_file_type(gguf.LlamaFileType[f"{'ALL' if kind == 'F32' else 'MOSTLY'}_{kind}"])
    file.add_context_length(text.max_positions)
    file.add_embedding_length(text.hidden_size)
    file.add_block_count(text.num_layers)
    file.add_feed_forward_length(text.intermediate_size)
    file.add_head_count(text.num_heads)
    file.add_head_count_kv(text.num_kv_heads)
    file.add_rope_freq_base(text.rope_theta)
    file.add_rope_dimension_sections([*text.mrope_section, 0])
    file.add_layer_norm_rms_eps(text.norm_eps)
    marks = (config.tokens.vision_start, config.tokens.vision_end)
    ids = range(text.vocab_size)
    file.add_tokenizer_model("rwkv")  # the longest known text each time, with no other rules
    file.add_token_list([spelled(token, config.tokens) for token in ids])
    file.add_token_types([gguf.TokenType.CONTROL if token in marks else gguf.TokenType.NORMAL for token in ids])
    tied = text.tie_word_embeddings
    wanted = (pair for pair in read_tensors(folder) if not pair[0].startswith("visual."))
    _write(file, (pair for pair in wanted if not (tied and pair[0] == "lm_head.weight")), kind)


def write_vision(folder: Path, path: Path, kind: str) -> None:
    """The vision tower and its merger; `kind` as in `write_text`."""
    import gguf

    config, settings = read_config(folder), ImageSettings()
    vision = config.vision
    file = gguf.GGUFWriter(path, "clip")
    file.add_type(gguf.GGUFType.MMPROJ)
    file.add_file_type(gguf.LlamaFileType[f"{'ALL' if kind == 'F32' else 'MOSTLY'}_{kind}"])
    file.add_clip_has_vision_encoder(True)
    file.add_clip_projector_type(gguf.VisionProjectorType.QWEN2VL)
    file.add_vision_image_size(_IMAGE_SIZE)
    file.add_vision_patch_size(vision.patch_size)
    file.add_vision_embedding_length(vision.embed_dim)
    file.add_vision_feed_forward_length(vision.embed_dim * vision.mlp_ratio)
    file.add_vision_projection_dim(vision.out_dim)
    file.add_vision_block_count(vision.depth)
    file.add_vision_head_count(vision.num_heads)
    file.add_vision_attention_layernorm_eps(vision.norm_eps)
    file.add_vision_spatial_merge_size(vision.merge_size)
    file.add_vision_image_mean(list(settings.mean))
    file.add_vision_image_std(list(settings.std))
    _write(file, (pair for pair in read_tensors(folder) if pair[0].startswith("visual.")), kind)


def _write(file: Any, tensors: Iterator[tuple[str, Tensor]], kind: str) -> None:
    import gguf

    for name, whole in tensors:
        for target, tensor in gguf_tensors(name, whole):
            exact = tensor.to(torch.float32).contiguous().numpy()
            # A convolution's weights cannot be in blocks, and are few.
            as_kind = gguf.GGMLQuantizationType[kind if tensor.ndim == 2 else "F32"]
            file.add_tensor(target, gguf.quants.quantize(exact, as_kind), raw_dtype=as_kind)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def weight_bytes(path: Path) -> int:
    """Bytes of a language model's file that one pass over a single token reads."""
    import gguf

    sizes = {tensor.name: int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors}
    # A head of its own leaves the embeddings unread but for a row.
    return sum(sizes.values()) - (sizes["token_embd.weight"] if "output.weight" in sizes else 0)
