"""Playing cards, and the drawing of games: a table, cards and lines of text as one picture."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as PillowImage

SUITS = ("spades", "hearts", "diamonds", "clubs")
RANKS = ("A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K")
SIZE = (336, 224)
"""Width and height in pixels: 96 tokens, both sides multiples of 28."""

_TABLES = ("#0b6b3a", "#1f4e79", "#5b3a29", "#3d3d46")


@dataclass(frozen=True, slots=True)
class Card:
    """rank: index into RANKS. suit: index into SUITS."""

    rank: int
    suit: int

    @property
    def name(self) -> str:
        return RANKS[self.rank]

    @property
    def points(self) -> int:
        """An ace is 1, a picture 10 (Blackjack counts one ace as 11 where that helps)."""
        return min(10, self.rank + 1)


def draw_card(rng: random.Random) -> Card:
    """From an endless deck."""
    return Card(rng.randrange(13), rng.randrange(4))


def paint(rows: Sequence[Sequence[Card | None]], lines: Sequence[str], table: int = 0) -> PillowImage:
    """Rows of cards (None face down) with lines of text below. table: which colour the table has."""
    picture = Image.new("RGB", SIZE, _TABLES[table % len(_TABLES)])
    pen = ImageDraw.Draw(picture)
    height = 78 if len(rows) < 2 else 66
    for number, row in enumerate(rows):
        for place, card in enumerate(row):
            step = min(58, (SIZE[0] - 70) // max(1, len(row) - 1)) if len(row) > 1 else 58
            _card(pen, card, 12 + place * step, 10 + number * (height + 8), 48, height)
    top = 14 + len(rows) * (height + 8) if rows else 40
    for number, line in enumerate(lines):
        pen.text((14, top + 32 * number), line, font=_font(24), fill="white")
    return picture


def _card(pen: ImageDraw.ImageDraw, card: Card | None, x: int, y: int, width: int, height: int) -> None:
    box = (x, y, x + width, y + height)
    pen.rounded_rectangle(box, 6, fill="white" if card else "#8c1c2f", outline="#222")
    if card is None:
        pen.rounded_rectangle((x + 6, y + 6, x + width - 6, y + height - 6), 4, outline="white")
        return
    ink = "#c1121f" if card.suit in (1, 2) else "#111"
    pen.text((x + width / 2, y + 6), card.name, font=_font(30), fill=ink, anchor="ma")
    _suit(pen, card.suit, x + width / 2, y + height - 17, 9, ink)


def _suit(pen: ImageDraw.ImageDraw, suit: int, x: float, y: float, r: float, ink: str) -> None:
    """Drawn, as few fonts have the signs."""

    def disc(dx: float, dy: float) -> None:
        pen.ellipse((x + dx - r / 2, y + dy - r / 2, x + dx + r / 2, y + dy + r / 2), fill=ink)

    if suit == 2:
        pen.polygon([(x, y - r), (x + 0.75 * r, y), (x, y + r), (x - 0.75 * r, y)], fill=ink)
    elif suit == 1:
        disc(-r / 2, -r / 3)
        disc(r / 2, -r / 3)
        pen.polygon([(x - 0.95 * r, y - r / 8), (x + 0.95 * r, y - r / 8), (x, y + r)], fill=ink)
    else:
        if suit == 0:
            pen.polygon([(x, y - r), (x - 0.95 * r, y + r / 3), (x + 0.95 * r, y + r / 3)], fill=ink)
        else:
            disc(0, -r / 2)
        disc(-r / 2, r / 4)
        disc(r / 2, r / 4)
        pen.polygon([(x, y), (x - r / 3, y + r), (x + r / 3, y + r)], fill=ink)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
