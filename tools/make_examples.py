"""Draw the pictures in examples/: `python tools/make_examples.py`. None of them comes from the training worlds."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clearsight.train.worlds.fonts import font_files

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def sign() -> Image.Image:
    """A shop's sign in a font that training never sees."""
    sheet = Image.new("RGB", (112, 56), (250, 246, 235))
    font = ImageFont.truetype(font_files("test")[1][1], 32)
    ImageDraw.Draw(sheet).text((56, 28), "Bread", fill=(52, 30, 20), font=font, anchor="mm")
    return sheet


def shapes() -> Image.Image:
    """Three red circles, a blue square and a green triangle."""
    sheet = Image.new("RGB", (168, 140), (238, 240, 244))
    pen = ImageDraw.Draw(sheet)
    for x, y in ((34, 36), (88, 100), (132, 44)):
        pen.ellipse((x - 17, y - 17, x + 17, y + 17), fill=(214, 34, 40))
    pen.rectangle((18, 84, 50, 116), fill=(30, 76, 208))
    pen.polygon([(136, 88), (154, 122), (118, 122)], fill=(30, 150, 60))
    return sheet


def main() -> None:
    EXAMPLES.mkdir(exist_ok=True)
    sign().save(EXAMPLES / "sign.png", optimize=True)
    shapes().save(EXAMPLES / "shapes.png", optimize=True)


if __name__ == "__main__":
    main()
