"""App screens as HTML: seeded pages whose elements carry their names, for a browser to render."""

from __future__ import annotations

import base64
import html
import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .fonts import pick_font
from .names import person, pick
from .sample import CELL, Split
from .tokens import price


class Element(NamedTuple):
    """What can be pressed: its name as it is asked for, its markup, and wishes that pressing it serves."""

    name: str
    markup: str
    goals: tuple[str, ...] = ()


class Layout(NamedTuple):
    """A page of `width` x `height` pixels. goals: by element name."""

    markup: str
    width: int
    height: int
    goals: dict[str, tuple[str, ...]]


_Parts = tuple[str, list[Element]]  # title, elements


def make_layout(rng: random.Random, split: Split) -> Layout:
    """A screen of 196 x 280 to 280 x 364 in random colours, sizes, corners and fonts."""
    title, elements = rng.choice(_APPS)(rng, split)
    width, height = rng.randint(7, 10) * CELL, rng.randint(10, 13) * CELL
    body = "".join(element.markup for element in elements)
    page = f"<style>{_style(rng, split)}</style><header>{html.escape(title)}</header><main>{body}</main>"
    return Layout(page, width, height, {element.name: element.goals for element in elements if element.goals})


def _style(rng: random.Random, split: Split) -> str:
    dark = rng.random() < 0.3
    hue = rng.randint(0, 359)
    paper, ink, line = ("#1b1c20", "#f2f2f2", "#444") if dark else ("#fcfcfc", "#161616", "#ccc")
    # Training never shows a screen that is filled from below.
    arrangement = rng.choice(("column", "column", *["column-reverse"] * (split == "test")))
    gap, corner, size = rng.randint(4, 9), rng.choice((0, 3, 6, 12)), rng.randint(12, 15)
    return (
        f"@font-face{{font-family:face;src:url(data:font/ttf;base64,{_font_data(pick_font(rng, split))})}}"
        f"*{{box-sizing:border-box;font-family:face;font-size:{size}px}}"
        f"body{{margin:0;background:{paper};color:{ink};overflow:hidden}}"
        f"header{{padding:8px;font-size:{size + 3}px;background:hsl({hue},55%,{28 if dark else 86}%)}}"
        f"main{{display:flex;flex-direction:{arrangement};gap:{gap}px;"
        f"padding:{rng.randint(6, 60)}px {rng.randint(6, 12)}px 6px}}"
        f"button,.field,.row{{border:1px solid {line};border-radius:{corner}px;padding:{rng.randint(4, 7)}px 8px;"
        f"background:transparent;color:{ink};text-align:{rng.choice(('left', 'center'))}}}"
        f".row{{display:flex;justify-content:space-between;align-items:center}}"
        f".field{{color:#888;text-align:left}}"
        f".main{{background:hsl({hue},65%,{38 if dark else 42}%);color:#fff}}"
        f".line{{display:flex;gap:{gap}px}}.line button{{flex:1;padding:6px 2px}}"
        f".knob{{width:30px;height:16px;border-radius:8px;background:#999}}.on{{background:hsl({hue},70%,45%)}}"
    )


@lru_cache(maxsize=64)
def _font_data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


# --- elements ----------------------------------------------------------------------------------------------


def _tagged(name: str, tag: str, kind: str, inner: str) -> str:
    return f'<{tag} class="{kind}" data-name="{html.escape(name, quote=True)}">{inner}</{tag}>'


def _button(text: str, *goals: str, main: bool = False) -> Element:
    return Element(f"the button {text}", _tagged(f"the button {text}", "button", "main" * main, text), goals)


def _field(text: str, *goals: str) -> Element:
    return Element(f"the field {text}", _tagged(f"the field {text}", "div", "field", text), goals)


def _switch(text: str, on: bool, *goals: str) -> Element:
    knob = f'<span class="knob {"on" * on}"></span>'
    return Element(
        f"the switch {text}", _tagged(f"the switch {text}", "div", "row", f"<span>{text}</span>{knob}"), goals
    )


def _entry(text: str, note: str, *goals: str) -> Element:
    inner = f"<span>{html.escape(text)}</span><span>{html.escape(note)}</span>"
    return Element(f"the entry {text}", _tagged(f"the entry {text}", "div", "row", inner), goals)


