"""Picture settings and geometry: the sizes that the reference computes.

Areas are in pixels. All sides returned are multiples of the factor, patch size x merge size (28 in every released
model).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from clearsight.config import ConfigError
from clearsight.inputs import Grid
from clearsight.media import MediaError
from clearsight.messages import Limits

MAX_RATIO = 200

# --- settings ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """The published `preprocessor_config.json`. The defaults are the released models' values, not the four times
    smaller area the reference's class falls back to (facts, 1.2 and 13.1)."""

    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 16_384 * 28 * 28
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        for name in _WHOLE_KEYS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise ConfigError(f"image setting {name} is {value!r}; it must be a whole number above 0")
        if self.min_pixels > self.max_pixels:
            raise ConfigError(f"image setting min_pixels {self.min_pixels} is above max_pixels {self.max_pixels}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"mean {self.mean} and std {self.std} need three numbers each, std above 0")

    @property
    def factor(self) -> int:
        """Side in pixels of one merged token."""
        return self.patch_size * self.merge_size

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ImageSettings:
        """Read a `preprocessor_config.json`, its area limits as min_pixels / max_pixels or, from newer writers, as
        `size` with the keys shortest_edge / longest_edge, which are areas too (facts, 3.3). When both are there the
        former win, as in the reference. A null counts as absent. Raises ConfigError naming the key."""
        data = {key: value for key, value in data.items() if value is not None and key not in _BOOKKEEPING}
        for key, only in _FIXED_KEYS.items():
            if (found := data.pop(key, only)) != only:
                raise ConfigError(f"image setting {key!r} is {found!r}; only {only!r} is supported")
        values = _areas_of_size(data.pop("size", {}))
        values |= {name: data.pop(name) for name in _WHOLE_KEYS if name in data}
        values |= {name: _numbers(data.pop(f"image_{name}")) for name in ("mean", "std") if f"image_{name}" in data}
        if data:
            raise ConfigError(f"unknown image setting {min(data)!r}")
        return ImageSettings(**values)

    def to_json(self) -> dict[str, Any]:
        """The published layout, which every version of the reference reads."""
        return {
            **{name: getattr(self, name) for name in _WHOLE_KEYS},
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2VLProcessor",
        }


_WHOLE_KEYS = ("min_pixels", "max_pixels", "patch_size", "temporal_patch_size", "merge_size")
# Keys that published files carry and that change no pixel.
_BOOKKEEPING = frozenset(
    "image_processor_type feature_extractor_type processor_class data_format input_data_format return_tensors device"
    " default_to_square disable_grouping".split()
)
_FIXED_KEYS: Mapping[str, object] = {
    **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), True),
    **dict.fromkeys(("do_center_crop", "do_pad"), False),
    "resample": int(Image.Resampling.BICUBIC),
    "rescale_factor": 1 / 255,
}


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or not all(isinstance(value, (int, float)) for value in values):
        raise ConfigError(f"image mean and std must be lists of numbers, not {values!r}")
    return tuple(values)


