"""The door itself: who may knock, from where, and for how long a connection may stay silent."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from live_server import CLOSED, listening, running
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from clearsight.server import ServerSettings, create_app
from clearsight.server.settings import hosts_for
from clearsight.vlm import VLM

KEY = "key-of-the-tests"


@pytest.fixture(scope="module")
def address():
    wishes = ServerSettings(
        names=("nano",), header_seconds=0.3, send_seconds=0.5, hosts=hosts_for("127.0.0.1", ()), max_remote=2,
        origins=("https://app.example",),
    )  # fmt: skip
    with running(wishes, media=CLOSED) as found:
        yield found


def connect(address):
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_a_connection_without_a_request_is_closed(address):
    with connect(address) as silent:
        assert silent.recv(1) == b""
    with connect(address) as slow:
        begin = time.monotonic()
        with pytest.raises(OSError, match=r".*"):  # noqa: PT012
            while time.monotonic() < begin + 20:
                slow.sendall(b"G")
                time.sleep(0.02)


def test_a_kept_connection_may_rest_between_requests(address):
    with httpx.Client() as client:
        assert client.get(f"{address}/health").status_code == 200
        time.sleep(1.0)
        assert client.get(f"{address}/health").status_code == 200


def test_a_client_that_stops_reading_is_left():
    ended = threading.Event()

    async def endless():
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            ended.set()

    async def close():
        pass

    app = FastAPI()
    app.state.close = close
    app.add_api_route("/", lambda: StreamingResponse(endless()))
    with listening(app, ServerSettings(send_seconds=0.3, grace_seconds=0)) as address, connect(address) as stalled:
        stalled.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stalled.recv(1)
        assert ended.wait(20)


def test_ten_megabytes_of_text_are_refused_before_they_are_tokenized(address):
    body = {"model": "nano", "messages": [{"role": "user", "content": "word " * 2_000_000}]}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_only_names_of_this_machine_are_answered_to(address):
    """Otherwise any web page could give its own name our address, and read what is here."""
    assert httpx.get(f"{address}/v1/models", headers={"Host": "localhost:1"}).status_code == 200
    for name in ("evil.example", "127.0.0.1.evil.example", "", "[::2]"):
        refused = httpx.get(f"{address}/v1/models", headers={"Host": name})
        assert refused.status_code == 403
        assert "does not answer to the host" in refused.json()["error"]["message"]
    assert hosts_for("0.0.0.0", (KEY,)) is None


def test_a_form_on_another_page_cannot_ask(address):
    """What browsers send anywhere without asking first is not taken."""
    body = json.dumps({"model": "nano", "messages": [{"role": "user", "content": "Hi"}]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"Content-Type": kind})
        assert 400 <= answer.status_code < 500


def test_pages_of_named_origins_may_ask(address):
    wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    mine, other = (
        httpx.options(f"{address}/v1/chat/completions", headers={"Origin": origin, **wish})
        for origin in ("https://app.example", "https://evil.example")
    )
    assert mine.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in other.headers


def test_addresses_to_fetch_are_few(address):
    part = {"type": "image_url", "image_url": {"url": "https://host.example/x.png"}}
    body = {"model": "nano", "messages": [{"role": "user", "content": [part] * 3}]}
    for path in ("/v1/chat/completions", "/v1/count"):
        error = httpx.post(address + path, json=body).json()["error"]
        assert error["message"] == "there are 3 addresses to fetch; the limit of one request is 2"


def test_websockets_ask_for_the_key_and_the_origin():
    app = create_app(VLM.load("nano", media_limits=CLOSED), ServerSettings(names=("nano",), keys=(KEY,)))

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    client = TestClient(app)
    good = {"Authorization": f"Bearer {KEY}"}
    protocols = {"Sec-WebSocket-Protocol": f"realtime, openai-insecure-api-key.{KEY}"}
    for headers in (good, protocols, {**good, "Origin": "http://testserver"}):
        with client.websocket_connect("/echo", headers=headers) as connection:
            connection.send_text("hello")
            assert connection.receive_text() == "hello"
    for headers in ({}, {"Authorization": "Bearer wrong-key"}, {**good, "Origin": "https://evil.example"}):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/echo", headers=headers):
            pass
