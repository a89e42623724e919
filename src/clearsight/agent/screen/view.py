"""A run as lines for a terminal."""

from __future__ import annotations

from clearsight.agent.screen.operator import Ended, Step


def lines_of(event: Step | Ended) -> str:
    """What to print for one event. Control characters that a page could smuggle in are left out."""
    if isinstance(event, Ended):
        return _plain(
            f"{event.reason}: {event.why} ({event.steps} steps, {event.seconds:.1f} s, {event.tokens} tokens)"
        )
    mark = {True: "+", False: "!", None: " "}[event.outcome.as_intended]
    action = event.action or "(no action that can be read)"
    thought = "".join(f"     {line}\n" for line in event.thought.splitlines())
    return _plain(f"{event.number:>3}  {action}\n{thought}   {mark} {event.outcome.text}  [{event.seconds:.1f} s]")


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c == "\n")
