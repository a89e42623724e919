"""The metrics against the published definitions (facts, 10.8), and the controls that take the picture away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearsight import VLM
from clearsight.answer import Reply, Usage
from clearsight.cli import main
from clearsight.eval import evaluate, judge, markdown_table, write_report
from clearsight.eval.metrics import anls, boxes_match, calls_match, characters, edit_distance, overlap, relaxed, result
from clearsight.messages import Message, Text, ToolCall
from clearsight.train.examine import WORLDS, held_out
from clearsight.train.worlds import Sample

texts = st.text("ab cAé1", max_size=8)


@given(texts, texts, texts)
def test_edit_distance_is_a_distance(one, two, three):
    assert (edit_distance(one, two) == 0) == (one == two)
    assert edit_distance(one, two) == edit_distance(two, one)
    assert edit_distance(one, three) <= edit_distance(one, two) + edit_distance(two, three)
    assert abs(len(one) - len(two)) <= edit_distance(one, two) <= max(len(one), len(two))


@pytest.mark.parametrize(
    ("given_text", "wanted", "value"),
    [
        ("Harbour  Cafe", "harbour cafe", 1.0),
        ("harbor cafe", "harbour cafe", 1 - 1 / 12),
        ("xyz", "abc", 0.0),
        ("ab", "abcd", 0.5),
        ("a", "abc", 0.0),
        ("", "", 1.0),
    ],
)
def test_anls(given_text, wanted, value):
    assert anls(given_text, wanted) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "came_to"),
    [
        ("1 tea, 2 milk: 2", "2"),
        ("tea 3.10, milk 2.00: milk", "milk"),
        ("at 10:30: late: yes", "yes"),
        ("10:30", "10:30"),
        ("12 : 3 = 4", "4"),
        ("12 : 3: 4", "4"),
        ("9 : 3", "9 : 3"),
        ("2 + 3 = 5, 5 x 2 = 10 cm", "10 cm"),
        ("x=5", "x=5"),
        ("milk", "milk"),
        ("", ""),
    ],
)
def test_what_an_answer_comes_to_follows_its_last_colon_or_equals_sign(text, came_to):
    assert result(text) == came_to


@pytest.mark.parametrize(
    ("given_text", "value"),
    [
        ("tea 9, milk 2: milk", 1.0),
        ("tea 1: Milk", 1.0),
        ("milk", 1.0),
        ("tea 9, milk 2: tea", 0.0),
        ("tea 9, milk 2: mild", 0.75),
        ("tea 9, milk 2", 0.0),
    ],
)
def test_working_is_not_judged_but_what_it_comes_to(given_text, value):
    assert judged(given_text, "tea 9, milk 2: milk", "result-anls") == value


def judged(given_text, wanted, metric):
    label = Message("assistant", (Text(wanted),))
    sample = Sample(messages=(Message("user", (Text("Which?"),)), label), skill="s", metric=metric)
    return judge(Reply(given_text, "stop", Usage(1, 1), ()), sample)


@pytest.mark.parametrize(
    ("given_text", "exact", "near"),
    [("60 + 40 = 100", 1, 1), ("100", 1, 1), ("61 + 40 = 101", 0, 1), ("60 + 46 = 106", 0, 0), ("60 + 40", 0, 0)],
)
def test_numbers_that_are_worked_out_must_be_equal_or_near(given_text, exact, near):
    assert judged(given_text, "60 + 40 = 100", "result-exact") == exact
    assert judged(given_text, "60 + 40 = 100", "result-relaxed") == near


@pytest.mark.parametrize(
    ("given_text", "wanted", "value"),
    [
        ("105", "100", 1.0),
        ("105.1", "100", 0.0),
        ("95", "100", 1.0),
        ("-10", "-10.4", 1.0),
        ("1,000", "1000", 1.0),
        ("0.2", "20%", 1.0),
        ("20%", "20", 0.0),
        ("0", "0", 1.0),
        ("0.01", "0", 0.0),
        ("north", "North", 1.0),
        ("North", "12", 0.0),
    ],
)
def test_relaxed_accuracy(given_text, wanted, value):
    assert relaxed(given_text, wanted) == value


def test_characters_are_a_share_of_the_wanted_ones():
    assert characters("학고", "학교") == 0.5
    assert characters("", "学校") == 0.0
    assert characters("way too long", "a") == 0.0


def test_overlap_of_boxes():
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0
    assert overlap((3, 3, 3, 3), (3, 3, 3, 3)) == 0.0


def test_every_box_needs_its_own_counterpart():
    one, two = (0, 0, 10, 10), (20, 20, 40, 40)
    assert boxes_match([two, one], [one, two]) == 1.0
    assert boxes_match([one], [one, two]) == 0.0
    assert boxes_match([one, one], [one, two]) == 0.0
    assert boxes_match([(0, 0, 10, 6)], [one]) == 1.0
    assert boxes_match([(0, 0, 10, 4.9)], [one]) == 0.0


def test_calls_are_equal_by_value():
    wanted = [ToolCall("f", '{"a": 1, "b": "x"}')]
    assert calls_match([ToolCall("f", '{"b":"x","a":1}', "call_1")], wanted) == 1.0
    assert calls_match([ToolCall("f", '{"a": 1, "b": "X"}')], wanted) == 0.0
    assert calls_match([ToolCall("g", '{"a": 1, "b": "x"}')], wanted) == 0.0
    assert calls_match(wanted * 2, wanted) == 0.0
    assert calls_match([], wanted) == 0.0


def test_held_out_samples_are_bounded_by_skill():
    samples = held_out(3, ("boxes", "scripts"))
    counts = {skill: sum(s.skill == skill for s in samples) for skill in {s.skill for s in samples}}
    assert max(counts.values()) == 3
    assert {"box", "Korean"} <= counts.keys()


def test_evaluation_and_its_page(tmp_path):
    vlm = VLM.load("nano")
    samples = held_out(2, ("word", "boxes", "clips", "pairs"))
    result = evaluate(vlm, samples)
    assert set(result["by_skill"]) == {sample.skill for sample in samples}
    assert sum(values["samples"] for values in result["by_skill"].values()) == len(samples)
    for control in ("with_another_picture", "with_blank_pictures"):
        assert 0 <= result[control]["changed"] <= 1
    page = tmp_path / "nano.md"
    write_report(page, vlm, samples, result)
    text = page.read_text()
    for skill, values in result["by_skill"].items():
        assert f"| {skill} |" in text
        assert f"{values['accuracy']:.1%}" in text
    assert len(list((tmp_path / "images" / "nano").glob("*.png"))) == len(result["by_skill"])
    assert markdown_table(result).count("\n") == len(result["by_skill"]) + 3


def test_the_command_names_what_is_wrong(capsys):
    assert main(["eval", "--worlds", "word,moon"]) == 2
    assert f"there is no world 'moon'; the worlds are {', '.join(WORLDS)}" in capsys.readouterr().err
    assert main(["eval", "--count", "0"]) == 2
    assert "--count is 0" in capsys.readouterr().err
    assert main(["eval", "--out", "no/such/card.json"]) == 2
    assert "no/such/card.json cannot be written: there is no folder no/such" in capsys.readouterr().err


def test_the_command_measures(capsys, tmp_path):
    assert main(["eval", "--worlds", "word", "--count", "3", "--out", str(tmp_path / "card.json")]) == 0
    assert "| word |" in capsys.readouterr().out
    assert (tmp_path / "card.json").exists()


def test_the_command_measures_what_quantising_costs(capsys, tmp_path):
    assert main(["eval", "--worlds", "word", "--count", "2", "--quantize", "int8"]) == 0
    assert "| word |" in capsys.readouterr().out
    assert main(["eval", "--worlds", "word", "--count", "2", "--quantize", "int8", "--device", "meta:x"]) == 2
    assert "device 'meta:x' cannot be used" in capsys.readouterr().err
