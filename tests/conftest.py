"""Shared fixtures: nothing in the tests reaches beyond this machine or into the user's own state."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from clearsight.config import NANO, ModelConfig, TextConfig, VisionConfig
from clearsight.model.weights import random_model, save_model
from clearsight.processor import ImageSettings, Tokenizer

# Machines here are shared, so a slow example says nothing.
# A run that decides whether a change lands draws the same examples each time; every other run draws new ones.
settings.register_profile("clearsight", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("clearsight")

TINY = ModelConfig(
    vision=VisionConfig(depth=2, embed_dim=64, num_heads=2, out_dim=64),
    text=TextConfig(
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        vocab_size=1024,
        tie_word_embeddings=True,
        mrope_section=(2, 3, 3),
        max_positions=2048,
    ),
    tokens=NANO.tokens,
)
"""The real shape made small, with nano's vocabulary."""


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of random float32 weights."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    model = random_model(TINY, seed=7)
    save_model(model, folder, dtype=model.dtype)
    Tokenizer.packaged("nano").save(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(ImageSettings().to_json()))
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture file of 90 x 70 pixels."""
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (70, 90, 3), np.uint8)).save(path)
    return path


@pytest.fixture(autouse=True)
def _private_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first-run note is remembered in a folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"
