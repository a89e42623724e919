"""One call of the model, carried out with care: read it, check it, act, look again, judge."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

from PIL.Image import Image as PillowImage

from clearsight.agent.screen.actions import Action, ActionError, read_action
from clearsight.agent.screen.environment import Environment, ScreenError, State, Target
from clearsight.agent.screen.guard import Guard
from clearsight.agent.screen.listing import Listing, Marks, news
from clearsight.agent.screen.outcome import Outcome, differs, judge
from clearsight.agent.screen.secrets import Secrets
from clearsight.messages import ToolCall

_AGAIN = Outcome(False, False, "this was tried here before and changed nothing; do something else")


class Hand:
    """Acts on an environment and remembers what was in vain. picture: the screen as it was last seen.

    observe: one of POINTING; if the screen is wanted in words, `words` has them, or what is new since the last action.
    """

    def __init__(self, environment: Environment, guard: Guard, secrets: Secrets, dry_run: bool, observe: str) -> None:
        self._screen, self._guard, self._secrets, self._dry_run = environment, guard, secrets, dry_run
        self._tried: Counter[tuple[str, str]] = Counter()
        self._useless: set[tuple[str, str]] = set()
        environment.decide = guard.decide
        environment.hide(secrets.values)
        self._observe, self._listing, self._marks, self.words = observe, Listing(), Marks(), ""
        self._look()

    @property
    def most_tried(self) -> tuple[str, int]:
        """The action tried most often in one situation, and how often."""
        ((_, action), times) = self._tried.most_common(1)[0] if self._tried else (("", ""), 0)
        return action, times

    @property
    def place(self) -> str:
        try:
            return self._secrets.hidden(self._screen.state().place)
        except ScreenError:
            return ""

    def attempt(self, call: ToolCall) -> tuple[Action | None, Outcome]:
        """The action that was meant, None if that cannot be read, and what came of it; no secret in either.

        Raises ScreenGone, or ScreenError if the screen cannot be looked at any more.
        """
        # Until the screen is looked at again; an action may be refused.
        self.words = news(self._listing.text, self._listing.text)
        try:
            action = self._placed(read_action(call, self._observe))
            outcome = self._done() if action.name == "Done" else self._carry_out(action, self._secrets.filled(action))
        except ActionError as error:
            return None, Outcome(False, False, str(error))
        return action, replace(outcome, text=self._secrets.hidden(outcome.text))

    def _placed(self, action: Action) -> Action:
        """With the point that its mark stands for now."""
        if action.mark and action.mark not in self._listing.points:
            raise ActionError(f"no line has the mark {action.mark!r} now")
        return replace(action, point=self._listing.points[action.mark]) if action.mark else action

    def _done(self) -> Outcome:
        return Outcome(False, None, "finished, as the model says")

    def _carry_out(self, action: Action, real: Action) -> Outcome:
        before = self._screen.state()
        situation = (_fingerprint(self.picture, before), str(action))
        self._tried[situation] += action.name != "Wait"
        if situation in self._useless:
            return _AGAIN
        target = self._screen.target(real)
        self._guard.new_action()
        refusal = self._guard.check(action, target)
        if refusal is not None:
            return Outcome(False, False, refusal)
        if self._dry_run:
            return Outcome(False, None, "not carried out (dry run)")
        outcome = self._act(real, before, target)
        if not outcome.changed and action.name != "Wait":
            self._useless.add(situation)
        return outcome

    def _look(self) -> None:
        self.picture = self._screen.observe()
        if self._observe != "picture":
            before = self._listing
            self._listing = self._marks.listing(self._screen.elements(), self._secrets.hidden)
            self.words = news(before.text, self._listing.text)

    def _act(self, real: Action, before: State, target: Target) -> Outcome:
        try:
            notes = list(self._screen.act(real))
        except ScreenError as error:
            notes = [str(error)]
        old = self.picture
        self._look()
        looks = differs(old, self.picture, self._screen.still)
        # A typed text is looked for in the field that had the focus; all else is judged by the screen.
        after = self._screen.target(real) if real.name == "Type" else target
        states, shown = (before, self._screen.state()), replace(real, text=self._secrets.hidden(real.text))
        outcome = judge(shown, looks, states, self._without_secrets(target), self._without_secrets(after))
        held = any("held back" in note or "dismissed" in note for note in notes)
        return Outcome(outcome.changed, False if held else outcome.as_intended, "; ".join([outcome.text, *notes]))

    def _without_secrets(self, target: Target) -> Target:
        """Before its texts are cut: half a secret would not be known for one."""
        hidden = self._secrets.hidden
        value = None if target.value is None else hidden(target.value)
        return replace(target, label=hidden(target.label), link=hidden(target.link), value=value)


def _fingerprint(picture: PillowImage, state: State) -> str:
    return hashlib.sha256(picture.tobytes() + repr(state).encode()).hexdigest()
