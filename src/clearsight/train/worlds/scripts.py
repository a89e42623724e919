"""The world "scripts": short printed texts in nine languages besides English.

Fonts are read from installed packages and never copied. Licences: the Noto faces (pylopdf-fonts-*) and Nanum Gothic
(koreanize-matplotlib) are under the SIL Open Font Licence 1.1, as is Amiri (fontpkg-amiri); IPAex Gothic
(japanize-matplotlib) is under the IPA Font Licence 1.0; WenQuanYi Micro Hei (paperang-p2-fonts-cjk) is under the
Apache Licence 2.0 or the GPL 3 with the font exception. Languages in Latin and Cyrillic letters use the fonts of
fonts.py that have their letters.
"""

from __future__ import annotations

import random
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .fonts import font_files, package_file
from .ink import background, ink_and_paper, plain_ink_and_paper, wear
from .marks import glyphs, marked, turned
from .sample import CELL, Sample, Split, about, belongs
from .wording import ask

_PACKAGED: dict[str, dict[Split, tuple[tuple[str, str], ...]]] = {
    "Korean": {
        "train": (
            ("pylopdf_fonts_ko", "NotoSansKR-Regular.otf"),
            ("pylopdf_fonts_ko", "NotoSerifKR-Regular.otf"),
            ("koreanize_matplotlib", "fonts/NanumGothicBold.ttf"),
        ),
        "test": (("koreanize_matplotlib", "fonts/NanumGothic.ttf"),),
    },
    "Chinese": {
        "train": (
            ("pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf"),
            ("pylopdf_fonts_zh_cn", "NotoSerifSC-Regular.otf"),
        ),
        "test": (("paperang_p2_fonts_cjk", "fonts/wqy-microhei.ttc"),),
    },
    "Japanese": {
        "train": (("pylopdf_fonts_jp", "NotoSansJP-Regular.otf"), ("pylopdf_fonts_jp", "NotoSerifJP-Regular.otf")),
        "test": (("japanize_matplotlib", "fonts/ipaexg.ttf"),),
    },
    "Arabic": {
        "train": (
            ("pylopdf_fonts_ar", "NotoSansArabic-Variable.ttf"),
            ("pylopdf_fonts_ar", "NotoNaskhArabic-Variable.ttf"),
            ("fontpkg_amiri", "files/Amiri-Bold.ttf"),
        ),
        "test": (("fontpkg_amiri", "files/Amiri-Regular.ttf"),),
    },
}

LANGUAGES = ("Korean", "Chinese", "Japanese", "Arabic", "Vietnamese", "German", "French", "Spanish", "Russian")
_NO_BLANKS = ("Chinese", "Japanese")
# Of training: how often each comes. A hundred signs, or letters that join, need many more pictures than Latin letters
# with marks.
_SHARES = {"Korean": 6, "Chinese": 6, "Japanese": 7, "Vietnamese": 5, "Russian": 4, "Arabic": 8}
_SIGNS = ("Korean", "Chinese", "Japanese")
"""Most of their signs are in one word of scripts.txt alone, which is known by heart before its signs are read."""


def draw_scripts(rng: random.Random, *, split: Split, level: float = 1.0) -> Sample:
    """One or two words in one of nine languages, 56 high and 112 to 336 wide; judged by characters."""
    if split == "train":
        (language,) = rng.choices(LANGUAGES, [_SHARES.get(language, 1) for language in LANGUAGES])
    else:
        language = rng.choice(LANGUAGES)
    return draw_script(rng, language, split, level)


def draw_script(rng: random.Random, language: str, split: Split, level: float) -> Sample:
    """A text in `language`. Raises ImportError when a font package is missing."""
    most = 1 + round(level)
    if split == "train" and rng.random() < (0.9 if language in _SIGNS else 0.6):
        words = [coin(rng, language) for _ in range(rng.randint(1, most))]
    else:
        words = rng.choices(script_words(language, split), k=rng.randint(1, most))
    text = ("" if language in _NO_BLANKS else " ").join(words)
    face = _face(rng.choice(script_fonts(language, split)), rng.choice((18, 21, 24, 27)))
    left, top, right, bottom = face.getbbox(text)
    cells = min(12, max(4, -int(-(right - left + 16) // CELL) + rng.randint(0, 1)))
    while right - left > cells * CELL - 8:
        face = _face(Path(str(face.path)), int(face.size) - 3)
        left, top, right, bottom = face.getbbox(text)
    size = cells * CELL, 2 * CELL
    plain = rng.random() > 0.7 * level
    ink, paper = (plain_ink_and_paper if plain else ink_and_paper)(rng)
    sheet = background(rng, size, paper)
    spare = size[0] - (right - left), size[1] - (bottom - top)
    at = rng.uniform(4, max(4.0, spare[0] - 4)), spare[1] / 2 + rng.uniform(-3, 3)
    ImageDraw.Draw(sheet).text((at[0] - left, at[1] - top), text, fill=ink, font=face)
    box = at[0], at[1], at[0] + right - left, at[1] + bottom - top
    marks = glyphs(face, text, box, leftwards=language == "Arabic")
    if rng.random() < 0.3 * level:
        angle = rng.uniform(-2, 2)
        sheet = sheet.rotate(angle, Image.Resampling.BICUBIC, fillcolor=paper)
        marks = turned(marks, size, angle)
    return about(marked(wear(rng, sheet), marks), ask(rng, "read", split), text, language, "characters")


def coin(rng: random.Random, language: str) -> str:
    """A word of any letters of `language` for training: a hundred known words are soon read by heart."""
    least, most = (1, 6) if language in _SIGNS else (3, 9)
    while True:
        word = "".join(rng.choices(script_letters(language), k=rng.randint(least, most)))
        if belongs(f"{language} {word}", "train"):
            return word


@cache
def script_letters(language: str) -> tuple[str, ...]:
    """Every character that the words of `language` are made of."""
    return tuple(sorted({*"".join(script_words(language, "train") + script_words(language, "test"))}))


@cache
def script_words(language: str, split: Split) -> tuple[str, ...]:
    """The words of `language` that may be drawn in `split`."""
    sections = files(__package__).joinpath("scripts.txt").read_text(encoding="utf-8").split("[")
    words = next(part.partition("]")[2].split() for part in sections if part.startswith(language))
    # Words of two characters are common in Chinese, so the rule of `belongs` is asked about a longer name for each.
    return tuple(dict.fromkeys(word for word in words if belongs(f"{language} {word}", split)))


@cache
def script_fonts(language: str, split: Split) -> tuple[Path, ...]:
    """The font files for `language` in `split`, all of which have a glyph for every character of its words."""
    if language in _PACKAGED:
        return tuple(package_file(*place) for place in _PACKAGED[language][split])
    letters = script_letters(language)
    return tuple(path for family in font_files(split) for path in family if _has_all(path, letters))


def _has_all(path: Path, letters: tuple[str, ...]) -> bool:
    face = _face(path, 24)
    missing = bytes(face.getmask("\uffff"))
    return all(bytes(face.getmask(letter)) != missing for letter in letters)


# Arabic letters join, which the simple layout of the other worlds cannot do.
@lru_cache(maxsize=200)
def _face(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.RAQM)
