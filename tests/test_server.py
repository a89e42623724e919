"""The server driven by the official client: every parameter, streams, tools, structured output, responses, keys."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re

import httpx
import openai
import pytest
from live_server import running
from PIL import Image
from pydantic import BaseModel, Field

from clearsight.config import NANO
from clearsight.engine import EngineSettings
from clearsight.server import ServerSettings
from clearsight.server.settings import check_exposure
from clearsight.vlm import VLM

KEY, OTHER = "key-of-the-tests", "key-of-somebody-else"
NAMES = ("nano", "gpt-4o")
IM_END = NANO.tokens.im_end


@pytest.fixture(scope="module")
def address():
    with running(ServerSettings(names=NAMES, keys=(KEY, OTHER), max_tokens=600)) as found:
        yield found


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as found:
        yield found


def data_url(picture, kind="PNG"):
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def look(text="What does it say?", picture=None, **part):
    picture = picture or Image.open("examples/sign.png")
    image = {"type": "image_url", "image_url": {"url": data_url(picture)}, **part}
    return [{"role": "user", "content": [image, {"type": "text", "text": text}]}]


def create(client, messages=None, **rest):
    return client.chat.completions.create(model="nano", messages=messages or look(), **rest)


TOOL = {
    "type": "function",
    "function": {
        "name": "track",
        "description": "Follow a parcel",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "maxLength": 8}},
            "required": ["code"],
            "additionalProperties": False,
        },
    },
}


def test_the_answer_is_the_models_own(client):
    expected = VLM.load("nano").chat(look())
    answer = create(client)
    assert answer.choices[0].message.content == expected.text == "Bread"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens
    assert answer.usage.completion_tokens == expected.usage.completion_tokens
    assert answer.model == "nano"
    assert answer.media[0]["tokens"] == expected.media[0].tokens


def test_streamed_equals_collected(client):
    stream = create(client, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    answer = create(client)
    assert text == answer.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == answer.usage.total_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_asynchronous_client(address):
    async def main():
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=KEY) as client:
            answer = await client.chat.completions.create(model="nano", messages=look())
            stream = await client.chat.completions.create(model="nano", messages=look(), stream=True)
            return answer, "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    answer, text = asyncio.run(main())
    assert answer.choices[0].message.content == text


def test_several_answers_seeds_and_stops(client):
    # Without a picture nothing is certain, so answers differ.
    text = [{"role": "user", "content": "What does it say?"}]
    wish = {"messages": text, "n": 3, "temperature": 2.0, "seed": 5, "max_tokens": 8}
    first, again = create(client, **wish), create(client, **wish)
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    streamed = {0: "", 1: "", 2: ""}
    for chunk in create(client, stream=True, **wish):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert list(streamed.values()) == texts
    assert create(client, stop=["ea", "zz"]).choices[0].message.content == "Br"
    cut = create(client, max_completion_tokens=1).choices[0]
    assert cut.finish_reason == "length"


def test_probabilities_biases_and_penalties(client):
    answer = create(client, logprobs=True, top_logprobs=3).choices[0]
    tokens = answer.logprobs.content
    assert "".join(token.token for token in tokens) == answer.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in tokens)
    assert all(token.logprob == max(top.logprob for top in token.top_logprobs) for token in tokens)
    forced = create(client, logit_bias={str(ord("Q")): 100}, max_tokens=3, frequency_penalty=0, presence_penalty=0)
    plain = create(client, max_tokens=3)
    assert forced.choices[0].message.content != plain.choices[0].message.content
    repeated = create(
        client, extra_body={"repetition_penalty": 1.3, "top_k": 5, "min_p": 0.1}, temperature=0.7, top_p=0.9
    )
    assert repeated.choices[0].finish_reason in ("stop", "length")


class Sign(BaseModel):
    word: str = Field(max_length=8)
    certain: bool


def test_structured_output(client):
    answer = client.chat.completions.parse(model="nano", messages=look(), response_format=Sign, max_tokens=400)
    assert isinstance(answer.choices[0].message.parsed, Sign)
    wish = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"enum": ["a sign", "a cat"]}}}
    text = create(client, response_format=wish).choices[0].message.content
    assert json.loads(text) in ("a sign", "a cat")
    choice = create(client, extra_body={"response_format": {"type": "choice", "options": ["yes", "no"]}})
    assert choice.choices[0].message.content in ("yes", "no")
    regex = create(client, extra_body={"response_format": {"type": "regex", "pattern": "[0-9]{3}"}})
    assert regex.choices[0].message.content.isdigit()


@pytest.mark.parametrize(
    ("field", "kind", "value"),
    [
        ("guided_json", "json", {"enum": ["a sign"]}),
        ("guided_json", "json", '{"enum": ["a sign"]}'),
        ("guided_choice", "choice", ["a cat", "a dog"]),
        ("guided_regex", "regex", "[A-C]{2}[0-9]{2}"),
        ("guided_grammar", "grammar", 'start: "on" | "off"'),
    ],
)
def test_structure_in_other_servers_words(client, field, kind, value):
    """Older and newer names say the same, and keep the answer to it."""
    older, newer = (
        create(client, extra_body=body).choices[0].message.content
        for body in ({field: value}, {"structured_outputs": {kind: value}})
    )
    assert older == newer
    assert re.fullmatch('"a sign"|a cat|a dog|[A-C]{2}[0-9]{2}|on|off', older)


def test_structure_is_said_once_and_rightly(client):
    with pytest.raises(openai.BadRequestError, match="2 fields say what the answer must look like; send one"):
        create(client, extra_body={"guided_regex": "a", "structured_outputs": {"choice": ["b"]}})
    with pytest.raises(openai.BadRequestError, match="the schema is not JSON"):
        create(client, extra_body={"guided_json": "{"})


def test_usage_tells_what_of_the_prompt_was_computed_before(client):
    picture = Image.effect_noise((280, 280), 50).convert("RGB")
    first = create(client, look("What is this?", picture=picture), max_tokens=2)
    second = create(client, look("And what color?", picture=picture), max_tokens=2, n=2)
    assert first.usage.prompt_tokens_details.cached_tokens < first.media[0]["tokens"]
    assert first.media[0]["tokens"] <= second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens
    *_, last = create(
        client, look("And what color?", picture=picture), stream=True, stream_options={"include_usage": True}
    )
    assert last.usage.prompt_tokens_details == second.usage.prompt_tokens_details
    assert create(client, look(picture=picture)).usage.prompt_tokens_details.cached_tokens > 0


def test_detail_and_sizes_of_one_picture(client):
    picture = Image.open("examples/sign.png").resize((1008, 756))

    def tokens(detail=None, **limits):
        (message,) = look(picture=picture, **limits)
        message["content"][0]["image_url"]["detail"] = detail or "auto"
        return create(client, [message], max_tokens=1).media[0]["tokens"]

    assert tokens("high") == tokens("auto") == 36 * 27
    assert tokens("low") <= 512 * 512 / 28**2
    assert tokens(max_pixels=100 * 784) <= 100
    with pytest.raises(openai.BadRequestError, match="detail is 'closely'; it must be auto, high or low"):
        tokens("closely")
    with pytest.raises(openai.BadRequestError, match="min_pixels is 0"):
        tokens(min_pixels=0)


def test_the_older_tool_format_is_held_to_the_schema_too(client):
    wish = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 200}
    answer = create(client, extra_body={"tool_format": "function"}, **wish).choices[0]
    (call,) = answer.message.tool_calls
    assert answer.finish_reason == "tool_calls"
    assert call.function.name == "track"
    assert set(json.loads(call.function.arguments)) == {"code"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "track"}}])
def test_a_tools_loop(client, choice):
    answer = create(client, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False, max_tokens=200)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = message.tool_calls
    assert call.function.name == "track"
    assert set(json.loads(call.function.arguments)) == {"code"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "It arrives today."}
    follow = create(client, [*look(), message.model_dump(exclude={"annotations"}), result], tools=[TOOL])
    assert follow.choices[0].finish_reason
    with_picture = {**result, "content": look()[0]["content"]}
    create(client, [*look(), message.model_dump(), with_picture], tools=[TOOL], tool_choice="none", max_tokens=4)


def test_calls_stream_as_they_are_collected(client):
    stream = create(
        client, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, stream=True, max_tokens=200
    )
    calls = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert [call.function.name for call in calls] == ["track"]
    assert set(json.loads(calls[0].function.arguments)) == {"code"}


def test_plain_completions(client):
    going_on = {str(IM_END): -100, str(NANO.tokens.end_of_text): -100}
    asked = {"model": "nano", "prompt": "How many", "max_tokens": 6, "seed": 1, "logit_bias": going_on}
    answer = client.completions.create(**asked, n=2, logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert [len(choice.logprobs.tokens) for choice in answer.choices] == [6, 6]
    assert answer.usage.completion_tokens == 12
    stream = client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_an_empty_completion_still_has_its_logprobs(client):
    answer = client.completions.create(
        model="nano", prompt="How many", max_tokens=4, logprobs=1, logit_bias={str(IM_END): 100}
    )
    assert answer.choices[0].text == ""
    assert answer.choices[0].logprobs.tokens == []


def response_input():
    content = [{"type": "input_image", "image_url": data_url(Image.open("examples/sign.png"))}]
    return [{"role": "user", "content": [*content, {"type": "input_text", "text": "What does it say?"}]}]


def test_responses_remember(client):
    first = client.responses.create(model="nano", input=response_input())
    assert first.output_text == "Bread"
    assert first.status == "completed"
    follow = client.responses.create(model="nano", input="What does it say?", previous_response_id=first.id)
    assert follow.usage.input_tokens > first.usage.input_tokens
    assert client.responses.retrieve(first.id).output_text == "Bread"
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="there is no response"):
        client.responses.create(model="nano", input="Again?", previous_response_id=first.id)
    forgotten = client.responses.create(model="nano", input="Hello", store=False, max_output_tokens=2)
    assert forgotten.status in ("completed", "incomplete")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(forgotten.id)


def test_responses_stream(client):
    with client.responses.stream(model="nano", input=response_input()) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == "Bread"


def test_responses_hold_to_a_schema_and_tell_probabilities(client):
    answer = client.responses.parse(model="nano", input=response_input(), text_format=Sign, max_output_tokens=400)
    assert isinstance(answer.output_parsed, Sign)
    wish = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    content = client.responses.create(model="nano", input=response_input(), **wish).output[0].content[0]
    assert "".join(item.token for item in content.logprobs) == content.text == "Bread"
    assert all(len(item.top_logprobs) == 2 for item in content.logprobs)
    with pytest.raises(openai.BadRequestError, match="include"):
        client.responses.create(model="nano", input="Hi", include=["reasoning.encrypted_content"])


def test_responses_call_tools(client):
    tool = {"type": "function", **TOOL["function"], "strict": True}
    wish = {"model": "nano", "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    asked = response_input()
    answer = client.responses.create(input=asked, **wish)
    call = answer.output[0]
    assert (call.type, call.name) == ("function_call", "track")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "today"}
    follow = client.responses.create(
        model="nano", input=[result], tools=[tool], max_output_tokens=2, previous_response_id=answer.id
    )
    assert follow.usage.input_tokens > answer.usage.input_tokens
    with client.responses.stream(input=asked, **wish) as stream:
        kinds = [event.type for event in stream]
    assert "response.function_call_arguments.done" in kinds


def test_models_count_health_and_metrics(client, address):
    assert [model.id for model in client.models.list()] == list(NAMES)
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    headers = {"Authorization": f"Bearer {KEY}"}
    counted = httpx.post(f"{address}/v1/count", json={"messages": look()}, headers=headers).json()
    assert counted["tokens"] == create(client).usage.prompt_tokens
    assert counted["fits"] is True
    assert counted["media"][0]["tokens"] > 0
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}
    text = httpx.get(f"{address}/metrics", headers=headers).text
    assert "clearsight_time_to_first_token_seconds_count" in text
    assert 'clearsight_answers_total{finish_reason="stop"}' in text
    assert "/v1/chat/completions" in httpx.get(f"{address}/openapi.json", headers=headers).json()["paths"]
    with pytest.raises(openai.NotFoundError, match="no embedding model"):
        client.embeddings.create(model="nano", input="x")


def test_a_second_question_does_not_look_again(client, address):
    picture = Image.open("examples/circle.png")
    headers = {"Authorization": f"Bearer {KEY}"}

    def misses():
        text = httpx.get(f"{address}/metrics", headers=headers).text
        return int(
            next(x for x in text.splitlines() if x.startswith("clearsight_vision_cache_misses_total")).split()[1]
        )

    create(client, look("How many shapes are there?", picture))
    before = misses()
    create(client, look("What colour is the circle?", picture))
    assert misses() == before


def test_keys_and_tenants(address):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
        for path in ("/v1/models", "/metrics", "/v1/chat/completions", "/openapi.json"):
            answer = httpx.get(address + path, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
    mine, theirs = (openai.OpenAI(base_url=f"{address}/v1", api_key=key) for key in (KEY, OTHER))
    with mine, theirs:
        kept = mine.responses.create(model="nano", input="Hello", max_output_tokens=2)
        with pytest.raises(openai.NotFoundError):
            theirs.responses.retrieve(kept.id)
        assert mine.responses.retrieve(kept.id).id == kept.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "gpt-5"}, "the model 'gpt-5' is not served here"),
        ({"temperature": 3}, "temperature: Input should be less than or equal to 2"),
        ({"max_tokens": 601}, "max_tokens is 601; the limit here is 600"),
        ({"n": 9}, "n is 9; the limit is 8"),
        ({"nonsense": 1}, "nonsense: Extra inputs are not permitted"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "unknown role 'robot'"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias names 'x'"),
        ({"logit_bias": {"99999": 1}}, "logit_bias names token 99999"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"response_format": {"type": "poem"}}, "response_format is of type 'poem'"),
        ({"tools": [{"type": "web_search"}]}, "a tool must be a function"),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, "the limit of prompt and answer is 8192"),
        ({"messages": look(picture=None, type="audio")}, "content parts of type 'audio' are not known here"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(address, change, message):
    body = {"model": "nano", "messages": [{"role": "user", "content": "Hello"}], **change}
    headers = {"Authorization": f"Bearer {KEY}"}
    for stream in (False, True):
        answer = httpx.post(f"{address}/v1/chat/completions", json={**body, "stream": stream}, headers=headers)
        assert 400 <= answer.status_code < 500
        error = answer.json()["error"]
        assert message in error["message"]
        assert "\n" not in error["message"]
        assert set(error) == {"message", "type", "param", "code"}


def test_an_open_server_asks_for_no_key_and_others_must():
    with running(ServerSettings(names=("nano",)), EngineSettings(kv_bytes=2**24)) as address:
        assert httpx.get(f"{address}/v1/models").status_code == 200
    with pytest.raises(ValueError, match=r"listening on 0\.0\.0\.0 lets others in; give --api-key"):
        check_exposure("0.0.0.0", ())
    check_exposure("0.0.0.0", (KEY,))
    with pytest.raises(ValueError, match="at least 8 characters"):
        ServerSettings(keys=("short",))
