"""Every source, format and mode gives upright RGB; everything else is refused before it can do harm."""

from __future__ import annotations

import base64
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from transformers.image_transforms import convert_to_rgb

from clearsight.media import MediaError, MediaLimits, load, open_picture, open_video, read_header

Pixels = npt.NDArray[np.uint8]


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(source: Any, **limits: Any) -> Pixels:
    return np.asarray(load(source, MediaLimits(**limits)))


def reference_rgb(image: Image.Image) -> Pixels:
    return np.asarray(convert_to_rgb(image, return_numpy=True), np.uint8)


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.fixture
def picture() -> Pixels:
    return noise(23, 37)


@pytest.fixture
def png(picture: Pixels) -> bytes:
    return encode(Image.fromarray(picture), "PNG")


# --- sources -----------------------------------------------------------------------------------------------


def test_every_source_gives_the_same_pixels(picture: Pixels, png: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a cat %41.jpeg"  # Content decides, not the name.
    path.write_bytes(png)
    text = base64.b64encode(png).decode()
    sources: list[Any] = [
        str(path),
        path,
        f"file://{tmp_path}/a cat %2541.jpeg",
        f"file://localhost{tmp_path}/a%20cat%20%2541.jpeg",
    ]
    sources += [f"data:image/png;base64,{text}", f"data:image;base64,{text}", f"DATA:;BASE64,{text[:40]}\n{text[40:]}"]
    sources += [png, bytearray(png), memoryview(png), Image.open(path), Image.fromarray(picture), picture]
    for source in sources:
        assert np.array_equal(pixels(source), picture)
        assert read_header(source)[1:] == (37, 23)


def test_arrays_of_every_shape() -> None:
    grey = noise(5, 9, 1)
    for source in (grey, grey[:, :, 0]):
        assert np.array_equal(pixels(source), np.repeat(grey, 3, axis=2))
    assert np.array_equal(pixels(noise(5, 9)[:, ::-1]), noise(5, 9)[:, ::-1])
    assert np.array_equal(pixels(np.zeros((5, 9, 4), np.uint8)), np.full((5, 9, 3), 255))


def test_a_picture_is_named_after_its_file(png: bytes, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(png)
    assert read_header(tmp_path / "cat.png").name == "cat.png"
    assert read_header(png).name == "picture"


def test_a_given_picture_is_not_changed() -> None:
    given_image = Image.fromarray(noise(6, 8, 4))
    before = given_image.tobytes()
    load(given_image)
    assert given_image.tobytes() == before
    assert given_image.mode == "RGBA"


# --- formats and modes -------------------------------------------------------------------------------------

LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("TIFF", {}),
    ("PPM", {}),
]
LOSSLESS += [("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_keep_every_pixel(kind: str, options: dict[str, Any], picture: Pixels) -> None:
    data = encode(Image.fromarray(picture), kind, **options)
    assert np.array_equal(pixels(data), picture)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "MPO"])
@pytest.mark.parametrize("size", [(1, 1), (37, 23), (200, 1)])
def test_the_header_tells_the_decoded_size(kind: str, size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", size, "teal"), kind)
    name, *declared = read_header(data)
    image = load(data)
    assert (name, tuple(declared)) == ("picture", size)
    assert (image.size, image.mode) == (size, "RGB")
    assert np.abs(np.asarray(image).astype(int) - [0, 128, 128]).max() <= 4


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_equals_the_reference_conversion(mode: str) -> None:
    start = Image.fromarray(noise(20, 30, 4))
    path = {"La": ["LA", "La"], "PA": ["P", "PA"], "RGBX": ["RGB", "RGBX"], "HSV": ["RGB", "HSV"]}.get(mode, [mode])
    for step in ["RGB", *path] if mode in ("P", "PA", "CMYK", "YCbCr", "1", "L") else path:
        start = start.convert(step)
    assert start.mode == mode
    known = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    assert np.array_equal(pixels(start), reference_rgb(start.convert(known)))


def test_lab_is_understood() -> None:
    colours = np.array([[[200, 30, 40], [60, 90, 180], [128, 128, 128], [255, 255, 255]]], np.uint8)
    lab = Image.fromarray(colours).convert("LAB")
    for source in (lab, encode(lab, "TIFF")):
        # One step of 8-bit LAB is several of a dark, saturated channel.
        assert np.abs(pixels(source).astype(int) - colours).max() <= 12


def test_transparency_is_blended_over_white() -> None:
    red = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    red.putpixel((0, 0), (255, 0, 0, 255))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.putpixel((0, 0), 0)
    keyed = Image.new("RGB", (4, 4), (0, 0, 9))
    keyed.putpixel((0, 0), (255, 0, 0))
    encoded = [encode(red, "PNG"), encode(red, "WEBP", lossless=True), encode(palette, "GIF", transparency=1)]
    encoded += [encode(palette, "PNG", transparency=1), encode(keyed, "PNG", transparency=(0, 0, 9))]
    for data in encoded:
        assert pixels(data)[0, 0].tolist() == [255, 0, 0]
        assert (pixels(data)[1:] == 255).all()


def test_half_transparent_equals_the_reference() -> None:
    image = Image.fromarray(noise(50, 50, 4))
    assert np.array_equal(pixels(encode(image, "PNG")), reference_rgb(image))


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    levels = np.arange(0, 65_536, 5, dtype=np.uint16)[:13_104].reshape(-1, 104)
    wanted = np.rint(levels / 257).astype(np.uint8)
    image = Image.fromarray(levels)
    sources = [image, encode(image, "PNG"), encode(image, "TIFF"), Image.fromarray(levels.astype(np.int32))]
    sources += [
        b"P5 104 126 65535\n" + levels.astype(">u2").tobytes(),
        Image.frombytes("I;16B", image.size, levels.astype(">u2").tobytes()),
    ]
    for source in sources:
        assert np.array_equal(pixels(source), np.repeat(wanted[:, :, None], 3, axis=2))


def test_sixteen_bit_colour_key_is_white() -> None:
    image = Image.fromarray(np.array([[1000, 1001]], np.uint16))
    assert pixels(encode(image, "PNG", transparency=1000))[0, :, 0].tolist() == [255, 4]


@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        ([0.0, 0.5, 1.0, -3.0], [0, 128, 255, 0]),
        ([0.0, 100.0, 255.0, float("nan")], [0, 100, 255, 0]),
        ([0.0, 257.0, 65_535.0, 25_700.0], [0, 1, 255, 100]),
        ([0.0, 600_000.0, 1_000_000.0, 0.0], [0, 153, 255, 0]),
        ([0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0]),
    ],
)
def test_float_grey_is_scaled(levels: list[float], wanted: list[int]) -> None:
    image = Image.fromarray(np.array([levels], np.float32))
    for source in (image, encode(image, "TIFF")):
        assert pixels(source)[0, :, 0].tolist() == wanted


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_of_several_counts(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert pixels(data)[8, 8].tolist() == pytest.approx([255, 0, 0], abs=4)


def test_an_mpo_is_its_first_picture() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert pixels(data)[8, 8].tolist() == pytest.approx([255, 0, 0], abs=4)


def test_inverted_cmyk_jpeg_is_upright_in_colour() -> None:
    data = encode(Image.new("RGB", (8, 8), (250, 10, 10)).convert("CMYK"), "JPEG")
    assert pixels(data)[4, 4].tolist() == pytest.approx([250, 10, 10], abs=6)


# --- orientation -------------------------------------------------------------------------------------------


def arrow() -> Image.Image:
    """No two of its eight turns look alike, even through a lossy format."""
    image = Image.new("RGB", (48, 32), "white")
    image.paste("red", (0, 0, 16, 16))
    image.paste("blue", (32, 0, 48, 16))
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_and_told_by_the_header(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(arrow(), kind, exif=exif)
    stored = Image.open(BytesIO(data))
    wanted = ImageOps.exif_transpose(stored)
    assert read_header(data)[1:] == wanted.size == ((48, 32) if orientation < 5 else (32, 48))
    assert np.array_equal(pixels(data), np.asarray(wanted))
    assert np.array_equal(pixels(Image.open(BytesIO(data))), np.asarray(wanted))
    turns = {1: [0, 0], 2: [0, -1], 3: [-1, -1], 4: [-1, 0], 5: [0, 0], 6: [0, -1], 7: [-1, -1], 8: [-1, 0]}
    row, column = turns[orientation]
    assert pixels(data)[row, column].tolist() == pytest.approx([255, 0, 0], abs=40)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_orientation_behind_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encode(arrow(), "PNG")
    end = data.index(b"IEND") - 4
    late = data[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + data[end:]
    assert read_header(late)[1:] == (32, 48)
    assert np.array_equal(pixels(late), np.asarray(arrow().transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("junk", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\x00" * 40])
def test_unreadable_exif_counts_as_upright(junk: bytes) -> None:
    assert read_header(encode(arrow(), "JPEG", exif=junk))[1:] == (48, 32)


@pytest.mark.parametrize("value", [0, 9, 400])
def test_unknown_orientation_counts_as_upright(value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    assert read_header(encode(arrow(), "JPEG", exif=exif))[1:] == (48, 32)


# --- refusals ----------------------------------------------------------------------------------------------


def declared_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that promises a picture of any size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def declared_webp(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("RGB", (64, 64)), "WEBP", lossless=True))
    data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/no/such/cat.png", "cat.png: there is no such file"),
        ("", "picture: there is no such file"),
        ("/tmp", "directory"),
        ("nul\0byte.png", "cannot be used"),
        ("x" * 5000, "cannot be read"),
        ("s3://bucket/cat.png", "kind s3:"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,@@@@", "base64"),
        ("data:image/png;base64,abc", "base64"),
        ("data:image/png;base64,äöü=", "base64"),
        ("data:image/png,abc", ";base64,"),
        ("data:", ";base64,"),
        (b"", "empty"),
        (b"P", "picture: "),
        (b"not a picture", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (b"%PDF-1.7\n", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (None, "NoneType"),
        (5, "int"),
        (["cat.png"], "list"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), "4 x 0"),
        (Image.new("RGB", (0, 4)), "0 x 4"),
        (Image.new("L", (201, 1)), "aspect ratio of 201.0; the limit is 200"),
        (declared_png(40_000, 40_000), "1600000000 pixels; the limit is 134217728"),
        (declared_png(2**31 - 1, 2**31 - 1), "the limit is 134217728"),
        (declared_png(0, 10), "picture: "),
        (declared_png(10_000, 10), "aspect ratio of 1000.0; the limit is 200"),
        (declared_webp(16_383, 16_383), "268402689 pixels"),
    ],
)
def test_refused_in_one_sentence(source: Any, words: str) -> None:
    with pytest.raises(MediaError, match=words) as caught:
        open_picture(source)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(kind: str, part: float) -> None:
    data = encode(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(MediaError, match="picture: "):
        load(data[: int(len(data) * part)])


@pytest.mark.parametrize("name", ["fifo", "/dev/zero", "/dev/null"])
def test_only_regular_files_are_read(name: str, tmp_path: Path) -> None:
    if name == "fifo":
        name = str(tmp_path / name)
        os.mkfifo(name)
    with pytest.raises(MediaError, match="not a regular file"):
        open_picture(name)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat.png").touch()
    with pytest.raises(MediaError, match=r"cat.png: it is empty \(0 bytes\)"):
        open_picture(tmp_path / "cat.png")


def test_a_missing_name_that_breaks_lines_is_shown_on_one() -> None:
    with pytest.raises(MediaError) as caught:
        open_picture("a\nb\x1b[31m" + "c" * 150)
    assert str(caught.value).isprintable()


def test_each_limit_is_named(png: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(png)
    url = "data:;base64," + base64.b64encode(png).decode()
    for source in (png, path, url):
        assert load(source, MediaLimits(max_file_bytes=len(png))).size == (37, 23)
        with pytest.raises(MediaError, match=f"has {len(png)} bytes; the limit is {len(png) - 1}"):
            load(source, MediaLimits(max_file_bytes=len(png) - 1))
    sources: list[Any] = [png, path, url, load(png), np.asarray(load(png))]
    for source in sources:
        assert load(source, MediaLimits(max_pixels=37 * 23, max_aspect_ratio=37 / 23))
        with pytest.raises(MediaError, match="37 x 23 is 851 pixels; the limit is 850"):
            load(source, MediaLimits(max_pixels=850))
        with pytest.raises(MediaError, match=r"ratio of 1\.6; the limit is 1\.5"):
            load(source, MediaLimits(max_aspect_ratio=1.5))


def test_files_can_be_switched_off(png: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(png)
    for source in (path, str(path), f"file://{path}", "/no/such/file"):
        with pytest.raises(MediaError, match="not allowed"):
            load(source, MediaLimits(allow_files=False))
    assert load(png, MediaLimits(allow_files=False))


def test_the_limits_do_not_depend_on_pil(monkeypatch: pytest.MonkeyPatch, png: bytes) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert load(png).size == (37, 23)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(MediaError, match="the limit is"):
        load(declared_png(40_000, 40_000))


@pytest.mark.parametrize("name", ["max_file_bytes", "max_pixels", "max_aspect_ratio", "max_frames"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        MediaLimits(**dict[str, Any]({name: 0}))


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_a_picture_or_a_media_error(kind: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encode(Image.fromarray(noise(16, 16)), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        opened = open_picture(bytes(data), MediaLimits(max_pixels=10**6))
        image = opened.decode()
    except MediaError:
        return
    assert image.size == opened.header[1:]


# --- frames ------------------------------------------------------------------------------------------------


def test_pictures_in_a_row_are_opened_one_by_one(png: bytes, picture: Pixels) -> None:
    row = open_video([png, picture, Image.fromarray(picture)])
    assert row.header == ("video", 37, 23, 3, None, None)
    assert all(np.array_equal(np.asarray(frame), picture) for frame in row.frames(range(3)))
    (small,) = row.frames([2], (10, 20))
    assert small.size == (20, 10)


def test_a_bad_picture_in_a_row_is_named(png: bytes) -> None:
    row = open_video([png, "/no/such/cat.png"])
    with pytest.raises(MediaError, match=r"frame 2, cat.png: there is no such file"):
        list(row.frames(range(2)))
    with pytest.raises(MediaError, match="no frames"):
        open_video([])
