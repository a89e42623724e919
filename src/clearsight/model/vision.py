"""The vision tower and its merger: pictures and video slots of any size in one packed row (facts, 5).

Shape suffixes: P patches, M merged tokens, D width, H heads, C channels of one head.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearsight.config import VisionConfig
from clearsight.inputs import VisionPatches
from clearsight.kernels.attention import packed_attention
from clearsight.kernels.rowwise import add, layer_norm, quick_gelu
from clearsight.model.precision import has_bfloat16
from clearsight.model.rope import Rope, rotate, vision_table
from clearsight.model.row_adapters import RowAdapters, adapted


class LayerNorm(nn.LayerNorm):
    """torch's layer, computed by kernels/rowwise.py."""

    def forward(self, x_PD: Tensor) -> Tensor:
        return layer_norm(x_PD, self.weight, self.bias, self.eps)


class PatchEmbed(nn.Module):
    """A convolution whose stride is its kernel: one matrix product over flattened patches (facts, 3.4)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        kernel = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(config.in_channels, config.embed_dim, kernel, stride=kernel, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        weight = self.proj.weight.flatten(1)
        if weight.dtype == torch.bfloat16 and not has_bfloat16(weight.device):
            return F.linear(pixels.float(), weight.float()).to(weight.dtype)
        return F.linear(pixels.to(weight.dtype), weight)


class VisionAttention(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(
        self, x_PD: Tensor, rope: Rope, lengths: tuple[int, ...], adapters: RowAdapters | None = None
    ) -> Tensor:
        q, k, v = adapted(self.qkv, x_PD, adapters).view(x_PD.shape[0], 3, self.heads, -1).unbind(1)
        out_PHC = packed_attention(rotate(q, rope), rotate(k, rope), v, lengths, causal=False)
        return adapted(self.proj, out_PHC.flatten(1), adapters)


class VisionMLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_ratio * config.embed_dim)
        self.fc2 = nn.Linear(config.mlp_ratio * config.embed_dim, config.embed_dim)

    def forward(self, x_PD: Tensor, adapters: RowAdapters | None = None) -> Tensor:
        return adapted(self.fc2, quick_gelu(adapted(self.fc1, x_PD, adapters)), adapters)


class VisionBlock(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.norm2 = LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.attn = VisionAttention(config)
        self.mlp = VisionMLP(config)

    def forward(
        self, x_PD: Tensor, rope: Rope, lengths: tuple[int, ...], adapters: RowAdapters | None = None
    ) -> Tensor:
        x_PD = add(x_PD, self.attn(self.norm1(x_PD), rope, lengths, adapters))
        return add(x_PD, self.mlp(self.norm2(x_PD), adapters))


class PatchMerger(nn.Module):
    """Each 2x2 cell of patches, four neighbouring rows, becomes one token of the language model's width."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.cell_dim = config.embed_dim * config.merge_size**2
        self.ln_q = LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(self.cell_dim, self.cell_dim), nn.GELU(), nn.Linear(self.cell_dim, config.out_dim)
        )

    def forward(self, x_PD: Tensor, adapters: RowAdapters | None = None) -> Tensor:
        cells = None if adapters is None else adapters.cells(self.cell_dim // x_PD.shape[1])
        first, activation, last = self.mlp
        x_MD = self.ln_q(x_PD).view(-1, self.cell_dim)
        return adapted(last, activation(adapted(first, x_MD, cells)), cells)


class VisionTower(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.depth))
        self.merger = PatchMerger(config)

    def forward(self, patches: VisionPatches) -> Tensor:
        """Merged tokens (M, out_dim) of all pictures, grid after grid, each in raster order per temporal slot."""
        layers = self.layers(patches)
        while True:
            try:
                next(layers)
            except StopIteration as end:
                return end.value

    def layers(self, patches: VisionPatches, adapters: RowAdapters | None = None) -> Generator[None, None, Tensor]:
        """What `forward` does, stopping after every block; the generator's value is its result.

        adapters: of the rows of patches.
        """
        x_PD = self.patch_embed(patches.pixels)
        rope = vision_table(patches.grids, self.config, x_PD.device)
        # Attention never crosses a temporal slot: an image is one segment, a video of t slots is t segments.
        lengths = tuple(grid.h * grid.w for grid in patches.grids for _ in range(grid.t))
        for block in self.blocks:
            x_PD = block(x_PD, rope, lengths, adapters)
            yield
        return self.merger(x_PD, adapters)
