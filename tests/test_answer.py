"""Laws of answers: tools announced, called and answered; calls and boxes read back whatever way the text is cut."""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from transformers.utils.chat_template_utils import render_jinja_template

from clearsight.answer import AnswerReader
from clearsight.config import NANO
from clearsight.inputs import SamplingParams, TokenEvent
from clearsight.messages import Box, Image, Message, MessageError, Point, Ref, Text, Tool, ToolCall, parse_messages
from clearsight.messages import parse_tools as parse
from clearsight.processor import Processor, Tokenizer
from clearsight.processor.chat import chat_spans, render
from clearsight.processor.streaming import CallParser
from clearsight.processor.tools import CALL_END, CALL_START

WEATHER = Tool("get_weather", "Look the weather up", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = ToolCall("get_weather", '{"city": "Oslo"}', "call_1")

# The tools branch of the Qwen2.5 template family, spelled here for comparison (facts, 8.6).
TEMPLATE = """{%- for message in messages -%}
{%- if loop.first -%}
{{ '<|im_start|>system\\n' + message.content + '\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with function signatures within <tools></tools> XML tags:\\n<tools>' }}
{%- for tool in tools -%}{{ '\\n' }}{{ tool | tojson }}{%- endfor -%}
{{ '\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif message.role == 'tool' -%}
{%- if messages[loop.index0 - 1].role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}
{{ '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{ '<|im_end|>\\n' }}{%- endif -%}
{%- else -%}
{{ '<|im_start|>' + message.role }}
{%- if message.content -%}{{ '\\n' + message.content }}{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{{ '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}{{ call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{{ '<|im_start|>assistant\\n' if add_generation_prompt else '' }}"""  # noqa: E501


def openai_call(name="get_weather", arguments='{"city": "Oslo"}'):
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [openai_call(), openai_call(arguments='{"city": "Rom"}')],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "3 degrees"},
    {"role": "tool", "tool_call_id": "call_2", "content": "20 degrees"},
    {"role": "assistant", "content": None, "tool_calls": [openai_call()]},
    {"role": "tool", "tool_call_id": "call_1", "content": "4 degrees"},
    {"role": "assistant", "content": "It is 4."},
]


def spans(messages, tools=(WEATHER,), tool_format="hermes", prompt=True):
    options = {"add_vision_id": False, "add_generation_prompt": prompt, "tools": tools, "tool_format": tool_format}
    return list(chat_spans(parse_messages(messages), **options))


@pytest.mark.parametrize("length", range(2, len(CONVERSATION) + 1))
def test_tools_are_written_as_the_template_family_writes_them(length):
    messages = json.loads(json.dumps(CONVERSATION[:length]))
    for message in messages:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    signature = {"name": WEATHER.name, "description": WEATHER.description, "parameters": dict(WEATHER.parameters)}
    tools = [{"type": "function", "function": signature}]
    expected, _ = render_jinja_template(
        [messages], tools=tools, chat_template=TEMPLATE, add_generation_prompt=messages[-1]["role"] != "assistant"
    )
    ours = render(spans(CONVERSATION[:length], prompt=messages[-1]["role"] != "assistant"))
    assert ours == expected[0]


def test_calls_are_learned_and_results_are_not():
    for tool_format in ("hermes", "function"):
        items = spans(CONVERSATION, tool_format=tool_format, prompt=False)
        learned = "".join(item for item, on in items if on and isinstance(item, str))
        ignored = "".join(item for item, on in items if not on and isinstance(item, str))
        assert "Oslo" in learned
        assert "It is 4." in learned
        assert "degrees" not in learned
        assert "degrees" in ignored


