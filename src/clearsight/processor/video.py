"""Which frames of a video are looked at, and how large: the frame plan (facts, 4.2, 4.3 and 4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clearsight.inputs import Grid
from clearsight.media import MediaError, VideoHeader
from clearsight.messages import Limits, Sampling, Video
from clearsight.processor.image import VIDEO_BUDGET, ImageSettings, VideoBudget, plan_video

FPS = 2.0
MIN_FRAMES = 4
MAX_FRAMES = 768
PAIR = 2

# Tokens of a frame pair (about 180 x 180 pixels) below which frames are given up instead of size.
SMALLEST_PAIR = 40

# Parts of a model's context that the videos of a prompt may take, each. Steps, so that a conversation that grows keeps
# its plan, and with it what was already seen. The first is the total of the published settings in a context of 32768.
BUDGETS = (3 / 4, 1 / 2, 3 / 8, 1 / 4, 3 / 16, 1 / 8, 3 / 32, 1 / 16, 3 / 64, 1 / 32, 1 / 64)


@dataclass(frozen=True, slots=True)
class FramePlan:
    """What is looked at of one video. indices: numbers of frames, rising.

    note: what was given up so that the video fits, or "".
    """

    indices: tuple[int, ...]
    grid: Grid
    note: str = ""


def frame_count(total: int, video_fps: float, sampling: Sampling) -> int:
    """How many of `total` frames are taken: even, in [2, total], as qwen-vl-utils counts since 0.0.11 (facts, 4.2).

    Raises MediaError where nframes asks for more than there are.
    """
    if sampling.nframes is not None:
        count = PAIR * round(sampling.nframes / PAIR)
        if not PAIR <= count <= total:
            raise MediaError(f"video: nframes is {sampling.nframes}; this clip allows {PAIR} to {total}")
        return count
    low = PAIR * -(-(sampling.min_frames or MIN_FRAMES) // PAIR)
    high = PAIR * (min(sampling.max_frames or MAX_FRAMES, total) // PAIR)
    wanted = total / video_fps * (sampling.fps or FPS)
    return max(PAIR, PAIR * int(min(max(wanted, low), high, total) // PAIR))


def plan_frames(header: VideoHeader, item: Video, settings: ImageSettings, most: int) -> FramePlan:
    """The frames and the size that the published rules give, within any context. most: frames, at most.

    Raises MediaError for wishes that this video cannot meet.
    """
    indices = _indices(header, item.sampling, most)
    if len(indices) > most:
        raise MediaError(f"{header.name}: {len(indices)} frames are asked for; the limit is {most}")
    return FramePlan(indices, _grid(len(indices), header, item, settings))


def _grid(count: int, header: VideoHeader, item: Video, settings: ImageSettings) -> Grid:
    total, budget = item.sampling.total_pixels, VIDEO_BUDGET
    if item.sampling.steady:
        # Every length gets the size that the rules give to the longest.
        budget = VideoBudget(total_pixels=PAIR * settings.factor**2)
    elif total is not None:
        budget = VideoBudget(total_pixels=total)
    return plan_video(count, header.height, header.width, item.limits, settings, budget)


def _indices(header: VideoHeader, sampling: Sampling, most: int) -> tuple[int, ...]:
    if header.fps is None:
        return _of_row(header, sampling, most)
    first, last = _part(header, header.fps, sampling)
    total = last - first + 1
    if total < PAIR:
        return tuple(range(first, last + 1))
    if sampling.steady:
        return _steady(first, last, header.fps, sampling, most)
    return _spread(first, last, frame_count(total, header.fps, sampling))


def _of_row(header: VideoHeader, sampling: Sampling, most: int) -> tuple[int, ...]:
    """Of pictures in a row all, unless a number is asked for or there are too many."""
    for name in ("fps", "video_start", "video_end", "min_frames"):
        if getattr(sampling, name) is not None:
            raise MediaError(f"{header.name}: pictures in a row have no times, so {name} has no meaning")
    if sampling.nframes is not None:
        return _spread(0, header.frames - 1, frame_count(header.frames, FPS, sampling))
    return _spread(0, header.frames - 1, min(header.frames, sampling.max_frames or most))


def _part(header: VideoHeader, fps: float, sampling: Sampling) -> tuple[int, int]:
    """First and last frame between start and end, held within the video (facts, 4.2)."""
    first, last = 0, header.frames - 1
    if sampling.video_start is not None:
        first = max(first, int(np.ceil(sampling.video_start * fps)))
    if sampling.video_end is not None:
        last = min(last, int(np.floor(sampling.video_end * fps)))
    if first > last:
        end = header.duration if sampling.video_end is None else sampling.video_end
        raise MediaError(
            f"{header.name}: there is no frame from {sampling.video_start or 0:g} s to {end:g} s;"
            f" it lasts {header.duration:.2f} s"
        )
    return first, last


def _spread(first: int, last: int, count: int) -> tuple[int, ...]:
    """`count` numbers evenly from `first` to `last`, both included (facts, 4.2)."""
    return tuple(int(index) for index in np.linspace(first, last, count).round())


def _steady(first: int, last: int, fps: float, sampling: Sampling, most: int) -> tuple[int, ...]:
    """Numbers at whole multiples of a step, in pairs that begin at even multiples, so that every part of the video is
    cut in the same pairs. The step doubles until there are few enough."""
    step = max(1.0, fps / (sampling.fps or FPS))
    most = min(most, sampling.max_frames or MAX_FRAMES)
    while True:
        begin, end = int(-(-first // (PAIR * step))), int((last / step - (PAIR - 1)) // PAIR)
        ticks = range(PAIR * begin, PAIR * (end + 1))
        if len(ticks) <= most:
            # What is shorter than one pair is looked at as it is.
            return tuple(dict.fromkeys(round(tick * step) for tick in ticks)) or (first, last)
        step *= 2


# --- fitting a context -----------------------------------------------------------------------------------------


def fit_plans(
    videos: Sequence[tuple[FramePlan, VideoHeader, Video]], settings: ImageSettings, context: int, room: int
) -> list[FramePlan]:
    """Plans that were made as if alone, made to fit: all within `room` tokens together, each within the largest budget
    that allows it.

    A video that must not be reduced stays as planned. Where nothing fits, all stay as they are, for the prompt to be
    refused with its length. Raises MediaError for a strict video that is beyond what there is.
    """
    merge = settings.merge_size
    for plan, header, item in videos:
        needed = plan.grid.tokens(merge)
        if item.sampling.strict and needed > room:
            raise MediaError(f"{header.name}: it takes {needed} tokens as planned; there is room for {max(0, room)}")
    for share in BUDGETS:
        budget = int(share * context)
        fitting = [
            plan if item.sampling.strict else _within(plan, header, item, settings, budget)
            for plan, header, item in videos
        ]
        known = [plan for plan in fitting if plan is not None]
        if len(known) == len(fitting) and sum(plan.grid.tokens(merge) for plan in known) <= room:
            return known
    return [plan for plan, _, _ in videos]


def _within(
    plan: FramePlan, header: VideoHeader, item: Video, settings: ImageSettings, budget: int
) -> FramePlan | None:
    """The plan itself if it fits, otherwise smaller frames, and below a useful size fewer; None if nothing does."""
    needed = plan.grid.tokens(settings.merge_size)
    if needed <= budget:
        return plan
    found = (_fewer if item.sampling.steady else _smaller)(plan, header, item, settings, budget)
    if found is None:
        return None
    indices, grid = found
    old, new = (f"{side.w * settings.patch_size} x {side.h * settings.patch_size}" for side in (plan.grid, grid))
    note = (
        f"looked at in {len(indices)} frames of {new} pixels, not {len(plan.indices)} of {old},"
        f" as {needed} tokens are above the {budget} there are for it"
    )
    return FramePlan(indices, grid, note)


Fitting = tuple[tuple[int, ...], Grid]


def _smaller(plan: FramePlan, header: VideoHeader, item: Video, settings: ImageSettings, budget: int) -> Fitting | None:
    """Smaller frames; fewer where they would be too small to be of use."""
    wanted = len(plan.indices)
    pairs = min(-(-wanted // PAIR), max(1, budget // SMALLEST_PAIR))
    grid = _largest(pairs, header, settings, budget)
    if grid is None:
        return None
    places = _spread(0, wanted - 1, min(wanted, PAIR * pairs))
    return tuple(plan.indices[place] for place in places), grid


def _fewer(plan: FramePlan, header: VideoHeader, item: Video, settings: ImageSettings, budget: int) -> Fitting | None:
    """Larger steps at the same size, so that parts of a video go on sharing frames."""
    pairs = budget // plan.grid._replace(t=1).tokens(settings.merge_size)
    if not pairs:
        return None
    indices = _indices(header, item.sampling, PAIR * pairs)
    return indices, plan.grid._replace(t=-(-len(indices) // PAIR))


def _largest(pairs: int, header: VideoHeader, settings: ImageSettings, budget: int) -> Grid | None:
    """The largest frames of which so many pairs fit."""
    area, unit = budget // pairs * settings.factor**2, settings.factor**2
    while area >= unit:
        tight = VideoBudget(min_pixels=unit, max_pixels=area, total_pixels=area * PAIR * pairs)
        grid = plan_video(PAIR * pairs, header.height, header.width, Limits(max_pixels=area), settings, tight)
        if grid.tokens(settings.merge_size) <= budget:
            return grid
        area = int(area * 0.9)
    return None
