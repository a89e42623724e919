"""Formulas over a few numbers: their exact values, and the search for one with a given value."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import combinations

_Term = tuple[Fraction, tuple[str, ...], int]
"""A value, a formula for it, and how tightly its last sign binds: 0 for + and -, 1 for * and /, 2 for a number."""


@cache
def solve(numbers: tuple[int, ...], target: int) -> tuple[str, ...] | None:
    """A formula that uses each number once and has this value, with as few brackets as any; None if there is none."""
    terms: list[_Term] = [(Fraction(number), (str(number),), 2) for number in numbers]
    return min(_search(terms, target), key=lambda formula: formula.count("("), default=None)


def _search(terms: list[_Term], target: int) -> Iterator[tuple[str, ...]]:
    if len(terms) == 1:
        if terms[0][0] == target:
            yield terms[0][1]
        return
    for i, j in combinations(range(len(terms)), 2):
        rest = [term for place, term in enumerate(terms) if place not in (i, j)]
        for joined in _joined(terms[i], terms[j]):
            yield from _search([*rest, joined], target)


def _joined(a: _Term, b: _Term) -> list[_Term]:
    """All that one sign makes of two terms."""
    made = [
        (a[0] + b[0], (*a[1], "+", *b[1]), 0),
        (a[0] * b[0], (*_inside(a, 1), "*", *_inside(b, 1)), 1),
    ]
    for left, right in ((a, b), (b, a)):
        made.append((left[0] - right[0], (*left[1], "-", *_inside(right, 1)), 0))
        if right[0]:
            made.append((left[0] / right[0], (*_inside(left, 1), "/", *_inside(right, 2)), 1))
    return made


def _inside(term: _Term, least: int) -> tuple[str, ...]:
    return term[1] if term[2] >= least else ("(", *term[1], ")")


def value_of(formula: list[str]) -> Fraction | None:
    """Exact value of a formula, None if it has none."""
    reader = _Reader(formula)
    try:
        value = reader.total()
    except (ZeroDivisionError, IndexError, ValueError):
        return None
    return value if reader.place == len(formula) else None


class _Reader:
    """Sums of products of numbers and brackets, read from left to right."""

    def __init__(self, formula: list[str]) -> None:
        self._formula, self.place = formula, 0

    def total(self) -> Fraction:
        value = self._term()
        while sign := self._take("+-"):
            value = value + self._term() if sign == "+" else value - self._term()
        return value

    def _term(self) -> Fraction:
        value = self._atom()
        while sign := self._take("*/"):
            value = value * self._atom() if sign == "*" else value / self._atom()
        return value

    def _atom(self) -> Fraction:
        if not self._take("("):
            self.place += 1
            return Fraction(int(self._formula[self.place - 1]))
        value = self.total()
        if not self._take(")"):
            raise ValueError("a bracket is not closed")
        return value

    def _take(self, signs: str) -> str:
        if self.place < len(self._formula) and self._formula[self.place] in tuple(signs):
            self.place += 1
            return self._formula[self.place - 1]
        return ""
