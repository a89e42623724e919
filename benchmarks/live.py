"""Is a live session flat? Time for a pair of frames, time to the first token of an answer, and memory, after 1, 10 and
60 minutes of stream, against sending the clip again with every question.

    python benchmarks/live.py                                  # nano, about three minutes on two cores
    python benchmarks/live.py --model 2b --random-weights --minutes 1 2

The stream is simulated: two frames for every second, handed over as fast as they are taken. Times are lower
quartiles, as other work on the machine only adds; pair_cpu_ms is a mean, room-making included. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from clearsight.inputs import SamplingParams
from clearsight.live import LiveSettings, Session
from clearsight.live.frames import FrameSize
from clearsight.vlm import VLM

SHORT = SamplingParams(max_tokens=4, repetition_guard=False)
QUESTION = "What is this?"
MOST_FRAMES = 768
_LATEST = 50  # pairs that a figure is taken over; some of them make room


def scenes(side: int) -> list[np.ndarray]:
    """Two hundred frames of a disc on its way, each unlike the others."""
    found = []
    for index in range(200):
        image = Image.new("RGB", (side, side), "white")
        x = index * (side - 30) // 200
        ImageDraw.Draw(image).ellipse((x, 20, x + 28, 48), fill=("red", "green", "blue", "orange")[index // 50])
        found.append(np.asarray(image))
    return found


def quartile(values: list[float]) -> float:
    """The lower one: other work on the machine only ever adds."""
    return statistics.quantiles(values, n=4)[0]


def resident() -> int:
    """Bytes of this process in memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def first_token(session: Session) -> tuple[float, float]:
    """Seconds, and seconds of processor time, from a question to the first text of its answer."""
    begin, used = time.perf_counter(), time.process_time()
    stream = session.ask(QUESTION, SHORT)
    next(iter(stream), None)
    spent = time.perf_counter() - begin, time.process_time() - used
    stream.close()
    return spent


def sent_again(vlm: VLM, pictures: list[np.ndarray], frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """The same question with the whole clip sent along, as a server without live sessions must be asked."""
    clip = [pictures[index % len(pictures)] for index in range(min(frames, MOST_FRAMES))]
    video = {"type": "video", "video": clip, "resized_height": size[0], "resized_width": size[1]}
    begin = time.perf_counter()
    # A salt of its own, so that nothing is found in a cache.
    stream = vlm.stream(
        [{"role": "user", "content": [video, {"type": "text", "text": QUESTION}]}], SHORT, salt=str(frames).encode()
    )
    next(iter(stream), None)
    spent = time.perf_counter() - begin
    stream.close()
    return {"frames": len(clip), "first_token_ms": round(1000 * spent, 1)}


def measure(vlm: VLM, minutes: list[int], settings: LiveSettings, side: int, again: bool) -> list[dict[str, Any]]:
    session = Session(vlm, settings)
    size = FrameSize(vlm.processor, settings)
    pictures = scenes(side)
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
            asked = [first_token(session) for _ in range(40)]
            rows.append(
                {
                    "minutes": (second + 1) // 60,
                    "pair_ms": round(1000 * quartile(seconds[-_LATEST:]), 1),
                    "pair_worst_ms": round(1000 * max(seconds[-_LATEST:]), 1),
                    "pair_cpu_ms": round(1000 * statistics.fmean(processor[-_LATEST:]), 1),
                    "first_token_ms": round(1000 * quartile([wall for wall, _ in asked]), 1),
                    "first_token_cpu_ms": round(1000 * quartile([cpu for _, cpu in asked]), 1),
                    "tokens": stats.tokens,
                    "slots": stats.slots,
                    "seconds_remembered": round((stats.newest or 0) - (stats.oldest or 0)),
                    "resident_mb": round(resident() / 1e6, 1),
                    "cache_mb": round(stats.cache_bytes / 1e6, 1),
                }
            )
            print(rows[-1], flush=True)
    if again:  # at the end, for it takes memory that is not the session's
        assert size.size is not None
        for row in rows:
            row["sent_again"] = sent_again(vlm, pictures, 120 * row["minutes"], size.size)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60])
    parser.add_argument("--budget-tokens", type=int, default=1024)
    parser.add_argument("--slot-tokens", type=int, default=16)
    parser.add_argument("--side", type=int, default=112, help="pixels of a frame's side")
    parser.add_argument("--alone", action="store_true", help="leave out sending the clip again")
    args = parser.parse_args()
    vlm = VLM.load(args.model, random_weights=args.random_weights)
    settings = LiveSettings(
        budget_tokens=args.budget_tokens, slot_tokens=args.slot_tokens, dialogue_tokens=64, answer_tokens=32
    )
    rows = measure(vlm, sorted(args.minutes), settings, args.side, not args.alone)
    for name in ("pair_ms", "pair_cpu_ms", "first_token_ms", "first_token_cpu_ms", "resident_mb"):
        values = [row[name] for row in rows]
        print(f"{name}: {values}, largest / smallest {max(values) / min(values):.3f}")
    for row in rows:
        if "sent_again" in row:
            print(f"clip sent again after {row['minutes']} minutes: {row['sent_again']}")
    print(json.dumps({"benchmark": "live", "model": args.model, "settings": vars(args), "rows": rows}))


if __name__ == "__main__":
    main()
