"""What /v1/responses remembers between requests; bounded in entries and bytes, apart for each tenant."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stored:
    """A response and the whole conversation that led to it, as chat messages."""

    body: dict[str, Any]
    messages: list[dict[str, Any]]
    size: int


class ResponseStore:
    """The longest unused goes first."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._entries: OrderedDict[tuple[bytes, str], Stored] = OrderedDict()
        self.bytes = 0

    def put(self, salt: bytes, body: dict[str, Any], messages: list[dict[str, Any]]) -> None:
        size = len(json.dumps([body, messages]))
        if size > self._most_bytes:
            return
        self._entries[salt, body["id"]] = Stored(body, messages, size)
        self.bytes += size
        while len(self._entries) > self._most or self.bytes > self._most_bytes:
            _, old = self._entries.popitem(last=False)
            self.bytes -= old.size

    def get(self, salt: bytes, name: str) -> Stored | None:
        found = self._entries.get((salt, name))
        if found is not None:
            self._entries.move_to_end((salt, name))
        return found

    def delete(self, salt: bytes, name: str) -> bool:
        found = self._entries.pop((salt, name), None)
        if found is not None:
            self.bytes -= found.size
        return found is not None