def _areas_of_size(size: Mapping[str, Any]) -> dict[str, Any]:
    names = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}
    if not isinstance(size, Mapping) or not set(size) <= set(names) | set(names.values()):
        raise ConfigError(f"image setting 'size' is {size!r}; shortest_edge and longest_edge are expected")
    return {names.get(key, key): value for key, value in size.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoBudget:
    """Default areas of a video in pixels: of one frame, and the sum over all frames (facts, 4.1)."""

    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 768 * 28 * 28
    total_pixels: int = 24_576 * 28 * 28


VIDEO_BUDGET = VideoBudget()


# --- geometry ----------------------------------------------------------------------------------------------


def smart_resize(
    height: int, width: int, *, factor: int = 28, min_pixels: int = 3136, max_pixels: float = 12_845_056
) -> tuple[int, int]:
    """The size (height, width) a picture is resized to: multiples of `factor`, area within the limits (facts, 3.2).

    Equal to transformers 5.23 for every input. No side falls below `factor`: rounding a side to zero leads into the
    growing branch, where ceil gives at least one, and the shrinking branch lifts, so there a thin picture may
    exceed max_pixels (facts, 13.3). Rounding is half to even (facts, 13.8). Raises MediaError above a ratio of 200.
    """
    if min(height, width) < 1:
        raise MediaError(f"a picture of {width} x {height} pixels cannot be resized; both sides must be at least 1")
    ratio = max(height, width) / min(height, width)
    if ratio > MAX_RATIO:
        raise MediaError(f"the aspect ratio of {width} x {height} is {ratio:.1f}; the limit is {MAX_RATIO}")
    rounded = tuple(round(side / factor) * factor for side in (height, width))
    if rounded[0] * rounded[1] > max_pixels:
        beta = math.sqrt((height * width) / max_pixels)
        rounded = tuple(max(factor, math.floor(side / beta / factor) * factor) for side in (height, width))
    elif rounded[0] * rounded[1] < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        rounded = tuple(math.ceil(side * beta / factor) * factor for side in (height, width))
    return rounded[0], rounded[1]


def target_size(height: int, width: int, limits: Limits, settings: ImageSettings) -> tuple[int, int]:
    """The size (height, width) of a resized picture.

    The part's own limits go before the settings'; where the two cross, the default gives way. A fixed size
    is rounded to multiples of the factor and held within the settings' areas (facts, 11.3). Raises MediaError.
    """
    return _fit(height, width, limits, settings, settings.min_pixels, settings.max_pixels)


def video_target_size(
    num_frames: int,
    height: int,
    width: int,
    limits: Limits,
    settings: ImageSettings,
    budget: VideoBudget = VIDEO_BUDGET,
) -> tuple[int, int]:
    """The size (height, width) of every frame of a video (facts, 4.3, rule of version 0.0.8).

    The more frames, the smaller each, down to 1.05 x the smallest frame area. A model whose settings are smaller than
    the budget's frame areas keeps to its settings. Raises MediaError.
    """
    if num_frames < 1:
        raise MediaError("video: it has no frames")
    pair = settings.temporal_patch_size
    share = budget.total_pixels / padded(num_frames, pair) * pair
    low, cap = _meet(Limits(min_pixels=limits.min_pixels), budget.min_pixels, settings.max_pixels, settings)
    high = max(min(budget.max_pixels, share), int(low * 1.05))
    return _fit(height, width, limits, settings, low, min(high, cap))


def _fit(height: int, width: int, limits: Limits, settings: ImageSettings, low: int, high: float) -> tuple[int, int]:
    """Resize within the part's limits, `low` and `high` standing in for those it does not set."""
    if limits.resized_height is not None and limits.resized_width is not None:
        height, width, low, high = limits.resized_height, limits.resized_width, settings.min_pixels, settings.max_pixels
    else:
        low, high = _meet(limits, low, high, settings)
    return smart_resize(height, width, factor=settings.factor, min_pixels=low, max_pixels=high)


def _meet(limits: Limits, low: int, high: float, settings: ImageSettings) -> tuple[int, float]:
    high = limits.max_pixels or high
    if limits.min_pixels is not None:
        return limits.min_pixels, max(high, limits.min_pixels)
    # Never low = high: growing a picture to the smallest area rounds up, which would overshoot the largest.
    return next((area for area in (low, settings.min_pixels) if area <= high), settings.factor**2), high


def plan_image(height: int, width: int, limits: Limits, settings: ImageSettings) -> Grid:
    """The grid of a picture of the given size, before any pixel is touched. Raises MediaError."""
    return grid_of(1, target_size(height, width, limits, settings), settings)


def plan_video(
    num_frames: int,
    height: int,
    width: int,
    limits: Limits,
    settings: ImageSettings,
    budget: VideoBudget = VIDEO_BUDGET,
) -> Grid:
    """The grid of a video whose first frame has the given size. Raises MediaError."""
    pairs = padded(num_frames, settings.temporal_patch_size) // settings.temporal_patch_size
    return grid_of(pairs, video_target_size(num_frames, height, width, limits, settings, budget), settings)


def grid_of(pairs: int, size: tuple[int, int], settings: ImageSettings) -> Grid:
    """The grid of `pairs` temporal slots at a size (height, width) in pixels."""
    return Grid(pairs, size[0] // settings.patch_size, size[1] // settings.patch_size)


def padded(num_frames: int, pair: int) -> int:
    """A temporal patch spans a pair of frames, so an odd clip repeats its last one (facts, 4.4 and 13.9)."""
    return num_frames + -num_frames % pair
