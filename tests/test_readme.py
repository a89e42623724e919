"""The README says what is so: its commands run, its Python runs, and its table is the shipped card's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from clearsight.cli import main
from clearsight.config import read_json
from clearsight.eval import markdown_table
from clearsight.model.hub import resolve

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^clearsight (.+)$", README, re.MULTILINE)
# These need a download, or someone at the keyboard.
RUNNABLE = [command for command in COMMANDS if "Qwen/" not in command and not command.startswith("chat")]


def test_the_table_is_the_shipped_cards():
    assert markdown_table(read_json(resolve("nano") / "card.json")) in README


def test_there_are_commands_to_check():
    assert len(RUNNABLE) >= 4


@pytest.mark.parametrize("command", RUNNABLE)
def test_commands_run(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out.strip()


def test_the_python_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (block,) = [code for code in re.findall(r"```python\n(.+?)```", README, re.DOTALL) if "VLM.load" in code]
    exec(compile(block, "README.md", "exec"), {})
    assert "Usage(prompt_tokens=" in capsys.readouterr().out
