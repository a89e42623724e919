"""Laws of every world: seeded, whole tokens, held-out wordings and texts, labels in reach of their own metric."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from functools import cache
from typing import get_args

import pytest

from clearsight.answer import Reply, Usage
from clearsight.eval import METRICS, judge
from clearsight.messages import Box, Image, Point, Ref, Text, ToolCall, Video
from clearsight.processor import Processor
from clearsight.processor.grounding import Annotation
from clearsight.train.data import encode
from clearsight.train.worlds import TALKATIVE, WORLDS, Sample, draw
from clearsight.train.worlds.__main__ import main
from clearsight.train.worlds.browser import chromium, render
from clearsight.train.worlds.names import _LISTS, names
from clearsight.train.worlds.questions import questions
from clearsight.train.worlds.sample import Metric
from clearsight.train.worlds.scripts import LANGUAGES, draw_script, script_fonts, script_letters, script_words
from clearsight.train.worlds.vocabulary import pieces

SPLITS = ("train", "test")
DRAWN = tuple(world for world in WORLDS if world != "screens")
LATER = DRAWN[4:]


@cache
def drawn(world: str, split: str, count: int = 80) -> list[Sample]:
    return [draw(world, seed, split) for seed in range(count)]


def pictures(sample: Sample):
    for part in (part for message in sample.messages for part in message.parts):
        if isinstance(part, Image):
            yield part.source
        elif isinstance(part, Video):
            yield from part.source


@pytest.mark.parametrize("world", LATER)
def test_a_sample_is_a_function_of_its_arguments(world):
    for seed in range(12):
        one, two = (draw(world, seed, "test", 0.7) for _ in range(2))
        assert [p.tobytes() for p in pictures(one)] == [p.tobytes() for p in pictures(two)]
        assert (one.question, one.label, one.skill, one.tools) == (two.question, two.label, two.skill, two.tools)


@pytest.mark.parametrize("world", sorted(TALKATIVE - {"screens"}))
def test_several_questions_are_about_one_picture_and_none_is_answered_twice(world):
    longest = 0
    for seed in range(60):
        sample = draw(world, seed, "train", turns=4)
        assert len(list(pictures(sample))) == len(list(pictures(Sample(messages=sample.messages[:2], skill="first"))))
        users = (message for message in sample.messages if message.role == "user")
        asked = [tuple(part for part in message.parts if isinstance(part, (Text, Box))) for message in users]
        assert len(set(asked)) == len(asked) <= 4
        assert draw(world, seed, "train", turns=4).messages[1:] == sample.messages[1:]
        longest = max(longest, len(asked))
    assert longest >= 2


@pytest.mark.parametrize("world", LATER)
@pytest.mark.parametrize("split", SPLITS)
def test_pictures_are_rgb_in_whole_tokens(world, split):
    for sample in drawn(world, split):
        for picture in pictures(sample):
            assert picture.mode == "RGB"
            assert picture.width % 28 == picture.height % 28 == 0
            assert max(picture.size) <= 840


@pytest.mark.parametrize("world", LATER)
def test_levels_from_none_to_all_can_be_drawn(world):
    for level in (0.0, 0.25, 0.5, 0.75):
        for seed in range(8):
            draw(world, seed, "train", level)


@pytest.mark.parametrize("world", LATER)
def test_samples_can_be_sent_between_processes(world):
    sample = drawn(world, "train")[0]
    again = pickle.loads(pickle.dumps(sample))
    assert again.label == sample.label
    assert [p.tobytes() for p in pictures(again)] == [p.tobytes() for p in pictures(sample)]


def test_every_metric_has_its_rule():
    assert set(METRICS) == set(get_args(Metric))


def perfect(sample: Sample) -> Reply:
    """The reply that reads as the label, with boxes and calls where the engine puts them."""
    parts = sample.label.parts
    found = [
        Annotation("box", "", 0, (p.x1, p.y1, p.x2, p.y2), (0.0,) * 4)
        if isinstance(p, Box)
        else Annotation("point", "", 0, (p.x, p.y), (0.0,) * 2)
        for p in parts
        if isinstance(p, (Box, Point))
    ]
    text = "".join(part.text for part in parts if isinstance(part, (Text, Ref)))
    calls = tuple(part for part in parts if isinstance(part, ToolCall))
    return Reply(text, "stop", Usage(1, 1), (), calls, tuple(found))


@pytest.mark.parametrize("world", DRAWN)
def test_the_label_is_right_by_its_own_metric_and_silence_is_wrong(world):
    silence = Reply("", "stop", Usage(1, 0), ())
    for sample in drawn(world, "test"):
        assert judge(perfect(sample), sample) == 1.0
        assert judge(silence, sample) == 0.0


@pytest.mark.parametrize("world", DRAWN)
def test_every_sample_becomes_a_supervised_sequence(world):
    processor = Processor.packaged("nano")
    for sample in drawn(world, "train")[:10]:
        example = encode(sample, processor, "chat")
        assert 2 <= int(example.supervised.sum()) < example.tokens
        taught = processor.tokenizer.decode(example.inputs.ids[example.supervised].tolist(), skip_special=False)
        assert sample.answer in taught


# --- nothing of the test split in training -----------------------------------------------------------------


def test_wordings_are_split_and_held_out_ones_have_no_unseen_word():
    everything = questions().values()
    seen = {piece.lower() for wordings in everything for text in wordings.train for piece in pieces(text)}
    for name, wordings in questions().items():
        assert wordings.train, name
        assert wordings.test, name
        assert not set(wordings.train) & set(wordings.test), name
        assert {piece.lower() for text in wordings.test for piece in pieces(text)} <= seen, name


@pytest.mark.parametrize("kind", list(_LISTS))
def test_names_are_split(kind):
    assert not {n for n in names(kind, "train") if len(n) > 2} & {n for n in names(kind, "test") if len(n) > 2}


@pytest.mark.parametrize("world", LATER)
def test_no_question_is_in_both_splits_with_its_answer_and_pictures(world):
    train, test = (
        {(s.question, s.answer, *(p.tobytes() for p in pictures(s))) for s in drawn(world, split)} for split in SPLITS
    )
    assert not train & test


@pytest.mark.parametrize("language", LANGUAGES)
def test_scripts_hold_out_words_and_fonts(language):
    train, test = (set(script_words(language, split)) for split in SPLITS)
    assert not train & test
    assert len(test) >= 8
    fonts = [set(script_fonts(language, split)) for split in SPLITS]
    assert all(fonts)
    assert not fonts[0] & fonts[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_most_training_texts_are_coined_of_all_letters_and_none_holds_a_word_of_the_test(language):
    known, held = (set(script_words(language, split)) for split in SPLITS)
    letters, seen, coined = set(script_letters(language)), set(), 0
    for seed in range(120):
        words = draw_script(random.Random(seed), language, "train", 0.0).answer.split(" ")
        assert not held & set(words)
        coined += not known & set(words)
        seen |= set("".join(words))
    assert seen <= letters >= set("".join(known | held))
    assert len(seen) > 0.6 * len(letters)
    # Where most signs stand in one word alone, words are known by heart before their signs are read.
    least, most = (95, 118) if language in ("Korean", "Chinese", "Japanese") else (50, 100)
    assert least < coined < most
    tested = (draw_script(random.Random(seed), language, "test", 0.0).answer for seed in range(20))
    assert set(tested) <= held


def test_training_has_every_language_and_those_that_are_hardest_to_see_most_often():
    for split in SPLITS:
        found = Counter(draw("scripts", seed, split).skill for seed in range(360))
        assert set(found) == set(LANGUAGES)
        signs, latin = (sum(found[one] for one in names) for names in (LANGUAGES[:3], ("German", "French", "Spanish")))
        assert (signs > 3 * latin) == (split == "train"), found
        assert (found["Arabic"] > latin) == (split == "train"), found  # its letters have a form for each place


@pytest.mark.parametrize("language", LANGUAGES)
def test_fonts_have_a_glyph_for_every_letter(language):
    from clearsight.train.worlds.scripts import _face, _has_all

    letters = script_letters(language)
    for split in SPLITS:
        for path in script_fonts(language, split):
            assert _has_all(path, letters), path
            assert _face(path, 24).getbbox(letters[0])


def test_a_missing_font_package_is_named(monkeypatch):

    from clearsight.train.worlds import scripts

    monkeypatch.setitem(scripts._PACKAGED, "Korean", {"train": (("no_such_fonts", "a.ttf"),), "test": ()})
    scripts.script_fonts.cache_clear()
    with pytest.raises(ImportError, match="'no_such_fonts' is missing"):
        draw_script(random.Random(0), "Korean", "train", 1.0)
    scripts.script_fonts.cache_clear()


# --- screens: a browser once, then as fast as the others ---------------------------------------------------


def test_missing_screens_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CLEARSIGHT_SCREENS", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"no rendered screens in .*; make them: python -m"):
        draw("screens", 0, "train")


def test_a_browser_that_is_not_there_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CLEARSIGHT_CHROMIUM", "/no/chromium")
    monkeypatch.setattr("sys.argv", ["worlds", "--screens", "2", "--folder", str(tmp_path)])
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: CLEARSIGHT_CHROMIUM is '/no/chromium', which is no program")


@pytest.mark.skipif(chromium() is None, reason="no Chromium found; install it or set CLEARSIGHT_CHROMIUM")
def test_rendered_screens_can_be_asked_about(monkeypatch, tmp_path):
    monkeypatch.setenv("CLEARSIGHT_SCREENS", str(tmp_path))
    from clearsight.train.worlds.screens import load_screen

    load_screen.cache_clear()
    render("train", 3, tmp_path)
    first = (tmp_path / "train" / "0.png").read_bytes()
    render("train", 3, tmp_path)  # nothing is drawn twice
    (tmp_path / "train" / "0.json").unlink()
    render("train", 1, tmp_path)
    assert (tmp_path / "train" / "0.png").read_bytes() == first
    for seed in range(30):
        sample = draw("screens", seed, "train")
        assert sample.picture.width % 28 == sample.picture.height % 28 == 0
        assert judge(perfect(sample), sample) == 1.0
        for point in (part for part in sample.label.parts if isinstance(part, Point)):
            assert sample.region.x1 < point.x < sample.region.x2
            assert sample.region.y1 < point.y < sample.region.y2
    for number in range(3):
        screen = load_screen(number, "train")
        assert screen.elements
        for name, (left, top, right, bottom) in screen.elements.items():
            inside = (m for m in screen.marks if left < m.x < right and top < m.y < bottom)
            written = "".join(m.what[0] for m in inside)
            assert written.startswith(name.split(" ", 2)[2].replace(" ", ""))  # "the button Log in"; notes follow
    longest = 0
    for seed in range(30):
        alone, several = (draw("screens", seed, "train", turns=turns) for turns in (1, 9))
        assert several.picture.tobytes() == alone.picture.tobytes()
        assert (several.label, several.region) == (alone.label, alone.region)
        # Each answer begins with an element's name, or says that there is none; none comes twice.
        named = [message.parts[0].text for message in several.messages if message.role == "assistant"]
        assert len(set(named)) == len(named) <= 9
        longest = max(longest, len(named))
    assert longest > 3
    record = tmp_path / "train" / "0.json"
    record.write_text(record.read_text().replace('"characters"', '"others"'))
    load_screen.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"0\.json is of an earlier version; delete .* and render"):
        load_screen(0, "train")
    load_screen.cache_clear()
