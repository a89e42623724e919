"""`clearsight train` and `merge`, run in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clearsight.cli import main
from clearsight.config import NANO
from clearsight.model.weights import empty_model


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def run(*argv: object) -> tuple[int, str, str]:
        code = main([str(arg) for arg in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def data(picture: Path) -> Path:
    content = [{"type": "image", "image": picture.name}, {"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "noise"}]
    path = picture.parent / "data.jsonl"
    path.write_text((json.dumps({"messages": messages}) + "\n") * 4)
    return path


def test_train_ask_and_merge(run, data: Path, picture: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out, merged = tmp_path / "out", tmp_path / "merged"
    shared = ["train", "--data", data, "--model", tiny_checkpoint, "--out", out, "--workers", 0, "--lr", 0.02]
    code, printed, err = run(*shared, "--lora", 4, "--steps", 6, "--held-out", data)
    assert (code, err) == (0, "")
    assert "4 samples" in printed
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert records[-1].keys() == {"stage", "step", "held_out_loss", "right/answer"}
    code, _, err = run("merge", out / "adapter", "--out", merged)
    assert (code, err) == (0, "")
    question = ["ask", picture, "What?", "--json", "--max-tokens", 3, "--model"]
    code, folded, _ = run(*question, tiny_checkpoint, "--adapter", out / "adapter")
    answers = [json.loads(text)["text"] for text in (folded, run(*question, merged)[1])]
    assert code == 0
    assert answers[0] == answers[1]


def test_all_weights_can_be_trained(run, data: Path, tiny_checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--steps", 1, "--workers", 0, "--parts", "vision,merger,language", "--optimizer", "muon"]
    code, _, err = run("train", "--data", data, "--model", tiny_checkpoint, "--out", out, *options)
    assert (code, err) == (0, "")
    assert run("ask", picture, "What?", "--model", out / "model", "--max-tokens", 2)[0] == 0


def test_a_dry_run_trains_nothing(run, data: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    code, printed, err = run("train", "--data", data, "--lora", 8, "--dry-run")
    assert (code, err) == (0, "")
    weights = sum(value.numel() for value in empty_model(NANO).parameters())
    for part in ("«", f"of {weights:,} parameters", "memory: about", "time: about", "line 3"):
        assert part in printed
    data.write_text(data.read_text() + '{"messages": 3}\n')
    code, printed, err = run("train", "--data", data, "--dry-run")
    assert code == 1
    assert "data.jsonl, line 5: messages must be a list" in printed
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lora", "0"], "the rank is 0; it must be from 1 to 1024"),
        (["--lora-vision"], "--lora-vision goes with --lora"),
        (["--parts", "eyes"], "--parts names 'eyes'"),
        (["--epochs", "1", "--steps", "2"], "exclude each other"),
        (["--lr", "7"], "lr is 7.0"),
        (["--max-tokens", "100000"], "takes at most 8192"),
        (["--shard"], "start them with torchrun"),
        (["--data", "nowhere.jsonl"], "no file or folder 'nowhere.jsonl'"),
    ],
)
def test_mistakes_are_one_sentence(run, data: Path, tmp_path: Path, options: list[str], message: str) -> None:
    code, _, err = run("train", "--data", data, "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_merging_refuses_what_it_cannot_do(run, tmp_path: Path, tiny_checkpoint: Path) -> None:
    code, _, err = run("merge", tmp_path / "none", "--model", tiny_checkpoint, "--out", tmp_path / "out")
    assert code == 2
    assert "adapter_config.json is missing" in err
