"""Clearsight as an MCP server: assistants of other makers look at pictures, videos and pages through it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clearsight.agent.chat import Chat
from clearsight.messages import Image, Message, Part, Sampling, Text, Video

MOST_PICTURES = 16
MOST_FRAMES = 64


class Looking:
    """What the server's tools do, without the protocol.

    root: the folder whose files may be looked at. sites: hosts whose pages may be opened in a browser; none is the
    default, as an assistant may have been talked into asking. options: go to every `chat.chat`.
    """

    def __init__(self, chat: Chat, root: str | Path, sites: Sequence[str] = (), **options: Any) -> None:
        self._chat, self._root, self._options = chat, Path(root).resolve(), options
        self._sites = set(sites)
        self._lock = threading.Lock()

    def look(self, pictures: list[str], question: str) -> str:
        """Answer a question about one or several picture files."""
        if not 1 <= len(pictures) <= MOST_PICTURES:
            raise ValueError(f"{len(pictures)} pictures were named; it must be 1 to {MOST_PICTURES}")
        return self._answer([Image(str(self._file(name))) for name in pictures], question)

    def watch(self, video: str, question: str, frames: int = 16) -> str:
        """Answer a question about a video file, of which this many frames are looked at."""
        if not 2 <= frames <= MOST_FRAMES:
            raise ValueError(f"frames is {frames}; it must be 2 to {MOST_FRAMES}")
        return self._answer([Video(str(self._file(video)), sampling=Sampling(nframes=frames))], question)

    def look_at_page(self, address: str, question: str) -> str:
        """Answer a question about what a web page looks like."""
        from clearsight.agent.screen import Browser, Guard

        guard = Guard(sites=self._sites)
        if not guard.inside(address) or urlsplit(address).scheme not in ("http", "https"):
            allowed = ", ".join(sorted(self._sites)) or "none; start with --allow HOST"
            raise ValueError(f"the page {address!r} may not be opened; allowed hosts: {allowed}")
        with Browser(address, decide=guard.decide) as browser:
            screen = browser.observe()
        return self._answer([Image(screen)], question)

    def _answer(self, shown: Sequence[Part], question: str) -> str:
        # One question at a time: the protocol's library runs tools in threads.
        with self._lock:
            return self._chat.chat([Message("user", (*shown, Text(question)))], **self._options).text

    def _file(self, name: str) -> Path:
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise ValueError(f"{name!r} lies outside {self._root}, the folder that may be looked at")
        if not path.is_file():
            raise ValueError(f"there is no file {name!r} in {self._root}")
        return path


def mcp_server(looking: Looking) -> Any:
    """The server, ready to `run()` over stdin and stdout. What the caller got wrong comes back as a tool's error."""
    from functools import wraps

    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    server = MCPServer("clearsight", log_level="ERROR", instructions="Looks at pictures, videos and web pages.")
    for tool in (looking.look, looking.watch, looking.look_at_page):

        @wraps(tool)
        def run(*args: Any, _tool: Any = tool, **kwargs: Any) -> str:
            try:
                return str(_tool(*args, **kwargs))
            except (ValueError, RuntimeError, OSError) as error:
                raise ToolError(str(error)) from error

        server.tool()(run)
    return server
