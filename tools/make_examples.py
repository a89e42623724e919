"""Draw the pictures in examples/: `python tools/make_examples.py`. None of them comes from the training worlds."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clearsight.train.worlds.fonts import font_files

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def sign() -> Image.Image:
    """A word in a font that training never sees."""
    sheet = Image.new("RGB", (112, 56), (245, 245, 240))
    font = ImageFont.truetype(font_files("test")[1][1], 26)
    ImageDraw.Draw(sheet).text((8, 38), "Bread", fill=(20, 20, 20), font=font, anchor="ls")
    return sheet


def circle() -> Image.Image:
    """A red circle on a light ground."""
    sheet = Image.new("RGB", (112, 112), (240, 240, 240))
    ImageDraw.Draw(sheet).ellipse((20, 40, 70, 90), fill=(214, 34, 40))
    return sheet


def main() -> None:
    EXAMPLES.mkdir(exist_ok=True)
    sign().save(EXAMPLES / "sign.png", optimize=True)
    circle().save(EXAMPLES / "circle.png", optimize=True)


if __name__ == "__main__":
    main()
