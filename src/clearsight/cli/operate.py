"""`clearsight operate`: a model does a task in a browser or on an Android device, watched and recorded."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from clearsight.cli.commands import load_adapted, no_adapter
from clearsight.cli.options import KEY_VARIABLE, UsageError, add_adapter, add_server, add_weights

if TYPE_CHECKING:
    from clearsight.agent import Answer, Chat
    from clearsight.agent.screen import Environment
    from clearsight.messages import Message

_LONGEST_THOUGHT = 256


def add_operate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", help="what to do, in words")
    screen = parser.add_mutually_exclusive_group(required=True)
    screen.add_argument("--browser", metavar="URL", help="do it in a browser (Chromium), beginning here")
    screen.add_argument("--android", metavar="SERIAL", help="do it on the device of this serial number, through adb")
    parser.add_argument("--dry-run", action="store_true", help="show the first action and carry out none")
    parser.add_argument("--record", metavar="DIR", help="write record.html and run.jsonl into this folder")
    parser.add_argument("--allow", action="append", default=[], metavar="PLACE",
                        help="a further host (or Android app) where it may go; may be repeated")  # fmt: skip
    parser.add_argument("--without-asking", action="append", default=[], metavar="RISK",
                        help="spend, send, delete or leave: do not ask before those; may be repeated")  # fmt: skip
    parser.add_argument("--secret", action="append", default=[], metavar="NAME=VARIABLE",
                        help="type this variable's value for {{NAME}}; no model or record sees it")  # fmt: skip
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="most actions (default: 30)")
    parser.add_argument("--seconds", type=float, default=600, metavar="N", help="longest run (default: 600)")
    parser.add_argument("--size", default="1008x756", metavar="WxH", help="of the browser's page (default: 1008x756)")
    parser.add_argument("--observe", choices=("picture", "elements", "both"), default="picture",
                        help="show the model a picture, the elements in words, or both (default: picture)")  # fmt: skip
    parser.add_argument("--actions", metavar="NAMES", help="offer only these, as Click,Type,Done (default: all)")
    parser.add_argument("--headed", action="store_true", help="show the browser's window")
    parser.add_argument("--tool-format", choices=("hermes", "function"), default="hermes",
                        help="how a model loaded here writes its actions (default: hermes)")  # fmt: skip
    add_weights(parser)
    add_adapter(parser)
    add_server(parser)


def operate(args: argparse.Namespace) -> int:
    from clearsight.agent import AgentLimits
    from clearsight.agent.screen import Ended, Guard, Operator, Secrets
    from clearsight.agent.screen.guard import RISKS
    from clearsight.agent.screen.view import lines_of

    if not args.task.strip():
        raise UsageError("the task is missing: clearsight operate --browser URL TASK")
    try:
        guard = Guard(sites=_places(args), confirm=frozenset(RISKS) - set(_risks(args)), ask=_ask)
        secrets = Secrets(_secrets(args.secret))
        limits = AgentLimits(steps=args.steps, seconds=args.seconds)
        shown = {"observe": args.observe, "actions": _actions(args.actions)}
    except ValueError as error:
        raise UsageError(str(error)) from error
    with contextlib.ExitStack() as stack:
        # The screen first: it fails sooner than a model loads.
        screen = _open_screen(args, stack)
        chat, options = open_chat(args)
        rules = {"guard": guard, "secrets": secrets, "limits": limits, "dry_run": args.dry_run}
        operator = Operator(chat, screen, record=args.record, **rules, **shown, **options)
        reason = ""
        for event in operator.run(args.task):
            print(lines_of(event), flush=True)
            reason = event.reason if isinstance(event, Ended) else reason
    if args.record:
        print(f"the record is in {args.record}/record.html", file=sys.stderr)
    return 0 if reason in ("done", "answered", "dry run") else 1


def open_chat(args: argparse.Namespace) -> tuple[Chat, dict[str, Any]]:
    """The model that the arguments name, loaded here or a server's, and the options of its calls."""
    if args.server is not None:
        from clearsight.cli.remote import RemoteModel

        no_adapter(args)
        return RemoteChat(RemoteModel(args.server, args.key or os.environ.get(KEY_VARIABLE), args.model)), {}
    vlm = load_adapted(args)
    sampling = replace(vlm.default_sampling, max_tokens=_LONGEST_THOUGHT)
    return vlm, {"sampling": sampling, "tool_format": args.tool_format, "adapter": args.adapter}


class RemoteChat:
    """A server's model as an agent's Chat."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def chat(self, messages: Sequence[Message], *, tools: Sequence[Any] = (), **options: Any) -> Answer:
        from clearsight.agent import ChatError
        from clearsight.agent.plain import plain_messages, plain_tools
        from clearsight.cli.remote import RemoteError

        wishes: Mapping[str, Any] = {"max_tokens": _LONGEST_THOUGHT, "tools": plain_tools(tools), **options}
        try:
            answer: Answer = self._model.stream(plain_messages(messages, pictures_in_results=False), wishes).reply
        except RemoteError as error:
            raise ChatError(str(error)) from error
        return answer


def _places(args: argparse.Namespace) -> set[str]:
    home = {urlsplit(args.browser).hostname or args.browser} if args.browser else set()
    return {place.lower() if args.browser else place for place in (*home, *args.allow)}


def _risks(args: argparse.Namespace) -> list[str]:
    from clearsight.agent.screen.guard import RISKS

    unknown = next((risk for risk in args.without_asking if risk not in RISKS), None)
    if unknown is not None:
        raise UsageError(f"--without-asking takes {', '.join(RISKS)}, not {unknown!r}")
    return list(args.without_asking)


def _actions(names: str | None) -> Sequence[str]:
    from clearsight.agent.screen.actions import ACTIONS

    chosen = tuple(ACTIONS) if names is None else tuple(name.strip() for name in names.split(","))
    unknown = next((name for name in chosen if name not in ACTIONS), None)
    if unknown is not None:
        raise UsageError(f"--actions takes {', '.join(ACTIONS)}, not {unknown!r}")
    return chosen


def _secrets(items: Sequence[str]) -> dict[str, str]:
    values = {}
    for item in items:
        name, mark, variable = item.partition("=")
        if not mark or variable not in os.environ:
            raise UsageError(f"--secret is {item!r}; it must be NAME=VARIABLE, with a variable that is set")
        values[name] = os.environ[variable]
    return values


def _ask(question: str) -> bool:
    """A person's yes, from the terminal. Without one there is nobody to ask, and the answer is no."""
    if not sys.stdin.isatty():
        print(f"     (refused, as nobody can be asked: {question})", flush=True)
        return False
    return input(f"     {question} [y/N] ").strip().lower() in ("y", "yes")


def _open_screen(args: argparse.Namespace, stack: contextlib.ExitStack) -> Environment:
    if args.android is not None:
        from clearsight.agent.screen.android import Android

        return stack.enter_context(Android(args.android))
    from clearsight.agent.screen import Browser

    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", args.size)
    if match is None:
        raise UsageError(f"--size is {args.size!r}; it must be like 1008x756")
    size = (int(match[1]), int(match[2]))
    return stack.enter_context(Browser(args.browser, size=size, headless=not args.headed))
