"""The bench: what it asks is one and the same for all, its limits follow the model's shape, and it ends in one line."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import pytest
import torch
from reference import TINY
from torch.utils.flop_counter import FlopCounterMode

from clearsight.bench import floor
from clearsight.bench.cases import Case, make_inputs, mixed_load
from clearsight.bench.machine import Machine, operations
from clearsight.bench.run import _rate
from clearsight.bench.runtimes import KINDS, Answer
from clearsight.cli import main
from clearsight.config import PRESETS
from clearsight.model.hub import resolve
from clearsight.model.weights import empty_model, random_model

CASE = Case(size=(112, 56), text=6, answer=5, seed=1)


def test_a_question_about_the_same_picture_keeps_its_pixels():
    one, two, other = (make_inputs(case, TINY) for case in (CASE, replace(CASE, question=1), replace(CASE, seed=2)))
    assert torch.equal(one.vision.pixels, two.vision.pixels)
    assert not torch.equal(one.vision.pixels, other.vision.pixels)
    assert not torch.equal(one.ids, two.ids)
    assert one.ids.shape[0] == 2 * 4 + 2 + 6
    with pytest.raises(ValueError, match="a picture of 100x56 is not made of whole tokens of 28x28 pixels"):
        make_inputs(replace(CASE, size=(100, 56)), TINY)


def test_the_mixed_load_has_what_it_says():
    load = mixed_load(9, (56, 56), 1, 8)
    assert len(load) == 9
    assert {case.size for case in load} == {None, (56, 56)}
    assert len({case.answer for case in load}) > 2
    assert len({case.seed for case in load if case.size}) < len([case for case in load if case.size])


def test_the_least_time_counts_the_models_own_products():
    """Against torch's own counter. Attention may run in a kernel that it does not see, so it stays out."""
    inputs, model = make_inputs(CASE, TINY), random_model(TINY)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.logits(model(inputs)[-1:])
    counts = counter.get_flop_counts()["Global"]
    products = sum(
        count for operation, count in counts.items() if operation in (torch.ops.aten.mm, torch.ops.aten.addmm)
    )
    assert floor.prompt_seconds(CASE, TINY, Machine(1.0, 1.0, math.inf)) == pytest.approx(products)


def test_the_bytes_of_a_token_are_the_models_own():
    config = PRESETS["2b"]
    language = empty_model(config).model
    weights = sum(p.numel() for p in language.layers.parameters() if p.ndim == 2) + language.embed_tokens.weight.numel()
    assert floor.token_bytes(config, 16, 16) == 2 * weights


def test_a_rate_counts_only_the_time_when_all_are_answering():
    answers = [Answer(0.0, (1.0, 2.0, 3.0, 4.0)), Answer(0.0, (2.0, 3.0, 4.0, 5.0))]
    assert _rate(answers) == 4 / 2
    assert answers[0].first_token == 1.0
    assert answers[0].tokens_per_second == 1.0


def test_every_runtime_answers_the_same():
    """Equal weights, tokens and pixels: the same number of tokens at rising times."""
    for name in ("bf16", "transformers"):
        runtime = KINDS[name].load(resolve("nano"))
        cases = [replace(CASE, size=None, seed=seed) for seed in range(3)]
        for answer in (runtime.answer(CASE), *runtime.answer_together(cases)):
            assert len(answer.times) == CASE.answer
            assert answer.begin < answer.times[0]
            assert list(answer.times) == sorted(answer.times)
        assert runtime.vision(CASE) > 0
        assert runtime.token_bytes == floor.token_bytes(PRESETS["nano"], 16, 16) + small(runtime)


def small(runtime):
    """Bytes of norms and biases, which the shape alone does not count."""
    layers = (runtime.model.model if hasattr(runtime, "engine") else runtime.model.model.language_model).layers
    return sum(p.nbytes for p in layers.parameters() if p.ndim == 1)


def test_the_command_ends_in_one_line_of_json_and_draws(tmp_path, capsys):
    options = ["--rounds", "1", "--sizes", "56x56,112x56", "--batches", "1,2", "--tokens", "4", "--requests", "3"]
    plot = tmp_path / "bench.png"
    code = main(["bench", "--quantize", "int8", "--threads", "1", "--peers", "none", "--plot", str(plot), *options])
    assert code == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    data = result["runtimes"]["int8"]
    assert set(data["pictures"]) == set(result["floor"]) == {"56x56", "112x56"}
    assert set(data["decode_tok_s"]) == {"1", "2"}
    assert data["second_question"]["picture"] == "112x56"
    assert 0 < data["share_of_memory_speed"] < 1
    assert min(data["load_s"], data["peak_gb"], data["requests_s"], result["start_to_first_token_s"]) > 0
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_live_session_remembers_the_last_seconds_and_is_compared_with_sending_again(capsys):
    assert main(["bench", "--live", "--minutes", "2,1"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    first, second = result["rows"]
    for row, minutes in ((first, 1), (second, 2)):
        assert row["minutes"] == minutes
        assert row["slots"] * 16 <= row["tokens"] <= 1024
        assert row["seconds_remembered"] == 60 * minutes - 1
        assert row["sent_again"]["frames"] == 120 * minutes
        assert min(row["pair_ms"], row["first_token_ms"], row["sent_again"]["first_token_ms"]) > 0
    # Twice the stream, thinned to the same memory.
    assert second["slots"] < 2 * first["slots"]
    assert second["cache_mb"] == first["cache_mb"]
    low, high = sorted((first["pair_ms"], second["pair_ms"]))
    assert result["spreads"]["pair_ms"] == round(high / low, 3)
    # Two sessions of two minutes, in turns.
    assert result["old_over_young"]["minutes"] == result["old_over_young"]["young_minutes"] == 2
    assert all(0.5 < result["old_over_young"][name] < 2 for name in ("pair", "first_token"))


def test_a_long_video_is_sampled_and_decoded_whole(capsys):
    assert main(["bench", "--video", "--seconds", "25", "--gop", "15"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["seconds"] == 20
    assert 0 < result["sampled"]["worker_mb"] < result["all_would_take_gb"] * 1024
    assert result["sampled"]["frames"] == 2 * 20
    assert result["all"]["frames"] == 30 * 20
    assert result["counted"]["tokens"] > result["sampled"]["tokens"] > 0
    assert result["prepared"]["again_seconds"] < result["prepared"]["seconds"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--quantize", "int3"], "--quantize names 'int3'; the modes are none, int8, int4"),
        (["--peers", "vllm"], "--peers names 'vllm'; the peers are transformers"),
        (["--sizes", "448"], "--sizes has '' where a whole number is needed"),
        (["--batches", "0"], "--batches has 0; it must be between 1 and 4096"),
        (["--live", "--minutes", "0"], "--minutes has 0; it must be between 1 and 4096"),
        (["--live", "--minutes", ","], "',' names nothing; separate values by commas"),
        (["--video", "--seconds", "5"], "--seconds has 5; it must be between 10 and 4096"),
        (["--rounds", "0"], "--rounds has 0; it must be between 1 and 4096"),
        (["--peers", "none", "--sizes", "100x100"], "a picture of 100x100 is not made of whole tokens"),
    ],
)
def test_what_is_wrong_is_one_sentence(options, words, capsys):
    assert main(["bench", *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "sides"), [(0.0, [256, 2048]), (0.05, [256])])
def test_the_machines_speed_is_asked_with_large_products_unless_small_ones_are_slow(seconds, sides):
    asked = []

    def product(square):
        asked.append(square.shape[0])
        return lambda: time.sleep(seconds)

    assert operations(product, 2) > 0
    assert asked == sides
