"""Laws of the drawn worlds: seeded, well-sized, rightly labelled, balanced, with a test split kept out of training."""

from __future__ import annotations

import math
import pickle
import random
import string
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from clearsight.messages import Text
from clearsight.train.worlds import WORLDS, Sample, draw, fonts
from clearsight.train.worlds.fonts import font_files, open_font
from clearsight.train.worlds.ink import ink_and_paper, luminance
from clearsight.train.worlds.names import names, pick
from clearsight.train.worlds.sample import Asked, belongs, talk
from clearsight.train.worlds.scene import COLOURS, SHAPES, Scene, article, colours_on, plural
from clearsight.train.worlds.shapes import NO_TEXT, SIDES, _counts, further, pose, sides_of
from clearsight.train.worlds.text import NO_SHAPES
from clearsight.train.worlds.tokens import CHARACTERS, MAX_LENGTH, coin, word, words
from clearsight.train.worlds.vocabulary import pieces, question_words
from clearsight.train.worlds.wording import WORDINGS

SPLITS = ("train", "test")
SIZES = {"word": (56, 168, 56, 56), "line": (168, 336, 56, 56), "page": (112, 224, 168, 224), "shapes": (112, 168) * 2}

FIRST = tuple(SIZES)
worlds = st.sampled_from(FIRST)
splits = st.sampled_from(SPLITS)
seeds = st.integers(0, 2**63)
levels = st.floats(0, 1)


@cache
def drawn(world: str, split: str, count: int = 250) -> list[Sample]:
    return [draw(world, seed, split) for seed in range(count)]


@cache
def posed(count: int = 6000) -> list[tuple[Scene, str, str, str]]:
    """Scenes with question, answer and skill."""
    made = (pose(random.Random(seed), split=SPLITS[seed % 2]) for seed in range(count))
    return [(scene, *asked[:3]) for scene, asked in made]


# --- every world -------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(worlds, splits, seeds, levels)
def test_a_sample_is_a_function_of_its_arguments(world, split, seed, level):
    one, two = (draw(world, seed, split, level) for _ in range(2))
    assert one.picture.tobytes() == two.picture.tobytes()
    assert (one.question, one.answer, one.skill) == (two.question, two.answer, two.skill)


@settings(max_examples=100)
@given(worlds, splits, seeds, levels)
def test_sizes_are_whole_tokens_within_the_stated_range(world, split, seed, level):
    picture = draw(world, seed, split, level).picture
    narrowest, widest, lowest, highest = SIZES[world]
    assert picture.mode == "RGB"
    assert picture.width % 28 == picture.height % 28 == 0
    assert narrowest <= picture.width <= widest
    assert lowest <= picture.height <= highest


def test_other_seeds_and_splits_give_other_samples():
    for world in FIRST:
        pictures = {draw(world, seed, split).picture.tobytes() for seed in range(20) for split in SPLITS}
        assert len(pictures) == 40


def test_samples_can_be_sent_between_processes():
    sample = draw("page", 3, "train")
    again = pickle.loads(pickle.dumps(sample))
    assert again.picture.tobytes() == sample.picture.tobytes()
    assert again.answer == sample.answer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("moon", 0, "train"), "there is no world 'moon'"),
        (("word", 0, "dev"), "not 'dev'"),
        (("word", 0, "train", 1.5), "not 1.5"),
    ],
)
def test_refusals_name_the_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(*arguments)


# --- nothing of the test split in training -----------------------------------------------------------------


def test_words_are_split_once_and_for_all():
    train, test = (set(words(split)) for split in SPLITS)
    assert len(train | test) >= 1500
    assert all(len(word) < 3 for word in train & test)
    assert 0.07 < len(test - train) / len(train | test) < 0.13


@pytest.mark.parametrize("world", ["word", "line", "page"])
def test_every_text_belongs_to_its_split(world):
    for split in SPLITS:
        answers = [sample.answer for sample in drawn(world, split) if sample.answer != NO_SHAPES]
        # Lines are made of whole tokens, some with a mark after them, and capitals do not make a new text.
        tokens = [token for answer in answers for token in answer.split()]
        assert all(belongs(token, split) or belongs(token.rstrip(".,!?:"), split) for token in tokens)


def test_questions_are_worded_differently_in_the_two_splits():
    assert not {w for ws in WORDINGS.values() for w in ws.train} & {w for ws in WORDINGS.values() for w in ws.test}
    held_out = sum(len(wordings.test) for wordings in WORDINGS.values())
    assert 0.15 <= held_out / (held_out + sum(len(wordings.train) for wordings in WORDINGS.values())) <= 0.20
    for world in FIRST:
        train, test = ({sample.question for sample in drawn(world, split)} for split in SPLITS)
        assert not train & test


