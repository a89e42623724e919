"""Tokens: the published ids, an independent rank-based BPE, and the laws of safety and streaming (facts, 1.4)."""

from __future__ import annotations

import itertools
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from clearsight.config import NANO, ConfigError, SpecialTokens
from clearsight.processor.tokenizer import SPECIAL_NAMES, Tokenizer, TokenizerError

QWEN2 = Tokenizer.packaged("qwen2")
NANO_TOKENIZER = Tokenizer.packaged("nano")
both = pytest.mark.parametrize("tokenizer", [QWEN2, NANO_TOKENIZER], ids=["qwen2", "nano"])

VECTORS = {
    "You are a helpful assistant.": [2610, 525, 264, 10950, 17847, 13],
    "system": [8948],
    "user": [872],
    "assistant": [77091],
    "\n": [198],
    "\n\n": [271],
    "Describe this image.": [74785, 419, 2168, 13],
    "Picture 1: ": [24669, 220, 16, 25, 220],
    "Video 1: ": [10724, 220, 16, 25, 220],
    "(701,531),(869,675)": [7, 22, 15, 16, 11, 20, 18, 16, 23547, 23, 21, 24, 11, 21, 22, 20, 8],
    "✿FUNCTION✿": [144575, 18149, 144575],
    "✿ARGS✿": [144575, 47483, 144575],
    "✿RESULT✿": [144575, 14098, 144575],
    "✿RETURN✿": [144575, 51533, 144575],
    "<tool_call>": [27, 14172, 13429, 29],
    "识别图中所有文字": [102450, 28029, 15946, 55338, 87335],
}

SAMPLES = [
    "The quick brown fox doesn't jump; it'LL've leapt. I'm, we're, THEY'D",
    "  leading, trailing  \t\n\n  \r\n and   inner   spaces \n",
    'x = [1, 22, 333.4444]\n\tif x:\n\t\treturn f"{x!r}"  # ok\n\n\n',
    "Größe naïve café — “quotes” … ½ ² № ﬁ",
    "今天天气很好,我们去公园吧。日本語のテキスト、カタカナ。한국어 문장입니다.",
    "مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก Привет, мир! Χαίρε",
    "😀👩‍👩‍👧‍👦🏳️‍🌈🇫🇷 e\u0301 A\u030a \u1100\u1161\u11a8 \ufeff\u200b\x00\x7f",
    "Ⅷ ٣٤ १२ 一二三 3½",
    "a" * 300 + "ab" * 200 + "\u00a0\u3000\u2003 \u2028x",
]

# Unassigned code points may be composed by one Unicode version and not by another.
characters = st.characters(exclude_categories=["Cs", "Cn"])
texts = st.text(characters)
fragments = st.sampled_from([*SPECIAL_NAMES, "<|", "|>", "im_end", "image_pad", "user\n", " ", "\ud83d", "\U0001f600"])
tricky = st.lists(fragments | texts, max_size=8).map("".join)


@pytest.mark.parametrize("text", VECTORS)
def test_published_ids(text: str) -> None:
    assert QWEN2.encode(text) == VECTORS[text]
    assert QWEN2.decode(VECTORS[text]) == text


def rank_merge(piece: bytes, rank: dict[bytes, int]) -> list[int]:
    """The definition of rank-based BPE: join the neighbours of lowest rank until none joins."""
    parts = [bytes([byte]) for byte in piece]
    while True:
        joined = [rank.get(left + right) for left, right in itertools.pairwise(parts)]
        known = [value for value in joined if value is not None]
        if not known:
            return [rank[part] for part in parts]
        index = joined.index(min(known))
        parts[index : index + 2] = [parts[index] + parts[index + 1]]


