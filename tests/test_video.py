"""Video files: every kind gives the frames its header promises or one sentence, in any order of key frames."""

from __future__ import annotations

import io
import os
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from films import film, frame, grey, save, sound
from PIL import Image

from clearsight.media import DEFAULT_LIMITS, Clip, MediaError, MediaLimits, Sandbox, looks_like_video, open_video
from clearsight.media.film import _Film, film_frames, film_header

KINDS = {
    "mp4": {},
    "mov": {},
    "matroska": {},
    "mpegts": {},
    "flv": {},
    "avi": {"codec": "mpeg4"},
    "webm": {"codec": "libvpx-vp9"},
    "mpeg": {"codec": "mpeg2video"},
    "h264": {},
}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    sandbox = Sandbox(DEFAULT_LIMITS, workers=1)
    yield sandbox
    sandbox.close()


def greys(clip: Clip, indices: range | list[int]) -> list[int]:
    return [int(np.asarray(image)[-3, -3, 0]) for image in clip.frames(indices)]


def assert_greys(clip: Clip, indices: range | list[int]) -> None:
    found, wanted = greys(clip, indices), [grey(index) for index in indices]
    assert np.abs(np.subtract(found, wanted)).max() <= 6, (found, wanted)


# --- right frames ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_its_frames(box: Sandbox, kind: str) -> None:
    clip = open_video(film(kind, **KINDS[kind]), sandbox=box)
    assert clip.header[1:3] == (96, 64)
    assert abs(clip.header.frames - 60) <= 4  # without an index the end is an estimate
    for indices in (range(60), range(0, 60, 7), [0, 1, 30, 31, 59], [45]):
        assert_greys(clip, indices)


def test_seeking_gives_what_decoding_everything_gives(box: Sandbox) -> None:
    wheel = random.Random(0)
    for gop in (1, 4, 25, 250):
        clip = open_video(film(frames=150, gop=gop), sandbox=box)
        for _ in range(4):
            assert_greys(clip, sorted(wheel.sample(range(150), 12)))


