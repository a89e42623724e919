"""Programs that speak to OpenAI work here unchanged: the announcement's sample, LangChain, LiteLLM."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from live_server import running
from openai import OpenAI
from pydantic import BaseModel

from clearsight.media import MediaLimits
from clearsight.server import ServerSettings

KEY = "key-of-the-tests"
SIGN = Path("examples/sign.png").read_bytes()
DATA = "data:image/png;base64," + base64.b64encode(SIGN).decode()
# These libraries warn about their own insides.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Pictures(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        self.wfile.write(SIGN)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def picture():
    """The address of a picture on another server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/sign.png"
        server.shutdown()


@pytest.fixture(scope="module")
def address():
    media = MediaLimits(allow_files=False, allowed_hosts=("localhost",))
    with running(ServerSettings(names=("nano", "qwen-vl-max-0809"), keys=(KEY,)), media=media) as found:
        yield f"{found}/v1"


def test_the_sample_of_the_announcement(address, picture):
    """facts, 11.1: unchanged but for key and base address."""
    with OpenAI(api_key=KEY, base_url=address) as client:
        completion = client.chat.completions.create(
            model="qwen-vl-max-0809",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": picture}},
                        {"type": "image_url", "image_url": {"url": DATA.replace("png", "jpeg", 1)}},
                    ],
                }
            ],
            top_p=0.8,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [json.loads(chunk.model_dump_json()) for chunk in completion]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)


@pytest.fixture(scope="module")
def chain(address):
    langchain = pytest.importorskip("langchain_openai")
    return langchain.ChatOpenAI(model="nano", base_url=address, api_key=KEY, max_retries=0, max_tokens=300)


MESSAGES = [
    ("user", [{"type": "text", "text": "What does it say?"}, {"type": "image_url", "image_url": {"url": DATA}}])
]


class Track(BaseModel):
    """Follow a parcel."""

    code: Literal["A1", "B2"]


def test_langchain_asks_streams_calls_and_parses(chain):
    assert chain.invoke(MESSAGES).content == "Bread"
    assert "".join(piece.content for piece in chain.stream(MESSAGES)) == "Bread"
    (call,) = chain.bind_tools([Track], tool_choice="Track", parallel_tool_calls=False).invoke(MESSAGES).tool_calls
    assert call["name"] == "Track"
    assert call["args"]["code"] in ("A1", "B2")
    assert isinstance(chain.with_structured_output(Track, method="json_schema").invoke(MESSAGES), Track)
    assert chain.batch([MESSAGES] * 3, {"max_concurrency": 3})[2].content == "Bread"


def test_litellm_asks_streams_and_calls(address, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    content = [{"type": "image_url", "image_url": {"url": DATA}}, {"type": "text", "text": "What does it say?"}]
    wish = {"model": "openai/nano", "api_base": address, "api_key": KEY, "max_tokens": 100, "num_retries": 0}
    wish |= {"messages": [{"role": "user", "content": content}]}
    answer = litellm.completion(**wish)
    assert answer.choices[0].message.content == "Bread"
    assert answer.usage.total_tokens > 0
    pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(**wish, stream=True)]
    assert "".join(pieces) == "Bread"
    tool = {"type": "function", "function": {"name": "track", "parameters": Track.model_json_schema()}}
    (call,) = (
        litellm.completion(**wish, tools=[tool], tool_choice="required", parallel_tool_calls=False)
        .choices[0]
        .message.tool_calls
    )
    assert set(json.loads(call.function.arguments)) == {"code"}
