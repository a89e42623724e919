"""The state of a stage on disk: whole or not at all, and the same for replicas, shards and a single process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clearsight.train.average import Average
from clearsight.train.errors import StateError
from clearsight.train.replica import Replica
from clearsight.train.sharded import Sharded

Workers = Replica | Sharded


def read_state(path: Path) -> dict[str, Any] | None:
    """What `write_state` left, or None."""
    return torch.load(path, weights_only=True, mmap=True) if path.exists() else None


def check_state(path: Path, saved: dict[str, Any], identity: str, packs: int | None) -> None:
    """packs: of a step, None if its samples are the same however many packs they are divided into.

    Raises StateError if the data or its division into steps is not what the checkpoint was made with."""
    if saved.get("identity", identity) != identity:
        raise StateError(f"{path} was made with other data or other settings of it; give another folder for the output")
    if packs is not None and saved.get("packs", packs) != packs:
        raise StateError(
            f"{path} was made with {saved['packs']} packs a step, not {packs}; processes times --accumulate must"
            " stay the same"
        )


def load_values(model: nn.Module, values: dict[str, Tensor], path: Path) -> None:
    """Give the model the saved weights of what learns. Raises StateError for names that it does not have."""
    unknown = model.load_state_dict(values, strict=False).unexpected_keys
    if unknown:
        raise StateError(f"{path} holds {unknown[0]!r}, which the model does not have")


def load_some(model: nn.Module, names: set[str], path: Path) -> None:
    """Give the model's weights of these names what the checkpoint `path` has for them, if any of them is in it.

    Raises StateError for a missing checkpoint and for one without any."""
    saved = read_state(path)
    found = {name: value for name, value in saved["model"].items() if name in names} if saved else {}
    if not found:
        raise StateError(
            f"{path} is missing or holds nothing of what this stage learns to tell; run {path.stem!r} into that folder"
            " first"
        )
    load_values(model, found, path)


def write_state(
    path: Path,
    workers: Workers,
    optimizers: list[torch.optim.Optimizer],
    average: Average,
    progress: dict[str, Any],
) -> None:
    """Every process must call; the first one writes beside and renames, and all go on when the file is there.

    Without that wait another process would begin a stage with heads of this one's checkpoint before the last.
    """
    states = [workers.gather(optimizer) for optimizer in optimizers]
    values = {name: workers.whole(value) for name, value in workers.values().items()}
    means = {name: workers.whole(value) for name, value in average.average.items()} if average.decay else {}
    if workers.rank == 0:
        draft = path.with_suffix(".tmp")
        with draft.open("wb") as file:
            torch.save({"model": values, "optimizers": states, "average": means, **progress}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    if workers.size > 1:
        dist.barrier()
