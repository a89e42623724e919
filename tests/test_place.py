"""Laws of knowing where: every visual token learns when and where it is, beside the words and without touching them."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import TINY as CONFIG
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from torch.nn import functional as F

from clearsight.eval.metrics import result
from clearsight.messages import Box, Image, Message, Point, Text, Video
from clearsight.model.weights import random_model
from clearsight.processor import ImageSettings, Processor, Tokenizer
from clearsight.train.data import BatchStream, Mix, encode
from clearsight.train.example import pack
from clearsight.train.loop import losses_of, run_stage
from clearsight.train.place import add_place, remove_place
from clearsight.train.sight import NAMES, UNKNOWN, number_of
from clearsight.train.stage import Stage
from clearsight.train.whereabouts import (
    BEFORE,
    MOST,
    STEPS,
    beginnings,
    reaches,
    sizes,
    spots,
    targets,
    with_places,
    words,
)
from clearsight.train.worlds import draw
from clearsight.train.worlds.marks import Mark, marked
from clearsight.train.worlds.sample import CELL, Sample

MIX = Mix(weights={"line": 0.5, "shapes": 0.5}, form="chat", captions=0.5, place=0.25)
STAGE = Stage(name="s", mix=MIX, steps=1, batch_size=4, warmup=2, log_every=1, balance=0.3, precision="float32")


@pytest.fixture(scope="module")
def processor():
    return Processor(Tokenizer.packaged("nano"), CONFIG, ImageSettings())


def examples(processor):
    worlds = "line", "boxes", "clips", "documents", "shapes", "pairs"
    samples = [draw(world, 5, "train", turns=4) for world in worlds]
    return [with_places(encode(sample, processor, "chat"), sample.messages, processor) for sample in samples]


def test_the_place_is_counted_from_the_first_corner_of_its_own_picture_or_video(processor):
    packed = pack(examples(processor))
    wanted = [
        (slot, row, column)
        for grid in packed.inputs.vision.grids
        for slot in range(grid.t)
        for row in range(grid.h // 2)
        for column in range(grid.w // 2)
    ]
    assert targets(packed.inputs).T.tolist() == [[min(MOST - 1, at) for at in place] for place in wanted]
    assert max(slot for slot, *_ in wanted) > 0
    assert max(map(max, wanted)) > 5


def test_a_picture_ends_in_its_last_row_and_column(processor):
    """So size is the place of its last token; in a video, of the last slot's."""
    inputs = pack(examples(processor)).inputs
    lengths = torch.tensor([grid.tokens() for grid in inputs.vision.grids])
    assert sizes(inputs).equal(targets(inputs)[1:, lengths.cumsum(0) - 1])