def test_the_older_format_keeps_one_turn_open_for_the_answer():
    text = render(spans(CONVERSATION[:4], tool_format="function"))
    head, _, turn = text.rpartition("<|im_start|>assistant\n")
    assert "✿FUNCTION✿: The tool to use, should be one of [get_weather]" in head
    assert turn == (
        'I look.\n✿FUNCTION✿: get_weather\n✿ARGS✿: {"city": "Oslo"}\n✿FUNCTION✿: get_weather\n✿ARGS✿: {"city": "Rom"}'
        "\n✿RESULT✿: 3 degrees\n✿RETURN✿"
    )
    whole = render(spans(CONVERSATION[:4] + CONVERSATION[-1:], tool_format="function", prompt=False))
    assert whole.startswith(text)
    assert whole.endswith("✿RETURN✿: It is 4.<|im_end|>\n")


def test_results_may_hold_pictures():
    messages = [Message("user", (Text("Look"),)), Message("assistant", (CALL,))]
    messages.append(Message("tool", (Image("a.png"), Text("seen")), "call_1"))
    text = render(spans(messages))
    assert "<tool_response>\n<|vision_start|><|image_pad|><|vision_end|>seen\n</tool_response><|im_end|>" in text


def test_boxes_are_structure_that_text_cannot_pose_as():
    answer = Message("assistant", (Ref("the cat"), Box(1, 2, 30, 40), Point(5, 6), Text("<|box_start|>(1,1)")))
    items = spans([Message("user", (Text("Where?"),)), answer], tools=(), prompt=False)
    expected = "<|object_ref_start|>the cat<|object_ref_end|><|box_start|>(1,2),(30,40)<|box_end|><|box_start|>(5,6)"
    assert expected in render(items)
    assert sum(1 for item, _ in items if getattr(item, "name", "") == "<|box_start|>") == 2


pieces = st.sampled_from(
    [
        CALL_START, CALL_END, '{"name": "f", "arguments": {"a": 1}}', "\n", "<tool", "_call>", "</", "Hello ", "{", "}",
        CALL_START + '\n{"name": "g", "arguments": {}}\n' + CALL_END, "✿FUNCTION✿: f", "\n✿ARGS✿: {}", "✿FUNC", "é",
    ]
)  # fmt: skip


def read(parser, cuts):
    """What a parser makes of pieces of text, neighbouring texts joined."""
    found = []
    for item in [item for cut in cuts for item in parser.push(cut)] + parser.finish():
        if isinstance(item, str) and found and isinstance(found[-1], str):
            found[-1] += item
        else:
            found.append(item)
    return found


@given(
    text=st.lists(pieces, max_size=12).map("".join),
    seed=st.integers(0, 999),
    tool_format=st.sampled_from(["hermes", "function"]),
)
def test_any_cutting_reads_the_same(text, seed, tool_format):
    rng, cuts, rest = random.Random(seed), [], text
    while rest:
        size = rng.randint(1, 5)
        cuts.append(rest[:size])
        rest = rest[size:]
    assert read(CallParser(tool_format), cuts) == read(CallParser(tool_format), [text])


def test_calls_are_found_between_texts_and_what_is_none_stays_text():
    good = CALL_START + '\n{"name": "f", "arguments": {"a": [1, "}"]}}\n' + CALL_END
    bad = CALL_START + '\n{"name": 3}\n' + CALL_END
    found = read(CallParser("hermes"), ["Look.\n" + good + "\n" + good + bad + " and" + CALL_START + "{"])
    call = ToolCall("f", '{"a": [1, "}"]}')
    assert found == ["Look.", call, call, bad + " and" + CALL_START + "{"]
    older = 'Look.\n✿FUNCTION✿: f\n✿ARGS✿: {"a": 1}\n✿FUNCTION✿: g\n✿ARGS✿: {}\n'
    assert read(CallParser("function"), [older]) == ["Look.", ToolCall("f", '{"a": 1}'), ToolCall("g", "{}")]


@pytest.mark.parametrize("unit", ["<", "<tool_call", "<tool_call>", "</tool_call>", "\n", "✿", "<tool_call>{"])
def test_reading_is_linear(unit):
    def seconds(count):
        parser, begin = CallParser("hermes"), time.thread_time()
        for _ in range(count):
            parser.push(unit)
        parser.finish()
        return time.thread_time() - begin

    seconds(1000)
    # A square would take sixteen times as long per doubling squared; noise of a busy machine stays far below.
    assert min(seconds(16_000) for _ in range(3)) < 60 * min(seconds(1000) for _ in range(3)) + 0.05


def prepared(processor, sizes):
    content = [Image(Pillow.new("RGB", size)) for size in sizes] + [Text("Where?")]
    return processor.prepare([Message("user", tuple(content))])


def reply(text_parts, sizes=((200, 100),), cut=None, **params):
    """The reply to an answer of texts and special token names."""
    processor = Processor.packaged("nano")
    reader = AnswerReader(processor.tokenizer, prepared(processor, sizes), SamplingParams(**params), "hermes")
    for part in text_parts:
        special = processor.tokenizer.special_ids.get(part)
        for token in [special] if special is not None else processor.tokenizer.encode(part):
            reader.push(TokenEvent(token))
    reader.push(TokenEvent(NANO.tokens.im_end, "stop"))
    reader.finish()
    return reader.reply


def boxed(text):
    return ["<|box_start|>", text, "<|box_end|>"]


def test_boxes_come_back_in_source_pixels():
    named = ["<|object_ref_start|>", "the cat", "<|object_ref_end|>", *boxed("(100,200),(500,1000)")]
    answer = reply([*named, " and ", *boxed("(250,500)")])
    first, second = answer.annotations
    assert (first.kind, first.label, first.relative, first.pixels) == (
        "box", "the cat", (100, 200, 500, 1000), (20.0, 20.0, 100.0, 100.0),
    )  # fmt: skip
    assert (second.kind, second.pixels, second.image) == ("point", (50.0, 50.0), 0)
    assert answer.text == "the cat(100,200),(500,1000) and (250,500)"


def test_boxes_are_clipped_ordered_and_belong_to_the_picture_named():
    parts = ["In Picture 1: ", *boxed("(900,900),(100,1500)"), " in Picture 2: ", *boxed("(0,0),(10,10)")]
    first, second = reply(parts, ((100, 50), (300, 300))).annotations
    assert (first.image, first.relative, first.pixels) == (0, (100, 900, 900, 1000), (10.0, 45.0, 90.0, 50.0))
    assert (second.image, second.pixels) == (1, (0.0, 0.0, 3.0, 3.0))
    assert reply(boxed("(1,2),(3,4)"), ((100, 50), (300, 300))).annotations[0].image == 1


@pytest.mark.parametrize("text", ["", "(1,2),(3)", "nothing", "(1,2)" * 40])
def test_what_is_no_box_is_no_annotation(text):
    assert reply(boxed(text)).annotations == ()


def test_calls_make_their_own_finish_reason():
    answer = reply(["Look.\n", CALL_START + '\n{"name": "f", "arguments": {"a": 1}}\n' + CALL_END])
    assert answer.text == "Look."
    assert answer.finish_reason == "tool_calls"
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("f", '{"a": 1}')]
    assert answer.tool_calls[0].id.startswith("call_")


def test_what_cannot_be_read_is_refused_in_one_sentence():
    with pytest.raises(MessageError, match="two tools are named 'get_weather'"):
        parse([WEATHER, WEATHER])
    with pytest.raises(MessageError, match=r"the arguments of a call of 'f' must be a JSON object, not '\[1\]'"):
        ToolCall("f", "[1]")
    with pytest.raises(MessageError, match="only an assistant calls tools"):
        Message("user", (CALL,))
    with pytest.raises(MessageError, match="a coordinate is 1001"):
        Point(1001, 0)
    with pytest.raises(MessageError, match="tool_format is 'xml'"):
        Processor.packaged("nano").prepare(CONVERSATION, tool_format="xml")


def test_both_vocabularies_spell_the_marks_as_text():
    for name in ("nano", "qwen2"):
        tokenizer = Tokenizer.packaged(name)
        assert not set(tokenizer.encode(CALL_START + CALL_END)) & set(tokenizer.special_ids.values())
