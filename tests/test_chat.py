"""The chat format: the published template's text, worked prompts, supervision, safety in all roles (facts, 7)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from clearsight.inputs import Grid
from clearsight.messages import ROLES, Image, Message, Text, Video, parse_messages
from clearsight.processor.chat import chat_spans, encode, render
from clearsight.processor.tokenizer import SPECIAL_NAMES, Tokenizer

# The published template's behaviour (facts, 7.1), written anew.
TEMPLATE = """\
{%- set seen = namespace(pictures=0, videos=0) -%}
{%- if messages and messages[0].role != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- for part in ([{'text': message.content}] if message.content is string else message.content) -%}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
{%- set seen.pictures = seen.pictures + 1 -%}
{{ ('Picture %d: ' % seen.pictures if add_vision_id else '') + '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' or 'video' in part -%}
{%- set seen.videos = seen.videos + 1 -%}
{{ ('Video %d: ' % seen.videos if add_vision_id else '') + '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- else -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{{ '<|im_start|>assistant\\n' if add_generation_prompt else '' }}"""

QWEN2 = Tokenizer.packaged("qwen2")
GRIDS = {Image: Grid(1, 4, 6), Video: Grid(2, 4, 4)}

fragments = st.sampled_from([*SPECIAL_NAMES, "user", "assistant\n", "<|im_end|>\n<|im_start|>system\n", "Picture 1: "])
texts = st.lists(fragments | st.text(max_size=8), max_size=3).map("".join)
text_parts = st.builds(lambda text: {"type": "text", "text": text}, texts)
media_parts = st.sampled_from(
    [
        {"type": "image", "image": "a.png"},
        {"image": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "video", "video": ["a.png", "b.png"]},
    ]
)
contents = texts | st.lists(text_parts | media_parts, max_size=4)
conversations = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(ROLES[:3]), "content": contents}), min_size=1, max_size=5
)


def spans(messages: list[dict[str, Any]], *, vision_id: bool = False, prompt: bool = True) -> list[Any]:
    return list(chat_spans(parse_messages(messages), add_vision_id=vision_id, add_generation_prompt=prompt))


def encoded(messages: list[dict[str, Any]], **options: bool) -> Any:
    return encode(spans(messages, **options), QWEN2, lambda item: GRIDS[type(item)])


@given(messages=conversations, vision_id=st.booleans(), prompt=st.booleans())
def test_text_equals_the_published_template(messages: list[dict[str, Any]], vision_id: bool, prompt: bool) -> None:
    expected, _ = render_jinja_template(
        [messages], chat_template=TEMPLATE, add_vision_id=vision_id, add_generation_prompt=prompt
    )
    assert render(spans(messages, vision_id=vision_id, prompt=prompt)) == expected[0]


def test_worked_prompt() -> None:
    messages = [{"role": "user", "content": [{"type": "image", "image": "a.png"}, "Describe this image."]}]
    head = [151644, 8948, 198, 2610, 525, 264, 10950, 17847, 13, 151645, 198, 151644, 872, 198, 151652]
    tail = [151653, 74785, 419, 2168, 13, 151645, 198, 151644, 77091, 198]
    for grid in (Grid(1, 2, 2), Grid(1, 16, 16)):
        chat = encode(spans(messages), QWEN2, lambda _, grid=grid: grid)
        assert chat.ids == [*head, *[151655] * grid.tokens(), *tail]
        assert chat.runs == [(15, grid)]
        assert len(chat.ids) == 25 + grid.tokens()


def test_labels_count_over_the_whole_conversation() -> None:
    image, video = {"type": "image", "image": "a.png"}, {"type": "video", "video": ["a.png"]}
    messages = [
        {"role": "user", "content": [image, "one"]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [image, image, video, "three"]},
    ]
    text = render(spans(messages, vision_id=True))
    labels = ["Picture 1: ", "Picture 2: ", "Picture 3: ", "Video 1: "]
    assert [text.count(label) for label in labels] == [1, 1, 1, 1]
    assert [text.index(label) for label in labels] == sorted(text.index(label) for label in labels)


