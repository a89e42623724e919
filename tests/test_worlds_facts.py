"""Labels against what was drawn: boxes hold their shapes, sums are right, clips move and charts stand as told."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearsight.eval.metrics import result
from clearsight.messages import Box, Text, ToolCall
from clearsight.train.worlds import draw
from clearsight.train.worlds.boxes import _scene, shape_box
from clearsight.train.worlds.charts import Chart, _data, _question, paint_chart
from clearsight.train.worlds.clips import DIRECTIONS, TIMES, further, paint_clip, pose_clip
from clearsight.train.worlds.documents import _form, _receipt, _table
from clearsight.train.worlds.marks import TICK_BOX, marks_of
from clearsight.train.worlds.questions import questions
from clearsight.train.worlds.sample import belongs
from clearsight.train.worlds.scene import COLOURS, paint
from clearsight.train.worlds.sums import arithmetic
from clearsight.train.worlds.wording import WORDINGS

seeds = st.integers(0, 2**60)


def samples(world, skill):
    return [sample for seed in range(150) if (sample := draw(world, seed, "train")).skill == skill]


@given(seeds)
def test_a_box_holds_all_the_pixels_of_its_shape_and_little_else(seed):
    rng = random.Random(seed)
    scene, _ = _scene(rng, 1.0, 1)
    picture = paint(rng, scene)
    shape = scene.shapes[0]
    left, top, right, bottom = shape_box(picture, scene, shape)
    assert shape.x - shape.radius - 2 <= left < shape.x < right <= shape.x + shape.radius + 2
    assert shape.y - shape.radius - 2 <= top < shape.y < bottom <= shape.y + shape.radius + 2
    pixels = np.asarray(picture, dtype=float)
    inside = np.zeros(pixels.shape[:2], dtype=bool)
    inside[int(top) : int(bottom), int(left) : int(right)] = True
    own = np.linalg.norm(pixels - pixels[int(shape.y), int(shape.x)], axis=-1) < 12
    rows, columns = np.mgrid[: scene.height, : scene.width]
    near = np.hypot(columns + 0.5 - shape.x, rows + 0.5 - shape.y) <= shape.radius
    assert not (own & near & ~inside).any()
    # A star fills a third of its box.
    assert (own & inside).sum() > 0.25 * inside.sum()


def test_the_box_of_a_find_sample_has_its_colour_in_the_middle():
    wanted = (draw("boxes", seed, "train", 0.0) for seed in range(400))
    checked = 0
    for sample in wanted:
        boxes = [part for part in sample.label.parts if isinstance(part, Box)]
        if sample.skill == "box" and boxes:
            box, picture = boxes[0], sample.picture
            x, y = (box.x1 + box.x2) / 2000 * picture.width, (box.y1 + box.y2) / 2000 * picture.height
            middle = np.asarray(picture)[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].reshape(-1, 3).mean(axis=0)
            nearest = min(COLOURS, key=lambda name: math.dist(COLOURS[name], middle))
            checked += 1
            assert nearest in sample.label.parts[0].text or nearest in ("brown", "red", "orange", "white", "black")
    assert checked > 50


def test_training_asks_for_several_boxes_more_often_than_a_test():
    asked = {split: [draw("boxes", seed, split).skill for seed in range(300)] for split in ("train", "test")}
    share = {split: skills.count("several boxes") / len(skills) for split, skills in asked.items()}
    assert share["train"] > 0.3 > 0.2 > share["test"] > 0.1


def test_training_has_few_things_more_often_than_a_test():
    """One shape or two in a scene of boxes, two rows of a table; and every number that a test may have."""
    scenes, tables = {}, {}
    for split in ("train", "test"):
        marks = [marks_of(draw("boxes", seed, split).picture) for seed in range(300)]
        scenes[split] = Counter(len(found) for found in marks if len(found[0].what) > 1)
        drawn = (draw("documents", seed, split, turns=9).messages for seed in range(500))
        answers = [asked for messages in drawn for asked in zip(messages[::2], messages[1::2], strict=True)]
        counted = [reply.parts[0].text for user, reply in answers if "rows" in user.parts[-1].text]
        tables[split] = Counter(counted)
    for found, few, least, most in ((scenes, (1, 2), 0.38, 0.32), (tables, ("2",), 0.33, 0.3)):
        assert set(found["test"]) <= set(found["train"])
        share = {split: sum(numbers[number] for number in few) / numbers.total() for split, numbers in found.items()}
        assert share["train"] > least > most > share["test"], share


def covered(box, picture):
    """The marks whose middles lie in `box`, by where they are."""
    sides = [1000 / picture.width, 1000 / picture.height]
    return [
        mark
        for mark in marks_of(picture)
        if box.x1 <= mark.x * sides[0] <= box.x2 and box.y1 <= mark.y * sides[1] <= box.y2
    ]


def test_whatever_is_asked_about_boxes_is_so_and_each_thing_is_asked_about_once():
    """The marks, which are set before anything is asked, are all that this is checked by."""
    skills = Counter()
    for seed in range(120):
        picture, *turns = (sample := draw("boxes", seed, "train", turns=8)).picture, *sample.messages
        names = []
        for user, reply in zip(turns[::2], turns[1::2], strict=True):
            given = [part for part in user.parts if isinstance(part, Box)]
            boxes = given + [part for part in reply.parts if isinstance(part, Box)]
            text = "".join(part.text for part in reply.parts if hasattr(part, "text"))
            name = re.sub("There is no |^an? |[.]", "", text)
            inside = [covered(box, picture) for box in boxes]
            names.append(name.removesuffix("s"))
            if len(marks_of(picture)[0].what) == 1:
                skills["word"] += 1
                assert ["".join(mark.what[0] for mark in marks) for marks in inside] == [name]
                continue
            kinds = [" ".join(reversed(mark.what)) for mark in marks_of(picture)]
            skills["inside" if given else len(boxes)] += 1
            assert len(boxes) == (1 if given else kinds.count(names[-1]))
            assert all(names[-1] in {" ".join(reversed(mark.what)) for mark in marks} for marks in inside)
            assert [(box.x1, box.y1) for box in boxes] == sorted((box.x1, box.y1) for box in boxes)
        assert len(set(names)) == len(names)
    assert all(skills[kind] > 15 for kind in ("word", "inside", 0, 1, 2))


@given(seeds, st.sampled_from(("train", "test")))
def test_sums_are_right(seed, split):
    left, sign, right, result = arithmetic(random.Random(seed), split, 1.0)
    assert result == {"+": left + right, "-": left - right, "x": left * right, ":": left / right}[sign]
    assert result >= 0


SIGNS = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__, ":": int.__floordiv__}


def check_from_last_digits(left, sign, right, steps, value):
    last, tens = (re.fullmatch(r"(\d+)(.)(\d+)(.1)?=(\d+)", step).groups() for step in steps)
    for one, by, two, carried, outcome in (last, tens):
        assert by == sign
        assert SIGNS[sign](int(one), int(two)) + int(carried or 0) == int(outcome)
    assert last[0][-1] + last[2] == left[-1] + right[-1]
    assert (tens[0] + left[-1]).lstrip("0") == left.lstrip("0")
    assert tens[4] + last[4][-1] == value.zfill(2)


def check_taken(left, sign, right, steps, value):
    """What is taken and what is left come to the result in every step, and each step takes one more of the times."""
    once, times = (1, int(value)) if sign == ":" else (int(left), int(right))
    assert len(steps) == times + 1
    for number, step in enumerate(steps):
        taken, one, by, two = re.fullmatch(r"(\d+)[+](\d+)(.)(\d+)", step).groups()
        assert by == sign
        assert int(taken) == number * once
        assert int(taken) + SIGNS[sign](int(one), int(two)) == int(value)


PROBLEM = re.compile(r"(\d+) (.) (\d+): (?:(\S+(?:, \S+)*): )?(\d+)")


def check_solved(left, sign, right, steps, value):
    assert SIGNS[sign](int(left), int(right)) == int(value)
    if sign in "x:":
        check_taken(left, sign, right, steps.split(", "), value)
    elif steps or max(int(left), int(right)) > 9:
        check_from_last_digits(left, sign, right, steps.split(", "), value)


def test_every_problem_of_a_sheet_is_worked_out():
    solved = Counter()
    for sample in samples("sums", "arithmetic"):
        if section_of(sample.question) == "compare":
            continue
        printed = (
            "".join(mark.what[0] for mark in marks_of(sample.picture))
            .replace("\N{MULTIPLICATION SIGN}", "x")
            .replace("\N{DIVISION SIGN}", ":")
        )
        for line in sample.answer.split("\n"):
            left, sign, right, *working = PROBLEM.fullmatch(line).groups()
            check_solved(left, sign, right, *working)
            assert f"{left}{sign}{right}" in printed
            solved[sign] += 1
        solved[sample.answer.count("\n") + 1] += 1
    assert set(solved) == {1, 2, 3, 4, 5, 6, 7, 8, *SIGNS}
    assert solved["x"] + solved[":"] > 0.8 * (solved["+"] + solved["-"])
    assert all("\n" not in draw("sums", seed, "test").answer for seed in range(100))


def test_areas_perimeters_and_angles_are_worked_out_from_the_printed_measures():
    problems_of = Counter()
    for sample in (*samples("sums", "area and perimeter"), *samples("sums", "angle and side")):
        if ":" not in sample.answer:
            assert re.fullmatch(r"\d+ (cm|m|km)", sample.answer)
            continue
        problems = [match.groups() for match in PROBLEM.finditer(sample.answer)]
        for problem in problems:
            check_solved(*problem)
        (left, sign, right, *_, value), *others = problems
        assert all(value in (one, two) for one, _, two, *_ in others)
        printed = re.findall(r"\d+", "".join(mark.what[0] for mark in marks_of(sample.picture)))
        assert {left, right} <= {*printed}
        unit = result(sample.answer).removeprefix(problems[-1][-1])
        assert unit == " degrees" if sample.skill == "angle and side" else re.fullmatch(" (square )?(cm|m|km)", unit)
        problems_of["".join((sign, *(problem[1] for problem in others))), "square" in unit] += 1
    assert set(problems_of) == {("x", True), ("++", False), ("+-", False)}


@given(seeds)
def test_a_column_of_training_is_asked_for_one_way_and_one_of_a_test_both(seed):
    """A cell by its row or a row by its cell, which is found by reading down to it."""
    for split in ("train", "test"):
        page = _table(random.Random(seed), split, 1.0)
        number = int(next(answer for section, _, answer, _ in page.asks if section == "rows"))
        spelled = "".join(mark.what[0] for mark in marks_of(page.picture))
        cells = {
            (slots["column"], slots["row"]): answer for section, slots, answer, _ in page.asks if section == "cell"
        }
        backs = [(slots["column"], slots["value"], a) for section, slots, a, _ in page.asks if section == "row of"]
        assert len(set(backs)) == len({column for column, *_ in backs}) == len(backs) // (3 if split == "train" else 1)
        assert set(Counter(column for column, _ in cells).values()) <= {number}
        for column, value, answer in backs:
            row = result(answer)
            steps = answer.removesuffix(f": {row}").split(", ")
            assert steps[-1] == f"{row} {value}"
            assert len(steps) <= number
            assert re.search(".*".join(re.escape(step.replace(" ", "", 1).split()[0][:3]) for step in steps), spelled)
            if split == "train":
                assert (column, row) not in cells
            else:
                names = [name for of, name in cells if of == column]
                assert steps == [f"{name} {cells[column, name]}" for name in names[: 1 + names.index(row)]]
                assert [cells[column, name] for name in names].count(value) == 1


def dialogues(world, count):
    """Of `count` samples of training the sections that their questions come from, in turn, and the answers."""
    for seed in range(count):
        messages = draw(world, seed, "train", turns=8).messages
        asked = [message.parts[-1].text for message in messages if message.role == "user"]
        yield [section_of(question) for question in asked], [m.parts[0].text for m in messages[1::2]]


@cache
def section_of(question):
    """Which section a wording of training belongs to: that whose own words make up most of it."""
    fitting = []
    for section, wordings in questions().items():
        for form in wordings.train:
            words = re.split(r"\{\w+\}", form)
            if re.fullmatch(".+".join(map(re.escape, words)), question, re.IGNORECASE):
                fitting.append((len("".join(words)), section))
    return max(fitting)[1]


def test_what_is_worked_out_comes_last_and_prices_are_asked_for_one_way():
    """Or the prices could be copied from what is said before the dearest."""
    worked = ("dearest", "cheapest", "row of")
    ranks = prices = 0
    for sections, _ in dialogues("documents", 300):
        late = [section in worked for section in sections]
        assert late == sorted(late)
        ranked = sum(section in ("dearest", "cheapest") for section in sections)
        assert ranked <= 1
        assert not ranked or "price of" not in sections
        ranks, prices = ranks + ranked, prices + ("price of" in sections)
    assert ranks > 10
    assert prices > 20


def test_what_is_worked_out_is_judged_by_what_it_comes_to_and_practised_most():
    """In training tables and receipts come more often than letters, which are known long before."""
    for split in ("train", "test"):
        drawn = [draw("documents", seed, split) for seed in range(400)]
        kinds = Counter(sample.skill.split()[0] for sample in drawn)
        worked = [sample for sample in drawn if ": " in sample.answer]
        assert {sample.metric for sample in worked} == {"result-anls"}
        if split == "train":
            assert min(kinds["table"], kinds["receipt"]) > 2 * kinds["letter"]
            tables = [sample for sample in worked if sample.skill == "table field"]
            assert len(tables) > 0.3 * kinds["table"]
            assert len(worked) - len(tables) > 7
        else:
            assert max(kinds[kind] for kind in ("table", "receipt", "form", "letter")) < 2 * kinds["letter"]


def compared(answer, best, end=None):
    """Names and numbers that `answer` goes through, each of which it rightly compares with the best before it.

    end: what it names after them.
    """
    found, leader = [], None
    steps = re.sub("[$€]", "", answer).rpartition(": ")[0].split(", ")
    assert end is None or steps.pop() == end
    for step in steps:
        name, number, sign, *before = re.fullmatch(r"(.+?) ([\d.]+)(?: ([<>]) (.+?) ([\d.]+))?", step).groups()
        found.append((name, number))
        if leader:
            assert tuple(before) == leader
            assert sign == ("<" if float(number) < float(leader[1]) else ">")
        leader = best(found, key=lambda one: float(one[1]))
    return found


@given(seeds)
def test_the_dearest_follows_from_the_prices_that_are_said_before(seed):
    page = _receipt(random.Random(seed), "test", 1.0)
    below = [field.name for field in page.fields if field.name not in ("shop", "date")]
    asks = {section: answer for section, _, answer, _ in page.asks}
    if "dearest" in asks:
        for section, best in (("dearest", max), ("cheapest", min)):
            goods = compared(asks[section], best, below[0])
            assert result(asks[section]) == best(goods, key=lambda good: float(good[1]))[0]
            assert asks["items"] == str(len(goods))
            prices = [answer for section, _, answer, _ in page.asks if section == "price of"]
            assert [re.sub("[$€]", "", price) for price in prices] == [price for _, price in goods]
            assert all(f" {price}" in asks[section] for price in prices)


@given(seeds, st.sampled_from(("train", "test")))
def test_what_is_told_in_words_can_be_found_in_them(seed, split):
    sample = draw("told", seed, split)
    lines = sample.question.lower().splitlines()
    told = [(name.rstrip(" -:=,"), value.lstrip("$€")) for name, _, value in (line.rpartition(" ") for line in lines)]
    question = next(line for line in (lines[0], lines[-1]) if line[-1] in "?.")
    answer = sample.answer.lower()
    if ": " not in answer:
        assert next(name for name, value in told if value == answer.lstrip("$€")) in question
        return
    last = answer.rpartition(": ")[0].split(", ")[-1]
    end = None if re.search(r"\d", last) else last  # what stands below the goods of a receipt
    best = max if re.search("most|high|larg", question) else min
    found = compared(answer, best, end)
    assert result(answer) == best(found, key=lambda one: float(one[1]))[0]
    first = told.index(found[0])
    assert told[first : first + len(found)] == found
    if end:
        assert told[first + len(found)][0] == end


def test_lists_in_words_hold_out_names():
    names = {"train": set(), "test": set()}
    for split, found in names.items():
        for answer in (draw("told", seed, split).answer for seed in range(200)):
            found.update(re.findall(r"(?:^|, )([^,<>:]+?) [$€]?[\d.]+ [<>]", answer))
    assert len(names["train"]) > 100
    assert all(belongs(name, "train") for name in names["train"])
    assert sum(not belongs(name, "train") for name in names["test"]) > 10


def test_of_a_clip_what_tells_most_is_asked_last():
    told = ["how many move", "what moved", "moved where"]
    several = 0
    for sections, answers in dialogues("clips", 300):
        del sections[: answers[0].startswith("There is no")]
        ranks = [told.index(section) for section in sections if section in told]
        assert ranks == sorted(ranks)
        assert ranks.count(0) <= 1
        assert ranks.count(1) <= 1
        several += len(set(ranks)) > 1
        late = [section in ("last", "when") for section in sections if section in ("order", "last", "when")]
        assert late == sorted(late)
    assert several > 60


@given(seeds)
def test_boxes_to_tick_are_marked_as_they_are_asked_for(seed):
    page = _form(random.Random(seed), "train", 1.0)
    marked = [mark for mark in marks_of(page.picture) if mark.what[0] == TICK_BOX[0]]
    told = [answer for section, _, answer, _ in page.asks if section == "ticked"]
    assert ["yes" if mark.what == TICK_BOX else "no" for mark in marked] == told


@given(seeds, st.booleans())
def test_clips_do_what_their_labels_say(seed, more):
    clip, asked = pose_clip(random.Random(seed), "train", 1.0)
    question, answer, skill, *_ = further(random.Random(seed), clip, "train") if more else asked
    movers = [actor for actor in clip.actors if any(actor.step)]
    named = [actor for actor in clip.actors if actor.name in question]
    if skill == "how many move":
        assert answer == str(len(movers))
    elif skill == "what moves":
        (mover,) = movers
        assert answer.endswith(mover.name)
    elif skill == "where it moves":
        (x, y), way = named[0].step, DIRECTIONS[answer]
        assert (np.sign(x), np.sign(y)) == way
    elif skill == "when":
        assert named[0].appears // 2 == TIMES.index(answer)
    elif skill == "order":
        first = min(named or clip.actors, key=lambda actor: actor.appears)
        last = max(clip.actors, key=lambda actor: actor.appears)
        assert answer.endswith(first.name if named else last.name)
    else:
        assert not named
    for actor in clip.actors:
        for frame in (0, clip.frames - 1):
            shape = actor.at(frame)
            assert shape.radius <= shape.x <= clip.side - shape.radius
            assert shape.radius <= shape.y <= clip.side - shape.radius


def test_only_what_moves_changes_between_frames():
    for seed in range(60):
        rng = random.Random(seed)
        clip, *_ = pose_clip(rng, "train", 1.0)
        frames = [np.asarray(frame, dtype=int) for frame in paint_clip(rng, clip)]
        still = not any(any(actor.step) or actor.appears for actor in clip.actors)
        # Compression spreads a change over its neighbourhood.
        assert still == all(np.abs(frame - frames[0]).max() < 40 for frame in frames)


def test_what_is_there_now_is_what_the_newest_frame_shows():
    """Where an answer names a colour it is the nearest one to that of the shape in the last frame before it."""
    right, asked, changed = 0, 0, 0
    for seed in range(60):
        messages = draw("live", seed, "train").messages
        before = None
        for user, assistant in zip(messages[::2], messages[1::2], strict=True):
            frames = user.parts[0].source
            assert len(frames) % 2 == 0
            colour = next(name for name in COLOURS if name in assistant.parts[0].text.split())
            pixels = np.asarray(frames[-1], dtype=float).reshape(-1, 3)
            far = np.abs(pixels - np.median(pixels, axis=0)).sum(1)
            shown = np.median(pixels[far > 0.7 * far.max()], axis=0)
            nearest = min(COLOURS, key=lambda name: np.abs(shown - COLOURS[name]).sum())
            asked, right, changed = asked + 1, right + (nearest == colour), changed + (before not in (None, colour))
            before = colour
    assert right >= 0.9 * asked
    assert changed > 15


@given(seeds)
def test_chart_answers_follow_from_the_plotted_values(seed):
    rng = random.Random(seed)
    chart = _data(rng, "train", 1.0)
    section, slots, answer = _question(rng, chart)
    values = chart.values
    if chart.kind == "pie":
        assert sum(values.values()) == 100
    if section in ("chart sum", "chart difference"):
        percent = "%" * (chart.kind == "pie")
        assert answer.startswith(", ".join(f"{slots[one]} {values[slots[one]]}{percent}" for one in ("one", "two")))
    number = result(answer).rstrip("%")
    if section == "chart value":
        assert int(number) == values[slots["name"]]
        *before, last = list(values)[: 1 + list(values).index(slots["name"])]
        percent = "%" * (chart.kind == "pie")
        assert answer == ", ".join(f"{n} {values[n]}{percent}" for n in (*before, last)) + f": {number}{percent}"
    elif section == "chart sum":
        assert int(number) == values[slots["one"]] + values[slots["two"]]
    elif section == "chart difference":
        assert int(number) == values[slots["one"]] - values[slots["two"]] > 0
    elif section in ("chart highest", "chart lowest"):
        best = max if section == "chart highest" else min
        assert [(name, int(number)) for name, number in compared(answer, best)] == [*values.items()]
        assert values[number] == best(values.values())
    elif section == "chart count":
        assert int(answer) == len(values)
    else:
        assert answer == chart.title


@pytest.mark.parametrize("kind", ["bars", "columns", "line", "pie"])
def test_long_names_leave_room_for_what_they_name(kind):
    chart = Chart(kind, "Visitors", {"A name as long as this": 60, "Another": 40}, printed=True)
    for seed in range(40):
        picture = paint_chart(random.Random(seed), "train", chart)
        marks = marks_of(picture)
        assert "Another" in "".join(mark.what[0] for mark in marks)
        assert all(0 < mark.x < picture.width and 0 < mark.y < picture.height for mark in marks)


def test_of_a_chart_what_tells_more_of_its_values_is_asked_later():
    several = told = 0
    for sections, answers in dialogues("charts", 120):
        values = [len(answer.split(", ")) if ": " in answer else 0 for answer in answers]
        assert values == sorted(values)
        several, told = several + (len(sections) > 3), told + (len({*values} - {0}) > 1)
    assert several > 60
    assert told > 40


def test_numbers_that_are_compared_are_those_of_the_sheet():
    kinds = Counter()
    for sample in samples("sums", "arithmetic"):
        printed = "".join(mark.what[0] for mark in marks_of(sample.picture))
        for line in sample.answer.split("\n"):
            if found := re.fullmatch(r"([\d.]+) ([<>]) ([\d.]+)", line):
                left, sign, right = found.groups()
                assert (sign == "<") == (float(left) < float(right))
                assert float(left) != float(right)
                assert re.search(rf"{re.escape(left)}[?]?{re.escape(right)}", printed)
                kinds[sign, "." in left] += 1
    assert len(kinds) == 4
    assert min(kinds.values()) > 5


@pytest.mark.parametrize("seed", range(30))
def test_a_receipt_adds_up(seed):
    page = _receipt(random.Random(seed), "test", 1.0)
    fields = {field.name: field.value for field in page.fields}
    amount = {
        name: float(re.sub("[^0-9.]", "", fields[name])) for name in ("subtotal", "tax", "total") if name in fields
    }
    prices = [float(re.sub("[^0-9.]", "", answer)) for section, _, answer, _ in page.asks if section == "price of"]
    assert math.isclose(amount["total"], sum(prices) + amount.get("tax", 0), abs_tol=0.011)
    assert "subtotal" not in amount or math.isclose(amount["subtotal"], sum(prices), abs_tol=0.011)


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("split", ["train", "test"])
def test_calls_fit_the_tools_offered_and_answers_use_the_result(split, turns):
    for seed in range(120):
        sample = draw("calls", seed, split, turns=turns)
        offered = {tool.name: tool for tool in sample.tools}
        for message in sample.messages:
            for call in (part for part in message.parts if isinstance(part, ToolCall)):
                schema = offered[call.name].parameters
                assert set(json.loads(call.arguments)) == set(schema["required"])
        if sample.metric == "tool-call":
            wishes = len(sample.messages) // 4
            assert [m.role for m in sample.messages] == ["user", "assistant", "tool", "assistant"] * wishes
            assert wishes == (1 if turns == 1 else 2)
            for tool, answer in zip(sample.messages[2::4], sample.messages[3::4], strict=True):
                result = json.loads(next(p.text for p in tool.parts if isinstance(p, Text)))
                said = answer.parts[0].text
                told = [str(value) for value in result.values() if not isinstance(value, bool) and value != 0]
                assert all(value in said for value in told if value != "late"), (result, said)


def test_no_question_of_a_scene_asks_for_a_side_here_and_for_a_box_there():
    for split in ("train", "test"):
        forms = {ws.replace("{colour} {shape}", "{name}").lower() for ws in getattr(WORDINGS["where"], split)}
        assert not forms & set(getattr(questions()["box"], split))
