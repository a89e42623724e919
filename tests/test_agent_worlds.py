"""Small worlds: games that seeds repeat and experts win, a shop whose tasks check themselves and can be solved."""

from __future__ import annotations

import json
import random
import re
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from clearsight.agent import read_trajectory
from clearsight.agent.events import Answered, Event
from clearsight.agent.games import GAMES, Expert, Point24, Random, Table, play_game, success_rate
from clearsight.agent.games.cards import draw_card
from clearsight.agent.games.formula import solve, value_of
from clearsight.agent.games.play import hand_value
from clearsight.agent.plain import plain_messages
from clearsight.agent.screen.browser import find_chromium
from clearsight.agent.screen.guard import Guard, risks_in
from clearsight.agent.shop import KINDS, Chance, Oracle, Tasks, draw_task, draw_tasks
from clearsight.agent.shop.server import visit
from clearsight.messages import Text, ToolCall

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.mark.parametrize("name", GAMES)
def test_games_are_gymnasium_environments_and_seeds_repeat_them(name):
    check_env(GAMES[name](), skip_render_check=True)
    first, second = GAMES[name](), GAMES[name]()
    seen, other = first.reset(seed=5)[0], second.reset(seed=5)[0]
    assert np.array_equal(seen, other)
    assert not np.array_equal(seen, second.reset(seed=6)[0])


@pytest.mark.parametrize("name", GAMES)
def test_actions_are_tools_whose_names_every_server_takes(name):
    table = Table(GAMES[name](), 3)
    names = [move.spec.name for move in table.tools()]
    assert len(set(names)) == len(GAMES[name].actions)
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", name) for name in names)
    call = Expert(table.game, 3).chat([]).tool_calls[0]
    assert names.index(call.name) == GAMES[name].actions.index(table.game.best())


@pytest.mark.parametrize(("name", "expert", "chance"), [("number_line", 1.0, 0.8), ("ezpoint", 1.0, 0.1)])
def test_experts_win_what_can_be_won_and_chance_does_not(name, expert, chance):
    assert success_rate(name, Expert, range(15)) == expert
    assert success_rate(name, Random, range(15)) <= chance


def test_an_expert_says_what_the_picture_shows_and_then_what_it_does():
    game = GAMES["number_line"]()
    game.reset(seed=4)
    assert game.thought().split(":")[0] == f"Target {game.target}, current {game.current}"
    game = GAMES["blackjack"]()
    game.reset(seed=4)
    shown = [game.dealer[0].name, *(card.name for card in game.player)]
    assert re.findall(r"10|[2-9AJQK]", game.thought().split(": ")[0].replace("Dealer", "")) == shown
    game = GAMES["ezpoint"]()
    game.reset(seed=4)
    assert all(card.name in game.thought() for card in game.hand)
    assert value_of(game.thought().split(": ")[1].removesuffix(" =.").split()) == 12
    for game in (GAMES["number_line"](), GAMES["blackjack"]()):
        game.reset(seed=5)
        assert game.thought().endswith(f" {game.best()}.")


@pytest.mark.parametrize("name", ["ezpoint", "point24"])
def test_an_expert_says_what_is_left_to_write_which_begins_with_what_it_does(name):
    said = {"open": "(", "close": ")"}
    for seed in range(30):
        game, lefts, ended = GAMES[name](), [], False
        game.reset(seed=seed)
        while not ended:
            lefts.append([said.get(sign, sign) for sign in game.thought().split(": ")[1].removesuffix(".").split()])
            assert lefts[-1][0] == game.best()
            ended = game.step(game.actions.index(game.best()))[2]
        assert lefts == [lefts[0][at:] for at in range(len(lefts[0]))]
        assert lefts[-1] == ["="]


def test_what_is_said_of_a_hand_adds_up():
    rng, game = random.Random(7), GAMES["blackjack"]()
    for seed in range(200):
        game.reset(seed=seed)
        game.player = [draw_card(rng) for _ in range(rng.randint(2, 5))]
        sums = re.findall(r"((?:soft )?\d+) \+ (\w+) = ((?:soft )?\d+)", game.thought())
        assert len(sums) == len(game.player) - 1
        assert [total for _, _, total in sums[:-1]] == [before for before, _, _ in sums[1:]]
        for before, card, total in sums:
            held, added, made = (int(re.sub("soft |A", "", part) or 1) for part in (before, card, total))
            tens = made - held - added  # an ace becomes 11, or counts 1 again
            assert tens == 10 * (("soft" in total) - ("soft" in before)), game.thought()
        value, soft = hand_value(game.player)
        assert sums[-1][2] == f"{'soft ' if soft else ''}{value}"


def test_blackjack_and_point24_are_played_to_their_end():
    assert success_rate("point24", Expert, range(4)) == 1.0
    assert success_rate("point24", partial(Random, allowed=True), range(4)) <= 0.5
    assert 0.2 < success_rate("blackjack", Expert, range(40)) < 0.7


