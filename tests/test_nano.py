"""The shipped nano: as good as its card says, small, quick to answer, and looking at the picture."""

from __future__ import annotations

import pytest
from PIL import Image

from clearsight import VLM, SamplingParams
from clearsight.config import read_json
from clearsight.eval import evaluate
from clearsight.model.hub import resolve
from clearsight.train.worlds import draw


@pytest.fixture(scope="module")
def nano():
    return VLM.load("nano")


def ask(vlm, picture, question):
    content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    return vlm.chat([{"role": "user", "content": content}], SamplingParams(max_tokens=48)).text


def test_the_weights_are_small():
    assert (resolve("nano") / "model.safetensors").stat().st_size < 30e6


def test_accuracy_is_what_the_card_says(nano):
    """On other held-out samples than the card's; the margin is three standard deviations of the difference."""
    card = read_json(resolve("nano") / "card.json")["by_skill"]
    samples = [draw("word", seed, "test") for seed in range(2_000_000, 2_000_080)]
    measured = evaluate(nano, samples)["by_skill"]["word"]
    share, count = card["word"]["accuracy"], measured["samples"]
    deviation = (share * (1 - share) * (1 / count + 1 / card["word"]["samples"])) ** 0.5
    assert abs(measured["accuracy"] - share) < 3 * deviation + 0.01


def test_a_blank_picture_changes_the_answer(nano):
    sample = next(s for seed in range(100) if (s := draw("word", seed, "test")).skill == "word")
    blank = Image.new("RGB", sample.picture.size, "white")
    assert ask(nano, blank, "What does it say?") != ask(nano, sample.picture, "What does it say?")


@pytest.mark.parametrize("count", [1, 3])
def test_more_shapes_are_counted_as_more(nano, count):
    """The weakest claim about counting: what is drawn decides the answer, and it is a number."""
    samples = [s for seed in range(400) if (s := draw("shapes", seed, "test")).skill == "count"]
    given = [ask(nano, s.picture, s.question) for s in samples if s.answer == str(count)]
    assert given.count(str(count)) > len(given) / 3
