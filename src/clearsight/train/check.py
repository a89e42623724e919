"""Every sample of a user's data looked at before anything starts: what cannot be used, and how large the rest is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clearsight.media import MediaError, open_picture
from clearsight.messages import Image, MessageError, Video
from clearsight.processor import Processor, PromptTooLong
from clearsight.train.corpus import Collection, Corpus
from clearsight.train.errors import UnusableData
from clearsight.train.example import document, encode_record, truncate
from clearsight.train.records import Record, RecordError


@dataclass(frozen=True, slots=True)
class Size:
    """Of one sample: tokens after cutting, and patches of its pictures and videos."""

    tokens: int
    patches: int


UNUSABLE = Size(0, 0)


@dataclass(frozen=True, slots=True)
class Survey:
    """sizes: of every sample, UNUSABLE for those that problems speak of. problems: one line each, with its place."""

    sizes: tuple[Size, ...]
    problems: tuple[str, ...]

    @property
    def tokens(self) -> list[int]:
        return [size.tokens for size in self.sizes]

    @property
    def usable(self) -> int:
        return sum(size.tokens > 0 for size in self.sizes)


def survey(
    corpus: Corpus,
    collection: Collection,
    processor: Processor,
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> Survey:
    """Look at every sample, its pixels too: one that fails later would stop a run. progress: called for each with 1."""
    sizes: list[Size] = []
    problems: list[str] = []
    for index in range(len(collection)):
        try:
            sizes.append(_examine(collection[index], corpus, processor))
        except (RecordError, MessageError, MediaError, PromptTooLong) as error:
            problems.append(f"{collection.place(index)}: {error}")
        except ValueError as error:
            problems.append(f"{collection.place(index)}: it is not valid JSON ({error})")
        if len(sizes) <= index:
            sizes.append(UNUSABLE)
        progress(1)
    return Survey(tuple(sizes), tuple(problems))


def usable_tokens(corpus: Corpus, found: Survey) -> list[int]:
    """Tokens of every sample, 0 for those to leave out. Raises UnusableData if there are such and none may be."""
    if found.problems and not corpus.skip_bad:
        raise UnusableData(
            f"{len(found.problems)} of {len(found.sizes)} samples cannot be used, the first: {found.problems[0]}"
            " (--dry-run shows all; --skip-bad leaves them out)"
        )
    if not found.usable:
        raise UnusableData("no sample can be used")
    return found.tokens


def _examine(record: Record, corpus: Corpus, processor: Processor) -> Size:
    if corpus.form == "caption":
        count = processor.count_document(document(record.messages))
    else:
        count = processor.count(record.messages, add_generation_prompt=False, tools=record.tools)
    patches = sum(use.grid.patches for use in count.media)
    _decode(record, corpus, processor)
    if count.tokens <= corpus.max_tokens:
        return Size(count.tokens, patches)
    if not corpus.truncate:
        raise RecordError(f"it has {count.tokens} tokens; the limit is {corpus.max_tokens}")
    merge = processor.config.vision.merge_size
    cut = truncate(encode_record(record, processor, corpus.form), corpus.max_tokens, merge)
    if not cut.supervised.any():
        raise RecordError(
            f"it has {count.tokens} tokens; nothing to learn is left of it when it is cut at {corpus.max_tokens}"
        )
    return Size(cut.tokens, cut.patches)


def _decode(record: Record, corpus: Corpus, processor: Processor) -> None:
    parts = [part for message in record.messages for part in message.parts]
    if any(isinstance(part, Video) for part in parts):
        encode_record(record, processor, corpus.form)
        return
    for part in parts:
        if isinstance(part, Image):
            processor.decode(open_picture(part.source, processor.media_limits))
