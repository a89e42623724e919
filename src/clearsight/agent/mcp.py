"""Tools of MCP servers, through the official `mcp` package (extra `agent`)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from PIL import Image as PillowImage

from clearsight.agent.results import Result
from clearsight.agent.tools import ToolError
from clearsight.messages import Image, Text, Tool

T = TypeVar("T")


class McpServer:
    """A running MCP server whose tools an agent may call.

    server: a command with its arguments, an http(s) address, or whatever `mcp.Client` takes. seconds: to connect, and
    for one call. Use it in a `with` block; `Agent(chat, [my_function, server])`.
    """

    def __init__(self, server: Any, *, seconds: float = 60) -> None:
        self._server, self._seconds = server, seconds
        self._loop = asyncio.new_event_loop()
        self._ready: Future[list[Tool]] = Future()
        self._client: Any = None
        self._stop: asyncio.Event | None = None
        self._specs: list[Tool] = []
        self._thread = threading.Thread(target=self._live, name="mcp client", daemon=True)

    def __enter__(self) -> McpServer:
        """Raises ToolError if the server does not start or answer."""
        self._thread.start()
        try:
            self._specs = self._ready.result(self._seconds)
        except Exception as error:
            self.close()
            raise ToolError(f"the MCP server cannot be used ({type(error).__name__}: {error})") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tools(self) -> Sequence[McpTool]:
        return [McpTool(self, spec) for spec in self._specs]

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The server's CallToolResult. Raises ToolError."""
        if self._client is None:
            raise ToolError("the MCP server is not connected")
        try:
            return self._wait(self._client.call_tool(name, dict(arguments)))
        except Exception as error:
            raise ToolError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        if self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.is_alive():
            self._thread.join(self._seconds)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(self._seconds)

    def _live(self) -> None:
        """The thread: its connection is opened and closed by one task, as the protocol's library demands."""
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        from mcp import Client

        self._stop = asyncio.Event()
        async with Client(_target(self._server)) as client:
            specs: list[Tool] = []
            cursor = None
            while True:
                page = await client.list_tools(cursor=cursor)
                specs += [Tool(tool.name, tool.description or "", tool.input_schema) for tool in page.tools]
                cursor = page.next_cursor
                if not cursor:
                    break
            self._client = client
            self._ready.set_result(specs)
            await self._stop.wait()
            self._client = None


class McpTool:
    """One tool of a server."""

    def __init__(self, server: McpServer, spec: Tool) -> None:
        self._server, self.spec = server, spec

    def call(self, arguments: Mapping[str, Any]) -> Result:
        reply = self._server.call(self.spec.name, arguments)
        return Result(tuple(_part(block) for block in reply.content), bool(reply.is_error))


def _target(server: Any) -> Any:
    """A command line becomes what the library starts it from."""
    if isinstance(server, (list, tuple)):
        from mcp import StdioServerParameters

        command, *arguments = map(str, server)
        return StdioServerParameters(command=command, args=arguments)
    return server


def _part(block: Any) -> Text | Image:
    if block.type == "text":
        return Text(block.text)
    if block.type == "image":
        return Image(PillowImage.open(io.BytesIO(base64.b64decode(block.data))).convert("RGB"))
    return Text(f"(a result of type {block.type}, which cannot be shown)")
