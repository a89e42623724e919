"""Fonts found in installed packages of the `train` extra; three families are kept for the test split.

Licences: DejaVu (in matplotlib) is under the Bitstream Vera licence; STIX (in matplotlib), Source Sans Pro, Source
Serif Pro, Lato, Hanken Grotesk, Manrope and Red Hat Display are under the SIL Open Font Licence 1.1 (the package that
carries Red Hat Display is itself under the MIT licence); Roboto and Caladea are under the Apache Licence 2.0; the
families of the `fontpkg` series are under the SIL Open Font Licence 1.1 but for Roboto Slab (Apache Licence 2.0). The
files are read where they are installed and never copied.
"""

from __future__ import annotations

import random
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from .sample import Split

_MATPLOTLIB = ("matplotlib", "mpl-data/fonts/ttf")

# family: ((package, folder in it), file name with {} for the style, styles)
_FAMILIES: dict[str, tuple[tuple[str, str], str, tuple[str, ...]]] = {
    "DejaVu Sans": (_MATPLOTLIB, "DejaVuSans{}.ttf", ("", "-Bold", "-Oblique", "-BoldOblique")),
    "DejaVu Serif": (_MATPLOTLIB, "DejaVuSerif{}.ttf", ("", "-Bold", "-Italic", "-BoldItalic")),
    "DejaVu Sans Mono": (_MATPLOTLIB, "DejaVuSansMono{}.ttf", ("", "-Bold", "-Oblique", "-BoldOblique")),
    "STIX": (_MATPLOTLIB, "STIXGeneral{}.ttf", ("", "Bol", "Italic", "BolIta")),
    "Roboto": (("font_roboto", "files"), "Roboto-{}.ttf", ("Regular", "Medium", "Bold", "Black", "Italic", "Light")),
    "Source Sans Pro": (
        ("font_source_sans_pro", "files"),
        "SourceSansPro-{}.ttf",
        ("Regular", "Semibold", "Bold", "Black", "It", "Light"),
    ),
    "Source Serif Pro": (
        ("font_source_serif_pro", "files"),
        "SourceSerifPro-{}.ttf",
        ("Regular", "Semibold", "Bold", "Black", "It", "Light"),
    ),
    "Lato": (("font_lato", "files"), "Lato-{}.ttf", ("Regular", "Bold", "Black", "Italic", "Light")),
    "Hanken Grotesk": (
        ("font_hanken_grotesk", "files"),
        "HankenGrotesk-{}.otf",
        ("Regular", "Medium", "SemiBold", "Bold", "Italic", "Light"),
    ),
    "Manrope": (("font_manrope", "files"), "Manrope-{}.ttf", ("Regular", "Medium", "Bold", "ExtraBold")),
    "Caladea": (("font_caladea", "files"), "Caladea-{}.ttf", ("Regular", "Bold", "Italic", "BoldItalic")),
    "Red Hat Display": (
        ("font_rhd", "files"),
        "RedHatDisplay-{}.ttf",
        ("Regular", "Medium", "Bold", "Black", "Italic"),
    ),
}
# Families of the `fontpkg` series: name, file name as above, styles. A file of many weights is used at its default.
_SERIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("alegreya_sans", "AlegreyaSans-{}.ttf", ("Regular", "Bold", "Italic")),
    ("arvo", "Arvo-{}.ttf", ("Regular", "Bold", "Italic", "BoldItalic")),
    ("atkinson_hyperlegible", "AtkinsonHyperlegible-{}.ttf", ("Regular", "Bold", "Italic")),
    ("barlow", "Barlow-{}.ttf", ("Regular", "Medium", "Bold", "Italic")),
    ("crimson_text", "CrimsonText-{}.ttf", ("Regular", "SemiBold", "Bold", "Italic")),
    ("fira_sans", "FiraSans-{}.ttf", ("Regular", "Light", "Bold", "Italic")),
    ("hind", "Hind-{}.ttf", ("Regular", "Light", "Bold")),
    ("ibm_plex_mono", "IBMPlexMono-{}.ttf", ("Regular", "Light", "Bold", "Italic")),
    ("ibm_plex_serif", "IBMPlexSerif-{}.ttf", ("Regular", "Light", "Bold", "Italic")),
    ("kanit", "Kanit-{}.ttf", ("Regular", "Light", "Bold", "Italic")),
    ("news_cycle", "NewsCycle-{}.ttf", ("Regular", "Bold")),
    ("oxygen", "Oxygen-{}.ttf", ("Regular", "Bold")),
    ("poppins", "Poppins-{}.ttf", ("Regular", "Light", "Bold", "Italic")),
    ("pt_sans", "PT_Sans-Web-{}.ttf", ("Regular", "Bold", "Italic")),
    ("pt_serif", "PT_Serif-Web-{}.ttf", ("Regular", "Bold", "Italic")),
    ("questrial", "Questrial-{}.ttf", ("Regular",)),
    ("sarabun", "Sarabun-{}.ttf", ("Regular", "Light", "Bold", "Italic")),
    ("share_tech", "ShareTech-{}.ttf", ("Regular",)),
    ("space_mono", "SpaceMono-{}.ttf", ("Regular", "Bold", "Italic")),
    ("spectral", "Spectral-{}.ttf", ("Regular", "Bold", "Italic")),
    ("titillium_web", "TitilliumWeb-{}.ttf", ("Regular", "Light", "Bold", "Italic")),
    ("varela_round", "VarelaRound-{}.ttf", ("Regular",)),
    ("zilla_slab", "ZillaSlab-{}.ttf", ("Regular", "Bold", "Italic")),
    ("archivo", "Archivo{}[wdth,wght].ttf", ("", "-Italic")),
    ("arimo", "Arimo{}[wght].ttf", ("", "-Italic")),
    ("asap", "Asap{}[wdth,wght].ttf", ("", "-Italic")),
    ("cabin", "Cabin{}[wdth,wght].ttf", ("", "-Italic")),
    ("dm_sans", "DMSans{}[opsz,wght].ttf", ("", "-Italic")),
    ("inconsolata", "Inconsolata{}[wdth,wght].ttf", ("",)),
    ("inter", "Inter{}[opsz,wght].ttf", ("", "-Italic")),
    ("jetbrains_mono", "JetBrainsMono{}[wght].ttf", ("", "-Italic")),
    ("jost", "Jost{}[wght].ttf", ("", "-Italic")),
    ("karla", "Karla{}[wght].ttf", ("", "-Italic")),
    ("lexend", "Lexend{}[wght].ttf", ("",)),
    ("libre_baskerville", "LibreBaskerville{}[wght].ttf", ("", "-Italic")),
    ("lora", "Lora{}[wght].ttf", ("", "-Italic")),
    ("open_sans", "OpenSans{}[wdth,wght].ttf", ("", "-Italic")),
    ("overpass", "Overpass{}[wght].ttf", ("", "-Italic")),
    ("quicksand", "Quicksand{}[wght].ttf", ("",)),
    ("roboto_mono", "RobotoMono{}[wght].ttf", ("", "-Italic")),
    ("roboto_slab", "RobotoSlab{}[wght].ttf", ("",)),
    ("rubik", "Rubik{}[wght].ttf", ("", "-Italic")),
    ("signika", "Signika{}[GRAD,wght].ttf", ("",)),
    ("work_sans", "WorkSans{}[wght].ttf", ("", "-Italic")),
)
_FAMILIES |= {name: ((f"fontpkg_{name}", "files"), pattern, styles) for name, pattern, styles in _SERIES}
_TEST_FAMILIES = frozenset({"Manrope", "Caladea", "Red Hat Display"})


