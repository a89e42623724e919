"""Sources and the command: files played at their pace, and one sentence for what cannot be opened."""

from __future__ import annotations

import argparse
import io
import sys
import threading
import time

import av
import numpy as np
import pytest

from clearsight.cli import main
from clearsight.cli.live import _Watching
from clearsight.inputs import SamplingParams
from clearsight.live import LiveSettings, Spoken
from clearsight.live.sources import SourceError, frames, parse_source


def write_clip(path, seconds=4, rate=10, size=(64, 48)):
    """Grey frames that grow lighter."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(seconds * rate):
            level = np.full((size[1], size[0], 3), 5 * index, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


def test_a_file_gives_its_frames_with_their_own_times_at_its_pace(clip):
    begin = time.monotonic()
    found = list(frames(parse_source(str(clip)), threading.Event(), speed=8.0))
    assert time.monotonic() - begin >= 3.9 / 8
    assert [seconds for seconds, _ in found] == pytest.approx([index / 10 for index in range(40)])
    picture = found[20][1]()
    assert picture.shape == (48, 64, 3)
    assert abs(int(picture.mean()) - 100) < 8


def test_a_source_stops_when_told(clip):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    begin = time.monotonic()
    list(frames(parse_source(str(clip)), stop, speed=0.1))
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no-such.mp4", "it is no file"),
        ("camera:/dev/video99", "no camera at /dev/video99"),
        ("/dev/video99", "no camera at /dev/video99"),
        ("screen", "no X display"),
        ("screen:wide", "no X display"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="devices are named as on Linux")
def test_what_is_not_there_is_one_sentence(text, reason):
    with pytest.raises(SourceError, match=reason):
        parse_source(text, display="")


def test_a_region_of_the_screen():
    source = parse_source("screen:640x480+10+20", display=":9")
    assert (source.format, source.target) == ("x11grab", ":9")
    assert dict(source.options)["grab_y"] == "20"
    with pytest.raises(SourceError, match=r"screen:WIDTHxHEIGHT\+X\+Y"):
        parse_source("screen:640", display=":9")
    with pytest.raises(SourceError, match="cannot be opened"):
        next(frames(source, threading.Event()))


def test_damaged_and_soundless_files_are_one_sentence(tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"this is no video" * 100)
    with pytest.raises(SourceError, match=r"damaged\.mp4: it cannot be opened"):
        next(frames(parse_source(str(damaged)), threading.Event()))
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
    with pytest.raises(SourceError, match=r"sound\.wav: it holds no video"):
        next(frames(parse_source(str(sound)), threading.Event()))


def test_a_stream_that_nobody_serves_is_one_sentence():
    with pytest.raises(SourceError, match="cannot be opened"):
        next(frames(parse_source("http://127.0.0.1:9/none.mp4"), threading.Event()))


# --- the command ----------------------------------------------------------------------------------------------


def live(clip, typed, monkeypatch, capsys, *options):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    code = main(["live", str(clip), "--speed", "8", *options])
    return code, *capsys.readouterr()


def test_questions_are_answered_when_the_stream_has_come_to_them(clip, monkeypatch, capsys):
    typed = "@1 What is this?\n/stats\n@3 How many shapes are there?\n"
    code, out, err = live(clip, typed, monkeypatch, capsys, "--slot-tokens", "16", "--watch", "Is it a circle?")
    lines = [line for line in out.splitlines() if ") Is it a circle?" not in line]
    assert code == 0
    assert [line[:8] for line in lines] == ["[00:01] ", "[00:03] "]
    assert lines[0].startswith("[00:01] What is this? ")
    assert err.count("looked at") == 2
    assert "of 4096 tokens" in err


@pytest.mark.parametrize(
    ("typed", "options", "reason"),
    [
        ("/jump\n", (), "unknown command '/jump'"),
        ("/unwatch 7\n", (), "no instruction '7'"),
        ("@soon What?\n", (), "@soon is no time"),
        ("/watch\n", (), "must not be empty"),
        ("", ("--fps", "0"), "frames_per_second is 0"),
        ("", ("--speed", "0"), "--speed is 0"),
        ("", ("--budget-tokens", "64"), "budget_tokens is 64"),
        ("", ("--watch", "x", "--agree", "0"), "agree is 0"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(clip, monkeypatch, capsys, typed, options, reason):
    code, _, err = live(clip, typed, monkeypatch, capsys, *options)
    assert code == 2
    assert reason in err
    assert "Traceback" not in err


def test_what_cannot_be_opened_is_told_before_a_model_is_loaded(capsys):
    assert main(["live", "none.mp4", "--model", "no-such-model"]) == 2
    assert capsys.readouterr().err.startswith("clearsight: none.mp4: it is no file")


def test_an_instruction_that_speaks_while_an_answer_is_printed_waits_without_holding_it_up(clip, capsys):
    """It speaks in the thread that makes the answer: waiting there for its printing to end would last for ever."""
    args = argparse.Namespace(agree=1, watch=[], watch_change=[])
    watching = _Watching(args, parse_source(str(clip)), LiveSettings(), SamplingParams())
    with watching.printing:
        watching.spoken(Spoken(1, "What is this?", "a circle", 61.0, None))
        assert capsys.readouterr().out == ""
    watching.spoken(Spoken(1, "What is this?", "a square", 62.0, None))
    assert capsys.readouterr().out == "[01:01] (1) What is this? a circle\n[01:02] (1) What is this? a square\n"
