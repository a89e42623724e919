"""Byte-level BPE over Qwen2's splitter; special tokens exist only as ids that code inserts (facts, 1.4).

The Rust `tokenizers` library merges. It is never told about special tokens, so no text can become one.
"""

from __future__ import annotations

import codecs
import functools
import json
import lzma
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from clearsight.config import NANO, SpecialTokens, read_json

SPECIAL_NAMES = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Clitics, words, single digits, punctuation, line ends, other spaces: the order of the alternatives matters.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_alphabet() -> str:
    """GPT-2's 256 stand-ins for bytes, printable ones first: the order of the first 256 token ids of Qwen2."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return "".join(map(chr, [*printable, *range(0x100, 0x200 - len(printable))]))


BYTE_ALPHABET = _byte_alphabet()
_PRINTABLE = tuple(byte for byte in range(256) if chr(byte) in BYTE_ALPHABET)
# Both maps go through code points 0..255, which latin-1 turns into the bytes of the same value.
BYTE_VALUES = (*_PRINTABLE, *(byte for byte in range(256) if byte not in _PRINTABLE))
_TO_BYTE = dict(zip(map(ord, BYTE_ALPHABET), BYTE_VALUES, strict=True))
_FROM_BYTE = {value: char for char, value in _TO_BYTE.items()}


class TokenizerError(ValueError):
    """A tokenizer file is missing, does not fit together, or disagrees with the model's special tokens."""


