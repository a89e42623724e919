"""Laws of constrained output: what is allowed is what the grammar derives, in either vocabulary."""

from __future__ import annotations

import json
import random
import re

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clearsight.engine.constraints import MAX_DEPTH, GrammarError, Grammars
from clearsight.messages import ToolCall
from clearsight.processor.tokenizer import Tokenizer
from clearsight.processor.tools import call_text
from clearsight.wishes import FORMS

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}


def grammars(name):
    tokenizer = Tokenizer.packaged(name)
    tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    ends = [tokenizer.special.im_end, tokenizer.special.end_of_text]
    special = list(tokenizer.special_ids.values())
    return tokenizer, Grammars(tokens, ends, special, tokenizer.encode, tokenizer.vocab_size + 7)


VOCABULARIES = {name: grammars(name) for name in ("nano", "qwen2")}


@pytest.fixture(params=list(VOCABULARIES))
def vocabulary(request):
    return VOCABULARIES[request.param]


def accepts(tokenizer, constraint, text):
    """Whether `text`, in the model's own tokens, may be the whole answer."""
    for token in tokenizer.encode(text):
        if not constraint.allowed()[token]:
            return False
        constraint.advance(token)
    return bool(constraint.allowed()[tokenizer.special.im_end])


def wander(tokenizer, constraint, seed, most=400):
    """An answer chosen blindly among what is allowed, as a random model would, kept short; None if it never ends."""
    rng, made = random.Random(seed), []
    for _ in range(most):
        allowed = constraint.allowed().nonzero().flatten().tolist()
        if tokenizer.special.im_end in allowed:
            return tokenizer.decode(made)
        closing = [t for t in allowed if tokenizer.token_bytes(t) in (b'"', b"}", b"]", b"0", b"1")]
        made.append(rng.choice(closing if closing and rng.random() < 0.6 else allowed))
        constraint.advance(made[-1])
    return None


schemas = st.recursive(
    st.sampled_from(
        [{"type": "integer"}, {"type": "boolean"}, {"type": "string", "maxLength": 6}, {"enum": ["red", "blue", 3]}]
    ),
    lambda inner: st.one_of(
        st.builds(lambda item: {"type": "array", "items": item, "maxItems": 2}, inner),
        st.builds(
            lambda fields: {
                "type": "object",
                "properties": fields,
                "required": list(fields),
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2),
        ),
    ),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None)
@given(schema=schemas, seed=st.integers(0, 99))
def test_whatever_is_chosen_obeys_the_schema(schema, seed):
    tokenizer, known = VOCABULARIES["nano"]
    text = wander(tokenizer, known.json_schema(schema), seed)
    if text is not None:
        jsonschema.validate(json.loads(text), schema)


def test_json_is_taken_and_other_text_is_not(vocabulary):
    tokenizer, known = vocabulary
    assert accepts(tokenizer, known.json_schema(SCHEMA), '{"x": "y"}')
    assert not accepts(tokenizer, known.json_schema(SCHEMA), '{"x": 3}')
    assert not accepts(tokenizer, known.json_schema(SCHEMA), '{"x": "y"')
    assert accepts(tokenizer, known.json_object(), '{"any": [1, {"thing": null}]}')
    assert not accepts(tokenizer, known.json_object(), "[1]")


@settings(max_examples=60, deadline=None)
@given(
    options=st.lists(
        st.text(st.sampled_from("ab1+-/#( '\"\\.é"), min_size=1, max_size=5), min_size=2, max_size=4, unique=True
    ),
    name=st.sampled_from(list(VOCABULARIES)),
)
def test_every_option_may_be_written_as_the_model_spells_it(options, name):
    """What all options begin with is known before what tells them apart, and may be cut into tokens otherwise."""
    tokenizer, known = VOCABULARIES[name]
    schema = {**SCHEMA, "properties": {"x": {"enum": options}}}
    for option in options:
        assert accepts(tokenizer, known.json_schema(schema), json.dumps({"x": option}, ensure_ascii=False))


