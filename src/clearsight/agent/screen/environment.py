"""What an operator needs of a screen, whatever is behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image as PillowImage

from clearsight.agent.screen.actions import Action, Point


class ScreenError(RuntimeError):
    """An action could not be carried out; one sentence, for the model."""


class ScreenGone(RuntimeError):
    """The browser, device or its server does not answer any more: the run is over; one sentence, for the person."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an action would act on, as far as the environment can tell. All texts come from the screen: data, no more.

    label: what it is called. link: where it leads. form: where it sends a form, with "POST " in front if it changes
    things there. submit: what the form's button is called. field: the kinds of the form's fields. value: of a field.
    """

    kind: str = ""
    label: str = ""
    link: str = ""
    form: str = ""
    submit: str = ""
    field: str = ""
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Element:
    """Something on the screen, in words. All texts come from the screen: data, no more.

    label: what it says or is called. leads: where a link or button leads, or sends its form. value: what a field holds.
    point: its middle in thousandths of the screen, None if it is no link, button or field or not in sight; then `away`
    says which way it lies ("above", "below"), if it can be acted on.
    """

    label: str
    leads: str = ""
    value: str | None = None
    point: Point | None = None
    away: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """place: address of the page, or name of the app. focus: which field has it, and what it holds."""

    place: str
    focus: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What a screen is about to do of itself. kind: "go" (to another page), "send" (a request that changes something)
    or "dialog" (a question the page asks). detail: the address, or the question's text."""

    kind: str
    detail: str


class Environment(Protocol):
    """observe and act are the core; the rest tells the operator what it must know to act safely.

    Every method may raise ScreenGone; act also ScreenError. decide: asked before the screen does something of itself,
    and set by the operator; until then everything is refused. still: share of the height, at the top, that changes
    by itself (a clock).
    """

    name: str
    still: float
    decide: Callable[[Request], bool]

    def observe(self) -> PillowImage:
        """The screen as an RGB picture, with secrets covered."""

    def elements(self) -> Sequence[Element]:
        """What is on the screen, in the order of reading; no secret field's value."""

    def act(self, action: Action) -> Sequence[str]:
        """Carry it out and let the screen settle. Returns what happened besides: dialogs, new tabs, downloads."""

    def target(self, action: Action) -> Target:
        """What it would act on."""

    def state(self) -> State: ...

    def hide(self, values: Sequence[str]) -> None:
        """Texts that must never be seen in a picture."""

    def close(self) -> None: ...