def test_size_is_told_where_a_picture_is_closed(processor):
    """By the token after it, which can attend to all of it: nothing else moves that head."""
    example = examples(processor)[0]
    closing = example.inputs.vision_starts[0] + example.inputs.vision.grids[0].tokens()
    assert example.inputs.ids[closing] == CONFIG.tokens.vision_end
    model = random_model(CONFIG)
    add_place(model)
    torch.nn.init.normal_(model.model.place.size.weight, std=0.1)
    kept = []
    model.model.layers[-1].register_forward_hook(lambda _layer, _given, hidden: kept.append(hidden.detach()))
    losses_of(model, example)[2].backward()
    (hidden_TD,) = kept
    seen_D = F.rms_norm(hidden_TD[closing], hidden_TD.shape[-1:])
    told = F.linear(seen_D, model.model.place.size.weight).view(2, MOST)
    wanted = F.one_hot(sizes(example.inputs)[:, 0], MOST)
    tokens = example.inputs.vision.grids[0].tokens()
    moved = ((told.softmax(-1) - wanted) / 2 * tokens).flatten()[:, None] * seen_D
    torch.testing.assert_close(model.model.place.size.weight.grad, moved, rtol=1e-3, atol=1e-4)


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(
        st.builds(Mark, st.just(("A",)), st.floats(-9, 99), st.floats(-9, 99), st.floats(0, 70), st.floats(0, 70))
    ),
)
def test_a_token_reaches_as_far_as_the_marks_whose_middles_it_holds(rows, columns, marks):
    found = reaches(marks, rows, columns, CELL).view(rows, columns, 4)
    for row in range(rows):
        for column in range(columns):
            inside = [mark for mark in marks if (mark.y // CELL, mark.x // CELL) == (row, column)]
            if not inside:
                assert (found[row, column] == UNKNOWN).all()
                continue
            for axis, (at, half, corner) in enumerate((("x", "across", column), ("y", "down", row))):
                near = min(getattr(mark, at) - getattr(mark, half) for mark in inside) / CELL - corner
                far = max(getattr(mark, at) + getattr(mark, half) for mark in inside) / CELL - corner
                for step, edge in ((found[row, column, axis], near), (found[row, column, axis + 2], far)):
                    clear = min(STEPS - 1e-9, max(0.0, 8 * edge + BEFORE))
                    assert step - 1e-6 <= clear <= step + 1 + 1e-6


def test_reach_is_that_of_the_boxes_that_are_asked_for(processor):
    """A single shape's box is what the token under its middle reaches, to within what marks are smaller by."""
    checked = 0
    for seed in range(60):
        sample = draw("boxes", seed, "train")
        example = with_places(encode(sample, processor, "chat"), sample.messages, processor)
        boxes = [part for part in sample.label.parts if isinstance(part, Box)]
        if sample.skill != "box":
            continue
        (box,), grid = boxes, example.inputs.vision.grids[0]
        rows, columns = grid.h // 2, grid.w // 2
        row, column = int((box.y1 + box.y2) / 2000 * rows), int((box.x1 + box.x2) / 2000 * columns)
        tokens = torch.tensor([box.x1, box.y1, box.x2, box.y2]) * torch.tensor([columns, rows] * 2) / 1000
        corners = 8 * (tokens - torch.tensor([column, row] * 2)) + BEFORE
        reach = example.reach[:, :4].view(rows, columns, 4)[row, column]
        if (reach == UNKNOWN).any():
            continue  # a triangle's middle is not its box's, and may lie in the next token
        checked += 1
        assert (reach + 0.5 - corners).abs().max() < 6
    assert checked > 8


@given(
    st.lists(st.tuples(st.text("ABCDEFG", min_size=1, max_size=9), st.floats(0, 60)), max_size=5),
    st.randoms(use_true_random=False),
)
def test_what_a_line_begins_with_is_known_wherever_it_goes_on(lines, rng):
    """Lines are 20 pixels apart, and their characters 11, some up to 6 higher than others. Shapes are no text."""
    marks, wanted = [], {}
    for row, (text, left) in enumerate(lines):
        for index, character in enumerate(text):
            x, y = left + 11 * index, 20 * row + rng.uniform(10, 16)
            marks += [Mark((character,), x, y, 5, 7), Mark(("star", "red"), x - 11, y, 9, 9)]
            wanted[int(y // CELL), int(x // CELL)] = text[0]
    found = beginnings(marks, 4, 6, CELL).view(4, 6)
    told = {(row, column): NAMES[found[row, column]] for row, column in (found != UNKNOWN).nonzero().tolist()}
    assert told == wanted


def test_a_coordinate_comes_from_eighths_of_a_token_and_a_side(processor):
    """Of what is answered alone; the numbers of a box that is asked about are given."""
    boxes, asked = [], 0
    for seed in range(90):
        sample = draw("boxes", seed, "train", turns=3)
        example = encode(sample, processor, "chat")
        grid = example.inputs.vision.grids[0]
        numbers = [
            (value, side)
            for message in sample.messages
            for part in message.parts
            if isinstance(part, Box) and message.role == "assistant"
            for value, side in zip((part.x1, part.y1, part.x2, part.y2), (grid.w // 2, grid.h // 2) * 2, strict=True)
        ]
        found = spots(example, processor).tolist()
        assert [spot[1:] for spot in found] == [[int(value / 1000 * side * 8), side - 1] for value, side in numbers]
        for (before, *_), (value, _) in zip(found, numbers, strict=True):
            ids = example.inputs.ids[before : before + 2 + len(str(value))].tolist()
            told = [processor.tokenizer.decode([token]) for token in ids]
            assert told[1:-1] == list(str(value))
            assert not told[0].isdigit()
            assert not told[-1].isdigit()
        boxes += numbers
        asked += sample.skill == "what is in a box"
    assert len(boxes) > 100
    assert asked > 2


def written(text, x, y):
    """Marks of `text` in letters 8 pixels wide and 12 high, from (x, y) on, as a sheet makes them."""
    return [Mark((letter,), x + 8 * i + 4, y + 6, 4, 7) for i, letter in enumerate(text) if letter != " "]


def test_a_word_that_is_asked_about_is_told_where_it_is_printed(processor):
    """Once, and in whatever case; its line begins with what stands furthest left at its height."""
    picture = Pillow.new("RGB", (8 * CELL, 4 * CELL))
    lines = (("Name: 12", 4, 4), ("Anna 345 x", 68, 34), ("Bob 12", 4, 62), ("345a", 150, 62))
    marked(picture, [mark for line in lines for mark in written(*line)])
    given = "What has anna, or (BOB), at 345? Not 12, name? 34, nn?"
    messages = (
        Message("user", (Image(picture), Text(given))),
        Message("assistant", (Text("Anna"),)),
        Message("user", (Text("And 345a"),)),
        Message("assistant", (Text("Bob"),)),
    )
    example = encode(Sample(messages=messages, skill="word"), processor, "chat")
    found = words(example, messages, processor).tolist()
    told = [
        (processor.tokenizer.decode([example.inputs.ids[last].item()])[-1].lower(), row, column, NAMES[first])
        for last, row, column, first in found
    ]
    assert told == [("a", 1, 2, "A"), ("b", 2, 0, "B"), ("5", 1, 4, "A"), ("e", 0, 0, "N"), ("a", 2, 5, "B")]


def test_what_a_cell_s_line_begins_with_is_whose_cell_it_is(processor):
    """So the answer to "Who has the age 47?" begins with what the last word of the value is told."""
    checked = 0
    for seed in range(700):
        sample = draw("documents", seed, "train")
        question = sample.question.lower()
        if sample.skill != "table field" or not any(
            asked in question for asked in ("who has", "whose", "the name with")
        ):
            continue
        example = encode(sample, processor, "chat")
        told = words(example, sample.messages, processor)
        if len(told) == 2:  # column and value, each printed once
            checked += 1
            assert NAMES[told[1, 3]].lower() == NAMES[number_of(result(sample.answer)[0])].lower()
    assert checked > 5


@pytest.mark.parametrize(("side", "step", "last"), [(16, 8 * 16 - 1, 15), (40, 8 * 16 - 1, 15)])
def test_what_lies_further_off_than_is_told_counts_as_the_last(processor, side, step, last):
    messages = (
        Message("user", (Image(Pillow.new("RGB", (side * CELL, 4 * CELL))), Text("Where is it?"))),
        Message("assistant", (Point(1000, 500),)),
    )
    example = encode(Sample(messages=messages, skill="point"), processor, "chat")
    assert [spot[1:] for spot in spots(example, processor).tolist()] == [[step, last], [8 * 2, 3]]


def test_coordinates_come_from_one_picture(processor):
    picture = Image(Pillow.new("RGB", (4 * CELL, 4 * CELL)))
    film = Video(tuple(Pillow.new("RGB", (4 * CELL, 4 * CELL)) for _ in range(4)))
    for shown, wanted in (((picture,), 2), ((picture, picture), 0), ((film,), 0), ((), 0)):
        messages = Message("user", (*shown, Text("Where?"))), Message("assistant", (Point(10, 500),))
        example = encode(Sample(messages=messages, skill="point"), processor, "chat")
        assert spots(example, processor).shape == (wanted, 3)
        assert words(example, messages, processor).shape == (0, 4)


def test_what_is_divided_is_told_before_the_first_digit(processor):
    """By that token after the fourth layer: nothing else moves that head."""
    example = examples(processor)[1]
    assert len(example.spots) >= 4
    moves_alone("spot", example, 4, example.spots, (8 * MOST, MOST))


def moves_alone(name, example, layers, told, answers):
    """The head's gradient is that of eight times the losses of `told` after so many layers, and of nothing else."""
    model = random_model(replace(CONFIG, text=replace(CONFIG.text, num_layers=layers + 2)))
    add_place(model)
    weight = model.model.place[name].weight
    torch.nn.init.normal_(weight, std=0.1)
    kept = []
    model.model.layers[layers - 1].register_forward_hook(lambda _layer, _given, hidden: kept.append(hidden.detach()))
    losses_of(model, example)[2].backward()
    (hidden_TD,) = kept
    seen_SD = F.rms_norm(hidden_TD[told[:, 0]], hidden_TD.shape[-1:])
    scores = F.linear(seen_SD, weight).split(answers, dim=1)
    right = (F.one_hot(wanted, count) for wanted, count in zip(told[:, 1:].T, answers, strict=True))
    error = torch.cat([part.softmax(-1) - one for part, one in zip(scores, right, strict=True)], dim=1)
    torch.testing.assert_close(weight.grad, 8 * error.T @ seen_SD, rtol=1e-3, atol=1e-3)


def test_words_move_their_own_head_alone(processor):
    """Of the last token of each, after the third layer."""
    sample = next(s for seed in range(99) if (s := draw("documents", seed, "train", turns=3)).skill == "table field")
    example = with_places(encode(sample, processor, "chat"), sample.messages, processor)
    assert len(example.words) > 2
    moves_alone("word", example, 3, example.words, (MOST, MOST, len(NAMES)))


def test_the_packed_loss_is_the_sum_and_words_cost_what_they_did(processor):
    alone = examples(processor)
    model = random_model(CONFIG)
    with torch.no_grad():
        plain = losses_of(model, pack(alone))
        add_place(model)
        for name in ("slots", "line", "size", "spot", "word"):
            torch.nn.init.normal_(model.model.place[name].weight, std=0.1)
        together = losses_of(model, pack(alone))
        torch.testing.assert_close(together, sum(losses_of(model, e) for e in alone), rtol=1e-4, atol=1e-3)
    assert together[:2].equal(plain[:2])
    assert plain[2] == 0 < together[2]


def test_a_head_that_says_nothing_costs_the_logarithms(processor):
    """Slot, row and column of every visual token, as much as one of them for a picture's size, on average one edge of
    tokens that hold something, a line's beginning of those that hold characters, and eight times what each coordinate
    comes from and where each word is."""
    packed = pack(examples(processor))
    model = random_model(CONFIG)
    add_place(model)
    with torch.no_grad():
        known, unknown = losses_of(model, packed)[2], losses_of(model, replace(packed, reach=None))[2]
        plain = losses_of(model, replace(packed, spots=None, words=None))[2]
    tokens, numbers = packed.learned()[2], (packed.reach != UNKNOWN).sum(0).tolist()
    (held,), lines = set(numbers[:4]), numbers[4]
    assert len(packed.reach) == tokens > held > lines > 3
    told = 8 * len(packed.spots) * (math.log(8 * MOST) + math.log(MOST))
    told += 8 * len(packed.words) * (2 * math.log(MOST) + math.log(len(NAMES)))
    assert min(len(packed.spots), len(packed.words)) > 0
    torch.testing.assert_close(unknown, 4 * tokens * math.log(MOST) + told)
    torch.testing.assert_close(known, plain + told)
    shown = held * math.log(STEPS) + lines * math.log(len(NAMES))
    torch.testing.assert_close(known, unknown + shown)


def test_a_mix_that_weighs_places_carries_reach_and_no_other_does(processor):
    for place, sight in itertools.product((0.0, 0.25), repeat=2):
        batch = BatchStream(processor, replace(MIX, place=place, sight=sight), 4, seed=1)[0]
        assert (batch.reach is not None) == (batch.spots is not None) == (batch.words is not None) == (place > 0)
        assert (batch.marks is not None) == (sight > 0)


def test_a_sequence_of_text_alone_has_no_places(processor):
    inputs = examples(processor)[0]
    text = replace(inputs, inputs=replace(inputs.inputs, vision=None, vision_starts=()))
    model = random_model(CONFIG)
    add_place(model)
    with torch.no_grad():
        words, _, places = losses_of(model, text)
    assert words > 0 == places == text.learned()[2]


def test_a_stage_weighs_the_mean_over_visual_tokens_and_keeps_no_head(processor, tmp_path):
    batch = BatchStream(processor, MIX, STAGE.batch_size, STAGE.seed)[0]
    model = random_model(CONFIG).train()
    names = model.state_dict().keys()
    add_place(model)
    with torch.no_grad():
        words, _, places = losses_of(model, batch, 0.3) / batch.learned(0.3).clamp(min=1)
    remove_place(model)
    run_stage(model, processor, STAGE, tmp_path, workers=0)
    (record,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert record["loss"] == pytest.approx((words + 0.25 * places).item(), rel=1e-3)
    assert model.state_dict().keys() == names


def test_places_are_soon_known(processor, tmp_path):
    """After a few steps pictures never seen cost much less than by how often each answer occurs."""
    mix = Mix(weights={"shapes": 1.0}, form="chat", place=10.0)
    stage = replace(STAGE, mix=mix, steps=250, batch_size=8, lr=6e-3, warmup=10, balance=0.0)
    run_stage(random_model(CONFIG).train(), processor, stage, tmp_path, workers=0)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    batch = BatchStream(processor, mix, 100, seed=9)[0]
    shown = batch.reach[batch.reach[:, 0] != UNKNOWN]

    def cost(answers):
        return torch.special.entr(answers.bincount().float() / len(answers)).sum().item()

    shapes = sum(map(cost, shown[:, :4].T)) / 4
    by_frequency = sum(map(cost, targets(batch.inputs))) + sum(map(cost, sizes(batch.inputs))) / 2
    by_frequency += shapes * len(shown) / len(batch.reach)
    assert sum(losses[-5:]) / 5 < 0.75 * mix.place * by_frequency  # the words' loss is in it too


def test_the_weight_of_places_has_limits():
    with pytest.raises(ValueError, match="place is -1; it must be from 0 to 1000"):
        Mix(weights={"word": 1.0}, form="chat", place=-1)