def test_held_out_wordings_have_no_unseen_word():
    train = {piece for wordings in WORDINGS.values() for wording in wordings.train for piece in pieces(wording)}
    test = {piece for wordings in WORDINGS.values() for wording in wordings.test for piece in pieces(wording)}
    assert test <= train


def test_some_font_families_are_for_the_test_only():
    train, test = ({file for family in font_files(split) for file in family} for split in SPLITS)
    assert not train & test
    assert 2 <= len(font_files("test")) <= 3
    assert all(file.is_file() for file in train | test)


@pytest.mark.parametrize("split", SPLITS)
def test_every_font_has_a_glyph_of_its_own_for_every_character(split):
    for file in (file for family in font_files(split) for file in family):
        font = open_font(file, 40)
        missing = bytes(font.getmask("\uffff"))
        glyphs = [bytes(font.getmask(character)) for character in CHARACTERS]
        assert missing not in glyphs, file
        assert len(set(glyphs)) >= len(CHARACTERS) - 1, file  # a few faces draw I and l alike


def test_a_missing_font_package_is_named():
    with pytest.raises(ImportError, match=r"'no_such_fonts' is missing.*clearsight\[train\]"):
        fonts._family_files(("no_such_fonts", "files"), "{}.ttf", ("Regular",))


# --- worlds to read ----------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(splits, seeds, levels)
def test_the_level_bounds_the_length_of_a_word(split, seed, level):
    sample = draw("word", seed, split, level)
    if sample.answer != NO_SHAPES:
        assert 1 <= len(sample.answer) <= 1 + round((MAX_LENGTH - 1) * level)
        assert set(sample.answer) <= set(CHARACTERS)


def test_lines_and_pages_have_the_stated_length():
    for sample in (*drawn("line", "train"), *drawn("line", "test")):
        assert sample.skill == "honesty" or 2 <= len(sample.answer.split(" ")) <= 5
    pages = [sample for sample in drawn("page", "train") if sample.skill == "page"]
    assert {len(sample.answer.split("\n")) for sample in pages} == {1, 2, 3, 4}
    assert all(set(sample.answer) <= {*CHARACTERS, " ", "\n"} for sample in pages)


def test_texts_asked_about_shapes_say_that_there_are_none():
    honest = [
        sample for world in ("word", "line", "page") for sample in drawn(world, "train") if sample.skill == "honesty"
    ]
    assert honest
    assert {sample.answer for sample in honest} == {NO_SHAPES}
    assert all(sample.question in WORDINGS["no shapes"].train for sample in honest)


def test_text_keeps_clear_of_the_edge():
    for world in ("word", "line"):
        for sample in drawn(world, "train"):
            pixels = np.asarray(sample.picture.convert("L"), dtype=float)
            paper = np.median(np.concatenate([pixels[0], pixels[-1]]))
            rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            far = np.abs(pixels - paper).max()
            assert np.mean(np.abs(rim - paper) > max(60.0, 0.7 * far)) < 0.02, sample.answer


@given(seeds)
def test_ink_stands_out_from_paper(seed):
    ink, paper = ink_and_paper(random.Random(seed))
    assert abs(luminance(ink) - luminance(paper)) > 100


# --- the world of shapes -----------------------------------------------------------------------------------


def test_shapes_lie_inside_and_do_not_touch():
    for scene, *_ in posed():
        for index, shape in enumerate(scene.shapes):
            assert shape.radius < shape.x < scene.width - shape.radius
            assert shape.radius < shape.y < scene.height - shape.radius
            assert shape.radius >= 9
            assert shape.colour in colours_on(scene.paper)
            for other in scene.shapes[:index]:
                assert math.hypot(shape.x - other.x, shape.y - other.y) > shape.radius + other.radius


def named(question: str) -> tuple[str | None, str | None]:
    """The colour and the shape that `question` names, read from its words."""
    said = "".join(letter if letter.isalpha() else " " for letter in question.lower()).split()
    colour = next((name for name in COLOURS if name in said), None)
    shape = next((name for name in SHAPES if name in said or plural(name) in said), None)
    return colour, shape


def expected(scene: Scene, question: str, skill: str) -> str:
    """The answer worked out from the list of drawn shapes and the words of the question alone."""
    colour, name = named(question)
    fitting = [shape for shape in scene.shapes if colour in (None, shape.colour) and name in (None, shape.name)]
    if skill == "count":
        return str(len(fitting))
    if skill == "exists":
        return "yes" if fitting else "no"
    if skill == "honesty":
        return NO_TEXT
    if skill == "list":
        return ", ".join(f"{shape.colour} {shape.name}" for shape in sorted(fitting, key=lambda shape: shape.x))
    (only,) = fitting
    if skill == "describe":
        return f"{article(only.colour)} {only.colour} {only.name}"
    if skill == "where":
        asked = [side for side in sides_of(only, scene) if side in question.lower()]
        (side,) = asked or sides_of(only, scene)
        return side
    return only.colour if skill == "colour" else only.name


