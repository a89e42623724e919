"""The run: every runtime is asked the same in turns, so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from clearsight.bench import floor, machine
from clearsight.bench.cases import Case, grid_of, make_inputs, mixed_load
from clearsight.bench.process import Worker, convert
from clearsight.bench.runtimes import KINDS, Answer
from clearsight.config import ModelConfig
from clearsight.model.hub import read_config

_TEXT = 32  # tokens of a question under a picture
_ALONE = 64  # tokens of a text without a picture

Samples = dict[str, dict[str, list[float]]]
"""runtime: measure: one value a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is measured. sizes: pictures, (width, height). batches: conversations at once. tokens: of an answer.

    requests: of the mixed load, 0 for none. rounds: each value is their median. threads: for each runtime.
    pythons: runtimes that another interpreter than this one runs, and which.
    """

    runtimes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = ((448, 448),)
    batches: tuple[int, ...] = (1, 4, 8, 16)
    tokens: int = 32
    requests: int = 8
    rounds: int = 3
    threads: int = os.cpu_count() or 1
    pythons: Mapping[str, str] = field(default_factory=dict)


def run(folder: Path, setup: Setup, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure a checkpoint folder. Raises RuntimeFailed, or ValueError for sizes that do not fit the model."""
    config = read_config(folder)
    for size in setup.sizes:
        grid_of(Case(size=size, text=1, answer=1, seed=0), config)
    say("measuring the machine")
    limits = machine.measure()
    samples: Samples = {name: {} for name in setup.runtimes}
    with contextlib.ExitStack() as stack:
        workers = []
        # All are converted before any is loaded, for want of memory.
        sources = {name: _source(name, folder, setup, stack, say) for name in setup.runtimes}
        for name, source in sources.items():
            say(f"loading {KINDS[name].title}")
            workers.append(stack.enter_context(Worker(name, source, setup.threads, _python(name, setup))))
        for turn in range(setup.rounds):
            for label, measure in _measures(setup, turn):
                say(f"round {turn + 1} of {setup.rounds}: {label}")
                # Nobody always comes first.
                for worker in workers[turn % len(workers) :] + workers[: turn % len(workers)]:
                    for key, value in measure(worker).items():
                        samples[worker.kind].setdefault(key, []).append(value)
            limits = limits.best_of(machine.measure(1))
        facts = {worker.kind: (worker.load_seconds, worker.peak_bytes(), worker.token_bytes) for worker in workers}
    return _result(setup, config, limits, samples, facts)


def _source(
    name: str, folder: Path, setup: Setup, stack: contextlib.ExitStack, say: Callable[[str], None]
) -> tuple[Path, ...]:
    """The folders that a runtime loads from; what it had to write itself is gone when `stack` ends."""
    if not KINDS[name].converts:
        return (folder,)
    say(f"converting for {KINDS[name].title}")
    converted = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clearsight-bench-")))
    convert(name, folder, converted, _python(name, setup))
    return folder, converted


def _python(name: str, setup: Setup) -> str:
    return setup.pythons.get(name, sys.executable)


Measure = Callable[[Worker], dict[str, float]]


def _measures(setup: Setup, turn: int) -> list[tuple[str, Measure]]:
    """Fresh seeds in every round: what a runtime remembers must not help it where it is not asked to remember."""
    found: list[tuple[str, Measure]] = []
    for size in setup.sizes:
        case = Case(size=size, text=_TEXT, answer=setup.tokens, seed=1000 + turn)
        found.append((f"a picture of {_name(size)}", _picture(case, again=size == max(setup.sizes))))
    for batch in setup.batches:
        cases = [Case(size=None, text=_ALONE, answer=setup.tokens, seed=100 * turn + n + batch) for n in range(batch)]
        found.append((f"{batch} texts at once", _together(cases)))
    if setup.requests:
        load = mixed_load(setup.requests, min(setup.sizes), 5000 + 100 * turn, setup.tokens)
        found.append((f"{setup.requests} mixed requests", _mixed(load)))
    return found


