"""The command line, run in this process: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clearsight import __version__
from clearsight.cli import main
from clearsight.cli.output import show
from clearsight.model.hub import OFFICIAL
from clearsight.vlm import VLM

SAMPLED = ["--max-tokens", "12", "--temperature", "1", "--seed", "3"]
"""Random weights answer greedily with one token again and again; a sampled answer has some text."""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; returns exit code, stdout and stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        code = main([str(arg) for arg in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


# --- ask ---------------------------------------------------------------------------------------------------


def test_streamed_text_equals_the_json_text(run: Run, tiny_checkpoint: Path, picture: Path) -> None:
    command = ["ask", picture, "What is it?", "--model", tiny_checkpoint, *SAMPLED]
    code, streamed, err = run(*command)
    assert (code, err) == (0, "(cut after 12 tokens; see --max-tokens)\n")
    code, printed, err = run(*command, "--json")
    reply = json.loads(printed)
    assert (code, err) == (0, "")
    assert reply["text"].strip()
    assert streamed == "".join(c for c in reply["text"] if c.isprintable() or c in "\n\t") + "\n"
    assert reply["finish_reason"] == "length"


def test_json_says_what_was_used_and_agrees_with_count(run: Run, tiny_checkpoint: Path, picture: Path) -> None:
    options = ["--model", tiny_checkpoint, "--label-pictures", "--system", "Be brief.", "--max-pixels", 4000, "--json"]
    _, printed, _ = run("ask", picture, "--max-tokens", 2, picture, "Same?", *options)
    reply = json.loads(printed)
    _, printed, _ = run("count", picture, picture, "--text", "Same?", *options)
    counted = json.loads(printed)
    assert reply["media"] == counted["media"]
    assert reply["media"][0] == {
        "kind": "image",
        "name": "noise.png",
        "original_size": [90, 70],
        "size": [56, 28],
        "grid": [1, 2, 4],
        "tokens": 2,
        "frames": None,
    }
    assert reply["usage"]["prompt_tokens"] == counted["tokens"]
    assert reply["usage"]["total_tokens"] == counted["tokens"] + reply["usage"]["completion_tokens"]


def test_options_may_stand_anywhere(run: Run, tiny_checkpoint: Path, picture: Path) -> None:
    last = run("ask", picture, "Which?", "--model", tiny_checkpoint, *SAMPLED)
    assert run("ask", "--model", tiny_checkpoint, picture, *SAMPLED, "Which?") == last


def test_text_alone(run: Run, tiny_checkpoint: Path) -> None:
    code, out, _ = run("ask", "Hello", "--model", tiny_checkpoint, *SAMPLED)
    assert code == 0
    assert out.endswith("\n")


def test_a_seed_repeats_an_answer_and_a_stop_text_ends_it(run: Run, tiny_checkpoint: Path) -> None:
    command = ["ask", "Hello", "--json", "--model", tiny_checkpoint, *SAMPLED]
    _, first, _ = run(*command)
    assert run(*command)[1] == first
    text = json.loads(first)["text"]
    stop = text[len(text) // 2 :][:2]
    reply = json.loads(run(*command, "--stop", "never in it", "--stop", stop)[1])
    assert reply["text"] == text[: text.index(stop)]
    assert reply["finish_reason"] == "stop"


def test_a_temperature_has_an_effect_on_checkpoints_that_set_top_k_to_one(
    run: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "official"
    shutil.copytree(tiny_checkpoint, folder)
    settings = {"do_sample": True, "temperature": 0.01, "top_p": 0.001, "top_k": 1}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    assert run("ask", "Hello", "--model", folder, *SAMPLED) == run("ask", "Hello", "--model", tiny_checkpoint, *SAMPLED)


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show("a\x1b[31mb\r\x07c\n\td")
    assert capsys.readouterr().out == "a[31mbc\n\td"


def test_the_note_about_nano_is_shown_once_and_never_with_json(run: Run, picture: Path) -> None:
    command = ["ask", picture, "What?", "--random-weights", "--max-tokens", "1"]
    assert "note: nano" not in run(*command, "--json")[2]
    _, _, err = run(*command)
    assert err.count("note: nano") == 1
    assert f"--model {OFFICIAL['2b']}" in err
    assert "note: nano" not in run(*command)[2]


def test_a_state_folder_that_cannot_be_written_does_no_harm(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    code, _, err = run("ask", "What?", "--random-weights", "--max-tokens", "1")
    assert code == 0
    assert "note: nano" in err


# --- mistakes ----------------------------------------------------------------------------------------------


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def damaged(checkpoint: Path, to: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    shutil.copytree(checkpoint, to)
    write(to / name, change((to / name).read_bytes()))
    return to


MISTAKES = {
    "no command that is known": (["look"], "invalid choice: 'look'"),
    "no question": (["ask"], "the question is missing"),
    "blank question": (["ask", "{picture}", "  "], "the question is missing"),
    "picture but no question": (["ask", "{picture}"], "the last argument '{picture}' is a file"),
    "missing picture": (["ask", "{tmp}/none.png", "What?"], "none.png: there is no such file"),
    "not a picture": (["ask", "{text}", "What?"], "words.txt"),
    "empty file": (["ask", "{empty}", "What?"], "empty.png: it is empty (0 bytes)"),
    "truncated picture": (["ask", "{cut}", "What?", "--model", "{tiny}"], "cut.png"),
    "thin picture": (["ask", "{thin}", "What?"], "aspect ratio of 201.0; the limit is 200"),
    "a picture among good ones": (["ask", "{picture}", "{empty}", "What?"], "empty.png"),
    "unknown model": (["ask", "Hi", "--model", "3b"], "unknown model '3b'; use nano, 2b, 7b, 72b"),
    "folder without config": (["ask", "Hi", "--model", "{tmp}"], "holds no config.json"),
    "unknown config key": (["ask", "Hi", "--model", "{strange}"], "unknown text config key 'colour'"),
    "truncated weights": (["ask", "Hi", "--model", "{short}"], "model.safetensors cannot be read as safetensors"),
    "damaged tokenizer": (["ask", "Hi", "--model", "{mute}"], "tokenizer.json is not valid JSON"),
    "damaged settings": (["ask", "Hi", "--model", "{blind}"], "preprocessor_config.json is not valid JSON"),
    "unknown option": (["ask", "Hi", "--colour"], "unrecognized arguments: --colour"),
    "option without number": (["ask", "Hi", "--top-k", "few"], "invalid int value: 'few'"),
    "top_p too large": (["ask", "Hi", "--top-p", "2"], "top_p is 2.0; it must be between 0.0 and 1.0"),
    "temperature nan": (["ask", "Hi", "--temperature", "nan"], "temperature is nan"),
    "seed out of range": (["ask", "Hi", "--seed", "9" * 30, "--model", "{tiny}"], "seed is 999"),
    "empty stop": (["ask", "Hi", "--stop", ""], "stop strings must be non-empty"),
    "no pixels": (["ask", "{picture}", "Hi", "--max-pixels", "0"], "max_pixels is 0"),
    "limits crossed": (["ask", "{picture}", "Hi", "--min-pixels", "9000", "--max-pixels", "8000"], "is above"),
    "float16": (["ask", "Hi", "--dtype", "float16"], "invalid choice: 'float16'"),
    "no such device": (["ask", "Hi", "--device", "abacus", "--model", "{tiny}"], "device 'abacus' cannot be used"),
    "prompt too long": (["ask", "7" * 3000, "--model", "{tiny}"], "tokens; the limit of prompt and answer is 2048"),
    "chat with a missing picture": (["chat", "{tmp}/none.png"], "none.png: there is no such file"),
    "nothing to count": (["count", "--model", "2b"], "nothing to count"),
    "count of no picture": (["count", "{text}", "--model", "2b"], "words.txt"),
    "quantize into a full folder": (["quantize", "{tiny}", "{tiny}"], "exists already; name a new or an empty folder"),
    "quantize no model": (["quantize", "3b", "{tmp}/new"], "unknown model '3b'"),
    "info on no model": (["info", "3b"], "unknown model '3b'"),
}


@pytest.mark.parametrize("json_option", [[], ["--json"]], ids=["plain", "json"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    mistake: str, json_option: list[str], run: Run, tiny_checkpoint: Path, picture: Path, tmp_path: Path
) -> None:
    argv, expected = MISTAKES[mistake]
    places = {"tmp": tmp_path, "picture": picture, "tiny": tiny_checkpoint}
    makers = {
        "text": lambda to: write(tmp_path / "words.txt", b"These are words."),
        "empty": lambda to: write(tmp_path / "empty.png", b""),
        "cut": lambda to: write(tmp_path / "cut.png", picture.read_bytes()[:2000]),
        "thin": lambda to: Image.new("RGB", (201, 1)).save(tmp_path / "thin.png") or tmp_path / "thin.png",
        "strange": lambda to: damaged(tiny_checkpoint, to, "config.json", lambda b: b'{"colour": 1,' + b[1:]),
        "short": lambda to: damaged(tiny_checkpoint, to, "model.safetensors", lambda b: b[:-100]),
        "mute": lambda to: damaged(tiny_checkpoint, to, "tokenizer.json", lambda b: b[:-100]),
        "blind": lambda to: damaged(tiny_checkpoint, to, "preprocessor_config.json", lambda b: b[:-10]),
    }
    places |= {name: make(tmp_path / name) for name, make in makers.items() if any(f"{{{name}}}" in a for a in argv)}
    if argv[0] == "chat" and json_option:
        pytest.skip("chat has no --json")
    code, out, err = run(*(arg.format(**places) for arg in argv), *json_option)
    assert (code, out) == (2, "")
    assert err.startswith("clearsight: ")
    assert err.count("\n") == 1
    assert expected.format(**places) in err


@pytest.mark.parametrize("json_option", [[], ["--json"]], ids=["plain", "json"])
def test_a_prompt_that_leaves_no_room_for_an_answer(run: Run, tiny_checkpoint: Path, json_option: list[str]) -> None:
    _, printed, _ = run("count", "--text", "7", "--model", tiny_checkpoint, "--json")
    counted = json.loads(printed)
    question = "7" * (counted["context"] - counted["tokens"] + 1)
    code, out, err = run("ask", question, "--model", tiny_checkpoint, *json_option)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the prompt has 2048 tokens" in err


def test_our_own_faults_are_not_dressed_up_as_the_users(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(VLM, "stream", broken)
    with pytest.raises(ZeroDivisionError):
        main(["ask", "Hi", "--model", str(tiny_checkpoint)])


# --- chat --------------------------------------------------------------------------------------------------


def test_chat_answers_each_line_and_its_first_as_ask_does(
    run: Run, type_in: Callable[[str], None], tiny_checkpoint: Path, picture: Path
) -> None:
    options = ["--model", tiny_checkpoint, *SAMPLED]
    _, asked, _ = run("ask", picture, "What is it?", *options)
    type_in(f"/image {picture}\nWhat is it?\n\nAnd now?\n/clear\n/image '{picture}'\nWhat is it?\n/quit\nnever read\n")
    code, out, err = run("chat", *options)
    assert (code, err.count("(cut after 12 tokens")) == (0, 3)
    assert out.startswith(asked)
    assert out.endswith(asked)
    assert len(out) > 2 * len(asked)


def test_a_mistake_in_a_chat_does_not_end_it(
    run: Run, type_in: Callable[[str], None], tiny_checkpoint: Path, picture: Path
) -> None:
    type_in("/image nowhere.png\n/dance\nHello\n")
    code, out, err = run("chat", picture, "--model", tiny_checkpoint, *SAMPLED)
    assert code == 2
    assert "nowhere.png: there is no such file" in err
    assert "unknown command '/dance'" in err
    assert out.strip()


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(
    run: Run, type_in: Callable[[str], None], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def interrupted_once(text: str) -> None:
        shown.append(text)
        if len(shown) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("clearsight.cli.conversation.show", interrupted_once)
    type_in("Hello\nHello again\n")
    code, _, err = run("chat", "--model", tiny_checkpoint, *SAMPLED)
    assert code == 0
    assert err.count("(stopped)") == 1
    assert len(shown) > 1


def test_ctrl_c_elsewhere_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    def interrupted(prompt: str = "") -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    assert run("chat", "--model", tiny_checkpoint)[0] == 130


# --- count and info ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["2b", "72b", OFFICIAL["7b"]])
def test_count_needs_no_download_and_no_pixels(run: Run, tmp_path: Path, model: str) -> None:
    path = tmp_path / "square.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    code, out, _ = run("count", path, "--text", "Describe this image.", "--model", model, "--json")
    counted = json.loads(out)
    assert code == 0
    # The worked example of the published chat format (facts, 7.1).
    assert counted["tokens"] == 89
    assert counted["media"][0]["tokens"] == 64
    assert counted["context"] == 32_768
    code, out, _ = run("count", path, "--text", "Describe this image.", "--model", model)
    assert out == (
        "square.png: 224 x 224 pixels, used at 224 x 224, grid 1 x 16 x 16, 64 tokens\nprompt: 89 tokens of 32768\n"
    )


def test_count_reads_no_weights(run: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    shutil.copytree(tiny_checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    assert run("count", "--text", "Hello", "--model", folder)[0] == 0


@pytest.mark.parametrize(
    ("model", "parameters"), [("2b", 2_208_985_600), ("7b", 8_291_375_616), ("72b", 73_405_560_320)]
)
def test_info_counts_the_published_sizes(run: Run, model: str, parameters: int) -> None:
    code, out, _ = run("info", model, "--json")
    data = json.loads(out)
    assert code == 0
    assert data["parameters"]["total"] == parameters
    assert data["weights_gigabytes"]["bfloat16"] == pytest.approx(2 * parameters / 1e9, abs=1e-3)
    assert data["picture_pixels"] == {"min": 3136, "max": 12_845_056}
    assert data["vocabulary"]["used"] == 151_657


def test_info_in_words(run: Run, tiny_checkpoint: Path) -> None:
    code, out, _ = run("info", tiny_checkpoint)
    assert code == 0
    assert "context tokens: 2,048\n" in out
    assert "vocabulary:\n  used: 1,024\n" in out


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_quantised_folder_answers_like_quantising_on_load(
    run: Run, tiny_checkpoint: Path, tmp_path: Path, mode: str
) -> None:
    code, out, _ = run("quantize", tiny_checkpoint, tmp_path / "packed", "--mode", mode, "--json")
    assert code == 0
    assert 0 < json.loads(out)["bytes"] < json.loads(out)["bytes_before"]
    answers = [
        run("ask", "Hi", "--model", folder, "--max-tokens", "8", *more)[1]
        for folder, more in ((tmp_path / "packed", ()), (tiny_checkpoint, ("--quantize", mode)))
    ]
    assert answers[0] == answers[1]


# --- the process itself ------------------------------------------------------------------------------------


def test_version_and_help_do_not_wait_for_torch(capsys: pytest.CaptureFixture[str]) -> None:
    for option, text in (("--version", f"clearsight {__version__}\n"), ("--help", "usage: clearsight")):
        with pytest.raises(SystemExit) as left:
            main([option])
        assert left.value.code == 0
        assert capsys.readouterr().out.startswith(text)
    check = "import sys, clearsight.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_reader_that_leaves_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "clearsight", "count", "--text", "Hello", "--model", "2b"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
