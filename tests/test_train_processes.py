"""Laws of long and divided runs: killed and resumed = undisturbed; two processes = one, as replicas and as shards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_run import IN_TURN, VARIANTS, losses, train

from clearsight.model.weights import read_tensors
from clearsight.processor import ImageSettings, Processor, Tokenizer
from clearsight.train.data import BatchStream
from clearsight.train.loop import run_stage

SCRIPT = str(Path(__file__).parent / "training_run.py")
PAIR = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def start(*argv: object) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(Path(__file__).parent.parent / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, *map(str, argv)], env=environment, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory):
    """The folder of each variant, trained undisturbed by one process."""
    done: dict[str, Path] = {}

    def folder(variant: str) -> Path:
        if variant not in done:
            done[variant] = tmp_path_factory.mktemp(variant)
            train(done[variant], VARIANTS[variant])
        return done[variant]

    return folder


def test_killed_at_a_random_moment_and_resumed_equals_undisturbed(alone, tmp_path: Path) -> None:
    process = start(SCRIPT, tmp_path, "long")
    seen, metrics = random.randint(1, 15), tmp_path / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= seen):
        time.sleep(0.01)
    time.sleep(random.random() * 0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (tmp_path / "model").exists()
    train(tmp_path, VARIANTS["long"])
    assert losses(tmp_path) == losses(alone("long"))
    expected = dict(read_tensors(alone("long") / "model"))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read_tensors(tmp_path / "model"))


def test_two_replicas_have_the_losses_of_one_process(alone, tmp_path: Path) -> None:
    assert start(*PAIR, SCRIPT, tmp_path, "plain").wait() == 0
    assert losses(tmp_path) == pytest.approx(losses(alone("plain")), abs=2e-3)


def test_a_stage_that_begins_with_the_heads_of_the_one_before_waits_for_them(tmp_path: Path) -> None:
    train(tmp_path / "alone", *IN_TURN)
    assert start(*PAIR, SCRIPT, tmp_path / "pair", "in turn").wait() == 0
    assert losses(tmp_path / "pair") == pytest.approx(losses(tmp_path / "alone"), abs=2e-3)
    assert len(losses(tmp_path / "pair")) == len(IN_TURN)


@pytest.mark.parametrize("variant", ["adamw", "lora"])
def test_two_shards_have_the_losses_of_one_process(alone, tmp_path: Path, variant: str) -> None:
    """Going on from the checkpoint of a single process that was stopped after four of six steps."""
    stage = VARIANTS[variant]
    stop_early(tmp_path, stage)
    assert start(*PAIR, SCRIPT, tmp_path, variant, "--shard").wait() == 0
    assert losses(tmp_path) == pytest.approx(losses(alone(variant)), abs=2e-3)
    assert len(losses(tmp_path)) == stage.steps
    expected = dict(read_tensors(alone(variant) / "model"))
    for name, tensor in read_tensors(tmp_path / "model"):
        torch.testing.assert_close(tensor, expected[name], atol=2e-3, rtol=1e-2)


class Stopped(Exception):
    pass


class StoppingStream(BatchStream):
    def __getitem__(self, number: int):
        if number == 4:
            raise Stopped
        return super().__getitem__(number)


def stop_early(folder: Path, stage) -> None:
    from conftest import TINY

    from clearsight.model.weights import random_model

    processor = Processor(Tokenizer.packaged("nano"), TINY, ImageSettings())
    stream = StoppingStream(processor, stage.mix, stage.batch_size, stage.seed)
    with pytest.raises(Stopped):
        run_stage(random_model(TINY), processor, stage, folder, workers=0, stream=stream)