def test_tools_named_by_signs_can_be_told_apart(vocabulary):
    tokenizer, known = vocabulary
    tools = {name: {"type": "object", "properties": {}, "additionalProperties": False} for name in ("+1", "-1", "Hit")}
    for name in tools:
        constraint = known.tool_calls(tools, forced=True, several=False, form=FORMS["hermes"])
        assert accepts(tokenizer, constraint, call_text(ToolCall(name, "{}"), "hermes"))


def test_expressions_choices_and_grammars(vocabulary):
    tokenizer, known = vocabulary
    for text in ("17", "7", "170", "1x"):
        assert accepts(tokenizer, known.regex("[0-9]{2}"), text) == bool(re.fullmatch("[0-9]{2}", text))
    for text in ("yes", "no", "maybe", "ye"):
        assert accepts(tokenizer, known.choice(["yes", "no", 'a "b"']), text) == (text in ("yes", "no"))
    assert accepts(tokenizer, known.choice(["yes", 'a "b"\n']), 'a "b"\n')
    assert accepts(tokenizer, known.lark('start: "a" ("," "a")*'), "a,a,a")
    assert not accepts(tokenizer, known.lark('start: "a" ("," "a")*'), "a,,a")


@pytest.mark.parametrize("name", FORMS)
def test_forced_calls_are_calls_and_nothing_else(vocabulary, name):
    tokenizer, known = vocabulary
    call = call_text(ToolCall("f", '{"x": "q"}'), name)

    def forced(several):
        tools = {"f": SCHEMA, "g": {"type": "object"}}
        return known.tool_calls(tools, forced=True, several=several, form=FORMS[name])

    assert accepts(tokenizer, forced(False), call)
    assert not accepts(tokenizer, forced(False), call + "\n" + call)
    assert accepts(tokenizer, forced(True), call + "\n" + call)
    assert not accepts(tokenizer, forced(True), "Hello")
    assert not accepts(tokenizer, forced(False), call_text(ToolCall("h", '{"x": "q"}'), name))


@pytest.mark.parametrize("name", FORMS)
def test_free_text_until_a_call_begins_then_its_schema(vocabulary, name):
    tokenizer, known = vocabulary

    def free():
        return known.tool_calls({"f": SCHEMA}, forced=False, several=True, form=FORMS[name])

    call = call_text(ToolCall("f", '{"x": "q"}'), name)
    assert accepts(tokenizer, free(), "No tool is needed: 3 < 4.")
    assert accepts(tokenizer, free(), "I look.\n" + call)
    assert accepts(tokenizer, free(), call + "\n" + call)
    assert not accepts(tokenizer, free(), FORMS[name].opening + '\n{"nothing": 1}\n')
    assert not accepts(tokenizer, free(), call.replace('"q"', "5"))


def test_no_special_token_but_the_ends_is_ever_allowed(vocabulary):
    tokenizer, known = vocabulary
    ends = {tokenizer.special.im_end, tokenizer.special.end_of_text}
    others = [token for token in tokenizer.special_ids.values() if token not in ends]
    for constraint in (known.regex("(.|\n)*"), known.json_object(), known.choice(["<|im_start|>"])):
        mask = constraint.allowed()
        assert mask.shape == (tokenizer.vocab_size + 7,)
        assert not mask[others].any()
        assert not mask[tokenizer.vocab_size :].any()


def test_copies_do_not_share_state(vocabulary):
    tokenizer, known = vocabulary
    first, second = known.choice(["ab"]), known.choice(["ab"])
    first.advance(tokenizer.encode("a")[0])
    assert not torch.equal(first.allowed(), second.allowed())
    assert accepts(tokenizer, second, "ab")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda g: g.regex("(["), "the grammar cannot be used: .*invalid regex"),
        (lambda g: g.lark("nonsense"), "the grammar cannot be used"),
        (lambda g: g.json_schema({"type": "quark"}), "cannot be used: .*quark"),
        (lambda g: g.choice([]), "a choice needs at least one option"),
        (lambda g: g.choice(["x" * 70_000]), "the grammar has 7.... bytes; the limit is 65536"),
        (lambda g: g.json_schema(nested(MAX_DEPTH)), f"nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(make, reason):
    with pytest.raises(GrammarError, match=reason) as caught:
        make(VOCABULARIES["nano"][1])
    assert "\n" not in str(caught.value)


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema
