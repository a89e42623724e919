"""The tool loop: schemas, several calls, pictures, errors, limits, trajectories, both tool formats, MCP both ways."""

from __future__ import annotations

import json
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PillowImage

from clearsight.agent import (
    Agent,
    AgentLimits,
    Answered,
    ChatError,
    Finished,
    FunctionTool,
    McpServer,
    OpenAIChat,
    RecordedChat,
    Returned,
    Said,
    Tokens,
    ToolError,
    read_trajectory,
    training_sample,
)
from clearsight.agent.plain import plain_messages
from clearsight.agent.trajectory import write_training_data
from clearsight.messages import Image, Message, Text, ToolCall, parse_messages, parse_tools
from clearsight.processor import Processor
from clearsight.processor.tools import read_call


class Script:
    """A model that says the given answers in order, and remembers what it was shown."""

    def __init__(self, *answers):
        self.answers, self.shown = list(answers), []

    def chat(self, messages, **options):
        self.shown.append((tuple(messages), options))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def call(name, number=1, **arguments):
    return ToolCall(name, json.dumps(arguments), f"call_{number}")


USAGE = Tokens(10, 5)


def calls(*items, usage=USAGE):
    return Said("", items, usage, "tool_calls")


def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


def red_square():
    """A picture."""
    return ["here it is:", PillowImage.new("RGB", (28, 28), "red")]


def test_the_schema_comes_from_hints_and_docstring():
    spec = FunctionTool(add).spec
    assert (spec.name, spec.description) == ("add", "Add two numbers.")
    assert spec.parameters["properties"]["a"] == {"type": "integer", "description": "the first"}
    assert spec.parameters["properties"]["b"] == {"type": "integer", "description": "the second", "default": 1}
    assert spec.parameters["required"] == ["a"]
    assert spec.parameters["additionalProperties"] is False


def test_functions_that_cannot_be_tools_are_refused_at_once():
    with pytest.raises(ValueError, match="has no type hint"):
        Agent(Script(), [lambda x: x])
    with pytest.raises(ValueError, match="two tools are named 'add'"):
        Agent(Script(), [add, add])
    with pytest.raises(ValueError, match="must be a function"):
        Agent(Script(), [3])


def test_several_calls_in_one_turn_are_answered_in_order_and_pictures_are_shown():
    chat = Script(calls(call("add", 1, a=1, b=2), call("red_square", 2)), Said("3 and red"))
    end = Agent(chat, [add, red_square]).ask("go")
    assert (end.reason, end.text, end.steps, end.tokens) == ("answered", "3 and red", 2, 15)
    _, _, first, second = chat.shown[1][0]
    assert (first.parts, first.tool_call_id) == ((Text("3"),), "call_1")
    assert second.parts[0] == Text("here it is:")
    assert isinstance(second.parts[1], Image)


def test_errors_go_back_to_the_model_as_results():
    async def broken(word: str) -> str:
        """Fails."""
        raise RuntimeError(f"no {word}")

    chat = Script(
        calls(call("missing")), calls(call("add", a="x")), Said("fine"), calls(call("broken", word="luck")), Said("ok")
    )
    agent = Agent(chat, [add, broken])
    events = list(agent.run("go"))
    texts = [event.result.text for event in events if isinstance(event, Returned)]
    assert texts[0] == "Error: there is no tool 'missing'; the tools are add, broken"
    assert texts[1].startswith("Error: a: Input should be a valid integer")
    assert [event.result.text for event in agent.run("go") if isinstance(event, Returned)] == [
        "Error: RuntimeError: no luck"
    ]


def test_a_call_that_cannot_be_read_is_asked_for_again_and_not_for_ever():
    broken = '✿FUNCTION✿: add\n✿ARGS✿: {"a": }'
    chat = Script(Said(broken), Said("never mind"))
    assert Agent(chat, [add]).ask("go").reason == "answered"
    assert "could not be read" in chat.shown[1][0][-1].parts[0].text
    assert Agent(Script(*[Said(broken)] * 9), [add]).ask("go").reason == "mistakes"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"steps": 2}, "steps"),
        ({"tokens": 40}, "tokens"),
        ({"seconds": 1e-9}, "seconds"),
        ({"repeats": 2}, "repetition"),
    ],
)
def test_every_limit_ends_the_run_and_says_which(limits, reason):
    varied = reason != "repetition"
    chat = Script(*[calls(call("add", a=i * varied), usage=Tokens(20, 0)) for i in range(9)])
    end = Agent(chat, [add], limits=AgentLimits(**limits)).ask("go")
    assert end.reason == reason
    assert end.why


