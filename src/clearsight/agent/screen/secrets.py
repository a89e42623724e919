"""Secrets by name: the model writes {{NAME}}, the screen gets the value, and no record or model ever sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from clearsight.agent.screen.actions import Action, ActionError

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
SHORTEST = 4


class Secrets:
    """values: by name. Raises ValueError for a name or value that could not be kept apart from other text."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})
        for name, value in self._values.items():
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                raise ValueError(f"the name of a secret is letters, digits and _, not {name!r}")
            if len(value) < SHORTEST:
                raise ValueError(f"the secret {name} has {len(value)} characters; it needs at least {SHORTEST}")

    @property
    def names(self) -> list[str]:
        return sorted(self._values)

    @property
    def values(self) -> list[str]:
        return list(self._values.values())

    def filled(self, action: Action) -> Action:
        """The action with its placeholders replaced, for the environment alone. Raises ActionError."""
        unknown = [name for name in _PLACEHOLDER.findall(action.text) if name not in self._values]
        if unknown:
            known = f"the secrets are {', '.join(self.names)}" if self._values else "there are no secrets"
            raise ActionError(f"there is no secret {unknown[0]!r}; {known}")
        return replace(action, text=_PLACEHOLDER.sub(lambda match: self._values[match[1]], action.text))

    def hidden(self, text: str) -> str:
        """A text with the name in place of every value."""
        for name, value in sorted(self._values.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, f"{{{{{name}}}}}")
        return text
