"""/v1/realtime on a real server: frames in, answers out, every bound told to the client."""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
from contextlib import ExitStack
from io import BytesIO

import numpy as np
import pytest
from live_server import running
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from clearsight.server import ServerSettings

KEY = "a-key-of-the-tests"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def address():
    settings = ServerSettings(
        names=("nano",), keys=(KEY,), live_sessions=2, live_budget_tokens=2048, live_frame_bytes=100_000,
        live_frames_per_second=50.0, header_seconds=1.0,
    )  # fmt: skip
    with running(settings) as found:
        yield found.replace("http://", "ws://")


class Client:
    """A connection and the events it got."""

    def __init__(self, address, headers=AUTHORIZED, **options):
        self._stack = ExitStack()
        self.socket = self._stack.enter_context(
            connect(f"{address}/v1/realtime", additional_headers=headers, **options)
        )
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def send(self, kind, **fields):
        self.socket.send(json.dumps({"type": kind, **fields}))

    def frame(self, seconds, picture):
        self.socket.send(struct.pack(">d", seconds) + picture)

    def ask(self, text):
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        self.send("conversation.item.create", item=item)
        self.send("response.create")

    def wait(self, kind, seconds=20.0):
        """The next event of a kind; the others are kept in `events`."""
        end = time.monotonic() + seconds
        while True:
            event = json.loads(self.socket.recv(timeout=max(0.01, end - time.monotonic())))
            self.events.append(event)
            if event["type"] == kind:
                return event

    def refusal(self):
        return self.wait("error")["error"]["message"]


@pytest.fixture
def client(address):
    with opened(address) as found:
        yield found


def opened(address, *headers, **options):
    """A client with a session; a connection that was just closed may still count for a moment."""
    for _ in range(100):
        try:
            found = Client(address, *headers, **options)
            found.wait("session.created")
        except (InvalidStatus, ConnectionClosed):
            time.sleep(0.1)
        else:
            return found
    pytest.fail("no session was free")


def picture(colour="red", size=(112, 112), kind="PNG"):
    image = Image.new("RGB", size, "white")
    image.paste(colour, (30, 30, 80, 80))
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_frames_and_a_question_give_a_streamed_answer(client):
    for index in range(4):
        client.frame(index / 2, picture())
    client.ask("What is this?")
    done = client.wait("response.done")
    pieces = [event["delta"] for event in client.events if event["type"] == "response.output_text.delta"]
    (text,) = [event["text"] for event in client.events if event["type"] == "response.output_text.done"]
    assert "".join(pieces) == text != ""
    assert done["response"]["status"] == "completed"
    assert done["response"]["usage"]["output_tokens"] >= len(pieces) > 0
    state = client.wait("input_video_buffer.state")["state"]
    assert state["taken"] == 4
    assert state["budget_tokens"] == 2048
    assert 0 < state["tokens"] <= 2048


def test_a_connection_outlives_the_time_for_its_head(client):
    """The server gives a connection a second for the head of its request; a session is long past that."""
    time.sleep(2.5)
    client.ask("Hello?")
    assert client.wait("response.done")["response"]["status"] == "completed"


def test_frames_may_come_as_json_and_skipped_late_and_dropped_ones_are_told(client):
    client.send("session.update", session={"frames_per_second": 1.0, "slot_tokens": 16, "instructions": "Look."})
    assert client.wait("session.updated")["session"]["slot_tokens"] == 16
    image = base64.b64encode(picture()).decode()
    for seconds in (0.0, 0.5, 1.0, 0.2):
        client.send("input_video_buffer.append", image=f"data:image/png;base64,{image}", time=seconds)
    client.ask("What is this?")
    client.wait("response.done")
    state = client.wait("input_video_buffer.state")["state"]
    assert (state["taken"], state["skipped"], state["late"], state["slots"]) == (2, 1, 1, 1)


