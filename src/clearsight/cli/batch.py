"""`clearsight batch`: an OpenAI batch file answered here, line by line, each answer written once whatever happens.

Each line goes through the server's own application, in this process, so a line means here what it means over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearsight.cli.commands import load
from clearsight.cli.options import UsageError, add_weights
from clearsight.cli.output import bar

if TYPE_CHECKING:
    import httpx

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_ANSWERS = 128  # to one request: 16 plain prompts, 8 answers to each


def add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("requests", metavar="IN.jsonl", help="one request a line: custom_id, method, url, body")
    parser.add_argument("results", metavar="OUT.jsonl", help="one result a line; what it already holds is not redone")
    parser.add_argument("--at-once", type=int, default=16, metavar="N", help="requests under way (default: 16)")
    parser.add_argument("--served-name", action="append", default=[], metavar="NAME",
                        help="what the requests may call the model; may be repeated")  # fmt: skip
    add_weights(parser)


def batch(args: argparse.Namespace) -> int:
    """Returns 0 if every result is a success, 1 if some are refusals. Raises UsageError for a file that is none."""
    if not 1 <= args.at_once <= 128:
        raise UsageError(f"--at-once is {args.at_once}; it must be between 1 and 128")
    places = find_requests(Path(args.requests))
    with open_results(Path(args.results), Path(args.requests)) as results:
        results.repair(places)
        waiting = [place for name, place in places.items() if name not in results.done]
        progress = _Progress(len(places), len(results.done), results.failed)
        if waiting:
            asyncio.run(_answer_all(args, waiting, results, progress))
        progress.end(results.failed)
        return 1 if results.failed else 0


def find_requests(path: Path) -> dict[str, int]:
    """Where the line of each custom_id begins, in bytes, in the file's order. Raises UsageError."""
    found: dict[str, int] = {}
    try:
        with path.open("rb") as file:
            start = 0
            for number, line in enumerate(file, 1):
                if line.strip():
                    name = _custom_id(line, f"{path.name}, line {number}")
                    if name in found:
                        raise UsageError(f"{path.name}, line {number}: the custom_id {name!r} occurs twice")
                    found[name] = start
                start += len(line)
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read ({error.strerror})") from error
    if not found:
        raise UsageError(f"{path.name} holds no request")
    return found


def _custom_id(line: bytes, place: str) -> str:
    name = _object(line, place).get("custom_id")
    if not isinstance(name, str) or not name:
        raise UsageError(f"{place}: it needs a custom_id, a text that is not empty")
    return name


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: it is not valid JSON") from error
    if not isinstance(data, dict):
        raise UsageError(f"{place}: it is not a JSON object")
    return data