@given(messages=conversations, vision_id=st.booleans(), prompt=st.booleans())
def test_ids_say_what_the_text_says(messages: list[dict[str, Any]], vision_id: bool, prompt: bool) -> None:
    one_pad = {Image: Grid(1, 2, 2), Video: Grid(1, 2, 2)}
    found = spans(messages, vision_id=vision_id, prompt=prompt)
    chat = encode(found, QWEN2, lambda item: one_pad[type(item)])
    normal = QWEN2.decode(QWEN2.encode(render(found)))
    assert QWEN2.decode(chat.ids, skip_special=False) == normal


@given(messages=conversations)
def test_no_role_can_type_a_special_token(messages: list[dict[str, Any]]) -> None:
    """The special tokens are those of the same conversation with every text blanked out."""
    chat = encoded(messages)
    blank = [
        Message(message.role, tuple(Text("") if isinstance(part, Text) else part for part in message.parts))
        for message in parse_messages(messages)
    ]
    skeleton = encode(
        chat_spans(blank, add_vision_id=False, add_generation_prompt=True), QWEN2, lambda item: GRIDS[type(item)]
    )
    first = QWEN2.special.end_of_text
    assert [i for i in chat.ids if i >= first] == [i for i in skeleton.ids if i >= first]


@given(messages=conversations, vision_id=st.booleans())
def test_runs_are_exactly_the_pads(messages: list[dict[str, Any]], vision_id: bool) -> None:
    chat = encoded(messages, vision_id=vision_id)
    pads = (QWEN2.special.image_pad, QWEN2.special.video_pad)
    expected = [index for start, grid in chat.runs for index in range(start, start + grid.tokens())]
    assert [index for index, token in enumerate(chat.ids) if token in pads] == expected


@given(messages=conversations, vision_id=st.booleans(), prompt=st.booleans())
def test_supervised_is_what_assistants_wrote(messages: list[dict[str, Any]], vision_id: bool, prompt: bool) -> None:
    chat = encoded(messages, vision_id=vision_id, prompt=prompt)
    learned = list(itertools.compress(chat.ids, chat.supervised))
    turns = [message for message in parse_messages(messages) if message.role == "assistant"]
    texts = ["".join(part.text for part in turn.parts if isinstance(part, Text)) for turn in turns]
    expected = "".join(f"{QWEN2.decode(QWEN2.encode(text))}<|im_end|>\n" for text in texts)
    media = any(not isinstance(part, Text) for turn in turns for part in turn.parts)
    # Texts on both sides of a picture are normalised apart.
    if not media:
        assert QWEN2.decode(learned, skip_special=False) == expected
    assert learned.count(QWEN2.special.im_end) == len(turns)
    assert not any(chat.supervised[start] for start, _ in chat.runs)


def test_supervision_token_by_token() -> None:
    messages = [{"role": "user", "content": "assistant\n"}, {"role": "assistant", "content": "\n\nYou are"}]
    chat = encoded(messages, prompt=False)
    learned = list(itertools.compress(chat.ids, chat.supervised))
    assert [QWEN2.token_bytes(token) for token in learned] == [b"\n\n", b"You", b" are", b"<|im_end|>", b"\n"]
    assert all(chat.supervised[-len(learned) :])


@given(answer=texts, question=texts)
def test_an_answered_turn_begins_with_its_prompt(answer: str, question: str) -> None:
    """What the model saw when it began to write is what it is trained on."""
    turn = [{"role": "user", "content": question}]
    prompt = encoded(turn).ids
    whole = encoded([*turn, {"role": "assistant", "content": answer}], prompt=False)
    assert whole.ids[: len(prompt)] == prompt
    assert whole.ids[len(prompt) :] == [*QWEN2.encode(answer), QWEN2.special.im_end, *QWEN2.encode("\n")]
    assert whole.supervised == [False] * len(prompt) + [True] * (len(whole.ids) - len(prompt))


@pytest.mark.parametrize("text", ["", "You are Clearsight."])
def test_a_system_message_replaces_the_default(text: str) -> None:
    found = render(spans([{"role": "system", "content": text}], prompt=False))
    assert found == f"<|im_start|>system\n{text}<|im_end|>\n"
