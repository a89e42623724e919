"""Drafts without a second model: what followed the newest tokens the last time they stood in the sequence.

Answers about documents repeat their prompt, so this is often right; a draft is only ever checked, never trusted.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST, _SHORTEST = 3, 2
_TRIALS = 16
_WORTH = 0.25
_PAUSE = 64


class Drafter:
    """Looks up drafts for one sequence and stops for a while when they are mostly wrong."""

    def __init__(self, tokens: Sequence[int], longest: int) -> None:
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # an n-gram and where what followed it last stands
        self._longest = longest
        self._drafted = 0
        self._accepted = 0
        self._pause = 0
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Take what has been added to the sequence."""
        for token in tokens:
            self._tokens.append(token)
            # The n-grams that end before the newest token: a look-up must not find the newest tokens themselves.
            end = len(self._tokens) - 1
            for length in range(_SHORTEST, min(_LONGEST, end) + 1):
                self._ends[tuple(self._tokens[end - length : end])] = end

    def draft(self, most: int) -> list[int]:
        """Up to `most` tokens that may come next."""
        if self._pause:
            self._pause -= 1
            return []
        for length in range(_LONGEST, _SHORTEST - 1, -1):
            end = self._ends.get(tuple(self._tokens[-length:])) if len(self._tokens) >= length else None
            if end is not None:
                return self._tokens[end : end + min(most, self._longest)]
        return []

    def learn(self, drafted: int, accepted: int) -> None:
        """How a draft went."""
        self._drafted += drafted
        self._accepted += accepted
        if self._drafted >= _TRIALS:
            if self._accepted < _WORTH * self._drafted:
                self._pause = _PAUSE
            self._drafted = self._accepted = 0
