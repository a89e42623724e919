"""Train nano from nothing on pictures that the project draws: `python recipes/nano.py --out runs/out/nano`.

Killed at any moment, the same command goes on from the last checkpoint with the same batches. On a small model two
processes of one thread each are faster than one of two: `torchrun --nproc-per-node 2 recipes/nano.py --out ...`.
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from clearsight.config import NANO
from clearsight.kernels import rowwise
from clearsight.model.hub import read_config, resolve
from clearsight.model.qwen2_vl import Qwen2VL
from clearsight.model.weights import load_model, random_model, save_model
from clearsight.processor import Processor
from clearsight.train.data import Mix
from clearsight.train.errors import StateError, TrainingError
from clearsight.train.grow import grown
from clearsight.train.loop import Evaluation, run_stage
from clearsight.train.optim import HEADS, part_of
from clearsight.train.replica import process_group
from clearsight.train.sight import sight_accuracy
from clearsight.train.stage import Rates, Stage
from clearsight.train.state import read_state


def after(stage: Stage, name: str, **changes: Any) -> Stage:
    """`stage` under another name, with changes to itself and to its mix."""
    mixed = {key: changes.pop(key) for key in [*changes] if key in Mix.__dataclass_fields__}
    return replace(stage, name=name, mix=replace(stage.mix, **mixed), **changes)


def stages() -> list[Stage]:
    """Small crops first: native resolution makes them cheap, and reading starts with single characters."""
    crops = Stage(
        name="crops",
        mix=Mix(weights={"word": 1.0}, form="caption", level_start=0.0, ramp=1100),
        steps=1300,
        decay=0.01,
    )
    dialogue = Stage(
        name="dialogue",
        mix=Mix(weights={"word": 0.35, "line": 0.17, "page": 0.11, "shapes": 0.37}, form="chat"),
        steps=500,
        batch_size=48,
        lr=3e-3,
        decay=0.01,
    )
    # Lines and pages cost most of a step and need far more of them; what is within reach gets the rest of the time.
    short = Stage(
        name="short",
        mix=Mix(weights={"word": 0.6, "shapes": 0.4}, form="chat", level_start=0.5, level_end=0.8, ramp=500),
        steps=600,
        batch_size=48,
        lr=3e-3,
        warmup=20,
        decay=0.6,
        seed=1,
    )
    scenes = Stage(
        name="scenes",
        mix=Mix(weights={"word": 0.3, "shapes": 0.7}, form="chat", level_start=0.8, level_end=0.8),
        steps=380,
        batch_size=48,
        lr=2e-3,
        warmup=20,
        decay=0.95,
        seed=2,
    )
    # Picture-text pairs are three times as fast as dialogue, and reading is what needs the most samples.
    read = Stage(
        name="read",
        mix=Mix(weights={"word": 0.7, "line": 0.3}, form="caption", level_start=0.7, ramp=300),
        steps=1000,
        batch_size=128,
        lr=3e-3,
        warmup=60,
        decay=0.3,
        seed=3,
    )
    # What picture-text pairs made it forget, dialogue brings back.
    look = Stage(
        name="look",
        mix=Mix(
            weights={"word": 0.22, "line": 0.22, "page": 0.08, "shapes": 0.48}, form="chat", level_start=0.6, ramp=120
        ),
        steps=340,
        batch_size=64,
        lr=2.5e-3,
        warmup=20,
        decay=0.7,
        seed=4,
    )
    scan = Stage(
        name="scan",
        mix=Mix(
            weights={"word": 0.2, "line": 0.15, "page": 0.05, "shapes": 0.6}, form="chat", level_start=0.6, ramp=150
        ),
        steps=600,
        batch_size=64,
        lr=3e-3,
        warmup=20,
        decay=0.7,
        seed=5,
    )
    naming = Stage(
        name="naming",
        mix=Mix(weights={"word": 0.15, "line": 0.1, "shapes": 0.75}, form="chat", level_start=0.8, level_end=0.8),
        steps=500,
        batch_size=64,
        lr=2e-3,
        warmup=20,
        decay=0.9,
        seed=6,
    )
    # Several questions about one picture cost little more than one, and lists name every shape that is there.
    talk = Stage(
        name="talk",
        mix=Mix(
            weights={
                "word": 0.12, "line": 0.18, "page": 0.1, "documents": 0.1, "shapes": 0.26, "calls": 0.12, "clips": 0.12
            },
            form="chat",
            level_start=0.7,
            level_end=0.9,
            ramp=700,
            turns=5,
        ),
        steps=900,
        batch_size=64,
        lr=3e-3,
        warmup=40,
        decay=0.4,
        seed=7,
    )  # fmt: skip
    # An answer tells the tower little about a picture; what is known to stand in every patch tells it everything.
    sight = Stage(
        name="sight",
        mix=Mix(
            weights={"word": 0.16, "line": 0.32, "page": 0.2, "documents": 0.14, "calls": 0.06, "shapes": 0.12},
            form="marks",
            level_start=0.8,
            level_end=1.0,
            ramp=600,
        ),
        rates=Rates(language=0),
        steps=1600,
        batch_size=64,
        lr=3e-3,
        warmup=50,
        decay=0.4,
        seed=8,
        evaluate_every=200,
    )
    # The language half learns to read off what the tower now sees; the tower is left alone, which is faster.
    spell = Stage(
        name="spell",
        mix=Mix(
            weights={
                "word": 0.1, "line": 0.32, "page": 0.14, "documents": 0.14, "shapes": 0.18, "calls": 0.06, "clips": 0.06
            },
            form="chat",
            level_start=0.8,
            level_end=0.95,
            ramp=400,
            turns=5,
        ),
        rates=Rates(vision=0),
        steps=400,
        batch_size=64,
        lr=3e-3,
        warmup=40,
        decay=0.0,
        seed=9,
    )  # fmt: skip
    lines = {
        "word": 0.08, "line": 0.42, "page": 0.12, "documents": 0.1, "shapes": 0.2, "calls": 0.04, "clips": 0.04
    }  # fmt: skip
    fluent = Stage(
        name="fluent",
        mix=Mix(weights=lines, form="chat", level_start=0.9, level_end=1.0, ramp=200, turns=5),
        rates=Rates(vision=0),
        steps=550,
        batch_size=64,
        lr=3e-3,
        warmup=20,
        decay=0.0,
        balance=0.5,
        seed=10,
    )
    polish = replace(
        fluent, name="polish", mix=Mix(weights=lines, form="chat", turns=5), steps=400, warmup=1, decay=1.0, seed=11
    )
    # Most words are coined since then, so that nothing is read by heart; pairs are the cheapest way to read many.
    broad = {
        "word": 0.18, "line": 0.5, "page": 0.1, "documents": 0.09, "shapes": 0.09, "calls": 0.02, "clips": 0.02
    }  # fmt: skip
    letters = replace(
        fluent,
        name="letters",
        mix=Mix(weights=broad, form="chat", turns=4, captions=0.8),
        steps=400,
        warmup=40,
        balance=0.3,
        seed=12,
    )
    # Tower and language half together, with a falling rate.
    whole = replace(
        letters,
        name="whole",
        mix=Mix(weights=broad, form="chat", turns=4, captions=0.65),
        rates=Rates(vision=0.5),
        steps=460,
        lr=2.5e-3,
        decay=0.85,
        balance=0.5,
        seed=13,
    )
    # The tower learns from the answers and, much faster, from what its patches are known to show.
    joint = replace(
        whole,
        name="joint",
        mix=Mix(
            weights={
                "word": 0.14, "line": 0.4, "page": 0.1, "documents": 0.12, "shapes": 0.14, "calls": 0.05, "clips": 0.05
            },
            form="chat",
            turns=4,
            captions=0.65,
            sight=0.5,
        ),
        rates=Rates(vision=0.6),
        steps=100,
        lr=3e-3,
        decay=0.0,
        balance=0.4,
        seed=14,
    )  # fmt: skip
    # Counting, comparing and saying yes or no are learned from a token or two each, so they get more pictures.
    wide = after(
        joint,
        "wide",
        weights={
            "word": 0.1, "line": 0.33, "page": 0.07, "documents": 0.1, "shapes": 0.25, "calls": 0.05, "clips": 0.1
        },
        steps=320,
        warmup=10,
        decay=0.52,
        balance=0.5,
        seed=15,
    )  # fmt: skip
    # From the mean of before and after those two, at a low rate; calls are long, and refusals must not drown them.
    settle = replace(
        fluent,
        name="settle",
        mix=Mix(
            weights={
                "word": 0.1, "line": 0.36, "page": 0.08, "documents": 0.1, "shapes": 0.2, "calls": 0.12, "clips": 0.04
            },
            form="chat",
            turns=4,
            captions=0.65,
        ),
        steps=120,
        lr=1e-3,
        warmup=5,
        decay=1.0,
        balance=0.2,
        seed=16,
    )  # fmt: skip
    # Wishes in many more words, and typed as people type; what is seen does not change, so the tower stays as it is.
    wishes = after(
        settle,
        "wishes",
        weights={
            "word": 0.05, "line": 0.28, "page": 0.04, "documents": 0.1, "shapes": 0.25, "calls": 0.18, "clips": 0.1
        },
        casual=0.3,
        steps=100,
        warmup=10,
        decay=0.0,
        seed=17,
    )  # fmt: skip
    # A video that goes on between questions: what is there now, not what was.
    watch = after(
        wishes,
        "watch",
        weights={
            "word": 0.05, "line": 0.27, "page": 0.04, "documents": 0.1, "shapes": 0.23, "calls": 0.17,
            "clips": 0.08, "live": 0.06,
        },
        steps=240,
        decay=0.6,
        seed=18,
    )  # fmt: skip
    # Tower and language half together for long, at a rate that falls nearly all the way.
    clear = after(
        watch,
        "clear",
        weights={
            "word": 0.08, "line": 0.38, "page": 0.1, "documents": 0.12, "shapes": 0.16, "calls": 0.09,
            "clips": 0.05, "live": 0.02,
        },
        rates=Rates(vision=0.8),
        steps=750,
        lr=1.5e-3,
        warmup=20,
        decay=0.8,
        balance=0.3,
        seed=19,
    )  # fmt: skip
    # Each visual token is told where it stands, in a mix that asks more for places and boxes than for names.
    place = after(
        clear,
        "place",
        weights={
            "word": 0.05, "line": 0.3, "page": 0.1, "documents": 0.14, "shapes": 0.2, "boxes": 0.06, "calls": 0.09,
            "clips": 0.05, "live": 0.01,
        },
        place=0.1,
        steps=300,
        lr=2e-3,
        warmup=30,
        decay=0.0,
        seed=20,
    )  # fmt: skip
    # What stands in every patch beside it, so that the tower's tokens speak of what is there and of nothing else.
    local = after(
        place,
        "local",
        weights={
            "word": 0.04, "line": 0.27, "page": 0.08, "documents": 0.12, "shapes": 0.26, "boxes": 0.08,
            "calls": 0.09, "clips": 0.05, "live": 0.01,
        },
        sight=0.3,
        place=0.3,
        steps=1600,
        lr=1.5e-3,
        decay=0.85,
        seed=21,
    )  # fmt: skip
    # Words and calls had lost a little. What adapters cannot carry is as before the last two stages and stays so.
    recall = after(
        place,
        "recall",
        weights={
            "word": 0.11, "line": 0.25, "page": 0.12, "documents": 0.12, "shapes": 0.1, "boxes": 0.02,
            "calls": 0.2, "clips": 0.06, "live": 0.02,
        },
        linear_only=True,
        steps=330,
        lr=1.2e-3,
        warmup=10,
        decay=0.9,
        seed=22,
    )  # fmt: skip
    # Many more faces, and the tower alone, from marks: more than twice as many pictures a second as with words.
    faces = replace(
        sight,
        name="faces",
        mix=Mix(
            weights={"word": 0.22, "line": 0.36, "page": 0.16, "documents": 0.12, "calls": 0.08, "shapes": 0.06},
            form="marks",
        ),
        linear_only=True,
        steps=1800,
        lr=2e-3,
        decay=0.5,
        seed=23,
        evaluate_every=500,
    )
    # Both halves again; every mark's middle and reach are told beside the words, for counts and boxes.
    reach = after(
        local,
        "reach",
        weights={
            "word": 0.06, "line": 0.29, "page": 0.08, "documents": 0.12, "shapes": 0.19, "boxes": 0.09,
            "calls": 0.1, "clips": 0.06, "live": 0.01,
        },
        place=0.15,
        linear_only=True,
        steps=2000,
        lr=2e-3,
        decay=0.9,
        seed=24,
    )  # fmt: skip
    # What needs reading most, at a rate that falls from its first step on.
    firm = after(
        reach,
        "firm",
        weights={
            "word": 0.05, "line": 0.32, "page": 0.12, "documents": 0.15, "shapes": 0.17, "boxes": 0.02,
            "calls": 0.12, "clips": 0.04, "live": 0.01,
        },
        steps=700,
        lr=1.5e-3,
        warmup=20,
        decay=1.0,
        seed=25,
    )  # fmt: skip
    # The tower alone once more, from more of what is printed small and in columns.
    sharp = after(
        faces,
        "sharp",
        weights={"word": 0.18, "line": 0.35, "page": 0.14, "documents": 0.18, "calls": 0.13, "shapes": 0.02},
        steps=1100,
        seed=26,
    )
    # Counting by shape or colour, and finding the row that is asked for, take many questions about each picture.
    tally = after(
        firm,
        "tally",
        weights={
            "word": 0.03, "line": 0.16, "page": 0.05, "documents": 0.16, "shapes": 0.4, "calls": 0.08,
            "clips": 0.1, "live": 0.02,
        },
        turns=8,
        steps=400,
        lr=2e-3,
        decay=0.0,
        seed=27,
    )  # fmt: skip
    # The tower alone learns three times as many pictures a second, and all that is read hangs on it.
    keen = after(
        sharp,
        "keen",
        weights={"word": 0.16, "line": 0.33, "page": 0.14, "documents": 0.18, "calls": 0.11, "shapes": 0.08},
        steps=1100,
        decay=0.6,
        seed=28,
    )
    # Both halves again with what the tower now sees, then at a rate that falls all the way, then counts once more.
    steady = after(
        tally,
        "steady",
        weights={
            "word": 0.03, "line": 0.26, "page": 0.08, "documents": 0.19, "shapes": 0.22, "boxes": 0.01,
            "calls": 0.12, "clips": 0.08, "live": 0.01,
        },
        steps=1000,
        lr=1.5e-3,
        decay=0.0,
        seed=29,
    )  # fmt: skip
    rows = after(
        steady,
        "rows",
        weights={
            "word": 0.03, "line": 0.27, "page": 0.08, "documents": 0.22, "shapes": 0.19, "boxes": 0.01,
            "calls": 0.12, "clips": 0.07, "live": 0.01,
        },
        steps=850,
        lr=9.5e-4,
        decay=1.0,
        seed=30,
    )  # fmt: skip
    counts = after(
        rows,
        "counts",
        weights={
            "word": 0.05, "line": 0.22, "page": 0.05, "documents": 0.24, "shapes": 0.27, "boxes": 0.005,
            "calls": 0.12, "clips": 0.04, "live": 0.005,
        },
        steps=400,
        lr=8e-4,
        seed=31,
    )  # fmt: skip
    # The tower alone again.
    bright = after(
        keen,
        "bright",
        weights={
            "word": 0.15, "line": 0.34, "page": 0.14, "documents": 0.18, "calls": 0.11, "shapes": 0.06, "boxes": 0.02
        },
        steps=1300,
        seed=32,
    )  # fmt: skip
    # Both halves: boxes with many questions about each picture, whose edges are told from each token's corner.
    edges = after(
        rows,
        "edges",
        weights={
            "word": 0.03, "line": 0.24, "page": 0.07, "documents": 0.19, "shapes": 0.2, "boxes": 0.1,
            "calls": 0.11, "clips": 0.05, "live": 0.01,
        },
        place=0.3,
        steps=800,
        lr=1.8e-3,
        decay=0.0,
        seed=33,
    )  # fmt: skip
    # Once the signs of boxes can be told apart.
    even = after(
        edges,
        "even",
        weights={
            "word": 0.04, "line": 0.22, "page": 0.05, "documents": 0.2, "shapes": 0.18, "boxes": 0.13,
            "calls": 0.11, "clips": 0.06, "live": 0.01,
        },
        place=0.2,
        steps=1600,
        lr=1.8e-3,
        warmup=20,
        decay=0.8,
        seed=34,
    )  # fmt: skip
    close = after(
        even,
        "close",
        weights={
            "word": 0.04, "line": 0.25, "page": 0.05, "documents": 0.2, "shapes": 0.2, "boxes": 0.1,
            "calls": 0.11, "clips": 0.04, "live": 0.01,
        },
        place=0.15,
        steps=480,
        lr=1.2e-3,
        warmup=10,
        decay=1.0,
        seed=35,
    )  # fmt: skip
    # Boxes and screens: many coordinates, with the tower left as it is.
    corners = after(
        close,
        "corners",
        weights={
            "word": 0.02, "line": 0.1, "page": 0.01, "documents": 0.13, "shapes": 0.18, "boxes": 0.33,
            "screens": 0.14, "calls": 0.04, "clips": 0.05,
        },
        rates=Rates(vision=0),
        place=0.5,
        steps=1600,
        lr=2e-3,
        warmup=20,
        decay=0.0,
        seed=36,
    )  # fmt: skip
    # Everything together, at a rate that falls from its first step on.
    full = after(
        corners,
        "full",
        weights={
            "word": 0.03, "line": 0.22, "page": 0.04, "documents": 0.19, "shapes": 0.19, "boxes": 0.13,
            "screens": 0.06, "calls": 0.09, "clips": 0.045, "live": 0.005,
        },
        rates=Rates(vision=0.7),
        place=0.4,
        steps=1850,
        decay=1.0,
        seed=37,
    )  # fmt: skip
    # Both at once, from the mean of what could read and of what finds things.
    both = after(
        full,
        "both",
        weights={
            "word": 0.04, "line": 0.25, "page": 0.06, "documents": 0.17, "shapes": 0.14, "boxes": 0.12,
            "screens": 0.08, "calls": 0.1, "clips": 0.035, "live": 0.005,
        },
        rates=Rates(vision=0),
        place=0.25,
        steps=330,
        lr=9e-4,
        warmup=10,
        seed=38,
    )  # fmt: skip
    # The mean of all that, at a low rate and with words alone.
    mend = after(
        both,
        "mend",
        weights={
            "word": 0.03, "line": 0.2, "page": 0.03, "documents": 0.2, "shapes": 0.22, "boxes": 0.09,
            "screens": 0.05, "calls": 0.11, "clips": 0.065, "live": 0.005,
        },
        sight=0,
        place=0,
        steps=150,
        lr=5e-4,
        warmup=5,
        seed=39,
    )  # fmt: skip
    # Tables and receipts are worked out aloud, and three pictures in ten get one question alone.
    aloud = after(
        mend,
        "aloud",
        weights={
            "word": 0.02, "line": 0.22, "page": 0.04, "documents": 0.2, "shapes": 0.17, "boxes": 0.11,
            "screens": 0.1, "calls": 0.095, "clips": 0.04, "live": 0.005,
        },
        single=0.3,
        sight=0.2,
        rates=Rates(vision=0.7),
        place=0.3,
        steps=1600,
        lr=1.4e-3,
        warmup=20,
        decay=1.0,
        seed=40,
    )  # fmt: skip
    # At a low rate and with words alone.
    last = after(
        aloud,
        "last",
        weights={
            "word": 0.03, "line": 0.22, "page": 0.05, "documents": 0.22, "shapes": 0.17, "boxes": 0.1,
            "screens": 0.08, "calls": 0.08, "clips": 0.045, "live": 0.005,
        },
        single=0.4,
        sight=0,
        rates=Rates(vision=0),
        place=0,
        steps=740,
        lr=7e-4,
        warmup=10,
        seed=41,
    )  # fmt: skip
    # What nothing had taught yet: charts, arithmetic and other scripts, which are short and cheap.
    broaden = after(
        last,
        "broaden",
        weights={
            "word": 0.02, "line": 0.16, "page": 0.03, "documents": 0.13, "shapes": 0.1, "boxes": 0.06,
            "screens": 0.055, "calls": 0.05, "clips": 0.045, "live": 0.005, "charts": 0.095, "sums": 0.1,
            "scripts": 0.15,
        },
        single=0.35,
        sight=0.2,
        rates=Rates(vision=0.7),
        place=0.2,
        steps=1400,
        lr=1.4e-3,
        warmup=20,
        seed=42,
    )  # fmt: skip
    # At a low rate and with words alone, with many problems to work out.
    drill = after(
        broaden,
        "drill",
        weights={
            "word": 0.03, "line": 0.21, "page": 0.045, "documents": 0.17, "shapes": 0.155, "boxes": 0.08,
            "screens": 0.085, "calls": 0.065, "clips": 0.05, "live": 0.005, "charts": 0.025, "sums": 0.08,
        },
        single=0.4,
        sight=0,
        rates=Rates(vision=0),
        place=0,
        steps=850,
        lr=9e-4,
        warmup=10,
        seed=43,
    )  # fmt: skip
    # Both halves once more: numbers are compared aloud, and a chart's marks are said down to the one asked about.
    deepen = after(
        drill,
        "deepen",
        weights={
            "word": 0.02, "line": 0.18, "page": 0.035, "documents": 0.19, "shapes": 0.12, "boxes": 0.06,
            "screens": 0.1, "calls": 0.085, "clips": 0.04, "live": 0.005, "charts": 0.06, "sums": 0.075,
            "scripts": 0.03,
        },
        single=0.4,
        sight=0.2,
        rates=Rates(vision=0.7),
        place=0.2,
        steps=1150,
        lr=1.3e-3,
        warmup=20,
        seed=44,
    )  # fmt: skip
    # Again at a low rate and with words alone, with more problems.
    master = after(
        deepen,
        "master",
        weights={
            "word": 0.025, "line": 0.2, "page": 0.04, "documents": 0.17, "shapes": 0.145, "boxes": 0.08,
            "screens": 0.09, "calls": 0.07, "clips": 0.04, "live": 0.005, "charts": 0.035, "sums": 0.1,
        },
        sight=0,
        rates=Rates(vision=0),
        place=0,
        steps=1050,
        lr=9e-4,
        warmup=10,
        seed=45,
    )  # fmt: skip
    # Two more blocks in either half (see GROWN), and the tower alone, for what is printed small and in other scripts.
    taller = after(
        keen,
        "taller",
        weights={
            "word": 0.06, "line": 0.24, "page": 0.16, "documents": 0.13, "calls": 0.07, "shapes": 0.05,
            "boxes": 0.02, "screens": 0.06, "charts": 0.1, "sums": 0.03, "scripts": 0.08,
        },
        steps=1500,
        warmup=30,
        decay=0.7,
        seed=46,
    )  # fmt: skip
    # Both halves with what the tower now sees, then words alone again. Products and quotients begin with a step that
    # only copies, and what is compared is named beside its number.
    study = after(
        deepen,
        "study",
        weights={
            "word": 0.02, "line": 0.21, "page": 0.045, "documents": 0.18, "shapes": 0.135, "boxes": 0.06,
            "screens": 0.09, "calls": 0.09, "clips": 0.045, "live": 0.005, "charts": 0.05, "sums": 0.06,
            "scripts": 0.01,
        },
        rates=Rates(vision=0.5),
        steps=750,
        lr=1.5e-3,
        warmup=30,
        decay=0.7,
        seed=47,
    )  # fmt: skip
    recite = after(
        study,
        "recite",
        weights={
            "word": 0.02, "line": 0.22, "page": 0.045, "documents": 0.18, "shapes": 0.14, "boxes": 0.06,
            "screens": 0.085, "calls": 0.085, "clips": 0.04, "live": 0.005, "charts": 0.04, "sums": 0.08,
        },
        sight=0,
        rates=Rates(vision=0),
        place=0,
        steps=830,
        lr=1e-3,
        warmup=10,
        decay=1.0,
        seed=48,
    )  # fmt: skip
    # What the tower's change had cost most: counts, videos and pages.
    revive = after(
        recite,
        "revive",
        weights={
            "word": 0.01, "line": 0.2, "page": 0.07, "documents": 0.12, "shapes": 0.22, "boxes": 0.05,
            "screens": 0.06, "calls": 0.06, "clips": 0.11, "live": 0.01, "charts": 0.03, "sums": 0.06,
        },
        steps=490,
        lr=7e-4,
        seed=49,
    )  # fmt: skip
    # What is dearest is compared in words alone too, down to what stands below the last of the goods. Russian was read
    # as Latin letters that look like it, and Vietnamese without its marks: the tower sees them, the words are missing.
    conclude = after(
        revive,
        "conclude",
        weights={
            "word": 0.02, "line": 0.17, "page": 0.035, "documents": 0.14, "shapes": 0.13, "boxes": 0.025,
            "screens": 0.05, "calls": 0.075, "clips": 0.045, "live": 0.005, "charts": 0.01, "sums": 0.03,
            "told": 0.035, "scripts": 0.23,
        },
        steps=740,
        lr=9e-4,
        seed=50,
    )  # fmt: skip
    # Both halves with many texts in other scripts, whose characters the tower turned out not to tell apart.
    widen = after(
        study,
        "widen",
        weights={
            "word": 0.02, "line": 0.16, "page": 0.03, "documents": 0.115, "shapes": 0.115, "boxes": 0.05,
            "screens": 0.06, "calls": 0.075, "clips": 0.035, "live": 0.005, "charts": 0.015, "sums": 0.02,
            "scripts": 0.3,
        },
        captions=0.75,
        steps=300,
        lr=1.3e-3,
        decay=0.0,
        seed=51,
    )  # fmt: skip
    # So it learns those alone.
    glyphs = after(
        taller,
        "glyphs",
        weights={
            "line": 0.06, "page": 0.03, "documents": 0.05, "calls": 0.02, "shapes": 0.04, "screens": 0.03,
            "charts": 0.02, "scripts": 0.75,
        },
        steps=900,
        seed=52,
    )  # fmt: skip
    learn = after(
        widen,
        "learn",
        weights={
            "word": 0.02, "line": 0.17, "page": 0.035, "documents": 0.12, "shapes": 0.13, "boxes": 0.05,
            "screens": 0.06, "calls": 0.075, "clips": 0.05, "live": 0.005, "charts": 0.015, "sums": 0.03,
            "scripts": 0.24,
        },
        steps=100,
        seed=53,
    )  # fmt: skip
    # Then words for them, two samples in five, most of them picture-text pairs, which are short.
    grasp = after(
        conclude,
        "grasp",
        weights={
            "word": 0.015, "line": 0.14, "page": 0.03, "documents": 0.1, "shapes": 0.11, "boxes": 0.035,
            "screens": 0.045, "calls": 0.06, "clips": 0.04, "live": 0.005, "sums": 0.02, "scripts": 0.4,
        },
        captions=0.8,
        steps=900,
        lr=1.3e-3,
        decay=0.7,
        seed=54,
    )  # fmt: skip
    # What that had cost: counts, lists and videos.
    regain = after(
        grasp,
        "regain",
        weights={
            "word": 0.01, "line": 0.17, "page": 0.04, "documents": 0.1, "shapes": 0.27, "boxes": 0.035,
            "screens": 0.05, "calls": 0.05, "clips": 0.1, "live": 0.005, "sums": 0.01, "scripts": 0.16,
        },
        steps=420,
        lr=6e-4,
        decay=1.0,
        seed=55,
    )  # fmt: skip
    # The tower alone once more: Arabic, whose letters join, and what `glyphs` had cost it of pages and charts.
    joins = after(
        glyphs,
        "joins",
        weights={
            "word": 0.04, "line": 0.13, "page": 0.11, "documents": 0.08, "calls": 0.03, "shapes": 0.05,
            "charts": 0.12, "scripts": 0.44,
        },
        steps=250,
        lr=1.8e-3,
        seed=56,
    )  # fmt: skip
    # Both halves with everything, and several boxes, of which training had drawn few.
    unite = after(
        learn,
        "unite",
        weights={
            "word": 0.025, "line": 0.14, "page": 0.06, "documents": 0.12, "shapes": 0.15, "boxes": 0.07,
            "screens": 0.06, "calls": 0.06, "clips": 0.06, "live": 0.005, "charts": 0.035, "sums": 0.03,
            "scripts": 0.185,
        },
        steps=210,
        lr=1.4e-3,
        warmup=15,
        decay=0.3,
        heads="joins",
        seed=57,
    )  # fmt: skip
    # Then words alone.
    voice = after(
        regain,
        "voice",
        weights={
            "word": 0.02, "line": 0.19, "page": 0.05, "documents": 0.125, "shapes": 0.22, "boxes": 0.05,
            "screens": 0.055, "calls": 0.06, "clips": 0.06, "live": 0.005, "charts": 0.015, "sums": 0.02,
            "scripts": 0.13,
        },
        steps=440,
        lr=1e-3,
        decay=0.85,
        seed=58,
    )  # fmt: skip
    # Words alone, so that the heads for marks and places know something before both halves listen to them; then both.
    ready = after(
        unite,
        "ready",
        weights={
            "word": 0.02, "line": 0.17, "page": 0.05, "documents": 0.135, "shapes": 0.165, "boxes": 0.075,
            "screens": 0.075, "calls": 0.08, "clips": 0.045, "live": 0.005, "charts": 0.02, "sums": 0.03,
            "scripts": 0.13,
        },
        rates=Rates(vision=0),
        steps=120,
        lr=1e-3,
        decay=0.0,
        heads="",
        seed=59,
    )  # fmt: skip
    gather = after(ready, "gather", rates=Rates(vision=0.5), steps=880, lr=1.5e-3, decay=0.7, heads="ready", seed=60)
    early = [crops, dialogue, short, scenes, read, look, scan, naming]
    return [
        *early,
        talk,
        sight,
        spell,
        fluent,
        polish,
        letters,
        whole,
        joint,
        wide,
        settle,
        wishes,
        watch,
        clear,
        place,
        local,
        recall,
        faces,
        reach,
        firm,
        sharp,
        tally,
        keen,
        steady,
        rows,
        counts,
        bright,
        edges,
        even,
        close,
        corners,
        full,
        both,
        mend,
        aloud,
        last,
        broaden,
        drill,
        deepen,
        master,
        taller,
        study,
        recite,
        revive,
        conclude,
        widen,
        glyphs,
        learn,
        grasp,
        regain,
        joins,
        unite,
        voice,
        ready,
        gather,
    ]


def evaluation(stage: Stage, processor: Processor) -> Evaluation | None:
    """How much of held-out pictures is named right, where a stage teaches that."""
    if not isinstance(stage.mix, Mix) or not stage.mix.objective[1]:
        return None
    worlds = [world for world in stage.mix.weights if world not in ("clips", "live", "told")]  # of one picture each
    return lambda model: sight_accuracy(model, processor, worlds, count=40)


# After such a stage the weights become a mean of its own and of an earlier stage's, then of the next one's, with these
# shares: what the stages between had cost comes back, and most of what they brought stays (docs/log.md). "NAME-mean" is
# what came of NAME's own.
MEANS = {
    "wide": [("whole", 0.5)],
    "watch": [("settle", 0.4)],
    "close": [("counts", 0.35), ("even", 0.33)],
    "full": [("close-mean", 0.3)],
    "both": [("full", 0.5), ("close-mean", 0.25)],
    "mend": [("both-mean", 0.4)],
    "last": [("aloud", 0.22)],
    "broaden": [("last-mean", 0.4)],
    "conclude": [],  # kept whole
    "regain": [("conclude-mean", 0.15)],  # the tower's weights among them
    "voice": [("regain-mean", 0.45)],  # too
    "gather": [("voice-mean", 0.6)],
}


# Before such a stage all but the weights of linear layers becomes what it was after an earlier one.
RETURNS = {"recall": "clear"}


# All stages before this one train a model of fewer blocks.
GROWN = "taller"
SHALLOW = replace(NANO, vision=replace(NANO.vision, depth=6), text=replace(NANO.text, num_layers=6))


# Before such a stage every token that nothing has taught yet, and that is like all others of that kind, becomes one of
# its own: the signs of boxes, which had been learned and were lost with the return, could neither be written nor told
# apart. What the adapters beside nano read stays as they know it.
APART = ("even",)
_KEPT = "';<[\\]^_`{|~", (" than", " another", " changed", " its", " tap")


def tell_apart(model: Qwen2VL, processor: Processor, seed: int = 0) -> None:
    """Give each embedding that is hardly another than a tenth of all a direction of its own, at the size of others."""
    kept = [i for text in (*_KEPT[0], *_KEPT[1]) for i in processor.tokenizer.encode(text)]
    rows_VD = model.model.embed_tokens.weight
    with torch.no_grad():
        unit_VD = rows_VD / rows_VD.norm(dim=1, keepdim=True)
        alike = (unit_VD @ unit_VD.T > 0.99).sum(1) > len(rows_VD) / 10
        alike[kept] = False
        fresh_VD = torch.randn(rows_VD.shape, generator=torch.Generator().manual_seed(seed)) / rows_VD.shape[1] ** 0.5
        rows_VD[alike] = 0.3 * rows_VD[alike] + 3.5 * fresh_VD[alike]


def mean_with(model: Qwen2VL, checkpoint: Path, share: float, linear: bool = True) -> None:
    """Take `share` of every weight that a stage's checkpoint holds from there. Raises StateError without one.

    linear: also of those of linear layers. Heads, which a model has while it learns alone, are passed over.
    """
    earlier = read_state(checkpoint)
    if earlier is None:
        raise StateError(f"{checkpoint} is missing, whose weights are wanted again")
    values = dict(model.named_parameters())
    left = (
        set() if linear else {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    )
    with torch.no_grad():
        for name, value in earlier["model"].items():  # those that the stage left alone are not in it
            if name not in left and part_of(name) != HEADS:
                values[name].lerp_(value.to(values[name]), share)


def keep(model: Qwen2VL, path: Path) -> None:
    """Write all weights to `path` as a checkpoint that `mean_with` can read, whole or not at all."""
    draft = path.with_suffix(".tmp")
    torch.save({"model": {name: value.detach() for name, value in model.named_parameters()}}, draft)
    os.replace(draft, path)


def compile_rows() -> None:
    """Compile what works on row after row, which else is a pass over all of it for each operation."""
    torch._dynamo.config.cache_size_limit = 64  # one for each shape, number format and set of what is learned
    for name in ("rotate", "rms_norm", "layer_norm", "quick_gelu", "swiglu"):
        plain = getattr(rowwise, f"{name}_reference")
        setattr(rowwise, f"{name}_reference", torch.compile(plain, dynamic=True))


def rehearsed(stage: Stage) -> Stage:
    """One step of four samples: enough to see that the stage runs, and that what it wants of earlier ones is there."""
    return replace(stage, steps=1, batch_size=4)


def train(model: Qwen2VL, processor: Processor, out: Path, only: str | None = None, *, rehearsal: bool = False) -> None:
    """All stages in turn, or that one alone; the weights that come of it are in `out`/model.

    rehearsal: one small step of each, unmeasured.
    """
    for stage in map(rehearsed, stages()) if rehearsal else stages():
        if only in (None, stage.name):
            if stage.name in RETURNS and only is None:
                mean_with(model, out / f"{RETURNS[stage.name]}.pt", 1.0, linear=False)
            if stage.name == GROWN:
                model = grown(model, NANO)
            if stage.name in APART:
                tell_apart(model, processor)
            model.requires_grad_().train()
            run_stage(model, processor, stage, out, evaluation=None if rehearsal else evaluation(stage, processor))
            if stage.name in MEANS and only is None:
                for earlier, share in MEANS[stage.name]:
                    mean_with(model, out / f"{earlier}.pt", share)
                if int(os.environ.get("RANK", "0")) == 0:
                    keep(model, out / f"{stage.name}-mean.pt")
    if int(os.environ.get("RANK", "0")) == 0:
        save_model(model, out / "model", dtype=torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, metrics and the final weights")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--only", choices=[stage.name for stage in stages()], help="run this stage alone")
    extent.add_argument(
        "--rehearse",
        action="store_true",
        help="take one small step of every stage, anew, in OUT/rehearsal: does the long run go through?",
    )
    parser.add_argument("--init", help="start from this checkpoint (a name or folder), not from random weights")
    parser.add_argument("--compile", action="store_true", help="compile for speed, which needs a C++ compiler")
    arguments = parser.parse_args()
    out = arguments.out
    if arguments.rehearse:
        out = out / "rehearsal"  # apart, or the long run would go on from its checkpoints
        if int(os.environ.get("RANK", "0")) == 0:
            shutil.rmtree(out, ignore_errors=True)  # of an earlier one, which would leave nothing to do
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {arguments.out} cannot be used as a folder: {error}")
    if arguments.compile:
        compile_rows()
    model = random_model(SHALLOW, seed=0)
    if arguments.init:
        try:
            folder = resolve(arguments.init)
            config = read_config(folder)
            if config not in (SHALLOW, NANO):
                raise ValueError(f"{folder} is not of nano's shape, with six or eight blocks in either half")
            model = load_model(folder, config, dtype=torch.float32)
        except (ValueError, OSError) as error:
            parser.error(str(error))
    processor = Processor.packaged("nano")
    try:
        with process_group():
            train(model, processor, out, arguments.only, rehearsal=arguments.rehearse)
    except TrainingError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
