"""The wordings of the larger worlds, read from `questions.txt`: sections of lines, "*" before those kept for the test.

Kept in a file because there are hundreds; the small worlds' wordings stand in wording.py.
"""

from __future__ import annotations

import random
from functools import cache
from importlib.resources import files

from .sample import Split
from .wording import Wordings


@cache
def questions() -> dict[str, Wordings]:
    """All sections by name."""
    sections: dict[str, tuple[list[str], list[str]]] = {}
    current: tuple[list[str], list[str]] | None = None
    for line in files(__package__).joinpath("questions.txt").read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), ([], []))
        elif line:
            assert current is not None, "a wording before the first section"
            current[line.startswith("*")].append(line.lstrip("* "))
    return {name: Wordings(tuple(train), tuple(test)) for name, (train, test) in sections.items()}


def phrase(rng: random.Random, section: str, split: Split, **slots: str) -> str:
    """One wording of `section` for `split`, with its slots filled and a capital in front."""
    wordings = questions()[section]
    text = rng.choice(wordings.train if split == "train" else wordings.test).format(**slots)
    return text[0].upper() + text[1:]


def absent(thing: str) -> str:
    """The honest answer to a question about what is not in the picture."""
    return f"There is no {thing}."
