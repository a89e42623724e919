"""The paper's three stages at any size, each a function that returns its full config (paper, section 2.2; facts, 9).

The paper gives no learning rates, batch sizes or steps; those here are this project's choices, and
`dataclasses.replace` changes any of them.
"""

from __future__ import annotations

from clearsight.config import ModelConfig
from clearsight.train.corpus import Corpus
from clearsight.train.data import Mix
from clearsight.train.stage import Rates, Stage

# Peak rate for matrices at width 1; wider matrices take proportionally smaller steps. Tuned on nano (width 256: 4e-3).
_RATE_AT_WIDTH_ONE = 1.0
_TUNING_SHARE = 0.1


def peak_rate(config: ModelConfig) -> float:
    """The learning rate from scratch for a model of this width."""
    return _RATE_AT_WIDTH_ONE / config.text.hidden_size


def see(config: ModelConfig, data: Mix | Corpus, steps: int) -> Stage:
    """Stage 1: vision tower and merger learn from picture-text pairs; the language model is frozen."""
    return _stage("see", config, data, steps, rates=Rates(vision=1.0, merger=1.0, language=0.0))


def understand(config: ModelConfig, data: Mix | Corpus, steps: int) -> Stage:
    """Stage 2: everything learns, from a wider mixture of pictures, videos and text."""
    return _stage("understand", config, data, steps, rates=Rates(vision=0.5, merger=1.0, language=1.0))


def follow(config: ModelConfig, data: Mix | Corpus, steps: int) -> Stage:
    """Stage 3: merger and language model learn from dialogue to follow instructions; the vision tower is frozen."""
    rates = Rates(vision=0.0, merger=1.0, language=1.0)
    return _stage("follow", config, data, steps, rates=rates, share=_TUNING_SHARE, form="chat")


def _stage(
    name: str,
    config: ModelConfig,
    data: Mix | Corpus,
    steps: int,
    *,
    rates: Rates,
    share: float = 1.0,
    form: str | None = None,
) -> Stage:
    if form is not None and data.form != form:
        raise ValueError(f"stage {name!r} learns from {form!r} data, not {data.form!r}")
    return Stage(
        name=name,
        mix=data,
        steps=steps,
        rates=rates,
        optimizer="muon",
        lr=peak_rate(config) * share,
        weight_decay=0.1,
        warmup=min(500, steps // 10),
        schedule="cosine",
        recompute=config.text.hidden_size > 1024,
    )
