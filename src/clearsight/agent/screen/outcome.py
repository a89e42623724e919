"""Looking again after an action: did anything change, and was it what the action was for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL.Image import Image as PillowImage

from clearsight.agent.screen.actions import Action
from clearsight.agent.screen.environment import State, Target
from clearsight.agent.screen.guard import quoted

# Pixels that must differ: fewer are a blinking caret or the noise of drawing.
_CHANGED_PIXELS = 40
_VISIBLE = 24  # of 255


@dataclass(frozen=True, slots=True)
class Outcome:
    """changed: the screen or what has the focus. as_intended: None where that cannot be told. text: for the model."""

    changed: bool
    as_intended: bool | None
    text: str


def differs(before: PillowImage, after: PillowImage, still: float = 0.0) -> bool:
    """Whether two screens look different below the share `still` of their height."""
    if before.size != after.size:
        return True
    top = round(still * before.height)
    first, second = (np.asarray(picture, dtype=np.int16)[top:] for picture in (before, after))
    return int((np.abs(first - second).max(axis=2) > _VISIBLE).sum()) > _CHANGED_PIXELS


def judge(action: Action, looks_changed: bool, states: tuple[State, State], target: Target, after: Target) -> Outcome:
    """states: before and after. target, after: what the action would act on, then and now."""
    moved = states[0].place != states[1].place
    changed = looks_changed or moved or states[0].focus != states[1].focus
    intended, text = _judged(action, changed, moved, target, after)
    return Outcome(changed, intended, text)


def _judged(action: Action, changed: bool, moved: bool, target: Target, after: Target) -> tuple[bool | None, str]:
    if action.name == "Wait":
        return None, "the screen changed while waiting" if changed else "the screen is as it was before"
    if action.name == "Type":
        return _typed(action, changed, after)
    if not changed:
        if action.name in ("Scroll", "Swipe"):
            return False, "nothing moved: there is nothing further in that direction, or nothing here scrolls"
        what = quoted(target.label or target.kind) if action.point and (target.label or target.kind) else ""
        return False, f"nothing changed on the screen{f'; at that point is {what}' if what else ''}"
    if moved:
        return True, "another page is shown now"
    if action.name in ("Click", "Enter") and target.link and target.link.split("#")[0]:
        return False, "the screen changed, but the link's page did not open"
    return True, "the screen changed"


def _typed(action: Action, changed: bool, after: Target) -> tuple[bool | None, str]:
    if after.kind != "field":
        return (
            (None, "something changed, but no field has the focus")
            if changed
            else (
                False,
                "nothing was typed: no field has the focus; click into one first",
            )
        )
    if after.value is None:
        return None, "typed; what the field holds cannot be seen"
    kept = " ".join(action.text.split()) in " ".join(after.value.split())
    if kept:
        return True, f"the field now holds {quoted(after.value)}"
    return False, f"the field holds {quoted(after.value)}, not what was typed"