@cache
def font_files(split: Split) -> tuple[tuple[Path, ...], ...]:
    """The font files of `split`, one tuple per family. Raises ImportError when a font package is missing."""
    chosen = [name for name in _FAMILIES if (name in _TEST_FAMILIES) == (split == "test")]
    return tuple(_family_files(*_FAMILIES[name]) for name in chosen)


def pick_font(rng: random.Random, split: Split) -> Path:
    """A font file of `split`: every family is equally likely, then every style in it."""
    return rng.choice(rng.choice(font_files(split)))


# FreeType keeps a file handle open for each font, so the cache is bounded.
@lru_cache(maxsize=400)
def open_font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """The font file at `size` pixels per em."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@cache
def cap_height(path: Path) -> float:
    """Height of a capital letter as a fraction of the font's size."""
    size = 200
    _, top, _, bottom = open_font(path, size).getbbox("H")
    return (bottom - top) / size


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package, which is not imported. Raises ImportError when the package is missing."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the font package {package!r} is missing; install it with: pip install 'clearsight[train]'")
    return Path(spec.submodule_search_locations[0]) / name


def _family_files(place: tuple[str, str], pattern: str, styles: tuple[str, ...]) -> tuple[Path, ...]:
    package, folder = place
    return tuple(package_file(package, folder) / pattern.format(style) for style in styles)
