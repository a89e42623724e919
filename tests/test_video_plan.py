"""The frame plan: the published numbers, a context that is never exceeded, count = prepare, and what is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from films import film, frame, save
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from clearsight.cli import main
from clearsight.config import NANO
from clearsight.engine import Engine
from clearsight.inputs import SamplingParams
from clearsight.media import MediaError, VideoHeader
from clearsight.messages import Limits, MessageError, Sampling, Video, parse_messages
from clearsight.model.weights import random_model
from clearsight.processor import ImageSettings, Processor
from clearsight.processor.clips import ClipReader
from clearsight.processor.video import FramePlan, fit_plans, frame_count, plan_frames
from clearsight.vlm import VLM

RELEASED = ImageSettings()
CONTEXT = 32_768


def header(seconds: float, fps: float = 24, width: int = 1280, height: int = 720) -> VideoHeader:
    return VideoHeader("clip.mp4", width, height, max(1, round(seconds * fps)), fps, seconds)


def planned(head: VideoHeader, limits: Limits = Limits(), **sampling: Any) -> FramePlan:
    return plan_frames(head, Video("clip.mp4", limits, Sampling(**sampling)), RELEASED, 768)


def fitted(head: VideoHeader, room: int, context: int = CONTEXT, **sampling: Any) -> FramePlan:
    item = Video("clip.mp4", Limits(), Sampling(**sampling))
    return fit_plans([(plan_frames(head, item, RELEASED, 768), head, item)], RELEASED, context, room)[0]


def ask(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What happens?"}]}]


# --- the published rules (facts, 4.2 and 4.3) -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "count"), [(1, 4), (3.1, 6), (10, 20), (60, 120), (384, 768), (1200, 768), (7200, 768)]
)
def test_the_number_of_frames(seconds: float, count: int) -> None:
    assert len(planned(header(seconds)).indices) == count


def utils_count(total: int, fps: float, wish: dict[str, Any]) -> int:
    """qwen-vl-utils 0.0.11, smart_nframes, restated from its description."""
    if "nframes" in wish:
        return round(wish["nframes"] / 2) * 2
    lowest = -(-wish.get("min_frames", 4) // 2) * 2
    highest = wish.get("max_frames", min(768, total)) // 2 * 2
    number = total / fps * wish.get("fps", 2.0)
    return int(min(min(max(number, lowest), highest), total) // 2 * 2)


@given(
    total=st.integers(8, 40_000),
    fps=st.floats(1, 240),
    wish=st.fixed_dictionaries(
        {}, optional={"fps": st.floats(0.1, 60), "min_frames": st.integers(1, 8), "max_frames": st.integers(8, 768)}
    ),
)
@example(total=9, fps=30.0, wish={"nframes": 5})
@example(total=9, fps=30.0, wish={"nframes": 7})
def test_the_number_is_that_of_the_published_tool(total: int, fps: float, wish: dict[str, Any]) -> None:
    expected = utils_count(total, fps, wish)
    if 2 <= expected <= total:
        assert frame_count(total, fps, Sampling(**wish)) == expected


@pytest.mark.parametrize(
    ("frames", "total", "size", "tokens"),
    [
        (20, None, (560, 1008), 7200),
        (64, None, (560, 1008), 23_040),
        (120, None, (420, 728), 23_400),
        (240, None, (280, 532), 22_800),
        (366, None, (224, 420), 21_960),
        (768, None, (224, 420), 46_080),
        (64, 16_384, (448, 840), 15_360),
        (120, 16_384, (336, 616), 15_840),
        (240, 16_384, (224, 420), 14_400),
        (120, 115_200, (560, 1008), 43_200),
        (366, 115_200, (504, 924), 108_702),
        (768, 115_200, (336, 644), 105_984),
    ],
)
def test_the_table_of_sizes(frames: int, total: int | None, size: tuple[int, int], tokens: int) -> None:
    pixels = None if total is None else total * 784
    plan = planned(header(frames / 2), total_pixels=pixels)
    assert (len(plan.indices), plan.grid.tokens()) == (frames, tokens)
    assert (plan.grid.h * 14, plan.grid.w * 14) == size


def test_a_lower_smallest_area_obeys_the_total() -> None:
    plan = planned(header(1200), Limits(min_pixels=16 * 784), total_pixels=16_384 * 784)
    assert ((plan.grid.h * 14, plan.grid.w * 14), plan.grid.tokens()) == ((112, 224), 12_288)


def test_indices_run_from_the_first_to_the_last() -> None:
    assert planned(header(10)).indices == tuple(int(i) for i in np.linspace(0, 239, 20).round())
    part = planned(header(10), video_start=2.01, video_end=4.99, nframes=6).indices
    assert (part[0], part[-1]) == (49, 119)
    assert planned(header(1 / 24)).indices == (0,)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"fps": 2, "nframes": 4}, "nframes cannot go with fps"),
        ({"fps": 0}, "fps is 0; it must be a number above 0"),
        ({"nframes": 2.5}, "nframes is 2.5; it must be a whole number above 0"),
        ({"min_frames": 9, "max_frames": 4}, "min_frames 9 is above max_frames 4"),
        ({"video_start": 4, "video_end": 3}, "video_start 4 must be before video_end 3"),
        ({"strict": 1}, "strict is 1; it must be true or false"),
        ({"speed": 2}, "unknown key 'speed'"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(wish: dict[str, Any], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        parse_messages(ask({"type": "video", "video": "clip.mp4", **wish}))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"nframes": 300}, "nframes is 300; this clip allows 2 to 240"),
        ({"video_start": 11}, "there is no frame from 11 s"),
        ({"nframes": 238, "fps": None}, None),
    ],
)
def test_wishes_that_a_clip_cannot_meet_are_refused(wish: dict[str, Any], words: str | None) -> None:
    if words is None:
        assert len(planned(header(10), **wish).indices) == 238
        return
    with pytest.raises(MediaError, match=words):
        planned(header(10), **wish)


# --- fitting the context ---------------------------------------------------------------------------------------


@given(
    seconds=st.floats(0.1, 20_000),
    fps=st.sampled_from([1.0, 23.976, 30.0, 60.0]),
    sides=st.tuples(st.integers(16, 4000), st.integers(16, 4000)),
    room=st.integers(600, CONTEXT),
    steady=st.booleans(),
)
@examples(max_examples=60)
def test_whatever_its_length_it_fits(
    seconds: float, fps: float, sides: tuple[int, int], room: int, steady: bool
) -> None:
    if max(sides) / min(sides) > 20:
        return
    head = header(seconds, fps, *sides)
    plan = fitted(head, room, steady=steady)
    assert plan.grid.tokens() <= room
    assert plan.grid.t == -(-len(plan.indices) // 2)
    assert list(plan.indices) == sorted(set(plan.indices))
    assert 0 <= plan.indices[0] <= plan.indices[-1] < head.frames
    wanted = plan_frames(head, Video("", Limits(), Sampling(steady=steady)), RELEASED, 768)
    assert bool(plan.note) == (plan.grid != wanted.grid or plan.indices != wanted.indices)


def test_twenty_minutes_keep_their_frames_and_give_up_size() -> None:
    plan = fitted(header(1200), 30_000)
    assert len(plan.indices) == 768
    assert 40 * 384 <= plan.grid.tokens() <= 24_576
    assert "768 of 420 x 224" in plan.note
    assert "46080 tokens are above the 24576" in plan.note


def test_a_growing_conversation_keeps_its_plan() -> None:
    rooms = range(24_576, 30_000, 97)
    assert len({fitted(header(1200), room) for room in rooms}) == 1


def test_strict_refuses_instead() -> None:
    with pytest.raises(MediaError, match=r"clip\.mp4: it takes 46080 tokens as planned; there is room for 30000"):
        fitted(header(1200), 30_000, strict=True)
    assert fitted(header(60), 30_000, strict=True) == planned(header(60))


def test_several_videos_share_the_room() -> None:
    item = Video("", Limits(), Sampling())
    heads = [header(1200), header(10), header(900)]
    videos = [(plan_frames(head, item, RELEASED, 768), head, item) for head in heads]
    plans = fit_plans(videos, RELEASED, CONTEXT, 30_000)
    assert sum(plan.grid.tokens() for plan in plans) <= 30_000
    assert plans[0].grid.tokens() == pytest.approx(plans[2].grid.tokens(), rel=0.2)
    assert plans[1].note == ""


# --- through the processor -------------------------------------------------------------------------------------

SMALL = Processor.packaged("nano")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("clips") / "clip.mp4", film(frames=90, size=(160, 96)))


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"nframes": 5},
        {"fps": 10},
        {"fps": 30, "max_pixels": 400 * 784},
        {"steady": True, "fps": 5},
        {"video_end": 1},
    ],
)
def test_count_tells_what_prepare_will_use(clip: Path, wish: dict[str, Any]) -> None:
    messages = ask({"type": "video", "video": str(clip), **wish}, {"type": "video", "video": clip.read_bytes()})
    counted, prepared = SMALL.count(messages), SMALL.prepare(messages)
    assert counted.media == prepared.media
    assert counted.tokens == len(prepared.inputs.ids) < SMALL.context
    use = prepared.media[0]
    assert use.times is not None
    assert len(use.times) == use.frames
    assert use.duration == pytest.approx(3, abs=0.05)
    assert use.original_size == (160, 96)


def test_a_video_is_its_frames_as_pictures(clip: Path) -> None:
    """What is decoded from a file is what the same frames give as a list."""
    (use,) = SMALL.count(ask({"type": "video", "video": str(clip)})).media
    pixels = SMALL.prepare(ask({"type": "video", "video": str(clip)})).inputs.vision
    numbers = [round(time * 30) for time in use.times or ()]
    listed = SMALL.prepare(ask({"type": "video", "video": [frame(k, 160, 96) for k in numbers]})).inputs.vision
    assert pixels is not None
    assert listed is not None
    assert pixels.grids == listed.grids
    # An encoded frame is nearly the drawn one; 0.15 is about ten grey levels.
    assert (pixels.pixels - listed.pixels).abs().mean() < 0.15


def test_a_long_row_of_pictures_is_thinned_and_fits() -> None:
    (use,) = SMALL.count(ask({"type": "video", "video": [frame(0, 64, 64)] * 900})).media
    assert use.frames is not None
    assert use.frames <= 768
    assert use.tokens <= 0.75 * SMALL.context
    assert use.note
    assert use.times is None


def test_progress_is_told(clip: Path) -> None:
    told: list[tuple[str, int, int]] = []
    fresh = Processor.packaged("nano")
    fresh.prepare(ask({"type": "video", "video": str(clip)}), progress=lambda *step: told.append(step))
    assert told == [("clip.mp4", index, 6) for index in range(1, 7)]


# --- what is shared ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vlm() -> VLM:
    model = random_model(NANO, seed=5, dtype=torch.float32)
    return VLM("random", Processor.packaged("nano"), Engine(model), SamplingParams(max_tokens=4))


def encoded(vlm: VLM, messages: list[dict[str, Any]], **options: Any) -> tuple[int, int, int]:
    """Frames read, slots encoded and slots known already, of one answer."""
    read: list[int] = []
    before = vlm.engine.stats()
    vlm.chat(messages, progress=lambda *step: read.append(step[1]), **options)
    after = vlm.engine.stats()
    hits = after.vision_cache_hits - before.vision_cache_hits
    return len(read), after.vision_cache_misses - before.vision_cache_misses, hits


def test_a_second_question_costs_neither_decoding_nor_vision(vlm: VLM, clip: Path, tmp_path: Path) -> None:
    part = {"type": "video", "video": str(clip), "max_pixels": 100 * 784}
    assert encoded(vlm, ask(part))[:2] == (6, 3)
    other = [{"role": "user", "content": [part, {"type": "text", "text": "And then?"}]}]
    assert encoded(vlm, other)[:2] == (0, 0)
    # It is known by its content, not by its name.
    moved = save(tmp_path / "moved.mp4", clip.read_bytes())
    assert encoded(vlm, ask({**part, "video": str(moved)}))[:2] == (0, 0)
    # Nothing is told to those with another key.
    assert encoded(vlm, ask(part), salt=b"other")[:2] == (6, 3)


def test_a_changed_file_is_read_anew(vlm: VLM, tmp_path: Path) -> None:
    path = save(tmp_path / "clip.mp4", film(frames=60, size=(112, 112)))
    assert encoded(vlm, ask({"type": "video", "video": str(path)}))[0] == 4
    save(path, film(frames=60, size=(112, 84)))
    assert encoded(vlm, ask({"type": "video", "video": str(path)}))[0] == 4


def test_overlapping_parts_share_their_slots(vlm: VLM, tmp_path: Path) -> None:
    path = save(tmp_path / "long.mp4", film(frames=300, size=(128, 96), gop=15))
    part = {"type": "video", "video": str(path), "steady": True, "max_pixels": 64 * 784}
    whole = encoded(vlm, ask(part))
    assert whole[:2] == (20, 10)
    assert encoded(vlm, ask({**part, "video_start": 4, "video_end": 9}))[1] == 0
    assert encoded(vlm, ask({**part, "video_start": 3.3}))[1] == 0


def test_a_video_that_grew_is_looked_at_where_it_is_new(vlm: VLM, tmp_path: Path) -> None:
    """Recorders add to a file; what was there stays the same, bit for bit, as here."""
    pictures = [frame(5 * k, 140, 84) for k in range(14)]
    row = {"type": "video", "video": pictures[:10], "max_pixels": 60 * 784}
    assert encoded(vlm, ask(row))[1:] == (5, 0)
    assert encoded(vlm, ask({**row, "video": pictures}))[1] == 2
    short, long = (film("mpegts", frames=frames, size=(140, 84), gop=15) for frames in (150, 240))
    part = {"type": "video", "steady": True, "max_pixels": 60 * 784}
    first = encoded(vlm, ask({**part, "video": save(tmp_path / "cam.ts", short)}))[1]
    second = encoded(vlm, ask({**part, "video": save(tmp_path / "cam.ts", long)}))[1]
    assert (first, second) == (5, 3)


def test_the_frames_kept_are_bounded(clip: Path) -> None:
    small = Processor.packaged("nano")
    small.clips = ClipReader(6 * 252 * 420 * 3)
    for fps in (1, 2, 3, 4):
        small.prepare(ask({"type": "video", "video": str(clip), "fps": fps}))
        assert 0 <= small.clips.bytes <= 6 * 252 * 420 * 3


# --- on the command line -----------------------------------------------------------------------------------------


def test_the_command_line(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["count", str(clip), "--nframes", "4", "--text", "What?"]) == 0
    counted = capsys.readouterr().out
    assert "clip.mp4: 160 x 96 pixels of 0:03, 4 frames used, one each 0.99 s, at" in counted
    assert main(["ask", str(clip), "What?", "--nframes", "4", "--max-tokens", "2", "--max-pixels", "50000"]) == 0
    assert "clip.mp4: 160 x 96 pixels of 0:03, 4 frames used" in capsys.readouterr().err
    assert main(["ask", str(clip), "What?", "--start", "9"]) == 2
    assert capsys.readouterr().err.startswith("clearsight: clip.mp4: there is no frame from 9 s")
    assert main(["count", str(clip), "--fps", "30", "--min-pixels", "300000", "--strict"]) == 2
    assert "tokens as planned; there is room for" in capsys.readouterr().err
