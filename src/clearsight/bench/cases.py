"""What every runtime is asked: the same tokens and pixels, drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from clearsight.config import ModelConfig
from clearsight.inputs import Grid, ModelInputs, VisionPatches
from clearsight.processor.positions import mrope_positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A picture of `size` (width, height) pixels, or none, then `text` random tokens; `answer` tokens are wanted.

    question: draws other text under the same picture.
    """

    size: tuple[int, int] | None
    text: int
    answer: int
    seed: int
    question: int = 0

    @property
    def area(self) -> int:
        return 0 if self.size is None else self.size[0] * self.size[1]


def grid_of(case: Case, config: ModelConfig) -> Grid | None:
    """Raises ValueError for a size that is not whole merged tokens."""
    if case.size is None:
        return None
    patch, factor = config.vision.patch_size, config.vision.patch_size * config.vision.merge_size
    width, height = case.size
    if width % factor or height % factor:
        raise ValueError(f"a picture of {width}x{height} is not made of whole tokens of {factor}x{factor} pixels")
    return Grid(1, height // patch, width // patch)


def make_inputs(case: Case, config: ModelConfig) -> ModelInputs:
    """The case as one sequence."""
    generator = torch.Generator().manual_seed(case.seed)
    grid = grid_of(case, config)
    vision = None
    head: list[int] = []
    runs: list[tuple[int, Grid]] = []
    if grid is not None:
        pads = [config.tokens.image_pad] * grid.tokens(config.vision.merge_size)
        head, runs = [config.tokens.vision_start, *pads, config.tokens.vision_end], [(1, grid)]
        vision = VisionPatches(torch.randn(grid.patches, config.vision.patch_dim, generator=generator), (grid,))
    words = torch.Generator().manual_seed(case.seed * 1009 + case.question)
    ids = head + torch.randint(0, config.tokens.end_of_text, (case.text,), generator=words).tolist()
    positions = mrope_positions(len(ids), runs, config.vision.merge_size)
    return ModelInputs(torch.tensor(ids), positions, (len(ids),), vision, (1,) if runs else ())


def mixed_load(count: int, small: tuple[int, int], seed: int, answer: int) -> list[Case]:
    """Requests as a server sees them: text alone, new pictures, further questions about one, short and long answers."""
    picture = Case(size=small, text=24, answer=answer, seed=seed)
    kinds: Sequence[Case] = (
        picture,
        replace(picture, question=1, answer=answer // 2),
        Case(size=None, text=48, answer=answer, seed=seed),
        replace(picture, seed=seed + 1, answer=answer // 4),
    )
    rounds = -(-count // len(kinds))
    cases = [replace(case, seed=case.seed + 2 * turn) for turn in range(rounds) for case in kinds]
    return cases[:count]
