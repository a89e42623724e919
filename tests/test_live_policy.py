"""What leaves, what is sampled, when an instruction speaks: rules without a model."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clearsight.live.intake import Intake
from clearsight.live.policy import to_forget, to_thin
from clearsight.live.settings import LiveSettings
from clearsight.live.standing import Standing, Watcher

seconds = st.lists(st.floats(0, 1e6), min_size=1, max_size=60, unique=True).map(sorted)


@given(times=seconds, keep=st.integers(1, 70), dense=st.floats(0, 1))
def test_either_policy_keeps_as_many_as_asked_and_the_newest(times, keep, dense):
    for gone in (to_forget(times, keep), to_thin(times, keep, dense)):
        assert len(set(gone)) == len(gone) == max(0, len(times) - keep)
        assert not gone or len(times) - 1 not in gone


@given(times=seconds, keep=st.integers(2, 40), dense=st.floats(0, 1))
def test_thinning_leaves_the_newest_share_alone(times, keep, dense):
    spared = set(range(len(times) - min(keep, max(1, round(dense * keep))), len(times)))
    assert not spared & set(to_thin(times, keep, dense))


def test_a_day_in_forty_slots_has_gaps_that_grow_with_age():
    kept: list[float] = []
    for second in range(24 * 3600):
        kept.append(float(second))
        if len(kept) > 48:
            gone = set(to_thin(kept, 40, 0.5))
            kept = [time for index, time in enumerate(kept) if index not in gone]
    gaps = [after - before for before, after in itertools.pairwise(kept)]
    now = 24 * 3600
    assert gaps[-19:] == [1.0] * 19
    assert now - kept[0] > 0.9 * now
    # Each half of the past is remembered by some frames, however long ago.
    for age in (60, 600, 6_000, 40_000):
        assert any(age / 4 <= now - time <= age * 2 for time in kept)


# --- intake -------------------------------------------------------------------------------------------------------


def intake(**settings):
    return Intake(LiveSettings(**settings), lambda frame: frame)


PICTURE = Image.new("RGB", (28, 28))


def test_frames_are_taken_at_the_rate_asked_for_whatever_the_source_gives():
    for source in (10.0, 25.0, 30.0, 2.0, 2.02):
        frames = intake(frames_per_second=2.0, max_pending=1000)
        for index in range(int(20 * source)):
            frames.push(PICTURE, index / source)
        assert frames.stats().taken == pytest.approx(40, abs=1)
    slow = intake(frames_per_second=2.0)
    assert [slow.push(PICTURE, float(second)) for second in range(6)] == ["taken"] * 6


def test_after_a_gap_the_rate_is_kept_without_catching_up():
    frames = intake(frames_per_second=2.0, max_pending=1000)
    frames.push(PICTURE, 0.0)
    for index in range(85):
        frames.push(PICTURE, 1000.0 + index / 25)
    assert frames.stats().taken == 1 + 7


def test_late_frames_and_a_full_queue_are_counted_and_the_newest_wins():
    frames = intake(frames_per_second=1.0, max_pending=2)
    assert frames.push(PICTURE, 0.0) == "taken"
    assert frames.push(PICTURE, 0.0) == "late"
    assert frames.push(PICTURE, -5.0) == "late"
    assert frames.push(PICTURE, 0.5) == "skipped"
    for second in range(1, 10):
        frames.push(PICTURE, float(second))
    stats = frames.stats()
    assert (stats.taken, stats.late, stats.skipped, stats.dropped, stats.pending) == (10, 2, 1, 6, 2)
    assert [frames.take().time, frames.take().time] == [7.0, 9.0]
    assert frames.take() is None


def test_a_single_frame_at_the_end_counts_twice_if_asked():
    frames = intake()
    frames.push(PICTURE, 1.0)
    assert frames.take() is None
    pair = frames.take(flush=True)
    assert pair.frames[0] is pair.frames[1]
    assert frames.take(flush=True) is None


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf])
def test_a_time_must_be_a_time(time):
    with pytest.raises(ValueError, match="finite number of seconds"):
        intake().push(PICTURE, time)


# --- standing instructions ------------------------------------------------------------------------------------


def spoken(watcher, readings):
    return [index for index, reading in enumerate(readings) if watcher.push(reading)]


def test_yes_speaks_once_when_it_has_settled_and_again_only_after_a_no():
    watcher = Watcher(Standing(instruction="Is it red?", agree=2))
    readings = [False, True, False, True, True, True, None, True, False, True, False, False, True, True]
    assert spoken(watcher, readings) == [4, 13]


def test_a_flickering_answer_says_nothing():
    watcher = Watcher(Standing(instruction="Is it red?", agree=2))
    assert spoken(watcher, [True, False] * 20) == []


def test_a_change_speaks_for_every_new_answer_but_not_for_the_first():
    watcher = Watcher(Standing(instruction="What is it?", when="change", agree=2))
    readings = ["a", "a", "a", "b", "a", "b", "b", "c", "c", "a", "a"]
    assert spoken(watcher, readings) == [6, 8, 10]


def test_undecided_looks_count_for_nothing():
    standing = Standing(instruction="Is it red?", sure=0.8)
    assert [standing.read(yes) for yes in (0.9, 0.8, 0.5, 0.19, 0.1)] == [True, True, None, False, False]


def test_looks_come_every_so_many_pairs():
    watcher = Watcher(Standing(instruction="Is it red?", every=3))
    assert [watcher.due() for _ in range(7)] == [False, False, True, False, False, True, False]


@pytest.mark.parametrize(
    "wrong",
    [{"instruction": " "}, {"when": "maybe"}, {"every": 0}, {"agree": 0}, {"sure": 0.4}, {"sure": 1.0}],
    ids=str,
)
def test_wrong_instructions_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).replace("instruction", "must not be empty")):
        Standing(**{"instruction": "x", **wrong})
