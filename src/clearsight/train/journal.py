"""What a run reports: a progress bar, metrics as JSON lines and for TensorBoard, a picture of the loss at the end."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

METRICS_FILE = "metrics.jsonl"
PLOT_FILE = "loss.png"


class Journal:
    """Records of one stage in `folder`; those of steps that will be made again are dropped first."""

    def __init__(self, folder: Path, stage: str, done: int, steps: int) -> None:
        self._path = folder / METRICS_FILE
        _forget(self._path, stage, done)
        self._file = self._path.open("a", encoding="utf-8")
        self._stage, self._folder = stage, folder
        self._board = _board(folder / "tensorboard" / stage, done)
        # Without a terminal there is no bar but a line for each record.
        self._bar = tqdm(total=steps, initial=done, desc=stage, unit="step", disable=not sys.stderr.isatty())

    def advance(self) -> None:
        self._bar.update()

    def write(self, record: dict[str, Any]) -> None:
        """record: numbers by name, with "step"."""
        record = {"stage": self._stage, **record}
        print(json.dumps(record), file=self._file, flush=True)
        if self._board is not None:
            for name, value in record.items():
                if name not in ("stage", "step"):
                    self._board.add_scalar(name, value, record["step"])
        if self._bar.disable:
            print(record, flush=True)
        elif "loss" in record:
            shown = {"loss": record["loss"], "samples/s": record["samples_per_s"], "tokens/s": record["tokens_per_s"]}
            self._bar.set_postfix({**shown, "of peak": f"{record['peak_share']:.0%}"})
        else:
            self._bar.write(str(record))

    def close(self) -> None:
        self._bar.close()
        self._file.close()
        if self._board is not None:
            self._board.close()


def _forget(path: Path, stage: str, done: int) -> None:
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if (r := _parsed(line)) and (r["stage"] != stage or r["step"] <= done)]
    if kept != lines:
        draft = path.with_suffix(".tmp")
        draft.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        os.replace(draft, path)


def _parsed(line: str) -> dict[str, Any] | None:
    """A line that a killed process left half written is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"stage", "step"} <= record.keys() else None


def _board(folder: Path, done: int) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None  # metrics.jsonl has the same numbers
    return SummaryWriter(str(folder), purge_step=done + 1)


def plot_losses(folder: Path) -> Path | None:
    """Draw the losses in `folder`'s metrics, stage after stage. None without matplotlib or anything to draw."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    records = [r for line in (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines() if (r := _parsed(line))]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    offset = 0
    for stage in dict.fromkeys(record["stage"] for record in records):
        own = [record for record in records if record["stage"] == stage]
        for key, style in (("loss", "-"), ("held_out_loss", "o--")):
            points = [(offset + r["step"], r[key]) for r in own if key in r]
            if points:
                axes.plot(*zip(*points, strict=True), style, label=f"{stage}: {key.replace('_', ' ')}", markersize=4)
        offset += max(record["step"] for record in own)
    if not axes.lines:
        return None
    axes.set(xlabel="step", ylabel="loss a supervised token")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / PLOT_FILE, dpi=120)
    return folder / PLOT_FILE
