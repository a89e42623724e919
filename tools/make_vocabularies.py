"""Write the packaged vocabularies: `python tools/make_vocabularies.py qwen2 RANKS` or `... nano`.

RANKS is the Apache-2.0 file `dashscope/resources/qwen.tiktoken` of the dashscope 2.0.2 wheel, unpacked (facts, 1.4).
The nano vocabulary is frozen by its trained weights, so `nano` only ever adds pieces at unused ids.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import lzma
from array import array
from collections.abc import Mapping
from pathlib import Path

from clearsight.config import NANO, NANO_SPECIAL_START
from clearsight.messages import ROLES
from clearsight.processor.tokenizer import BYTE_ALPHABET, BYTE_VALUES, Tokenizer, to_alphabet
from clearsight.train.worlds.vocabulary import question_words

DATA = Path(__file__).resolve().parents[1] / "src" / "clearsight" / "data"
# What the chat format writes, and the middle of a box (facts, 7.1 and 7.3).
CHAT_PIECES = (*ROLES, "You", " are", " a", " helpful", " assistant", "Picture", "Video", "),(")
RANKS_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("qwen2").add_argument("ranks", type=Path)
    commands.add_parser("nano")
    arguments = parser.parse_args()
    if arguments.command == "qwen2":
        write_qwen2(arguments.ranks.read_bytes())
    else:
        write_nano(DATA / "nano" / "tokenizer.json")


def write_qwen2(ranks: bytes) -> None:
    """Store for each merged token the two tokens it is made of: a third of the size, and nothing to search at load."""
    digest = hashlib.sha256(ranks).hexdigest()
    if digest != RANKS_SHA256:
        raise SystemExit(f"the rank file has sha256 {digest}; expected {RANKS_SHA256}")
    tokens = [base64.b64decode(line.split()[0]) for line in ranks.splitlines()]
    assert tokens[:256] == [bytes([value]) for value in BYTE_VALUES]
    rank = {token: index for index, token in enumerate(tokens)}
    pairs = array("I", [part for token in tokens[256:] for part in last_merge(token, rank)])
    (DATA / "qwen2" / "merges.xz").write_bytes(lzma.compress(pairs.tobytes(), preset=9 | lzma.PRESET_EXTREME))


def last_merge(token: bytes, rank: Mapping[bytes, int]) -> tuple[int, int]:
    """The pair that BPE joins last to make `token`: merge by lower ranks until two parts are left."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [left + right for left, right in itertools.pairwise(parts)]
        best = min(range(len(joined)), key=lambda index: rank.get(joined[index], rank[token]))
        assert rank[joined[best]] < rank[token]
        parts[best : best + 2] = [joined[best]]
    return rank[parts[0]], rank[parts[1]]


def write_nano(path: Path) -> None:
    """256 bytes with id = byte value, then whole pieces of text. Ids already in the file stay; new pieces follow."""
    vocab = {BYTE_ALPHABET[index]: value for index, value in enumerate(BYTE_VALUES)}
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
        vocab = {piece: token for piece, token in known.items() if token < NANO_SPECIAL_START}
    for piece in itertools.chain(CHAT_PIECES, question_words()):
        vocab.setdefault(to_alphabet(piece.encode()), len(vocab))
    if len(vocab) > NANO_SPECIAL_START:
        raise SystemExit(f"{len(vocab)} tokens; the special tokens begin at {NANO_SPECIAL_START}")
    data = Tokenizer(vocab, [], NANO.tokens, ignore_merges=True).to_json()
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
