"""The short texts that get drawn: words, random strings, numbers and codes, never shared between the splits."""

from __future__ import annotations

import random
import string
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files

from .sample import Split, belongs

MAX_LENGTH = 10

# Alone in a picture, none of these can be taken for another character of a different size or height.
SINGLE = "ABCDEFGHJKLMNPQRSTUVWXYZ" + "abdefghijmnqrt" + "123456789" + "?!&@#%$+*="

# Every character that can be drawn.
CHARACTERS = string.ascii_letters + string.digits + "?!&@#%$+*=.,:-/'"

_COINED_SHARE = 0.7
_SHUFFLED_SHARE = 0.33
_END = "."


@cache
def words(split: Split, longest: int = MAX_LENGTH) -> tuple[str, ...]:
    """The English words of `split` with at most `longest` letters, lower case."""
    text = files(__package__).joinpath("words.txt").read_text(encoding="utf-8")
    return tuple(word for word in text.split() if len(word) <= longest and belongs(word, split))


def word(rng: random.Random, split: Split, longest: int = MAX_LENGTH) -> str:
    """A lower-case word: in the test split English, in training mostly coined.

    Two thousand words are soon known by heart, and then a new one is taken for one of them; coined words can only be
    read letter by letter.
    """
    if split == "train" and rng.random() < _COINED_SHARE:
        return coin(rng, longest)
    return rng.choice(words(split, longest))


def coin(rng: random.Random, longest: int = MAX_LENGTH) -> str:
    """A training word of three to `longest` letters that is like English, or, one in three, like nothing."""
    shortest = min(3, longest)
    while True:
        if rng.random() < _SHUFFLED_SHARE:
            made = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(shortest, longest)))
        else:
            made = _alike(rng)
        if shortest <= len(made) <= longest and belongs(made, "train"):
            return made


def _alike(rng: random.Random) -> str:
    """Letters that follow each other as in the training words."""
    made = ""
    while True:
        after = rng.choice(_followers()[made[-2:]])
        if after == _END or len(made) > MAX_LENGTH:
            return made
        made += after


@cache
def _followers() -> Mapping[str, str]:
    """What comes after two letters of a training word, as often as it does; "" and one letter are beginnings."""
    found: dict[str, str] = defaultdict(str)
    for known in words("train"):
        for place, letter in enumerate(known + _END):
            found[known[max(0, place - 2) : place]] += letter
    return found


def short_text(rng: random.Random, split: Split, level: float) -> tuple[str, str]:
    """A text and its kind ("word", "letters", "number", "code" or "single").

    `level` 0 gives single characters only; 1 gives texts of up to ten characters, with a few single ones.
    """
    longest = 1 + round((MAX_LENGTH - 1) * level)
    if longest == 1 or rng.random() < 0.06 + 0.3 * (1 - level):
        return rng.choice(SINGLE), "single"
    kind = rng.choices(("word", "letters", "number", "code"), (55, 15, 20, 10))[0]
    return token(rng, kind, split, longest), kind


def token(rng: random.Random, kind: str, split: Split, longest: int = MAX_LENGTH) -> str:
    """A text of `kind` that belongs to `split`, with 1 to `longest` characters; `longest` is at least 2."""
    make = _MAKERS[kind]
    while True:
        text = make(rng, split, longest)
        if len(text) <= longest and belongs(text, split):
            return text


def recase(rng: random.Random, word: str) -> str:
    """`word` in lower case, capitalised or in capitals."""
    style = rng.random()
    return word if style < 0.55 else word.capitalize() if style < 0.8 else word.upper()


def price(rng: random.Random, _split: Split = "train", _longest: int = MAX_LENGTH) -> str:
    """An amount of money such as "$4.20", "12.50" or "1,250.00"."""
    amount = rng.choice((rng.uniform(0, 10), rng.uniform(0, 100), rng.uniform(0, 3000)))
    return rng.choice(("", "", "$")) + f"{amount:,.2f}"


def date(rng: random.Random, _split: Split = "train", _longest: int = MAX_LENGTH) -> str:
    """A date or a time of day in one of several notations."""
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1950, 2039)
    forms = (
        f"{year}-{month:02}-{day:02}",
        f"{day:02}/{month:02}/{year}",
        f"{day}/{month}/{year % 100:02}",
        f"{day}.{month}.{year}",
        f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}",
        str(year),
    )
    return rng.choice(forms)


def _word(rng: random.Random, split: Split, longest: int) -> str:
    text = recase(rng, word(rng, split, longest))
    return text + rng.choice(".,!?:") if rng.random() < 0.08 and len(text) < longest else text


def _letters(rng: random.Random, _split: Split, longest: int) -> str:
    alphabet = string.ascii_lowercase
    return recase(rng, "".join(rng.choices(alphabet, k=rng.randint(2, longest))))


def _number(rng: random.Random, split: Split, longest: int) -> str:
    form = rng.random()
    if form < 0.5:
        return "".join(rng.choices(string.digits, k=rng.randint(1, longest)))
    if form < 0.6:
        return f"{rng.randint(0, 100)}%"
    if form < 0.7:
        return f"{rng.choice(('-', '+', ''))}{rng.uniform(0, 100):.{rng.randint(1, 2)}f}"
    return (price if form < 0.85 else date)(rng, split, longest)


def _code(rng: random.Random, _split: Split, longest: int) -> str:
    letters = "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=rng.randint(1, 3)))
    digits = "".join(rng.choices(string.digits, k=rng.randint(1, max(1, min(5, longest - len(letters) - 1)))))
    return rng.choice((letters + "-" + digits, letters + digits, digits + letters, letters + "/" + digits))


_MAKERS: dict[str, Callable[[random.Random, Split, int], str]] = {
    "word": _word,
    "letters": _letters,
    "number": _number,
    "code": _code,
    "price": price,
    "date": date,
}
