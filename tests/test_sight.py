"""Laws of what drawn pictures are known to show: marks lie on their ink, and a tower learns them and nothing else."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY as CONFIG
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from clearsight.inputs import Grid
from clearsight.messages import Image as ImagePart
from clearsight.messages import Video
from clearsight.model.weights import random_model
from clearsight.processor import ImageSettings, Processor, Tokenizer
from clearsight.train.data import BatchStream, Mix, encode
from clearsight.train.errors import StateError
from clearsight.train.example import pack
from clearsight.train.loop import losses_of, run_stage
from clearsight.train.optim import make_optimizers, set_trainable
from clearsight.train.place import add_place
from clearsight.train.sight import (
    KINDS,
    NAMES,
    SLOTS,
    add_sight,
    encode_marks,
    number_of,
    remove_sight,
    sight_accuracy,
    targets,
    with_marks,
)
from clearsight.train.stage import Rates, Stage
from clearsight.train.worlds import draw
from clearsight.train.worlds.marks import Mark, glyphs, marks_of, turned
from clearsight.train.worlds.scene import COLOURS, SHAPES
from clearsight.train.worlds.scripts import script_fonts, script_letters, script_words
from clearsight.train.worlds.signs import _board

PATCH = CONFIG.vision.patch_size
MIX = Mix(weights={"word": 0.5, "shapes": 0.5}, form="marks", level_start=0.2, ramp=4)
STAGE = Stage(name="s", mix=MIX, steps=6, rates=Rates(language=0), batch_size=2, warmup=2, checkpoint_every=2)


@pytest.fixture(scope="module")
def processor():
    return Processor(Tokenizer.packaged("nano"), CONFIG, ImageSettings())


@pytest.mark.parametrize("world", ["word", "line", "page", "signs", "strips"])
def test_marks_spell_what_is_written(world):
    for seed in range(30):
        sample = draw(world, seed, "test")
        spelled = "".join(name for mark in marks_of(sample.picture) for name in mark.what)
        of_things = sample.skill.endswith(("honesty", "count")) or sample.skill.startswith(("colour", "shape"))
        assert of_things or "".join(sample.answer.split()) in spelled


@pytest.mark.parametrize("world", ["word", "line", "page", "documents", "calls", "charts", "scripts", "strips"])
def test_marks_lie_on_ink_and_within_the_picture(world):
    """Where a mark is, the picture is not plain; a dot or a comma is too small to be sure of."""
    inked = total = 0
    for seed in range(20):
        picture = draw(world, seed, "train").picture
        pixels = np.asarray(picture.convert("L"), dtype=float)
        for mark in marks_of(picture):
            assert 0 <= mark.x <= picture.width
            assert 0 <= mark.y <= picture.height
            if not mark.what[0].isalnum():
                continue
            left, right = int(max(0, mark.x - mark.across)), int(mark.x + mark.across) + 1
            top, bottom = int(max(0, mark.y - mark.down)), int(mark.y + mark.down) + 1
            total, inked = total + 1, inked + (np.ptp(pixels[top:bottom, left:right]) > 20)
    assert total > 20
    assert inked >= 0.97 * total


def test_marks_of_a_sign_stand_on_its_letters_however_it_is_seen():
    """A letter far from the middle, where a turn moves it most: its ink lies about its mark."""
    off = []
    for seed in range(60):
        board, marks = _board(random.Random(seed), "train", COLOURS["blue"], "H" + " " * 9 + "Oo", 200, 1.0)
        assert "".join(mark.what[0] for mark in marks) == "HOo"
        y, x = np.mgrid[: board.height, : board.width]
        red = np.asarray(board, dtype=float)[..., 0]
        seen = (abs(x - marks[0].x) < marks[0].across + 4) & (abs(y - marks[0].y) < 0.7 * marks[0].down) & (red > 120)
        assert seen.sum() > 10
        off.append((x[seen].mean() + 0.5 - marks[0].x, y[seen].mean() + 0.5 - marks[0].y))
    assert np.abs(off).mean() < 1
    assert np.abs(off).max() < 3


def test_other_scripts_are_told_apart_by_many_names_and_accents_by_none():
    """Few characters of a language share a name, so that the tower cannot take most for one another."""
    for language in ("Korean", "Chinese", "Japanese", "Russian", "Arabic"):
        letters = script_letters(language)
        shared = Counter(map(number_of, letters))
        assert max(shared.values()) <= 4
        assert len(shared) > 0.7 * len(letters)
        assert all(NAMES[number].startswith("another character") for number in shared)
    assert number_of("é") == number_of("ẽ") == NAMES.index("e")


def test_texts_of_scripts_are_marked_in_the_order_in_which_they_stand():
    for seed in range(40):
        sample = draw("scripts", seed, "train", 0.0)
        spelled = [mark.what[0] for mark in marks_of(sample.picture)]
        text = sample.answer.replace(" ", "")
        assert "".join(reversed(spelled) if sample.skill == "Arabic" else spelled) == text
        middles = [mark.x for mark in marks_of(sample.picture)]
        assert middles == sorted(middles)


def test_letters_that_join_are_marked_where_their_joined_forms_stand():
    """What stands right of a letter's left edge is what the letters up to it look like with a joiner after them."""

    def drawn(text, face):
        """Its ink, ending at the right edge of a sheet that is wide enough for all."""
        sheet = Image.new("L", (300, 60))
        ImageDraw.Draw(sheet).text((300 - face.getlength(text), 10), text, fill=255, font=face)
        return np.asarray(sheet, dtype=float)

    # Amiri has other forms still, which hang on letters further on.
    paths = [path for path in script_fonts("Arabic", "train") if path.name.startswith("Noto")]
    assert len(paths) == 2
    for path in paths:
        face = ImageFont.truetype(path, 40, layout_engine=ImageFont.Layout.RAQM)
        for word in script_words("Arabic", "train")[:20]:
            whole = drawn(word, face)
            marks = glyphs(face, word, (300 - face.getlength(word), 10, 300, 50), leftwards=True)
            assert "".join(mark.what[0] for mark in reversed(marks)) == word
            for count, mark in enumerate(reversed(marks[1:]), 1):
                edge = round(mark.x - mark.across) + 4  # a stroke may reach over it
                part = drawn(word[:count] + "\u200d", face)
                assert np.abs(whole - part)[:, edge:].sum() <= 0.02 * part[:, edge:].sum()