class Tokenizer:
    """Text to ids and back. All methods are safe to call from several threads."""

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        special: SpecialTokens,
        *,
        ignore_merges: bool = False,
        added: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """vocab and merges in the byte alphabet; added: entries of a published file beyond the vocabulary.

        ignore_merges: a piece found whole in the vocabulary is one token, whatever the merges say.
        Raises TokenizerError if `added` places one of the 14 specials elsewhere than `special` does.
        """
        self.special = special
        first = special.end_of_text
        names = {first + index: name for index, name in enumerate(SPECIAL_NAMES)}
        extra = {entry["id"]: entry["content"] for entry in added}
        self._added = [dict(entry) for entry in added if entry["content"] not in SPECIAL_NAMES]
        for token, name in extra.items():
            if names.get(token, name) != name or (name in SPECIAL_NAMES and token not in names):
                raise TokenizerError(f"token {token} is {name!r} in the tokenizer file; the model expects otherwise")
        self.special_ids: Mapping[str, int] = {name: token for token, name in names.items()}
        """Ids of the 14 special tokens by name, in order, consecutive from `special.end_of_text`."""
        ordinary = {piece: token for piece, token in vocab.items() if token < first}
        if not set(BYTE_ALPHABET) <= ordinary.keys() or not set("".join(ordinary)) <= set(BYTE_ALPHABET):
            raise TokenizerError("the vocabulary is not a byte-level one with all 256 bytes")
        self._hidden = names.keys() | {entry["id"] for entry in added if entry.get("special")}
        self._pieces = {token: piece for piece, token in ordinary.items()}
        self._pieces |= {token: to_alphabet(name.encode()) for token, name in (extra | names).items()}
        self._rust = _build(ordinary, merges, ignore_merges)
        self.vocab_size = max(self._pieces) + 1
        """One above the largest id in use, specials included; a model may have more embedding rows."""

    @classmethod
    def from_folder(cls, folder: str | Path, special: SpecialTokens) -> Tokenizer:
        """Read `tokenizer.json`, or `vocab.json` with `merges.txt`, of a checkpoint folder.

        Raises TokenizerError, or ConfigError for a file that is not valid JSON.
        """
        folder = Path(folder)
        if (folder / "tokenizer.json").is_file():
            return cls.from_json(read_json(folder / "tokenizer.json"), special)
        if not (folder / "vocab.json").is_file() or not (folder / "merges.txt").is_file():
            raise TokenizerError(f"{folder} holds neither tokenizer.json nor vocab.json with merges.txt")
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [_merge(line) for line in lines if line and not line.startswith("#version")]
        return cls(read_json(folder / "vocab.json"), merges, special)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], special: SpecialTokens) -> Tokenizer:
        """Read the content of a `tokenizer.json` (facts, 1.4)."""
        model = data.get("model", {})
        if model.get("type", "BPE") != "BPE" or "vocab" not in model or "merges" not in model:
            raise TokenizerError(f"the tokenizer's model is {model.get('type')!r}; only byte-level BPE is supported")
        return cls(
            model["vocab"],
            [_merge(pair) for pair in model["merges"]],
            special,
            ignore_merges=bool(model.get("ignore_merges")),
            added=data.get("added_tokens", ()),
        )

    @classmethod
    def packaged(cls, name: str) -> Tokenizer:
        """A vocabulary shipped with the package: "qwen2" (all released sizes) or "nano". Read once."""
        return _packaged(name)

    def encode(self, text: str) -> list[int]:
        """Ids of `text` after NFC normalisation. Never a special token, whatever the text spells."""
        # Halves of surrogate pairs come in through JSON escapes; they are no text, so each becomes U+FFFD.
        clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = self._rust.encode(clean, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of `ids`; invalid UTF-8 becomes U+FFFD, and ids that name no token become nothing."""
        return b"".join(self._bytes(token, skip_special) for token in ids).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes one token stands for: its name if it is special, b"" if no token has this id."""
        return _to_bytes(self._pieces.get(token, ""))

    def stream(self, *, skip_special: bool = True) -> TextStream:
        return TextStream(self, skip_special=skip_special)

    def to_json(self) -> dict[str, Any]:
        """Content of a `tokenizer.json` that other libraries read too, with the special tokens as added tokens."""
        data: dict[str, Any] = json.loads(self._rust.to_str())
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        # Other readers number a special token after the last used id unless the vocabulary names it too.
        data["model"]["vocab"] |= self.special_ids
        special = [{"id": token, "content": name, **flags} for name, token in self.special_ids.items()]
        data["added_tokens"] = special + self._added
        return data

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` to `folder`; `from_folder` reads it back."""
        text = json.dumps(self.to_json(), ensure_ascii=False)
        (Path(folder) / "tokenizer.json").write_text(text, encoding="utf-8")

    def _bytes(self, token: int, skip_special: bool) -> bytes:
        return b"" if skip_special and token in self._hidden else self.token_bytes(token)


class TextStream:
    """Decodes one token at a time without splitting a character; the pieces add up to `Tokenizer.decode`."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Text that became complete with `token`; "" while a character is unfinished."""
        return self._utf8.decode(self._tokenizer._bytes(token, self._skip_special))

    def finish(self) -> str:
        """What is left: U+FFFD if the tokens end inside a character, else "". The stream is then empty."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest


def _build(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], ignore_merges: bool) -> tokenizers.Tokenizer:
    try:
        model = models.BPE(dict(vocab), list(merges), ignore_merges=ignore_merges)
    except Exception as error:  # the library raises bare exceptions
        raise TokenizerError(f"the merges do not fit the vocabulary: {error}") from error
    rust = tokenizers.Tokenizer(model)
    rust.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(tokenizers.Regex(SPLIT_PATTERN), behavior="isolated")
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    rust.decoder = decoders.ByteLevel()
    return rust


@functools.cache
def _packaged(name: str) -> Tokenizer:
    data = resources.files("clearsight") / "data" / name
    if name == "nano":
        return Tokenizer.from_json(read_json(Path(str(data / "tokenizer.json"))), NANO.tokens)
    if name != "qwen2":
        raise TokenizerError(f"there is no packaged vocabulary {name!r}; the names are qwen2 and nano")
    pairs = array("I", lzma.decompress((data / "merges.xz").read_bytes()))
    if sys.byteorder == "big":
        pairs.byteswap()
    return Tokenizer(*vocabulary_from_pairs(pairs), SpecialTokens())


def vocabulary_from_pairs(pairs: Sequence[int]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges from flat (left id, right id) pairs; pair number k makes token 256 + k."""
    pieces = list(BYTE_ALPHABET)
    merges = []
    for left, right in zip(pairs[::2], pairs[1::2], strict=True):
        merges.append((pieces[left], pieces[right]))
        pieces.append(pieces[left] + pieces[right])
    return {piece: token for token, piece in enumerate(pieces)}, merges


def _merge(entry: str | Sequence[str]) -> tuple[str, str]:
    """Older files write "left right", newer ones ["left", "right"]."""
    parts = entry.split(" ") if isinstance(entry, str) else entry
    if len(parts) != 2:
        raise TokenizerError(f"merge {entry!r} does not have two parts")
    return parts[0], parts[1]


def _to_bytes(piece: str) -> bytes:
    return piece.translate(_TO_BYTE).encode("latin-1")


def to_alphabet(data: bytes) -> str:
    return data.decode("latin-1").translate(_FROM_BYTE)
