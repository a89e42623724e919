"""How far is a session whose frames have left from one that only ever saw the frames that stayed?

    python benchmarks/live_drift.py [--clips 40]

Kept keys are turned to their new positions exactly; kept values were computed with the others in view, which no turning
undoes. On clips of moving shapes this prints, for several shares of frames dropped, the divergence KL(fresh || session)
of the next token's distribution in nats, how often the likeliest token is the same, and how often the short answer is.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from clearsight.live import LiveSettings, Session
from clearsight.live.frames import FrameSize
from clearsight.live.policy import to_forget, to_thin
from clearsight.vlm import VLM

QUESTIONS = ("What is this?", "How many shapes are there?", "What colour is the shape?", "Is there a red circle?")
COLOURS = ("red", "green", "blue", "orange", "black", "purple")
PAIRS = 24
SETTINGS = LiveSettings(budget_tokens=1024, slot_tokens=16, dialogue_tokens=64, answer_tokens=32)


def clip(seed: int) -> list[np.ndarray]:
    """A disc and then a square, each on its way, as 2 * PAIRS frames."""
    draw = random.Random(seed)
    first, second = draw.sample(COLOURS, 2)
    change, step = draw.randrange(PAIRS // 2, 2 * PAIRS - PAIRS // 2), draw.choice((-1, 1))
    frames = []
    for index in range(2 * PAIRS):
        image = Image.new("RGB", (112, 112), "white")
        x = 36 + step * (index - PAIRS)
        pen = ImageDraw.Draw(image)
        if index < change:
            pen.ellipse((x, 36, x + 40, 76), fill=first)
        else:
            pen.rectangle((x, 36, x + 40, 76), fill=second)
        frames.append(np.asarray(image))
    return frames


def session_of(vlm: VLM, frames: list[np.ndarray], pairs: list[int]) -> Session:
    session, size = Session(vlm, SETTINGS), FrameSize(vlm.processor, SETTINGS)
    for pair in pairs:
        session.add(size.patches(*(size.shrink(frames[2 * pair + i]) for i in range(2))), float(pair))
    return session


def compare(vlm: VLM, seed: int, keep: int, past: str) -> list[tuple[float, bool, bool]]:
    """(divergence, same likeliest token, same short answer) for each question."""
    frames, times = clip(seed), [float(pair) for pair in range(PAIRS)]
    gone = to_thin(times, keep, 0.5) if past == "thin" else to_forget(times, keep)
    session = session_of(vlm, frames, list(range(PAIRS)))
    slots = session.timeline.slots
    session.drop([slots[index] for index in gone])
    fresh = session_of(vlm, frames, [pair for pair in range(PAIRS) if pair not in gone])
    found = []
    for question in QUESTIONS:
        ours, theirs = (each.next_token(question).float().log_softmax(-1) for each in (session, fresh))
        divergence = float((theirs.exp() * (theirs - ours)).sum())
        answers = {each.short_answer(question) for each in (session, fresh)}
        found.append((max(0.0, divergence), int(ours.argmax()) == int(theirs.argmax()), len(answers) == 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clips", type=int, default=40)
    args = parser.parse_args()
    vlm = VLM.load(args.model)
    rows: list[dict[str, Any]] = []
    for past in ("thin", "forget"):
        for keep in (18, 12, 6):
            found = [each for seed in range(args.clips) for each in compare(vlm, seed, keep, past)]
            divergences = sorted(divergence for divergence, _, _ in found)
            rows.append(
                {
                    "past": past,
                    "kept": f"{keep} of {PAIRS}",
                    "comparisons": len(found),
                    "kl_median": round(statistics.median(divergences), 5),
                    "kl_95": round(divergences[int(0.95 * len(found))], 4),
                    "kl_worst": round(divergences[-1], 4),
                    "same_token": round(statistics.fmean(same for _, same, _ in found), 4),
                    "same_answer": round(statistics.fmean(same for _, _, same in found), 4),
                }
            )
            print(rows[-1], flush=True)
    print(json.dumps({"benchmark": "live_drift", "model": args.model, "rows": rows}))


if __name__ == "__main__":
    main()
