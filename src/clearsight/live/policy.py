"""Which of the frames seen so far leave when there is no room for all. Times only; no tensor in sight."""

from __future__ import annotations

from collections.abc import Sequence


def to_forget(times: Sequence[float], keep: int) -> list[int]:
    """Indices of the oldest entries beyond the newest `keep`."""
    return list(range(max(0, len(times) - keep)))


def to_thin(times: Sequence[float], keep: int, dense: float) -> list[int]:
    """Indices of entries to drop so that `keep` are left: the newest stay dense, the past grows thinner with age.

    times: ascending seconds. The newest `dense` * keep are never touched. Of the others the one goes whose neighbours
    lie closest together for its age, again and again, so gaps end up in proportion to age and the same number of
    entries covers a minute or a month. The first of all goes only when nothing else can.
    """
    kept = list(range(len(times)))
    now = times[-1] if times else 0.0
    spared = min(keep, max(1, round(dense * keep)))
    while len(kept) > keep:
        old = range(1, len(kept) - spared)
        kept.pop(min(old, key=lambda i: _crowding(times, kept, i, now)) if old else 0)
    left = set(kept)
    return [index for index in range(len(times)) if index not in left]


def _crowding(times: Sequence[float], kept: Sequence[int], index: int, now: float) -> float:
    """The gap that dropping would leave, for its age: small where little is lost."""
    before, after = times[kept[index - 1]], times[kept[index + 1]]
    return (after - before) / (now - times[kept[index]] + 1e-9)
