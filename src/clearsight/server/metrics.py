"""Counts and times in Prometheus' text form."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass, field
from pathlib import Path

from clearsight.answer import Reply
from clearsight.engine import EngineStats

_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(slots=True)
class Histogram:
    """Seconds, counted by upper bound."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    total: float = 0.0
    number: int = 0

    def observe(self, seconds: float) -> None:
        self.number += 1
        self.total += seconds
        for index, bound in enumerate(_BOUNDS):
            self.counts[index] += seconds <= bound

    def lines(self, name: str) -> list[str]:
        buckets = [f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in zip(_BOUNDS, self.counts, strict=True)]
        return [
            f"# TYPE {name} histogram",
            *buckets,
            f'{name}_bucket{{le="+Inf"}} {self.number}',
            f"{name}_sum {self.total:.6f}",
            f"{name}_count {self.number}",
        ]


@dataclass(slots=True)
class Metrics:
    """What the server counts beside the engine. refused: requests told to come back."""

    first_token: Histogram = field(default_factory=Histogram)
    answer: Histogram = field(default_factory=Histogram)
    token: Histogram = field(default_factory=Histogram)
    answers: dict[str, int] = field(default_factory=dict)
    refused: int = 0

    def finished(self, reply: Reply, seconds: float) -> None:
        self.answer.observe(seconds)
        if reply.usage.completion_tokens:
            self.token.observe(seconds / reply.usage.completion_tokens)
        self.answers[reply.finish_reason] = self.answers.get(reply.finish_reason, 0) + 1

    def render(self, stats: EngineStats, in_flight: int) -> str:
        """The page at /metrics."""
        lines = ["# TYPE clearsight_in_flight gauge", f"clearsight_in_flight {in_flight}"]
        for name in EngineStats.__dataclass_fields__:
            kind = "gauge" if name in _GAUGES else "counter"
            full = f"clearsight_{name}" if kind == "gauge" else f"clearsight_{name}_total"
            lines += [f"# TYPE {full} {kind}", f"{full} {getattr(stats, name)}"]
        lines += self.first_token.lines("clearsight_time_to_first_token_seconds")
        lines += self.answer.lines("clearsight_answer_seconds")
        lines += self.token.lines("clearsight_seconds_per_token")
        lines.append("# TYPE clearsight_answers_total counter")
        lines += [f'clearsight_answers_total{{finish_reason="{r}"}} {n}' for r, n in sorted(self.answers.items())]
        lines += ["# TYPE clearsight_refused_total counter", f"clearsight_refused_total {self.refused}"]
        lines += _memory_lines()
        return "\n".join(lines) + "\n"


def _memory_lines() -> list[str]:
    """Of this process; what is resident now can be read on Linux alone."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    lines = ["# TYPE clearsight_peak_memory_bytes gauge", f"clearsight_peak_memory_bytes {peak}"]
    with contextlib.suppress(OSError):
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        lines += ["# TYPE clearsight_memory_bytes gauge", f"clearsight_memory_bytes {resident}"]
    return lines


_GAUGES = frozenset(("waiting", "running", "kv_bytes_used", "kv_bytes_limit", "vision_cache_bytes"))