def test_only_what_is_sampled_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most the wanted frames, those from their key frame on, and what the decoder holds back."""
    file, packets = io.BytesIO(film(frames=600, gop=10)), 0
    plain = _Film._packets

    def counting(self: _Film) -> Iterator[object]:
        nonlocal packets
        for packet in plain(self):
            packets += 1
            yield packet

    header = film_header(file)
    monkeypatch.setattr(_Film, "_packets", counting)
    assert len(list(film_frames(file, header, [0.1, 5.1, 5.9, 10.2, 15.2, 19.8]))) == 6
    assert packets <= 6 * (10 + 12)


def test_a_turned_video_stands_upright(box: Sandbox) -> None:
    upright = open_video(film(size=(96, 64)), sandbox=box)
    (plain,) = upright.frames([0])
    for turn in (90, 180, 270):
        clip = open_video(film(size=(96, 64), rotation=turn), sandbox=box)
        (image,) = clip.frames([0])
        assert image.size == clip.header[1:3] == ((96, 64) if turn == 180 else (64, 96))
        # The matrix turns counter-clockwise by the angle that was written.
        wanted = np.asarray(plain.rotate(turn, expand=True))
        assert np.abs(np.asarray(image).astype(int) - wanted).max() <= 8


def test_a_varying_rate_is_read_by_time(box: Sandbox) -> None:
    stamps = [*range(0, 1000, 50), *range(1000, 5000, 400)]
    data = film("matroska", frames=len(stamps), stamps=stamps)
    clip = open_video(data, sandbox=box)
    fps = clip.header.fps
    assert fps is not None
    indices = list(range(0, clip.header.frames, 3))
    shown = [max(k for k, stamp in enumerate(stamps) if stamp <= 1000 * index / fps + 2) for index in indices]
    assert np.abs(np.subtract(greys(clip, indices), [grey(k) for k in shown])).max() <= 6


@pytest.mark.parametrize("size", [(98, 66), (16, 16), (34, 200)])
def test_odd_sizes(box: Sandbox, size: tuple[int, int]) -> None:
    clip = open_video(film(size=size), sandbox=box)
    assert clip.header[1:3] == size
    assert_greys(clip, [0, 59])


def test_frames_are_resized_as_pictures_are(box: Sandbox) -> None:
    clip = open_video(film(), sandbox=box)
    for whole, small in zip(list(clip.frames([3, 40])), list(clip.frames([3, 40], (28, 56))), strict=True):
        assert np.array_equal(np.asarray(whole.resize((56, 28), Image.Resampling.BICUBIC)), np.asarray(small))


def test_a_missing_last_frame_is_its_neighbour(box: Sandbox) -> None:
    """The header counts on; the last frame there is stands in (facts, 13.12)."""
    data = film(frames=60, faststart=True)
    clip = open_video(data[:-40], sandbox=box)
    assert clip.header.frames == 60
    assert grey(55) - 6 <= greys(clip, [59])[0] <= grey(59) + 6


def test_no_duration_in_the_header(box: Sandbox) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        seek = None  # type: ignore[assignment]

    file = Pipe()
    with av.open(file, "w", format="matroska", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(index, 96, 64), format="rgb24")))
        container.mux(stream.encode())
    clip = open_video(file.getvalue(), sandbox=box)
    assert clip.header.frames == 60
    assert clip.header.duration == pytest.approx(2, abs=0.1)
    assert_greys(clip, [0, 20, 59])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_moving_pictures(box: Sandbox, kind: str) -> None:
    stills = [Image.fromarray(frame(index, 60, 40)) for index in range(12)]
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    times = [100] * 6 + [300] * 6
    stills[0].save(file, kind, save_all=True, append_images=stills[1:], duration=times, loop=0, **options)
    clip = open_video(file.getvalue(), sandbox=box)
    assert (clip.header.frames, round(clip.header.duration or 0, 3)) == (12, 2.4)
    # Twelve frames in 2.4 s: number k is shown at 0.2 k seconds.
    shown = [0, 2, 4, 6, 6, 7, 8, 8, 9, 10, 10, 11]
    assert np.abs(np.subtract(greys(clip, range(12)), [grey(k) for k in shown])).max() <= 2


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path, box: Sandbox) -> None:
    for index in range(12):
        Image.fromarray(frame(index, 40, 30)).save(tmp_path / f"shot {index}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    clip = open_video(tmp_path, sandbox=box)
    assert clip.header == (tmp_path.name, 40, 30, 12, None, None)
    assert greys(clip, range(12)) == [grey(index) for index in range(12)]


# --- refusals ----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", r"it is empty \(0 bytes\)"),
    "text": (lambda: b"not a video at all" * 9, "it is not a video that can be read"),
    "sound alone": (sound, "it holds no moving picture, only audio"),
    "header cut": (lambda: film()[:400], "it is not a video that can be read"),
    "half a file": (
        lambda: (data := film(frames=300, faststart=True))[: len(data) * 2 // 3],
        r"its frames end after [\d.]+ s, but its header declares 10\.0 s",
    ),
    "playlist": (lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "not a video that can be read"),
    "list of files": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video that can be read"),
    "half a moving picture": (
        lambda: (data := moving())[: len(data) // 2],
        "it is damaged",
    ),
}


def moving() -> bytes:
    noise = np.random.default_rng(0)
    stills = [Image.fromarray(noise.integers(0, 256, (40, 60, 3), np.uint8)) for _ in range(4)]
    file = io.BytesIO()
    stills[0].save(file, "GIF", save_all=True, append_images=stills[1:], duration=100)
    return file.getvalue()


def read_through(path: Path, box: Sandbox) -> None:
    clip = open_video(path, sandbox=box)
    list(clip.frames(range(0, clip.header.frames, 10)))


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_one_sentence(box: Sandbox, tmp_path: Path, what: str) -> None:
    make, words = REFUSED[what]
    with pytest.raises(MediaError, match=rf"^clip\.mp4: .*{words}") as caught:
        read_through(save(tmp_path / "clip.mp4", make()), box)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_limits_are_checked_before_frames_are_read(box: Sandbox, tmp_path: Path) -> None:
    data = film(frames=90)
    for limits, words in (
        (MediaLimits(max_video_seconds=2), "it lasts 3 s; the limit is 2 s"),
        (MediaLimits(max_pixels=5000), "6144 pixels; the limit is 5000"),
        (MediaLimits(max_video_bytes=900), "bytes; the limit is 900"),
    ):
        with pytest.raises(MediaError, match=words):
            open_video(data, limits, box)
    (tmp_path / "clip.mp4").write_bytes(data)
    closed = MediaLimits(allow_files=False)
    with pytest.raises(MediaError, match="local files are not allowed here; send the video itself"):
        open_video(str(tmp_path / "clip.mp4"), closed, box)
    with pytest.raises(MediaError, match="local files are not allowed here"):
        open_video(str(tmp_path), closed, box)
    opened = MediaLimits(allow_files=False, media_root=str(tmp_path))
    assert open_video("clip.mp4", opened, box).header.frames == 90
    with pytest.raises(MediaError, match="does not lie in the folder"):
        open_video("../clip.mp4", opened, box)


def test_a_folder_in_the_open_folder(tmp_path: Path, box: Sandbox) -> None:
    (tmp_path / "open" / "shots").mkdir(parents=True)
    Image.fromarray(frame(1, 40, 30)).save(tmp_path / "secret.png")
    Image.fromarray(frame(2, 40, 30)).save(tmp_path / "open" / "shots" / "1.png")
    os.symlink(tmp_path / "secret.png", tmp_path / "open" / "shots" / "2.png")
    limits = MediaLimits(allow_files=False, media_root=str(tmp_path / "open"))
    assert greys(open_video("shots", limits, box), range(1)) == [grey(2)]
    assert open_video("shots", limits, box).header.frames == 1
    with pytest.raises(MediaError, match=r"does not lie in the folder|not allowed"):
        open_video("..", limits, box)


def test_reading_has_a_time_limit_and_the_next_one_works() -> None:
    slow = Sandbox(MediaLimits(decode_seconds=0.001), workers=1)
    clip = open_video(film(frames=200, size=(320, 240), gop=250), sandbox=slow)
    with pytest.raises(MediaError, match=r"decoding took longer than the limit of 0\.001 seconds"):
        list(clip.frames(range(200)))
    assert open_video(film(), sandbox=slow).header.frames == 60
    slow.close()


def test_a_reader_that_leaves_halfway_harms_nobody(box: Sandbox) -> None:
    clip = open_video(film(), sandbox=box)
    frames = clip.frames(range(60))
    next(frames)
    frames.close()
    assert_greys(clip, [0, 59])


def test_a_sandbox_travels_to_other_processes(box: Sandbox) -> None:
    copy = pickle.loads(pickle.dumps(box))
    assert open_video(film(), sandbox=copy).header.frames == 60
    copy.close()


def test_videos_are_told_from_pictures(tmp_path: Path, picture: Path) -> None:
    for kind, wishes in KINDS.items():
        suffix = {"matroska": "mkv", "mpegts": "ts", "mpeg": "mpg"}.get(kind, kind)
        assert looks_like_video(str(save(tmp_path / f"clip.{suffix}", film(kind, frames=4, **wishes))))
    assert looks_like_video(str(save(tmp_path / "nameless", film(frames=4))))
    assert looks_like_video(str(save(tmp_path / "a.gif", moving())))
    assert looks_like_video(str(tmp_path))
    assert looks_like_video("https://example.org/clip.mp4?x=1")
    for still in (str(picture), "/no/such/file.png", "https://example.org/cat.png", "data:image/png;base64,"):
        assert not looks_like_video(still)
