"""Is a live session flat? Time for a pair of frames, time to the first token of an answer, and memory, as a stream
goes on, against sending the clip again with every question.

The stream is simulated: two frames for every second, handed over as fast as they are taken. Times are lower
quartiles, as other work on the machine only adds; pair_cpu_ms is a mean, room-making included. At the end the session
and a young one take turns, for what the machine does at one minute and not at another says nothing about age.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from clearsight.inputs import SamplingParams
from clearsight.live import LiveSettings, Session
from clearsight.live.frames import FrameSize
from clearsight.vlm import VLM

_SHORT = SamplingParams(max_tokens=4, repetition_guard=False)
_QUESTION = "What is this?"
_SETTINGS = LiveSettings(budget_tokens=1024, slot_tokens=16, dialogue_tokens=64, answer_tokens=32)
_SIDE = 112  # of a frame, in pixels
_MOST_FRAMES = 768  # of a clip in a request
_LATEST = 50  # pairs that a figure is taken over; some of them make room
_YOUNG = 2  # minutes: long enough that frames have begun to leave
_TURNS = 200


def _scenes() -> list[np.ndarray]:
    """Two hundred frames of a disc on its way, each unlike the others."""
    found = []
    for index in range(200):
        image = Image.new("RGB", (_SIDE, _SIDE), "white")
        x = index * (_SIDE - 30) // 200
        ImageDraw.Draw(image).ellipse((x, 20, x + 28, 48), fill=("red", "green", "blue", "orange")[index // 50])
        found.append(np.asarray(image))
    return found


def _quartile(values: list[float]) -> float:
    """The lower one: other work on the machine only ever adds."""
    return statistics.quantiles(values, n=4)[0]


def _resident() -> int:
    """Bytes of this process in memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _first_token(session: Session) -> tuple[float, float]:
    """Seconds, and seconds of processor time, from a question to the first text of its answer."""
    begin, used = time.perf_counter(), time.process_time()
    stream = session.ask(_QUESTION, _SHORT)
    next(iter(stream), None)
    spent = time.perf_counter() - begin, time.process_time() - used
    stream.close()
    return spent


def _sent_again(vlm: VLM, pictures: list[np.ndarray], frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """The same question with the whole clip sent along, as a server without live sessions must be asked."""
    clip = [pictures[index % len(pictures)] for index in range(min(frames, _MOST_FRAMES))]
    video = {"type": "video", "video": clip, "resized_height": size[0], "resized_width": size[1]}
    begin = time.perf_counter()
    # A salt of its own, so that nothing is found in a cache.
    stream = vlm.stream(
        [{"role": "user", "content": [video, {"type": "text", "text": _QUESTION}]}], _SHORT, salt=str(frames).encode()
    )
    next(iter(stream), None)
    spent = time.perf_counter() - begin
    stream.close()
    return {"frames": len(clip), "first_token_ms": round(1000 * spent, 1)}


def _grow(
    session: Session, size: FrameSize, pictures: list[np.ndarray], minutes: Sequence[int], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    marks, rows = {60 * m for m in minutes}, []
    seconds, processor = [], []
    for second in range(60 * max(minutes)):
        pair = [size.shrink(pictures[(2 * second + i) % len(pictures)]) for i in range(2)]
        begin, used = time.perf_counter(), time.process_time()
        session.add(size.patches(*pair), float(second))
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - used)
        if second + 1 in marks:
            stats = session.stats()
            asked = [_first_token(session) for _ in range(40)]
            rows.append(
                {
                    "minutes": (second + 1) // 60,
                    "pair_ms": round(1000 * _quartile(seconds[-_LATEST:]), 1),
                    "pair_worst_ms": round(1000 * max(seconds[-_LATEST:]), 1),
                    "pair_cpu_ms": round(1000 * statistics.fmean(processor[-_LATEST:]), 1),
                    "first_token_ms": round(1000 * _quartile([wall for wall, _ in asked]), 1),
                    "first_token_cpu_ms": round(1000 * _quartile([cpu for _, cpu in asked]), 1),
                    "tokens": stats.tokens,
                    "slots": stats.slots,
                    "seconds_remembered": round((stats.newest or 0) - (stats.oldest or 0)),
                    "resident_mb": round(_resident() / 1e6, 1),
                    "cache_mb": round(stats.cache_bytes / 1e6, 1),
                }
            )
            say(str(rows[-1]))
    return rows


def _in_turns(sessions: Sequence[Session], size: FrameSize, pictures: list[np.ndarray], second: int) -> list[float]:
    """For a pair of frames and for the first token: the first session's time over the second's. They take turns, so
    that both meet the same neighbours, which times at different minutes do not."""
    pairs: list[list[float]] = [[], []]
    tokens: list[list[float]] = [[], []]
    for turn in range(_TURNS):
        shown = size.patches(*(size.shrink(pictures[(2 * turn + i) % len(pictures)]) for i in range(2)))
        for session, spent, asked in list(zip(sessions, pairs, tokens, strict=True))[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            session.add(shown, float(second + turn))
            spent.append(time.perf_counter() - begin)
            if turn % 5 == 0:
                asked.append(_first_token(session)[0])
    return [round(_quartile(old) / _quartile(young), 3) for old, young in (pairs, tokens)]


def live(vlm: VLM, minutes: Sequence[int], say: Callable[[str], None]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """One row of figures after each of `minutes`, each with the clip sent again; and the times of the session as it is
    at the end over those of one of two minutes, measured in turns. say: is told each row."""
    pictures = _scenes()
    session = Session(vlm, _SETTINGS)
    size = FrameSize(vlm.processor, _SETTINGS)
    rows = _grow(session, size, pictures, sorted(set(minutes)), say)
    assert size.size is not None
    young = Session(vlm, _SETTINGS)
    _grow(young, size, pictures, [_YOUNG], lambda _: None)
    pair, token = _in_turns((session, young), size, pictures, 60 * max(minutes))
    old_over_young = {"minutes": max(minutes), "young_minutes": _YOUNG, "pair": pair, "first_token": token}
    say(f"in turns with a session of {_YOUNG} minutes: {old_over_young}")
    for row in rows:  # at the end, for it takes memory that is not the session's
        row["sent_again"] = _sent_again(vlm, pictures, 120 * row["minutes"], size.size)
        say(f"after {row['minutes']} minutes, the clip sent again: {row['sent_again']}")
    return rows, old_over_young


def spreads(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """For what should be flat, its largest value over its smallest."""
    return {
        name: round(max(row[name] for row in rows) / min(row[name] for row in rows), 3)
        for name in ("pair_ms", "pair_cpu_ms", "first_token_ms", "first_token_cpu_ms", "resident_mb")
    }
