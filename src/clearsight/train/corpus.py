"""A user's data as packs of at most so many tokens. Pack n is a pure function of (data, seed, n)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from clearsight.processor import Processor
from clearsight.train.errors import UnusableData
from clearsight.train.example import Example, check_form, encode_record, pack, truncate
from clearsight.train.records import Record
from clearsight.train.source import Records

# Packs under construction at a time: more fill packs better and mix samples a little less freely.
_OPEN_PACKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Which data is read, and how.

    form: "chat" or "caption" (picture and text without chat format). max_tokens: of one sample; truncate: whether a
    longer one is cut or refused. pack_tokens: most tokens in one forward pass. media_root: where relative names of
    pictures start (None: the data's folder). split: of a data set that has several. skip_bad: leave out samples that
    cannot be used; otherwise one of them stops everything.
    """

    files: tuple[str, ...]
    form: str = "chat"
    max_tokens: int = 2048
    pack_tokens: int = 4096
    truncate: bool = False
    media_root: str | None = None
    split: str = "train"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        check_form(self.form)
        if not 2 <= self.max_tokens <= self.pack_tokens:
            raise ValueError(
                f"max_tokens is {self.max_tokens}; it must be from 2 to pack_tokens, which is {self.pack_tokens}"
            )


class Collection:
    """The samples of several files, counted through. place: file and line."""

    def __init__(self, corpus: Corpus) -> None:
        root = None if corpus.media_root is None else Path(corpus.media_root).expanduser()
        self._files = [Records(name, media_root=root, split=corpus.split) for name in corpus.files]
        self._where = [(file, index) for file, records in enumerate(self._files) for index in range(len(records))]

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> Record:
        file, number = self._where[index]
        return self._files[file][number]

    def place(self, index: int) -> str:
        file, number = self._where[index]
        records = self._files[file]
        return f"{records.data}, {records.place(number)}"


class PackedStream:
    """Epoch after epoch, each in another order, in packs of at most `corpus.pack_tokens` tokens.

    tokens: of each sample of the collection, 0 for one that is left out.
    """

    def __init__(
        self, processor: Processor, corpus: Corpus, collection: Collection, tokens: Sequence[int], seed: int
    ) -> None:
        self.processor, self.corpus, self.seed = processor, corpus, seed
        self._collection, self._tokens = collection, tokens
        self._epoch, self._first, self._packs = 0, 0, self._plan(0)

    @property
    def identity(self) -> str:
        """Differs for streams that differ."""
        return repr((self.corpus, self.seed, hash(tuple(self._tokens))))

    @property
    def packs_per_epoch(self) -> int:
        """Of the first epoch; others may have a few more or less."""
        return len(self._plan(0))

    def samples(self, number: int) -> list[int]:
        """The samples of pack `number`."""
        if number < self._first:
            self._epoch, self._first, self._packs = 0, 0, self._plan(0)
        while number >= self._first + len(self._packs):
            self._first += len(self._packs)
            self._epoch += 1
            self._packs = self._plan(self._epoch)
        return self._packs[number - self._first]

    def __getitem__(self, number: int) -> Example:
        torch.set_num_threads(1)
        return pack([self.example(index) for index in self.samples(number)])

    def example(self, index: int) -> Example:
        """Sample `index` alone. Raises UnusableData naming its place if it has become unusable."""
        try:
            whole = encode_record(self._collection[index], self.processor, self.corpus.form)
        except ValueError as error:
            raise UnusableData(f"{self._collection.place(index)}: {error}") from error
        return truncate(whole, self.corpus.max_tokens, self.processor.config.vision.merge_size)

    def _plan(self, epoch: int) -> list[list[int]]:
        """Samples in a new order, each put in the fullest open pack that has room for it."""
        order = [index for index, tokens in enumerate(self._tokens) if tokens]
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        packs: list[list[int]] = []
        still_open: list[tuple[int, list[int]]] = []
        for index in order:
            fitting = [item for item in still_open if item[0] + self._tokens[index] <= self.corpus.pack_tokens]
            if fitting:
                fullest = max(fitting, key=lambda item: item[0])
                still_open.remove(fullest)
                fullest[1].append(index)
                still_open.append((fullest[0] + self._tokens[index], fullest[1]))
            else:
                packs.append([index])
                still_open.append((self._tokens[index], packs[-1]))
                # The fullest has the least to hope for.
                if len(still_open) > _OPEN_PACKS:
                    still_open.remove(max(still_open, key=lambda item: item[0]))
        return packs
