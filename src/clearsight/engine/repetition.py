"""Noticing an answer that goes round in circles."""

from __future__ import annotations

MAX_PERIOD = 64
MIN_TOKENS = 128
MIN_ROUNDS = 8


class RepetitionGuard:
    """Watches for a cycle of up to MAX_PERIOD tokens that has run MIN_ROUNDS times and over MIN_TOKENS tokens."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        # _runs[p]: how many of the newest tokens, without a break, equal the one p before them.
        self._runs = [0] * (MAX_PERIOD + 1)

    def push(self, token: int) -> bool:
        """Take the next token; True once the answer is repeating itself."""
        tokens, runs = self._tokens, self._runs
        tokens.append(token)
        repeating = False
        for period in range(1, min(MAX_PERIOD, len(tokens) - 1) + 1):
            runs[period] = runs[period] + 1 if tokens[-1 - period] == token else 0
            repeating = repeating or runs[period] + period >= max(MIN_TOKENS, MIN_ROUNDS * period)
        return repeating