@contextlib.contextmanager
def open_results(path: Path, requests: Path) -> Iterator[Results]:
    """The result file, made if need be, that no other run may write meanwhile. Raises UsageError."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise UsageError(f"{path.name} cannot be written ({error.strerror})") from error
    try:
        if os.path.samefile(path, requests):
            raise UsageError(f"{path.name} is the file of the requests; name another for the results")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{path.name} is being written by another run") from error
        yield Results(path, handle)
    finally:
        os.close(handle)


@dataclass
class Results:
    """The result file. done: the custom_ids it holds. failed: how many of them are refusals."""

    path: Path
    handle: int
    done: set[str] = field(default_factory=set)
    failed: int = 0

    def repair(self, known: dict[str, int]) -> None:
        """Read what is there and cut off a line that a killed run left half written. Raises UsageError.

        A file that is not the result of these requests is left as it is.
        """
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    self._read(line, known, f"{self.path.name}, line {number}")
                    whole += len(line)
                elif not _may_be_torn(line):
                    raise UsageError(f"{self.path.name}, line {number}: it is not a result; name another file")
        os.ftruncate(self.handle, whole)

    def write(self, result: dict[str, Any]) -> None:
        """Add one line; a kill in the middle leaves at most one torn line, the last."""
        line = memoryview(json.dumps(result, ensure_ascii=True).encode() + b"\n")
        while line:
            line = line[os.write(self.handle, line) :]
        self._count(result)

    def _read(self, line: bytes, known: dict[str, int], place: str) -> None:
        try:
            result = _object(line, place)
        except UsageError as error:
            raise UsageError(f"{error}; name another file") from error
        name, response = result.get("custom_id"), result.get("response")
        if not isinstance(response, dict) or not isinstance(response.get("status_code"), int):
            raise UsageError(f"{place}: it is not a result; name another file")
        if name not in known:
            raise UsageError(f"{place}: {name!r} is not among the requests; name another file")
        if name in self.done:
            raise UsageError(f"{place}: {name!r} occurs twice; name another file")
        self._count(result)

    def _count(self, result: dict[str, Any]) -> None:
        self.done.add(result["custom_id"])
        self.failed += result["response"]["status_code"] != 200


_HEAD = b'{"id": "batch_req_'


def _may_be_torn(line: bytes) -> bool:
    """Whether a last line without an end is the beginning of one that we wrote."""
    return line.startswith(_HEAD) or _HEAD.startswith(line)


async def _answer_all(args: argparse.Namespace, waiting: list[int], results: Results, progress: _Progress) -> None:
    import httpx

    from clearsight.engine import EngineSettings
    from clearsight.server import ServerSettings, create_app

    names = tuple(dict.fromkeys([*args.served_name, args.model]))
    # Room for every answer that this many requests may ask for, so that none is told to come back.
    vlm = load(args, settings=EngineSettings(max_running=args.at_once, max_waiting=_ANSWERS * args.at_once))
    app = create_app(vlm, ServerSettings(names=names, grace_seconds=0.0))
    places = iter(waiting)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with open(args.requests, "rb") as file:

        async def work(client: httpx.AsyncClient) -> None:
            for place in places:
                file.seek(place)
                results.write(await answer(client, json.loads(file.readline())))
                progress.show(len(results.done), results.failed)

        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://batch", timeout=None) as client,
        ):
            tasks = [asyncio.create_task(work(client)) for _ in range(args.at_once)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def answer(client: httpx.AsyncClient, request: dict[str, Any]) -> dict[str, Any]:
    """One line of a batch as its result, in the shape of OpenAI's result files; a refusal is a result too."""
    refusal = _refusal(request)
    if refusal is None:
        response = await client.post(request["url"], json=request["body"])
        status, body = response.status_code, response.json()
    else:
        status, body = (
            400,
            {"error": {"message": refusal, "type": "invalid_request_error", "param": None, "code": None}},
        )
    number = secrets.token_hex(12)
    said = {"status_code": status, "request_id": f"req_{number}", "body": body}
    return {"id": f"batch_req_{number}", "custom_id": request["custom_id"], "response": said, "error": None}


def _refusal(request: dict[str, Any]) -> str | None:
    """What is wrong with a line before its body is looked at."""
    if request.get("method") != "POST":
        return f"method is {request.get('method')!r}; it must be 'POST'"
    if request.get("url") not in URLS:
        return f"url is {request.get('url')!r}; it must be one of {', '.join(URLS)}"
    body = request.get("body")
    if not isinstance(body, dict):
        return "body must be a JSON object"
    return "a batch cannot stream; leave stream out" if body.get("stream") else None


class _Progress:
    """A bar on a terminal, one line at the end elsewhere; on stderr."""

    def __init__(self, total: int, done: int, failed: int) -> None:
        self.total, self.before = total, done
        self.live = sys.stderr.isatty()
        self.show(done, failed)

    def show(self, done: int, failed: int) -> None:
        if self.live:
            print(
                f"\r{bar(done, self.total)} {done}/{self.total}, {failed} failed", end="", file=sys.stderr, flush=True
            )

    def end(self, failed: int) -> None:
        fresh = self.total - self.before
        start = "\n" if self.live else ""
        print(f"{start}{self.total} results, {fresh} of them new, {failed} failed", file=sys.stderr)
