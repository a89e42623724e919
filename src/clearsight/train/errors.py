"""What a user can get wrong about training."""

from __future__ import annotations


class TrainingError(ValueError):
    """Training cannot go on; the text says why."""


class UnusableData(TrainingError):
    """Samples cannot be used; the text counts them and shows the first."""


class StateError(TrainingError):
    """A checkpoint of training does not belong to this run."""
