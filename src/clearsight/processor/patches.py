"""RGB pixels to patches: bit for bit what the reference's PIL processor computes.

Shapes: N frames, H and W pixels, C channels, P patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from clearsight.inputs import Grid, VisionPatches
from clearsight.media import MediaError
from clearsight.media.rgb import resize
from clearsight.messages import Limits
from clearsight.processor.image import (
    VIDEO_BUDGET,
    ImageSettings,
    VideoBudget,
    grid_of,
    plan_video,
    target_size,
)

D = TypeVar("D", bound=np.generic)


Picture = Image.Image | npt.NDArray[np.uint8]


def image_patches(image: Image.Image, limits: Limits, settings: ImageSettings) -> VisionPatches:
    """The patches of one RGB picture, which stands twice in time (facts, 3.4).

    A page of 12.8 million pixels gives 308 MB of patches; beside them stand its 39 MB of resized bytes and 77 MB of
    byte patches.
    """
    return pair_patches([image], target_size(image.height, image.width, limits, settings), settings)


def pair_patches(frames: Sequence[Picture], size: tuple[int, int], settings: ImageSettings) -> VisionPatches:
    """The patches of one temporal slot: a frame pair, or one frame that stands twice (facts, 4.4).

    frames: one or two RGB pictures, or (H, W, 3) uint8 arrays, of any size. size: (height, width) they are brought to,
    multiples of the factor. The same frames at the same size give the same slot wherever it stands.
    """
    pair, (height, width) = settings.temporal_patch_size, size
    if not 1 <= len(frames) <= pair:
        raise ValueError(f"a temporal slot holds 1 to {pair} frames, not {len(frames)}")
    resized = [_resize(frame, size) for frame in frames]
    stack = np.broadcast_to(resized[0], (pair, height, width, 3)) if len(frames) == 1 else np.stack(resized)
    # Patches are cut while still bytes, a quarter of the traffic of floats.
    rows = patchify(np.moveaxis(stack, -1, 1), settings)
    pixels = normalise(rows.reshape(len(rows), 3, -1), settings).reshape(rows.shape)
    return VisionPatches(torch.from_numpy(pixels), (grid_of(1, size, settings),))


def clip_patches(frames: Iterable[Picture], grid: Grid, settings: ImageSettings) -> VisionPatches:
    """The patches of a video that was planned as `grid`; an odd clip repeats its last frame (facts, 4.4 and 13.9).

    Each frame is taken once, in order, and none is kept beyond its pair. Raises MediaError for too few frames.
    """
    pair, size = settings.temporal_patch_size, (grid.h * settings.patch_size, grid.w * settings.patch_size)
    pixels = torch.empty(grid.patches, 3 * pair * settings.patch_size**2)
    slots, source = torch.split(pixels, grid.h * grid.w), iter(frames)
    for index, slot in enumerate(slots):
        held = list(islice(source, pair))
        if not held or (len(held) < pair and index + 1 < len(slots)):
            raise MediaError(f"video: it ends after {index * pair + len(held)} of its {grid.t * pair} frames")
        slot.copy_(pair_patches(held, size, settings).pixels)
    return VisionPatches(pixels, (grid,))


def video_patches(
    frames: Sequence[Image.Image], limits: Limits, settings: ImageSettings, budget: VideoBudget = VIDEO_BUDGET
) -> VisionPatches:
    """The patches of a list of RGB frames, all resized to one size chosen from the first (facts, 4.3)."""
    if not frames:
        raise MediaError("video: it has no frames")
    first = frames[0]
    grid = plan_video(len(frames), first.height, first.width, limits, settings, budget)
    return clip_patches(frames, grid, settings)


def patchify(frames: npt.NDArray[D], settings: ImageSettings) -> npt.NDArray[D]:
    """Frames (N, C, H, W) of any dtype as rows (P, C * 2 * 14 * 14), in reading order (facts, 3.4).

    N must be a multiple of the temporal patch size, H and W of the factor. Slowest to fastest, rows run over frame
    pair, merged row, merged column, inner row, inner column; numbers in a row over channel, frame, y, x.
    """
    count, channels, height, width = frames.shape
    pair, factor = settings.temporal_patch_size, settings.factor
    merge, patch = settings.merge_size, settings.patch_size
    if count % pair or height % factor or width % factor:
        raise ValueError(f"frames {frames.shape} cannot be cut in patches of {pair} x {factor} x {factor}")
    cells = frames.reshape(count // pair, pair, channels, height // factor, merge, patch, width // factor, merge, patch)
    rows: npt.NDArray[D] = cells.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, channels * pair * patch**2)
    return rows


def normalise(levels: npt.NDArray[np.uint8], settings: ImageSettings) -> npt.NDArray[np.float32]:
    """Bytes (P, C, ...) to float32: (level / 255 - mean) / std by channel.

    The reference multiplies by 1 / 255 in float64 and rounds to float32; for all 256 levels that is the float32
    quotient, so no wide copy is needed.
    """
    shape = (3,) + (1,) * (levels.ndim - 2)
    result: npt.NDArray[np.float32] = np.divide(levels, np.float32(255), dtype=np.float32)
    result -= np.array(settings.mean, np.float32).reshape(shape)
    result /= np.array(settings.std, np.float32).reshape(shape)
    return result


def _resize(frame: Picture, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Bytes (H, W, 3) of an RGB picture at (height, width)."""
    image = Image.fromarray(frame) if isinstance(frame, np.ndarray) else frame
    if image.mode != "RGB":
        raise ValueError(f"a picture of mode {image.mode} must be made RGB first")
    return np.asarray(resize(image, size))