def test_marks_of_scripts_turn_with_their_picture():
    """Unturned they stand on one level; three in ten are turned at the highest difficulty, none at the lowest."""
    slanted = {
        level: sum(
            len({mark.y for mark in marks_of(draw("scripts", seed, "train", level).picture)}) > 1 for seed in range(120)
        )
        for level in (0.0, 1.0)
    }
    assert slanted[0.0] == 0
    assert 15 < slanted[1.0] < 55


def test_every_shape_is_marked_and_middles_have_its_colour():
    for seed in range(20):
        sample = draw("shapes", seed, "train")
        pixels = np.asarray(sample.picture, dtype=float)
        for shape, colour in (mark.what for mark in marks_of(sample.picture)):
            assert shape in SHAPES
            assert colour in COLOURS
        for mark in marks_of(sample.picture):
            seen = pixels[int(mark.y) - 1 : int(mark.y) + 2, int(mark.x) - 1 : int(mark.x) + 2].mean((0, 1))
            assert np.linalg.norm(seen - COLOURS[mark.what[1]]) < 90


@given(st.integers(4, 60), st.integers(4, 60), st.floats(-20, 20))
def test_turned_marks_follow_the_picture(x, y, angle):
    picture = Image.new("L", (64, 64))
    picture.paste(255, (x - 2, y - 2, x + 3, y + 3))
    (mark,) = turned([Mark(("A",), x + 0.5, y + 0.5, 1, 1)], picture.size, angle)
    ink = np.asarray(picture.rotate(angle, Image.Resampling.BICUBIC), dtype=float)
    if not (4 < mark.x < 60 and 4 < mark.y < 60):
        return  # it was cut off
    rows, columns = np.mgrid[:64, :64] + 0.5
    assert abs((rows * ink).sum() / ink.sum() - mark.y) < 0.5
    assert abs((columns * ink).sum() / ink.sum() - mark.x) < 0.5


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(
        st.builds(
            Mark,
            st.sampled_from([("A",), ("b",), ("é",), ("한",), ("circle", "red")]),
            st.floats(-5, 120),
            st.floats(-5, 90),
            st.floats(0, 30),
            st.floats(0, 30),
        ),
        max_size=8,
    ),
)
def test_a_patch_holds_the_marks_that_cover_its_middle_and_those_whose_middle_it_covers(rows, columns, marks):
    grid = Grid(1, 2 * rows, 2 * columns)
    korean = NAMES[number_of("한")]
    known = {"A": "A", "b": "b", "é": "e", "한": korean, "circle": "circle", "red": "red"}
    found = targets(marks, grid, PATCH).view(rows, columns, 2, 2, KINDS, SLOTS)
    for row in range(grid.h):
        for column in range(grid.w):
            x, y = (column + 0.5) * PATCH, (row + 0.5) * PATCH
            over = [
                mark
                for mark in marks
                if abs(mark.x - x) <= max(mark.across, PATCH / 2) and abs(mark.y - y) <= max(mark.down, PATCH / 2)
            ]
            inside = [mark for mark in marks if (mark.y // PATCH, mark.x // PATCH) == (row, column)]
            for kind, held in enumerate((over, inside)):
                names = [known[what] for mark in held for what in mark.what]
                wanted = ([*names, *["nothing"] * SLOTS])[:SLOTS]
                cell = found[row // 2, column // 2, row % 2, column % 2, kind]
                assert [NAMES[number] for number in cell] == wanted


def test_the_packed_loss_is_the_sum_over_pictures(processor):
    examples = [encode_marks(draw("line", seed, "train").picture, processor) for seed in range(3)]
    model = random_model(CONFIG)
    add_sight(model, seed=0)
    with torch.no_grad():
        losses = [losses_of(model, example) for example in examples]
        torch.testing.assert_close(losses_of(model, pack(examples)), sum(losses), rtol=1e-4, atol=1e-3)


def test_marks_beside_words_change_neither(processor):
    """The marks of a conversation are those of its pictures; words cost what they did."""
    samples = [draw(world, 3, "train") for world in ("line", "shapes")]
    plain = [encode(sample, processor, "chat") for sample in samples]
    both = [with_marks(e, sample.messages, processor) for e, sample in zip(plain, samples, strict=True)]
    alone = [encode_marks(sample.picture, processor) for sample in samples]
    assert all(beside.marks.equal(seen.marks) for beside, seen in zip(both, alone, strict=True))
    model = random_model(CONFIG)
    add_sight(model, seed=0)
    with torch.no_grad():
        words, marks, _ = losses_of(model, pack(both))
        torch.testing.assert_close(words, losses_of(model, pack(plain))[0])
        expected = sum(losses_of(model, example)[1] for example in alone)
        torch.testing.assert_close(marks, expected, rtol=1e-4, atol=1e-3)


def test_a_slot_of_a_video_shows_the_marks_of_its_last_frame(processor):
    """Those of a picture that looks like it; none are known where frames are enlarged or left out."""
    kept, enlarged = 0, 0
    for seed in range(30):
        for world in ("clips", "live"):
            sample = draw(world, seed, "train")
            found = with_marks(encode(sample, processor, "chat"), sample.messages, processor)
            frames = [frame for m in sample.messages for part in m.parts if isinstance(part, Video)
                      for frame in part.source]  # fmt: skip
            shown = [encode_marks(frame, processor).marks for frame in frames[1::2]]
            if found.patches // 4 == sum(map(len, shown)):
                assert found.marks.equal(torch.cat(shown))
                kept += 1
            else:
                assert found.learned()[1] == 0
                enlarged += 1
    assert kept > 40
    assert enlarged > 2


def test_a_last_frame_without_a_partner_shows_its_own_marks(processor):
    sample = next(s for s in (draw("clips", seed, "train") for seed in range(9)) if s.skill == "where it moves")
    video, *words = sample.messages[0].parts
    cut = (replace(sample.messages[0], parts=(replace(video, source=video.source[:3]), *words)), *sample.messages[1:])
    sample = replace(sample, messages=cut)
    found = with_marks(encode(sample, processor, "chat"), cut, processor)
    first, second = found.marks.chunk(2)
    assert first.equal(encode_marks(video.source[1], processor).marks)
    assert second.equal(encode_marks(video.source[2], processor).marks)
    assert not first.equal(second)


def test_a_picture_that_carries_no_marks_is_not_taken_for_an_empty_one(processor):
    sample = draw("shapes", 0, "train")
    bare = replace(sample.messages[0], parts=(ImagePart(sample.picture.copy()), *sample.messages[0].parts[1:]))
    bare.parts[0].source.info.clear()
    found = with_marks(encode(sample, processor, "chat"), [bare], processor)
    assert found.learned()[1] == 0
    model = random_model(CONFIG)
    add_sight(model, seed=0)
    with torch.no_grad():
        assert losses_of(model, found)[1] == 0


def test_a_stage_of_words_and_marks_weighs_their_means(processor, tmp_path):
    """The first loss of a stage is the mean over words and `sight` times the mean over marks; its tower learns both."""
    mix = Mix(weights={"line": 0.5, "shapes": 0.5}, form="chat", captions=0.5, sight=0.25)
    stage = replace(STAGE, mix=mix, rates=Rates(), steps=1, log_every=1, balance=0.3, precision="float32")
    batch = BatchStream(processor, mix, stage.batch_size, stage.seed)[0]
    model = random_model(CONFIG).train()
    add_sight(model, stage.seed)
    with torch.no_grad():
        words, marks, _ = losses_of(model, batch, 0.3) / batch.learned(0.3)
    remove_sight(model)
    state = run_stage(model, processor, stage, tmp_path, workers=0).state_dict()
    (record,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert record["loss"] == pytest.approx((words + 0.25 * marks).item(), rel=1e-3)
    assert not [name for name in state if "sight" in name]


class Interrupted(Exception):
    pass


class FailingProcessor(Processor):
    """Stops the run, as a power cut would, when picture number `fail_at` is prepared."""

    fail_at = 9  # in the fifth batch, one step after a checkpoint

    def caption_inputs(self, *args):
        self.fail_at -= 1
        if self.fail_at < 0:
            raise Interrupted
        return super().caption_inputs(*args)


def test_a_stage_of_marks_resumes_and_leaves_a_model_without_the_head(processor, tmp_path):
    start = {name: tensor.clone() for name, tensor in random_model(CONFIG).state_dict().items()}
    whole = random_model(CONFIG).train()
    run_stage(whole, processor, STAGE, tmp_path / "whole", workers=0)
    state = whole.state_dict()
    assert state.keys() == start.keys()
    changed = {name for name in state if not torch.equal(state[name], start[name])}
    assert changed == {name for name in state if name.startswith("visual.")}
    failing = FailingProcessor(processor.tokenizer, CONFIG, processor.image_settings)
    with pytest.raises(Interrupted):
        run_stage(random_model(CONFIG).train(), failing, STAGE, tmp_path / "cut", workers=0)
    resumed = random_model(CONFIG, seed=99).train()
    resumed.model.load_state_dict(whole.model.state_dict())
    run_stage(resumed, processor, STAGE, tmp_path / "cut", workers=0)
    assert all(torch.equal(tensor, state[name]) for name, tensor in resumed.state_dict().items())


def test_a_stage_takes_the_heads_of_an_earlier_one_that_stands_beside_it(processor, tmp_path):
    """Its first loss is what the former tower and head make of its first batch; without them a stage knows nothing."""
    model = random_model(CONFIG).train()
    run_stage(model, processor, STAGE, tmp_path, workers=0)
    mix = replace(MIX, form="chat", sight=0.5, place=0.5)
    stage = replace(STAGE, name="t", heads="s", mix=mix, steps=1, log_every=1, rates=Rates(), precision="float32")
    head = {k: v for k, v in torch.load(tmp_path / "s.pt")["model"].items() if k.startswith("visual.sight.")}
    batch = BatchStream(processor, mix, stage.batch_size, stage.seed)[0]
    expected = copy.deepcopy(model)
    add_sight(expected, seed=7)
    add_place(expected)
    expected.load_state_dict(head, strict=False)
    with torch.no_grad():
        losses = losses_of(expected, batch) / batch.learned().clamp(min=1e-6)
    run_stage(model, processor, stage, tmp_path, workers=0)
    record = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["loss"] == pytest.approx((losses * torch.tensor([1.0, 0.5, 0.5])).sum().item(), rel=1e-3)


@pytest.mark.parametrize("linear_only", [False, True])
@pytest.mark.parametrize("rates", [Rates(vision=0, merger=0.5), Rates(language=0, merger=0)])
def test_heads_learn_in_full_by_adamw_whatever_else_does(rates, linear_only):
    """All of them, biases too, beside parts that are left alone or take smaller steps; no other parameter joins in."""
    model = random_model(CONFIG)
    own = {id(value) for value in model.parameters()}
    mix = replace(MIX, form="chat", sight=0.5, place=0.5)
    stage = replace(STAGE, mix=mix, rates=rates, linear_only=linear_only)
    set_trainable(model, stage)
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    add_sight(model, seed=0)
    add_place(model)
    set_trainable(model, stage)
    heads = {name: value for name, value in model.named_parameters() if id(value) not in own}
    assert {name for name, value in model.named_parameters() if value.requires_grad} == learning | heads.keys()
    held = [
        (optimizer, group["share"], id(value))
        for optimizer in make_optimizers(model, stage)
        for group in optimizer.param_groups
        for value in group["params"]
    ]
    of_heads = [(type(rule), share) for rule, share, value in held if value not in own]
    assert of_heads == [(torch.optim.AdamW, 1.0)] * len(heads)
    assert len(held) == len(learning) + len(heads)


@pytest.mark.parametrize("earlier", ["none such", "words"])
def test_heads_of_a_stage_without_any_are_an_error(processor, tmp_path, earlier):
    words = replace(STAGE, name="words", mix=replace(MIX, form="caption", weights={"word": 1.0}), steps=1)
    run_stage(random_model(CONFIG).train(), processor, words, tmp_path, workers=0)
    with pytest.raises(StateError, match=f"{earlier}.pt is missing or holds nothing of what this stage learns to tell"):
        run_stage(random_model(CONFIG).train(), processor, replace(STAGE, heads=earlier), tmp_path, workers=0)


def test_a_stage_of_marks_is_not_sharded(processor, tmp_path):
    with pytest.raises(ValueError, match="learns marks or places cannot be sharded"):
        run_stage(random_model(CONFIG), processor, STAGE, tmp_path / "out", workers=0, shard=True)
    assert not (tmp_path / "out").exists()


def test_a_tower_learns_what_stands_where(processor, tmp_path):
    """Held-out pictures of shapes are named far better than by the most frequent name after a few steps."""
    mix = Mix(weights={"shapes": 1.0}, form="marks", level_start=0.3, level_end=0.3)
    stage = replace(STAGE, mix=mix, steps=60, batch_size=16, lr=6e-3, warmup=10, log_every=60)
    figures = {}

    def evaluation(model):
        figures.update(sight_accuracy(model, processor, ["shapes"], 40))
        return figures

    run_stage(random_model(CONFIG).train(), processor, stage, tmp_path, workers=0, evaluation=evaluation)
    stream = BatchStream(processor, mix, 64, seed=1)
    filled = stream[0].marks[stream[0].marks > 0]
    most_frequent = filled.bincount().max().item() / len(filled)
    assert figures["sight of shapes"] > 1.5 * most_frequent