def test_formulas_are_exact_and_solutions_have_no_needless_brackets():
    assert value_of(["8", "/", "(", "3", "-", "8", "/", "3", ")"]) == 24
    assert value_of(["1", "/", "(", "2", "-", "2", ")"]) is None
    assert solve((1, 1, 1, 1), 24) is None
    assert value_of(list(solve((3, 3, 8, 8), 24))) == 24
    assert solve((4, 6), 24) in (("4", "*", "6"), ("6", "*", "4"))


def test_a_formula_that_breaks_the_rules_fails():
    game = Point24()
    game.reset(seed=1)
    _, reward, over, _, info = game.step(game.actions.index("+"))
    assert (reward, over, info["success"]) == (-1.0, True, False)
    assert "cannot stand" in info["note"]


def test_a_table_shows_the_game_after_each_move(tmp_path):
    seen: list[Event] = []
    assert play_game("number_line", Expert, 3, record=tmp_path / "game.jsonl", watch=seen.append)
    trajectory = read_trajectory(tmp_path / "game.jsonl")
    assert [event.calls[0].name for event in seen if isinstance(event, Answered)] == [c.name for c in trajectory.calls]
    assert {call.name for call in trajectory.calls} <= {"up", "down"}
    assert sum(turn.role == "tool" for turn in trajectory.messages) == len(trajectory.calls)
    assert plain_messages(trajectory.messages)[-1]["content"][-1]["type"] == "image_url"
    table = Table(GAMES["blackjack"](), 1)
    table.play("Stand")
    assert table.over


def walk(task):
    """The task's way on the pages alone, without a browser: follow links, send forms."""
    look, state = task.look, task.state
    page = visit(look, state, "/", {}, None)
    typed = {}
    for move in task.way:
        element = re.search(rf'<[^>]*data-id="{re.escape(move.tap)}"[^>]*>', page)
        assert element is not None, (task.name, move.tap)
        tag = element[0]
        if move.text:
            typed[re.search(r'name="(\w+)"', tag)[1]] = move.text
            if move.enter:
                page = visit(look, state, "/", {"q": move.text}, None)
        elif href := re.search(r'href="([^"]*)"', tag):
            page = follow(look, state, href[1])
        elif tag.startswith("<input"):
            typed[re.search(r'name="(\w+)"', tag)[1]] = (re.search(r'value="(\w+)"', tag) or [0, "on"])[1]
            if "checked" in tag:
                typed = {"": ""}
        else:
            form = page[: element.start()].rfind("<form")
            action = re.search(r'action="([^"]*)"', page[form:])[1]
            page = follow(look, state, visit(look, state, action, {}, typed))
            typed = {}


def follow(look, state, address):
    parts = urlsplit(address)
    query = {name: values[-1] for name, values in parse_qs(parts.query.replace("&amp;", "&")).items()}
    return visit(look, state, parts.path, query, None)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_task_is_unsolved_before_its_way_and_solved_after(split):
    for task in draw_tasks(4 * len(KINDS), split):
        assert not task.state.lists
        task.state.lists.append(("", 0, False))
        assert not task.solved(task.state), task.name
        walk(task)
        assert task.solved(task.state), (task.name, task.seed)
        assert len(task.way) <= 6


def test_tasks_are_drawn_from_their_seeds_and_splits_share_nothing():
    assert len(draw_tasks(46)) == 46
    assert draw_task("buy", 3).text == draw_task("buy", 3).text
    names = {
        split: {p.name for task in draw_tasks(60, split) for p in task.state.products} for split in ("train", "test")
    }
    assert not names["train"] & names["test"]
    words = {split: {w for task in draw_tasks(60, split) for w in task.look.words.values()} for split in names}
    assert not words["train"] & words["test"]
    looks = {split: {(t.look.background, t.look.place, t.look.font) for t in draw_tasks(60, split)} for split in names}
    assert not looks["train"] & looks["test"]


def test_a_shop_survives_what_nobody_should_send():
    task = draw_task("add", 0)
    rng = random.Random(0)
    for path in ("/item/999", "/add/x", "/nope", "/item/", "/add/-1", "/" + "x" * 5000):
        assert visit(task.look, task.state, path, {}, None if rng.random() < 0.5 else {}) is None
    assert not task.state.cart


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium found; install it or set CLEARSIGHT_CHROMIUM")
def test_the_oracle_solves_tasks_in_a_browser_and_its_runs_are_training_data(tmp_path):
    """One of each kind would take a minute; the ways of all kinds are walked above, here the hands are tested."""
    with Tasks() as tasks:
        for kind, split in (("buy", "test"), ("message", "train"), ("large_text", "test"), ("remove", "train")):
            folder = tmp_path / kind
            attempt = tasks.attempt(draw_task(kind, 1, split), Oracle, record=folder)
            assert (attempt.solved, attempt.ended.reason) == (True, "done")
            calls = read_trajectory(folder / "run.jsonl").calls
            assert [call.name for call in calls] == [step.action.name for step in attempt.steps]
        assert not tasks.attempt(draw_task("buy", 2), lambda browser, task: Chance(0)).solved


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium found; install it or set CLEARSIGHT_CHROMIUM")
def test_where_the_screen_is_told_in_words_the_oracle_says_the_line_it_acts_on(tmp_path):
    """What a model learns from must follow from what it is shown: its line, and the mark. Moves count."""
    with Tasks() as tasks:
        for kind, split in (("search_add", "test"), ("language", "train"), ("less", "test")):
            folder = tmp_path / kind
            task = draw_task(kind, 2, split)
            assert tasks.attempt(task, Oracle, record=folder, observe="elements").solved
            told: list[str] = []
            clicks = 0
            for message in read_trajectory(folder / "run.jsonl").messages:
                texts = [part.text for part in message.parts if isinstance(part, Text)]
                for call in (part for part in message.parts if isinstance(part, ToolCall)):
                    arguments = json.loads(call.arguments)
                    if call.name in ("Click", "Scroll"):
                        (text,) = texts
                        count, line = text.splitlines()
                        assert count == f"{clicks + 1}/{len(task.way)}"
                        clicks += call.name == "Click"
                        assert any(other.endswith(line) for other in told)
                        assert line.endswith(f'" {arguments.get("mark", "below")}')
                told += [line for text in texts for line in text.splitlines()]


def answers_follow(sample, counted):
    """Each answer is a line of the screen that is told last, perhaps behind a count, and acts on its mark."""
    screen = ""
    for turn in sample["messages"]:
        if turn["role"] == "user":
            before, mark, _ = turn["content"].partition("\nYour task is: ")
            screen = before if mark else screen
            continue
        *count, said = turn["content"].splitlines()
        assert [1 <= int(text[0]) <= int(text[2]) <= 6 for text in count] == [True] * counted
        assert any(line.endswith(said) for line in screen.splitlines())
        (call,) = turn["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        where = {"down": "below", "up": "above"}
        assert said.endswith(f'" {arguments.get("mark") or where[arguments["direction"]]}')


def test_training_data_of_the_games_plays_as_an_expert_does(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import games as recipe

    for name, seen in (("number_line", False), ("blackjack", True), ("point24", False)):
        sample = recipe.told(name, iter(range(50, 100)), begun=name != "number_line", seen=seen)
        names = {tool["function"]["name"] for tool in sample["tools"]}
        assert {turn["role"] for turn in sample["messages"][1:]} == {"assistant", "tool"}
        turns = [turn for turn in sample["messages"] if turn["role"] == "assistant"]
        assert all(turn["tool_calls"][0]["function"]["name"] in names for turn in turns)
        assert sum("image" in str(turn) for turn in sample["messages"]) == (len(turns) if seen else 0)
    hands = recipe.asked(recipe.LongBlackjack(), iter(range(50, 100)))["messages"]
    assert all(
        f"me {asked['content'].split('You: ')[1]}:" in said["content"]
        for asked, said in zip(hands[::2], hands[1::2], strict=True)
    )


def test_training_data_of_the_shop_follows_from_what_is_told(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    import shop

    lines = shop.Lines(1)
    for most in (2, 6, 20, 20, 20):
        answers_follow(lines.sample(most), counted=0)
    assert lines.sample(6) != shop.Lines(2).sample(6)
    if find_chromium() is not None:
        with Tasks() as tasks:
            moves = shop.Moves(tasks, 1)
            for _ in range(4):
                for sample in moves.page():
                    answers_follow(sample, counted=1)


def test_the_guard_reads_labels_in_several_languages_and_not_everything_is_a_risk():
    assert risks_in(["Jetzt kaufen"]) == {"spend"}
    assert risks_in(["立即购买"]) == {"spend"}
    assert risks_in(["Supprimer"]) == {"delete"}
    assert risks_in(["Отправить"]) == {"send"}
    for harmless in (
        "Next",
        "Better prices",
        "Search",
        "Poster",
        "Apply filter",
        "Cheapest first",
        "Clear search",
        "Save",
    ):
        assert risks_in([harmless]) == set()
    guard = Guard(sites={"shop.test", "127.0.0.1:8000"})
    assert guard.inside("https://shop.test/a")
    assert guard.inside("https://www.shop.test/a")
    assert guard.inside("http://127.0.0.1:8000/")
    for outside in (
        "http://127.0.0.1:9000/",
        "https://notshop.test/",
        "https://shop.test.evil/",
        "https://shop.test@evil/",
    ):
        assert not guard.inside(outside)
    with pytest.raises(ValueError, match="unknown risk"):
        Guard(confirm=frozenset({"fly"}))