def test_labels_follow_from_the_drawn_shapes():
    for scene, question, answer, skill in posed():
        assert answer == expected(scene, question, skill), question


def test_further_questions_follow_from_the_drawn_shapes_too():
    skills = Counter()
    for seed, (scene, *_) in enumerate(posed(1500)):
        question, answer, skill, *_ = further(random.Random(seed), scene, SPLITS[seed % 2])
        assert answer == expected(scene, question, skill), question
        skills[skill] += 1
    assert set(skills) == {"count", "exists", "colour", "shape", "where", "list"}


@given(seeds, st.sampled_from(SPLITS))
def test_a_scene_is_counted_in_many_ways_and_in_none_twice(seed, split):
    rng = random.Random(seed)
    scene, *_ = pose(rng, split=split)
    counts = list(_counts(rng, scene, split))
    assert all(answer == expected(scene, question, skill) for question, answer, skill, *_ in counts)
    assert len({named(question) for question, *_ in counts}) == len(counts)
    assert {shape for colour, shape in (named(question) for question, *_ in counts) if not colour} == set(SHAPES)


def test_a_dialogue_asks_for_nothing_twice_whatever_the_words_and_lists_last():
    """Digits, yes and no come again, of other things, or the last could be told from those before."""
    repeated = lists = 0
    for seed in range(150):
        messages = draw("shapes", seed, "train", turns=8).messages
        turns = [(q.parts[-1].text, a.parts[0].text) for q, a in zip(messages[::2], messages[1::2], strict=True)]
        counted = [named(question) for question, answer in turns if answer.isdigit()]
        digits = [answer for _, answer in turns if answer.isdigit()]
        repeated += len(digits) - len(set(digits))
        assert len(counted) == len(set(counted))
        existing = [named(question) for question, answer in turns if answer in ("yes", "no")]
        assert len(existing) == len(set(existing))
        listed = ["," in answer for _, answer in turns]
        assert listed == sorted(listed)
        lists += len(turns) > 1 and listed[-1]
    assert repeated > 100
    assert lists > 30


def test_of_what_is_told_most_comes_last_and_the_first_question_is_judged_wherever_it_comes():
    asked = [
        Asked(f"q{n}", f"a{n % 3}", "s", topic=f"t{n % 4}", late=late) for n, late in enumerate((1, 0, 2, 0, 0, 1))
    ]
    sample = talk(Text("shown"), asked[0], asked[1:], turns=4)
    assert [message.parts[-1].text for message in sample.messages[::2]] == ["q1", "q3", "q0", "q2"]
    assert [type(part) for part in sample.messages[0].parts] == [Text, Text]
    assert (sample.question, sample.answer) == ("q0", "a0")
    plain = [asked[0], *(each._replace(topic="") for each in asked[1:])]
    assert len(talk(Text("shown"), plain[0], plain[1:], turns=9).messages) == 2 * 4


def test_a_page_is_read_either_at_once_or_line_by_line():
    """What was read once could be copied."""
    several = 0
    for seed in range(150):
        answers = [m.parts[0].text for m in draw("page", seed, "train", turns=8).messages[1::2]]
        lines = [line for answer in answers for line in answer.split("\n")]
        assert len(lines) == len(set(lines))
        several += len(answers) > 1
    assert several > 20


def test_training_counts_many_more_often_than_few():
    counts = [int(answer) for *_, answer, skill in posed()[SPLITS.index("train") :: 2] if skill == "count"]
    assert set(counts) == set(range(10))
    assert 0.65 < sum(count >= 5 for count in counts) / len(counts) < 0.85


@pytest.mark.parametrize(
    ("skill", "answers"),
    [
        ("count", list(string.digits)),
        ("exists", ["yes", "no"]),
        ("where", list(SIDES)),
        ("colour", list(COLOURS)),
        ("shape", list(SHAPES)),
        ("describe", [f"{article(colour)} {colour} {shape}" for colour in COLOURS for shape in SHAPES]),
    ],
)
def test_all_answers_of_a_test_are_equally_likely(skill, answers):
    counts = Counter(answer for *_, answer, asked in posed()[SPLITS.index("test") :: 2] if asked == skill)
    assert set(counts) <= set(answers)
    mean = counts.total() / len(answers)
    # Five standard deviations of a fair draw.
    assert all(abs(counts[answer] - mean) <= 5 * math.sqrt(mean) for answer in answers), counts


