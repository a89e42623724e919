"""Everything that shapes one stage of training, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from clearsight.train.corpus import Corpus
from clearsight.train.data import Mix

PARTS = ("vision", "merger", "language")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The share of the learning rate that each part of the model takes; 0 freezes it."""

    vision: float = 1.0
    merger: float = 1.0
    language: float = 1.0

    def __post_init__(self) -> None:
        for name in PARTS:
            if not 0 <= getattr(self, name) <= 1000:
                raise ValueError(f"the rate of {name} is {getattr(self, name)}; it must be from 0 to 1000")
        if not any(getattr(self, name) for name in PARTS):
            raise ValueError("all three rates are 0, so nothing would be trained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank additions to the linear layers of language model and merger instead of their weights; vision: to those
    of the vision tower too. What is added is alpha / rank times their product."""

    rank: int
    alpha: float
    vision: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 1024:
            raise ValueError(f"the rank is {self.rank}; it must be from 1 to 1024")
        if not 0 < self.alpha <= 1e6:
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and at most 1000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: what is learned from, which parts learn, how fast and how long.

    mix: drawn worlds, in batches of batch_size samples, or a Corpus, in packs of its own size; a step then takes
    `accumulate` packs from each process. lr: at its peak; it rises over `warmup` steps. schedule: "trapezoid" falls
    linearly over the last `decay` share of the steps, "cosine" all the way. optimizer: "muon" (beside AdamW for what
    is no matrix) or "adamw". precision: of the products, "bfloat16" or
    "float32"; "auto" is bfloat16 where the machine has such products. recompute: keep no activations
    inside blocks but compute them again for the gradient. ema: decay of the average that is kept of the weights and
    is the result; 0 keeps none. linear_only: embeddings, norms, biases and the patch kernel stay as they are, so that
    adapters can be moved to the result with little loss (recipes/move_adapter.py). balance: an answer of n tokens
    weighs n ** (1 - balance), so with 0 all tokens weigh the same and with 1 all answers. heads: the stage before,
    in the same folder, that has learned to tell marks or places, whose heads for it are taken; else they begin
    knowing nothing. evaluate_every: steps between evaluations, if there is anything to evaluate.
    """

    name: str
    mix: Mix | Corpus
    steps: int
    batch_size: int = 64
    accumulate: int = 1
    rates: Rates = Rates()
    linear_only: bool = False
    lora: Lora | None = None
    optimizer: str = "muon"
    lr: float = 4e-3
    weight_decay: float = 0.01
    warmup: int = 100
    schedule: str = "trapezoid"
    decay: float = 0.3
    clip: float = 1.0
    precision: str = "auto"
    recompute: bool = False
    ema: float = 0.0
    balance: float = 0.0
    heads: str = ""
    seed: int = 0
    checkpoint_every: int = 100
    log_every: int = 20
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(choices)}")
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from {low:g} to {high:g}")
        if self.linear_only and self.lora:
            raise ValueError("linear_only and lora exclude each other: with LoRA no weight of the model learns")


_CHOICES = {
    "optimizer": ("muon", "adamw"),
    "schedule": ("trapezoid", "cosine"),
    "precision": ("auto", "bfloat16", "float32"),
}
_RANGES = (
    ("steps", 1, 1e9),
    ("batch_size", 1, 1e6),
    ("accumulate", 1, 1e5),
    ("lr", 1e-9, 1),
    ("weight_decay", 0, 1),
    ("warmup", 0, 1e9),
    ("decay", 0, 1),
    ("clip", 1e-6, 1e6),
    ("ema", 0, 0.999999),
    ("balance", 0, 1),
    ("checkpoint_every", 1, 1e9),
    ("log_every", 1, 1e9),
    ("evaluate_every", 0, 1e9),
)