def test_slow_and_long_results_are_bounded():
    def slow() -> str:
        """Sleeps."""
        time.sleep(3)
        return ""

    def long() -> str:
        """Speaks."""
        return "x" * 500

    chat = Script(calls(call("slow", 1), call("long", 2), call("long", 3)), Said("done"))
    limits = AgentLimits(tool_seconds=0.05, result_chars=100, calls_per_step=2)
    results = [e.result for e in Agent(chat, [slow, long], limits=limits).run("go") if isinstance(e, Returned)]
    assert results[0].text == "Error: slow gave no result within 0.05 seconds"
    assert results[1].text == "x" * 100 + "\n(cut: 500 characters; the limit is 100)"
    assert "3 calls in one answer; the limit is 2" in results[2].text


def test_a_model_that_is_gone_ends_the_run():
    end = Agent(Script(ChatError("the server is gone")), [add]).ask("go")
    assert (end.reason, end.why) == ("model", "the server is gone")


def test_a_trajectory_is_read_back_replayed_and_turned_into_training_data(tmp_path):
    path = tmp_path / "run.jsonl"
    chat = Script(calls(call("red_square", 1), call("add", 2, a=4)), Said("five"))
    picture = PillowImage.fromarray(np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3))
    Agent(chat, [add, red_square], system="Be short.").ask("go", [picture], record=path)
    trajectory = read_trajectory(path)
    assert trajectory.end["reason"] == "answered"
    assert [turn.role for turn in trajectory.messages] == ["system", "user", "assistant", "tool", "tool", "assistant"]

    again = tmp_path / "again.jsonl"
    end = Agent(RecordedChat(trajectory), [add, red_square], system="Be short.").ask("go", [picture], record=again)
    assert end.text == "five"
    assert read_trajectory(again).messages == trajectory.messages

    assert write_training_data([path, again], tmp_path / "train.jsonl", only="answered") == 2
    sample = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])
    assert sample == training_sample(trajectory)
    nano = Processor.packaged("nano")
    for tool_format in ("hermes", "function"):
        prepared = nano.prepare(
            sample["messages"], tools=sample["tools"], tool_format=tool_format, add_generation_prompt=False
        )
        learned = nano.tokenizer.decode(prepared.inputs.ids[prepared.supervised].tolist())
        assert "red_square" in learned
        assert "five" in learned
        assert "here it is" not in learned
        assert len(prepared.media) == 2


def test_an_interrupted_run_leaves_a_whole_record(tmp_path):
    def stop() -> None:
        """Stops."""

    for number, breaking in enumerate((KeyboardInterrupt(), None)):
        path = tmp_path / f"{number}.jsonl"
        chat = Script(calls(call("add", a=1)), breaking or Said("x"))
        run = Agent(chat, [add]).run("go", record=path)
        if breaking:
            with pytest.raises(KeyboardInterrupt):
                list(run)
        else:
            next(run)
            run.close()
        assert read_trajectory(path).end["reason"] == "interrupted"


def test_a_cut_trajectory_is_read_up_to_the_cut(tmp_path):
    path = tmp_path / "run.jsonl"
    Agent(Script(calls(call("add", a=1)), Said("two")), [add]).ask("go", record=path)
    path.write_text(path.read_text()[:-20])
    assert read_trajectory(path).end is None
    assert len(read_trajectory(path).messages) == 4
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="does not begin"):
        read_trajectory(path)


def test_points_as_bare_tuples_are_read_in_both_formats_and_texts_stay():
    call = read_call(' Click\n✿ARGS✿: {"point": (348,291)}', "function")
    assert json.loads(call.arguments) == {"point": "(348,291)"}
    call = read_call('{"name": "Click", "arguments": {"point": (1, 2), "note": "at"}}', "hermes")
    assert json.loads(call.arguments) == {"point": "(1, 2)", "note": "at"}
    call = read_call(' Type\n✿ARGS✿: {"text": "see: (1,2), there"}', "function")
    assert json.loads(call.arguments) == {"text": "see: (1,2), there"}