def test_no_word_of_a_yes_or_no_question_gives_the_answer_away():
    answers: dict[str, list[bool]] = {}
    for _, question, answer, skill in posed():
        if skill == "exists":
            for word in set(question.split()):
                answers.setdefault(word, []).append(answer == "yes")
    for word, yes in answers.items():
        assert abs(sum(yes) - len(yes) / 2) <= 5 * math.sqrt(len(yes)) / 2, word


def test_the_number_of_shapes_does_not_tell_yes_from_no():
    numbers = {answer: [] for answer in ("yes", "no")}
    for scene, _, answer, skill in posed():
        if skill == "exists":
            numbers[answer].append(len(scene.shapes))
    assert abs(np.mean(numbers["yes"]) - np.mean(numbers["no"])) < 0.6


def test_the_level_bounds_the_count():
    for seed in range(300):
        scene, (_, answer, skill, *_) = pose(random.Random(seed), split="train", level=0.0)
        assert len(scene.shapes) <= 2
        assert skill != "count" or answer in "01"


def test_a_painted_scene_shows_its_colours():
    for seed in range(60):
        scene, *_ = pose(random.Random(seed), split="train")
        sample = WORLDS["shapes"](random.Random(seed), split="train")
        assert sample.picture.size == (scene.width, scene.height)
        for shape in scene.shapes:
            centre = Image.new("L", sample.picture.size)
            box = [shape.x - 3, shape.y - 3, shape.x + 3, shape.y + 3]
            ImageDraw.Draw(centre).ellipse(box, fill=255)
            mean = np.asarray(sample.picture)[np.asarray(centre) > 0].mean(axis=0)
            nearest = min(COLOURS, key=lambda name: math.dist(COLOURS[name], mean))
            assert nearest == shape.colour


# --- vocabulary --------------------------------------------------------------------------------------------


def test_pieces_are_those_of_the_reference_splitter():
    regex = pytest.importorskip("regex")
    reference = pytest.importorskip("transformers.models.qwen2.tokenization_qwen2").PRETOKENIZE_REGEX
    texts = [sample.question + "\n" + sample.answer for world in FIRST for sample in drawn(world, "train")]
    for text in (*texts, "it's  12.50\n\n  I'LL -go- \r\n", string.printable):
        assert pieces(text) == regex.findall(reference, text)
        assert "".join(pieces(text)) == text


def test_every_question_and_fixed_answer_is_made_of_listed_words():
    listed = set(question_words())
    samples = [sample for world in FIRST for split in SPLITS for sample in drawn(world, split)]
    texts = [sample.question for sample in samples]
    texts += [sample.answer for sample in samples if sample.skill not in ("word", "line", "page")]
    texts += ["system\n", "user\n", "assistant\n", "You are a helpful assistant."]
    assert {piece for text in texts for piece in pieces(text) if len(piece) > 1} <= listed


def test_the_word_list_is_short_sorted_and_ascii():
    listed = question_words()
    assert listed == sorted(set(listed))
    assert len(listed) <= 700
    assert all(word.isascii() and len(word) > 1 and pieces(word) == [word] for word in listed)


# --- coined words ------------------------------------------------------------------------------------------


def test_coined_words_fit_and_are_none_of_the_tests():
    rng = random.Random(0)
    for longest in range(2, 11):
        for made in (coin(rng, longest) for _ in range(300)):
            assert min(3, longest) <= len(made) <= longest
            assert made.isalpha()
            assert made.islower()
            assert belongs(made, "train")


def test_training_reads_words_that_no_list_has_and_the_test_reads_english():
    rng, listed = random.Random(0), set(words("train"))
    drawn_words = [word(rng, "train") for _ in range(2000)]
    assert 0.6 < sum(each not in listed for each in drawn_words) / 2000 < 0.75
    assert len(set(drawn_words)) > 1500
    assert {word(rng, "test") for _ in range(500)} <= set(words("test"))


@pytest.mark.parametrize("kind", ["city", "shop"])
def test_names_of_training_are_mostly_coined_and_those_of_the_test_are_listed(kind):
    rng, listed = random.Random(0), {*names(kind, "train"), *names(kind, "test")}
    found = [name for _ in range(300) for name in pick(rng, kind, "train", 3)]
    assert sum(name not in listed for name in found) > 150
    assert all(name[0].isupper() and belongs(name, "train") for name in found)
    assert all(len(set(pick(rng, kind, "train", 3))) == 3 for _ in range(100))
    assert {name for _ in range(100) for name in pick(rng, kind, "test", 2)} <= listed


def test_what_is_told_apart_and_not_read_is_never_coined():
    rng = random.Random(0)
    assert {name for _ in range(100) for name in pick(rng, "month", "train", 3)} <= set(names("month", "train"))