@pytest.fixture(scope="module")
def rank() -> dict[bytes, int]:
    return {QWEN2.token_bytes(token): token for token in range(QWEN2.special.end_of_text)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Qwen2 vocabulary in the files of a published checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint")
    QWEN2.save(path)
    return path


@pytest.fixture(scope="module")
def reference(folder: Path) -> PreTrainedTokenizerFast:
    """Built by the reference library from vocabulary and merges alone, so its splitter is its own."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocab = {piece: token for piece, token in model["vocab"].items() if token < QWEN2.special.end_of_text}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_NAMES)})
    return tokenizer


@pytest.mark.parametrize("text", [*VECTORS, *SAMPLES])
def test_equals_reference_library(reference: PreTrainedTokenizerFast, text: str) -> None:
    assert QWEN2.encode(text) == reference(text)["input_ids"]
    assert QWEN2.decode(QWEN2.encode(text)) == reference.decode(reference(text)["input_ids"])


@given(text=texts)
def test_equals_reference_library_on_any_text(reference: PreTrainedTokenizerFast, text: str) -> None:
    assert QWEN2.encode(text) == reference(text)["input_ids"]


@given(piece=st.text(st.characters(categories=["L"]), min_size=1, max_size=20))
def test_merges_equal_the_ranks(rank: dict[bytes, int], piece: str) -> None:
    piece = unicodedata.normalize("NFC", piece)
    if all(unicodedata.category(char).startswith("L") for char in piece):
        assert QWEN2.encode(piece) == rank_merge(piece.encode(), rank)


def test_ranks_are_complete(rank: dict[bytes, int]) -> None:
    assert len(rank) == 151_643
    assert all(bytes([byte]) in rank for byte in range(256))


@both
def test_special_tokens_follow_the_vocabulary(tokenizer: Tokenizer) -> None:
    first, special = tokenizer.special.end_of_text, tokenizer.special
    assert list(tokenizer.special_ids.items()) == list(zip(SPECIAL_NAMES, range(first, first + 14), strict=True))
    for name in ("im_start", "im_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"):
        assert tokenizer.special_ids[f"<|{name}|>"] == getattr(special, name)
    assert tokenizer.vocab_size == first + 14


@both
@given(text=tricky)
def test_text_never_becomes_special_and_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(token < tokenizer.special.end_of_text for token in ids)
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "clean"), [("a\ud83d\ude00", "a\U0001f600"), ("\ud83dx", "\ufffdx"), ("\udc00", "\ufffd")]
)
def test_surrogates(text: str, clean: str) -> None:
    assert QWEN2.decode(QWEN2.encode(text)) == clean


@both
@given(data=st.data())
def test_stream_equals_whole(tokenizer: Tokenizer, data: st.DataObject) -> None:
    # Past the last token lie the embedding's padding rows, which name nothing.
    any_id = st.integers(0, tokenizer.vocab_size + 100) | st.integers(0, 255)
    ids = data.draw(st.lists(any_id, max_size=40) | tricky.map(tokenizer.encode))
    skip = data.draw(st.booleans())
    stream = tokenizer.stream(skip_special=skip)
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == tokenizer.decode(ids, skip_special=skip)
    assert stream.finish() == ""


@both
@given(text=texts)
def test_stream_never_splits_a_character(tokenizer: Tokenizer, text: str) -> None:
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert stream.finish() == ""
    assert "\ufffd" not in "".join(pieces).replace("\ufffd" if "\ufffd" in text else "", "")


@both
@given(ids=st.lists(st.integers(0, 255)))
def test_decode_is_the_bytes(tokenizer: Tokenizer, ids: list[int]) -> None:
    raw = b"".join(map(tokenizer.token_bytes, ids))
    assert tokenizer.decode(ids) == raw.decode("utf-8", "replace")


@both
def test_special_tokens_show_only_when_asked_for(tokenizer: Tokenizer) -> None:
    ids = list(tokenizer.special_ids.values())
    assert tokenizer.decode(ids) == ""
    assert tokenizer.decode(ids, skip_special=False) == "".join(SPECIAL_NAMES)
    assert tokenizer.token_bytes(tokenizer.special.im_end) == b"<|im_end|>"
    assert tokenizer.token_bytes(tokenizer.vocab_size) == b""


def test_nano_bytes_are_their_values() -> None:
    assert [NANO_TOKENIZER.token_bytes(value) for value in range(256)] == [bytes([value]) for value in range(256)]


def test_nano_knows_whole_words_and_spells_the_rest() -> None:
    assert len(NANO_TOKENIZER.encode("You are a helpful assistant.")) == 6
    assert NANO_TOKENIZER.encode("Zyx") == list(b"Zyx")
    whole = [token for token in range(256, NANO.tokens.end_of_text) if NANO_TOKENIZER.token_bytes(token)]
    for token in whole:
        assert NANO_TOKENIZER.encode(NANO_TOKENIZER.decode([token])) == [token]


@both
def test_saved_file_gives_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path, tokenizer.special)
    assert all(again.encode(text) == tokenizer.encode(text) for text in [*VECTORS, *SAMPLES])
    assert again.vocab_size == tokenizer.vocab_size


def test_vocabulary_and_merges_files_give_the_same_tokenizer(folder: Path, tmp_path: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, model["merges"]), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    again = Tokenizer.from_folder(tmp_path, QWEN2.special)
    assert all(again.encode(text) == QWEN2.encode(text) for text in [*VECTORS, *SAMPLES])


@both
def test_saved_file_is_read_by_the_reference_library(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    other = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in [*VECTORS, *SAMPLES]:
        assert other(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    assert other.convert_tokens_to_ids(list(SPECIAL_NAMES)) == list(tokenizer.special_ids.values())
    assert other("<|im_end|>")["input_ids"] == [tokenizer.special.im_end]


def test_tokens_added_by_a_checkpoint_decode_but_cannot_be_typed() -> None:
    data = QWEN2.to_json()
    data["added_tokens"] += [
        {"id": 151_657, "content": "<tool_call>", "special": False},
        {"id": 151_658, "content": "<|extra|>", "special": True},
    ]
    tokenizer = Tokenizer.from_json(data, SpecialTokens())
    assert tokenizer.to_json() == data
    assert tokenizer.decode([151_657, 151_658]) == "<tool_call>"
    assert tokenizer.decode([151_658], skip_special=False) == "<|extra|>"
    assert tokenizer.encode("<tool_call>") == VECTORS["<tool_call>"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="holds neither"):
        Tokenizer.from_folder(tmp_path, SpecialTokens())
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid JSON"):
        Tokenizer.from_folder(tmp_path, SpecialTokens())
    data = NANO_TOKENIZER.to_json()
    with pytest.raises(TokenizerError, match="token 1010"):
        Tokenizer.from_json(data, SpecialTokens())
    with pytest.raises(TokenizerError, match="only byte-level BPE"):
        Tokenizer.from_json({"model": {"type": "WordPiece", "vocab": {}}}, NANO.tokens)
    with pytest.raises(TokenizerError, match="256 bytes"):
        Tokenizer({"a": 0}, [], NANO.tokens)
    with pytest.raises(TokenizerError, match="do not fit"):
        Tokenizer.from_json({"model": {**data["model"], "merges": ["Zy x"]}}, NANO.tokens)
    with pytest.raises(TokenizerError, match="two parts"):
        Tokenizer.from_json({"model": {**data["model"], "merges": ["Zyx"]}}, NANO.tokens)
    with pytest.raises(TokenizerError, match="no packaged vocabulary"):
        Tokenizer.packaged("gpt2")