def _in_a_line(*elements: Element) -> list[Element]:
    """Elements side by side: the first opens the line, the last closes it."""
    first, *_, last = elements
    opened = first._replace(markup='<div class="line">' + first.markup)
    closed = last._replace(markup=last.markup + "</div>")
    return [opened, *elements[1:-1], closed]


# --- apps --------------------------------------------------------------------------------------------------


def _login(rng: random.Random, _split: Split) -> _Parts:
    name = rng.choice(("User name", "Email", "Phone"))
    elements = [
        _field(name, f"type my {name.lower()}"),
        _field("Password", "type my password"),
        _button(rng.choice(("Log in", "Sign in")), "log in", "get into my account", main=True),
        _button("Forgot password", "get a new password"),
        _button("Create account", "make a new account"),
    ]
    return rng.choice(("Welcome", "Sign in", "My account")), elements[: rng.randint(3, 5)]


_SETTINGS = ("Wifi", "Bluetooth", "Dark mode", "Sound", "Location", "Airplane mode", "Updates", "Backup")


def _settings(rng: random.Random, _split: Split) -> _Parts:
    elements = []
    for text in rng.sample(_SETTINGS, rng.randint(3, 6)):
        on = rng.random() < 0.5
        elements.append(_switch(text, on, f"turn {'off' if on else 'on'} {text.lower()}"))
    return "Settings", [*elements, *([_button("Back", "go back")] * (rng.random() < 0.5))]


def _mail(rng: random.Random, split: Split) -> _Parts:
    people = dict.fromkeys(person(rng, split) for _ in range(rng.randint(2, 4)))
    entries = [
        _entry(name, f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}", f"read the mail of {name}") for name in people
    ]
    tools = _in_a_line(_button("Write", "write a new mail", main=True), _button("Search", "find a mail"))
    return rng.choice(("Inbox", "Mail")), [*entries, *tools] if rng.random() < 0.5 else [*tools, *entries]


def _shop(rng: random.Random, split: Split) -> _Parts:
    goods = pick(rng, "goods", split, rng.randint(2, 4))
    entries = [_entry(good.capitalize(), price(rng), f"see more about the {good}") for good in goods]
    foot = _in_a_line(_button("Cart", "see what I am buying"), _button("Pay", "pay", main=True))
    return rng.choice(("Shop", "Store")), [_field("Search", "search for something"), *entries, *foot]


def _player(rng: random.Random, split: Split) -> _Parts:
    songs = pick(rng, "city", split, rng.randint(1, 3))
    entries = [_entry(song, f"{rng.randint(1, 5)}:{rng.randint(0, 59):02}", f"listen to {song}") for song in songs]
    keys = _in_a_line(
        _button("Previous", "hear the song before"),
        _button(rng.choice(("Play", "Pause")), main=True),
        _button("Next", "hear the next song"),
    )
    return rng.choice(("Music", "Player")), [*entries, *keys]


def _question(rng: random.Random, _split: Split) -> _Parts:
    what, yes, goal = rng.choice(
        (
            ("Delete this file?", "Delete", "delete the file"),
            ("Save the changes?", "Save", "save the changes"),
            ("Send the message?", "Send", "send the message"),
            ("Close the app?", "Close", "close the app"),
        )
    )
    stay = f"not {goal}"
    keys = [_button(yes, goal, main=True), _button("Cancel", stay)]
    rng.shuffle(keys)
    return what, _in_a_line(*keys) if rng.random() < 0.6 else keys


def _keypad(rng: random.Random, _split: Split) -> _Parts:
    rows = [_in_a_line(*(_button(str(3 * r + c + 1)) for c in range(3))) for r in range(3)]
    last = _in_a_line(
        _button("Clear", "start over"), _button("0"), _button(rng.choice(("Call", "Enter")), "finish", main=True)
    )
    return rng.choice(("Phone", "PIN")), [*(element for row in rows for element in row), *last]


_APPS: tuple[Callable[[random.Random, Split], _Parts], ...] = (
    _login,
    _settings,
    _mail,
    _shop,
    _player,
    _question,
    _keypad,
)
