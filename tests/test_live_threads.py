"""`Live`: frames pushed, questions asked and instructions given from several threads at once."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest

from clearsight.engine import EngineSettings
from clearsight.inputs import SamplingParams
from clearsight.live import Live, LiveClosed, LiveFull, LiveSettings, QuestionTooLong, Session, Standing
from clearsight.live.frames import FrameSize
from clearsight.live.standing import Watcher
from clearsight.media import MediaError
from clearsight.vlm import VLM

SMALL = {"budget_tokens": 400, "slot_tokens": 6, "dialogue_tokens": 48, "answer_tokens": 8, "system": "Look."}
SHORT = SamplingParams(max_tokens=4, repetition_guard=False)


@pytest.fixture(scope="module")
def vlm(tiny_checkpoint):
    return VLM.load(str(tiny_checkpoint), settings=EngineSettings(vision_work=64))


def frames(number, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, 56, 84, 3), np.uint8)


def text_of(vlm, pictures, question):
    """The same asked at once, of frames at the session's size."""
    video = {"type": "video", "video": list(pictures), "resized_height": 56, "resized_width": 84}
    content = [video, {"type": "text", "text": question}]
    return vlm.chat([{"role": "system", "content": "Look."}, {"role": "user", "content": content}], SHORT).text


@pytest.mark.parametrize("number", [1, 4, 7])
def test_after_catching_up_the_answer_is_that_of_all_frames_sent_at_once(vlm, number):
    pictures = frames(number)
    with Live(vlm, LiveSettings(**SMALL)) as live:
        for index, picture in enumerate(pictures):
            assert live.push(picture, index / 2, wait=True) == "taken"
        answer = live.ask("What is it?", SHORT, catch_up=True)
        pieces = "".join(answer)
        assert pieces == answer.reply.text == text_of(vlm, pictures, "What is it?")
        stats = live.stats()
        assert stats.session.seen_slots == -(-number // 2)
        assert stats.lag_seconds == 0


def test_the_first_frame_alone_can_be_asked_about(vlm):
    with Live(vlm, LiveSettings(**SMALL)) as live:
        live.push(frames(1)[0], 0.0)
        assert live.ask("What is it?", SHORT).reply.text == text_of(vlm, frames(1), "What is it?")


def test_other_requests_are_answered_beside_a_session_and_are_what_they_are_alone(vlm):
    message = [{"role": "user", "content": "Hello there"}]
    alone = vlm.chat(message, SHORT).text
    found, done = [], threading.Event()

    def talk():
        while not done.is_set():
            found.append(vlm.chat(message, SHORT).text)

    pictures = frames(24)
    with Live(vlm, LiveSettings(**SMALL)) as live:
        talker = threading.Thread(target=talk)
        talker.start()
        for index, picture in enumerate(pictures):
            live.push(picture, index / 2, wait=True)
        text = live.ask("What is it?", SHORT, catch_up=True).reply.text
        done.set()
        talker.join()
    assert text == text_of(vlm, pictures, "What is it?")
    assert set(found) == {alone}


def test_a_model_that_is_behind_drops_frames_and_says_so(vlm):
    with Live(vlm, LiveSettings(**SMALL, max_pending=2)) as live:
        for index in range(400):
            live.push(frames(1)[0], float(index))
        live.settle()
        stats = live.stats()
    assert stats.intake.taken == 400
    assert stats.intake.dropped > 0
    assert 2 * stats.session.seen_slots + stats.intake.dropped == 400
    assert stats.session.newest == 399.0


def test_instructions_speak_when_the_sessions_own_looks_settle(vlm):
    """Random weights know no red; what counts is that all that settles is spoken, once, with its time and number."""
    pictures = frames(40)
    standing = [
        Standing(instruction="Is it red?", sure=0.5, agree=1),
        Standing(instruction="What is it?", when="change", agree=1, every=3),
    ]
    session, expected = Session(vlm, LiveSettings(**SMALL)), []
    size, watchers = FrameSize(vlm.processor, session.settings), [Watcher(each) for each in standing]
    for index in range(0, len(pictures), 2):
        session.add(size.patches(*map(size.shrink, pictures[index : index + 2])), index / 2 + 0.5)
        if watchers[0].due() and watchers[0].push(session.chance_of_yes("Is it red?") >= 0.5):
            expected.append((1, index / 2 + 0.5, session.short_answer("Is it red?")))
        if watchers[1].due() and watchers[1].push(said := session.short_answer("What is it?")):
            expected.append((2, index / 2 + 0.5, said))
    heard = []
    with Live(vlm, LiveSettings(**SMALL), heard.append) as live:
        numbers = [live.watch(each) for each in standing]
        for index, picture in enumerate(pictures):
            live.push(picture, index / 2, wait=True)
        live.settle()
        assert [live.unwatch(number) for number in (*numbers, *numbers)] == [True, True, False, False]
    assert [(event.number, event.time, event.text) for event in heard] == expected
    assert expected


def test_what_is_wrong_is_refused_and_the_session_goes_on(vlm):
    with Live(vlm, LiveSettings(**SMALL, max_instructions=1)) as live:
        with pytest.raises(MediaError):
            live.push("no such file.png", 0.0)
        with pytest.raises(MediaError, match="the limit is 6"):
            live.push(np.zeros((28, 2800, 3), np.uint8), 1.0)
        with pytest.raises(ValueError, match="finite"):
            live.push(frames(1)[0], float("nan"))
        with pytest.raises(QuestionTooLong, match="the limit here is 48"):
            live.ask("why " * 100).reply  # noqa: B018
        live.watch("Is it red?")
        with pytest.raises(LiveFull, match="1 instructions"):
            live.watch("Is it blue?")
        live.push(frames(1)[0], 2.0)
        assert live.ask("What is it?", SHORT).reply.finish_reason in ("stop", "length")


def test_a_stopped_answer_ends_and_the_next_is_answered(vlm):
    long = SamplingParams(max_tokens=8, repetition_guard=False, logit_bias=((ord("a"), 100.0),))
    with Live(vlm, LiveSettings(**SMALL)) as live:
        live.push(frames(1)[0], 0.0)
        answer = live.ask("What is it?", long)
        answer.close()
        with pytest.raises(LiveClosed, match="stopped"):
            list(answer)
        assert live.ask("And now?", long).reply.text == "a" * 8


def test_a_closed_session_ends_its_answers_and_takes_nothing_more(vlm):
    live = Live(vlm, LiveSettings(**SMALL))
    waiting = [live.ask("What is it?", SHORT) for _ in range(5)]
    live.close()
    for answer in waiting:
        with contextlib.suppress(LiveClosed):
            list(answer)
    for attempt in (lambda: live.push(frames(1)[0], 0.0), lambda: live.ask("And now?"), lambda: live.watch("Now?")):
        with pytest.raises(LiveClosed, match="the session was closed"):
            attempt()


def test_frames_of_another_shape_are_brought_to_the_first_ones(vlm):
    with Live(vlm, LiveSettings(**SMALL)) as live:
        live.push(frames(1)[0], 0.0)
        live.push(np.zeros((200, 50, 3), np.uint8), 1.0)
        live.settle()
        assert live.stats().session.slots == 1