def _picture(case: Case, *, again: bool) -> Measure:
    def measure(worker: Worker) -> dict[str, float]:
        assert case.size is not None
        name = _name(case.size)
        # Another picture than the one asked about, which must not be known before.
        values = {f"vision {name}": worker.vision(replace(case, seed=case.seed + 500))}
        first = worker.answers([case])[0]
        values |= {f"first {name}": first.first_token, f"decode {name}": first.tokens_per_second}
        if again and KINDS[worker.kind].remembers:
            second = worker.answers([replace(case, question=1, answer=2)])[0].first_token
            values |= {"second": second, "second share": second / first.first_token}
        return values

    return measure


def _together(cases: Sequence[Case]) -> Measure:
    def measure(worker: Worker) -> dict[str, float]:
        return {f"batch {len(cases)}": _rate(worker.answers(cases))}

    return measure


def _mixed(cases: Sequence[Case]) -> Measure:
    def measure(worker: Worker) -> dict[str, float]:
        answers = worker.answers(cases)
        return {"requests": len(cases) / (max(a.times[-1] for a in answers) - answers[0].begin)}

    return measure


def _rate(answers: Sequence[Answer]) -> float:
    """Tokens a second of all answers together, while all of them are being made."""
    start, stop = max(a.times[0] for a in answers), min(a.times[-1] for a in answers)
    return sum(start < time <= stop for a in answers for time in a.times) / (stop - start)


def _result(
    setup: Setup,
    config: ModelConfig,
    limits: machine.Machine,
    samples: Samples,
    facts: dict[str, tuple[float, int, int]],
) -> dict[str, Any]:
    middle = {name: {key: median(values) for key, values in measured.items()} for name, measured in samples.items()}
    cases = {_name(size): Case(size=size, text=_TEXT, answer=1, seed=0) for size in setup.sizes}
    return {
        "machine": {
            "threads": setup.threads,
            "read_gb_s": _round(limits.read_bytes / 1e9),
            "byte_gop_s": _round(limits.byte_ops / 1e9),
            "float_gflop_s": _round(limits.float_ops / 1e9),
        },
        "setup": {"tokens": setup.tokens, "rounds": setup.rounds, "requests": setup.requests, "text_tokens": _ALONE},
        "floor": {
            name: {
                "prompt_tokens": int(make_inputs(case, config).ids.shape[0]),
                "vision_s": _round(floor.vision_seconds(case, config, limits)),
                "first_token_s": _round(floor.prompt_seconds(case, config, limits)),
            }
            for name, case in cases.items()
        },
        "runtimes": {name: _of_runtime(name, setup, middle[name], facts[name], limits) for name in setup.runtimes},
    }


def _of_runtime(
    name: str, setup: Setup, middle: dict[str, float], facts: tuple[float, int, int], limits: machine.Machine
) -> dict[str, Any]:
    load, peak, token_bytes = facts
    sizes = map(_name, setup.sizes)
    result: dict[str, Any] = {
        "title": KINDS[name].title,
        "load_s": _round(load),
        "peak_gb": _round(peak / 1e9),
        "token_gb": _round(token_bytes / 1e9),
        "pictures": {
            size: {
                "vision_s": _round(middle[f"vision {size}"]),
                "first_token_s": _round(middle[f"first {size}"]),
                "decode_tok_s": _round(middle[f"decode {size}"]),
            }
            for size in sizes
        },
        "decode_tok_s": {str(batch): _round(middle[f"batch {batch}"]) for batch in setup.batches},
    }
    if 1 in setup.batches:
        # One answer reads all weights for each token.
        result["share_of_memory_speed"] = _round(middle["batch 1"] * token_bytes / limits.read_bytes)
    if "second" in middle:
        result["second_question"] = {
            "picture": _name(max(setup.sizes)),
            "first_token_s": _round(middle["second"]),
            "share_of_first": _round(middle["second share"]),
        }
    if setup.requests:
        result["requests_s"] = _round(middle["requests"])
    return result


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _round(value: float) -> float:
    return float(f"{value:.3g}")