def test_a_standing_instruction_speaks_of_itself(client):
    client.send("standing.create", instruction="Is there a red square?", agree=1, sure=0.5)
    number = client.wait("standing.created")["number"]
    client.send("standing.create", instruction="What is this?", when="change", agree=1)
    other = client.wait("standing.created")["number"]
    for index in range(12):
        client.frame(index / 2, picture(("red", "blue", "green")[index // 4]))
    spoken = client.wait("standing.spoken")
    assert spoken["number"] in (number, other)
    assert isinstance(spoken["text"], str)
    client.send("standing.delete", number=number)
    client.send("standing.delete", number=number)
    assert client.refusal() == f"there is no standing instruction {number}"


def test_an_answer_can_be_stopped_and_frames_go_on(client):
    client.send("session.update", session={"temperature": 2.0, "max_output_tokens": 256})
    client.frame(0.0, picture())
    # Back to back: however short the first answer comes out, it is still being written when the second is asked for.
    client.ask("Tell me a very long story.")
    client.ask("And another?")
    assert "an answer is being written" in client.refusal()
    client.send("response.cancel")
    assert client.wait("response.done")["response"]["status"] in ("cancelled", "completed")
    client.frame(1.0, picture())
    client.wait("input_video_buffer.state")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "nonsense"}, "does not match any of the expected tags"),
        ({}, "Unable to extract tag"),
        ({"type": "response.create", "stray": 1}, "stray: Extra inputs are not permitted"),
        ({"type": "response.create"}, "there is no question"),
        ({"type": "session.update", "session": {"budget_tokens": 9999}}, "budget_tokens is 9999; the limit"),
        ({"type": "session.update", "session": {"past": "burn"}}, "past"),
        ({"type": "input_video_buffer.append", "image": "!!", "time": 0}, "image is damaged base64"),
        ({"type": "input_video_buffer.append", "image": "AAAA", "time": 0}, "picture"),
        ({"type": "standing.create", "instruction": "  "}, "must not be empty"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_said_and_the_session_goes_on(client, event, reason):
    client.socket.send(json.dumps(event))
    assert reason in client.refusal()
    client.frame(0.0, picture())
    client.ask("What is this?")
    assert client.wait("response.done")["response"]["status"] == "completed"


def test_damaged_oversized_and_untimed_frames_are_refused(client):
    client.socket.send("{not json")
    assert "Invalid JSON" in client.refusal()
    client.socket.send(b"short")
    assert "eight bytes of time" in client.refusal()
    client.frame(0.0, b"\x89PNG not really a picture")
    assert "picture" in client.refusal()
    client.frame(float("nan"), picture())
    assert "finite number of seconds" in client.refusal()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    file = BytesIO()
    noise.save(file, "PNG")
    client.frame(1.0, file.getvalue())
    assert "the limit is 100000" in client.refusal()
    client.frame(2.0, picture())
    client.send("session.update", session={})
    assert "the session has begun" in client.refusal()


def test_a_path_is_never_read(client):
    client.frame(0.0, b"/etc/passwd")
    assert "passwd" not in client.refusal()


def test_too_many_frames_a_second_are_given_up_unread_and_counted(client):
    data = picture()
    for index in range(200):
        client.frame(index / 100, data)
    client.ask("What is this?")
    client.wait("response.done")
    state = client.wait("input_video_buffer.state")["state"]
    assert state["too_fast"] + state["taken"] + state["skipped"] == 200


def test_sessions_are_bounded_and_free_again_when_left(address, client):
    second = opened(address)
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        Client(address).wait("session.created")
    second.socket.close()
    with opened(address):
        pass


def test_a_key_is_asked_for_and_may_come_as_a_protocol(address):
    for headers in ({}, {"Authorization": "Bearer wrong-key-entirely"}):
        with pytest.raises(InvalidStatus), connect(f"{address}/v1/realtime", additional_headers=headers):
            pass
    with pytest.raises(InvalidStatus):
        Client(address, origin="http://evil.test")
    protocols = ["realtime", f"openai-insecure-api-key.{KEY}"]
    with opened(address, None, subprotocols=protocols) as found:
        assert found.socket.subprotocol == "realtime"


def test_a_client_that_vanishes_leaves_nothing_behind(address):
    for _ in range(3):
        found = opened(address)
        found.frame(0.0, picture())
        found.ask("Tell me a very long story.")
        found.wait("response.created")
        found.socket.socket.close()
    end = time.monotonic() + 10
    while time.monotonic() < end and (left := _sessions()):
        time.sleep(0.1)
    assert not left


def _sessions():
    return [thread for thread in threading.enumerate() if thread.name == "clearsight-live"]