def test_openai_clients_are_adapted_and_pictures_of_results_follow():
    seen = {}

    def create(**body):
        seen.update(body)
        function = SimpleNamespace(name="add", arguments='{"a": 1}')
        message = SimpleNamespace(content=None, tool_calls=[SimpleNamespace(id="c", function=function)])
        choice = SimpleNamespace(message=message, finish_reason="tool_calls")
        return SimpleNamespace(choices=[choice], usage=SimpleNamespace(prompt_tokens=7, completion_tokens=2))

    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    turns = [
        Message("user", (Text("go"),)),
        Message("assistant", (call("red_square", 1), call("red_square", 2))),
        Message("tool", (Text("one"), Image(PillowImage.new("RGB", (28, 28)))), "call_1"),
        Message("tool", (Text("two"), Image(PillowImage.new("RGB", (28, 28)))), "call_2"),
    ]
    answer = OpenAIChat(client, "m", temperature=0).chat(turns, tools=parse_tools([FunctionTool(add).spec]))
    assert (answer.tool_calls, answer.usage) == ((ToolCall("add", '{"a": 1}', "c"),), Tokens(7, 2))
    assert [turn["role"] for turn in seen["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    assert [part["type"] for part in seen["messages"][-1]["content"]] == ["text", "image_url", "image_url"]
    assert seen["temperature"] == 0
    assert parse_messages(plain_messages(turns))[2].parts[0] == Text("one")
    broken = OpenAIChat(SimpleNamespace(), "m")
    with pytest.raises(ChatError, match="cannot be asked"):
        broken.chat(turns)


def test_the_model_in_the_box_is_a_chat():
    from clearsight import VLM, SamplingParams

    vlm = VLM.load("nano")
    agent = Agent(vlm, [add], limits=AgentLimits(steps=2), sampling=SamplingParams(max_tokens=8))
    end = agent.ask("What is 1 + 2?")
    assert isinstance(end, Finished)
    assert end.tokens > 20
    events = list(Agent(vlm, [add], limits=AgentLimits(steps=1), tool_choice="required").run("Add 1 and 2"))
    assert isinstance(events[0], Answered)


SERVER = """
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
server = MCPServer("test", log_level="ERROR")

@server.tool()
def shout(word: str) -> str:
    "Say it loud."
    if word == "no":
        raise ToolError("not that")
    return word.upper()

@server.tool()
def show() -> Image:
    "A picture."
    import io
    from PIL import Image as P
    out = io.BytesIO(); P.new("RGB", (28, 28), "blue").save(out, "PNG")
    return Image(data=out.getvalue(), format="png")

server.run()
"""


def test_tools_of_an_mcp_server_are_tools(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    with McpServer([sys.executable, str(script)]) as server:
        chat = Script(calls(call("shout", 1, word="hi"), call("shout", 2, word="no"), call("show", 3)), Said("ok"))
        results = [e.result for e in Agent(chat, [add, server]).run("go") if isinstance(e, Returned)]
    assert [tool.name for tool in chat.shown[0][1]["tools"]] == ["add", "shout", "show"]
    assert (results[0].text, results[0].failed) == ("HI", False)
    assert results[1].failed
    assert "not that" in results[1].text
    assert results[2].parts[0].source.getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(ToolError, match="not connected"):
        server.call("shout", {"word": "late"})


def test_an_mcp_server_that_does_not_start_is_one_error():
    with pytest.raises(ToolError, match="cannot be used"), McpServer(["/nonexistent/server"]):
        pass


def test_clearsight_is_an_mcp_server(tmp_path):
    av = pytest.importorskip("av")
    PillowImage.open("examples/sign.png").save(tmp_path / "sign.png")
    with av.open(str(tmp_path / "film.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 112, 112, "yuv420p"
        for shade in range(0, 250, 25):
            frame = av.VideoFrame.from_ndarray(np.full((112, 112, 3), shade, np.uint8), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    from mcp import StdioServerParameters

    arguments = ["-m", "clearsight", "mcp", "--root", str(tmp_path)]
    # The library hands on little of the environment, and the code under test need not be the installed one.
    own = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with McpServer(StdioServerParameters(command=sys.executable, args=arguments, env=own)) as server:
        assert [tool.spec.name for tool in server.tools()] == ["look", "watch", "look_at_page"]
        tools = {tool.spec.name: tool for tool in server.tools()}
        assert tools["look"].call({"pictures": ["sign.png"], "question": "What does it say?"}).text == "Bread"
        assert not tools["watch"].call({"video": "film.mp4", "question": "What is this?", "frames": 4}).failed
        for name, arguments, said in (
            ("look", {"pictures": ["../secret.png"], "question": "?"}, "lies outside"),
            ("look", {"pictures": ["none.png"], "question": "?"}, "there is no file"),
            ("look_at_page", {"address": "http://127.0.0.1/", "question": "?"}, "may not be opened"),
            ("look_at_page", {"address": "file:///etc/passwd", "question": "?"}, "may not be opened"),
        ):
            result = tools[name].call(arguments)
            assert result.failed
            assert said in result.text
