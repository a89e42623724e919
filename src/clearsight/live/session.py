"""One conversation about a stream that does not end: frames are appended, questions asked, the past thinned out.

Everything here runs in the caller's thread; `Live` puts a thread of its own around it.

Shape suffixes: T tokens, M merged tokens of one slot, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from clearsight.answer import AnswerReader
from clearsight.engine.repetition import RepetitionGuard
from clearsight.engine.sampler import Sampler
from clearsight.inputs import Grid, ModelInputs, SamplingParams, TokenEvent, VisionPatches
from clearsight.live.cache import LiveCache
from clearsight.live.policy import to_forget, to_thin
from clearsight.live.settings import LiveSettings
from clearsight.live.template import Template
from clearsight.live.timeline import Piece, Timeline
from clearsight.processor import MediaUse, Prepared
from clearsight.vlm import VLM, Stream

R = TypeVar("R")

_SLACK = 8  # one part in this many leaves at a time, so that most frames move nothing
_SHORT = 24  # tokens of a short answer


class QuestionTooLong(ValueError):
    """A question, or a standing instruction, has more tokens than the session keeps for one."""


@dataclass(frozen=True, slots=True)
class SessionStats:
    """tokens, slots: in the cache now. seen_slots: since the start. evictions: times that frames left."""

    tokens: int
    budget_tokens: int
    slots: int
    seen_slots: int
    evictions: int
    cache_bytes: int
    oldest: float | None
    newest: float | None


class Session:
    """The cache of a conversation with what stands in it. Not for several threads at once.

    source_size: (width, height) of the frames as they came, for boxes in answers; None for the size they are used at.
    """

    def __init__(self, vlm: VLM, settings: LiveSettings = LiveSettings()) -> None:
        """Raises ValueError if the budget cannot hold what the other settings promise to keep."""
        self.vlm = vlm
        self.settings = settings
        self._model = vlm.engine.model
        self._template = Template.of(vlm.processor, settings.system)
        self.budget = _budget(vlm, settings, len(self._template.system))
        self.cache = LiveCache(self._model, self.budget)
        merge = vlm.config.vision.merge_size
        self.timeline = Timeline(Piece(list(self._template.system)), Grid(1, 0, 0), merge)
        self.source_size: tuple[int, int] | None = None
        self._seen_slots = self._evictions = 0
        self._answering = False
        self._run(self.timeline.pieces())

    # --- frames -----------------------------------------------------------------------------------------------

    def add(self, patches: VisionPatches, time: float) -> None:
        """Append one pair of frames: the tower sees it once, the language model only its tokens."""
        assert not self._answering, "frames wait while an answer is being written"
        (grid,) = patches.grids
        if self.timeline.slot_grid.patches == 0:
            self.timeline.slot_grid = grid
        assert grid == self.timeline.slot_grid, f"slots of {grid} and {self.timeline.slot_grid} in one session"
        seen_MD = self._encode(patches)
        slot = Piece([self._template.pad] * seen_MD.shape[0], time, seen_MD)
        self._make_room(len(slot) + len(self._template.opening) + len(self._template.start))
        opening, start = Piece(list(self._template.opening)), Piece(list(self._template.start))
        self._run(self.timeline.grow(slot, opening, start))
        self._seen_slots += 1
        if not self.settings.exact:
            slot.seen = None

    def _encode(self, patches: VisionPatches) -> Tensor:
        """Merged tokens (M, D), in turns with whatever else the engine does."""
        layers = self._model.encode_vision_layers(patches)
        work = self.vlm.engine.settings.vision_work
        at_once = max(1, work // patches.pixels.shape[0])

        def some() -> Tensor | None:
            try:
                for _ in range(at_once):
                    next(layers)
            except StopIteration as end:
                return end.value
            return None

        while True:
            merged = self._alone(some)
            if merged is not None:
                return merged

    # --- questions --------------------------------------------------------------------------------------------

    def ask(self, question: str, sampling: SamplingParams | None = None) -> Stream:
        """Ask about what has been seen; only the question's own tokens stand between it and the first of the answer.

        Raises QuestionTooLong or ValueError. The answer must be read to its end, or closed, before the next frame.
        """
        params = sampling or self.vlm.default_sampling
        params = replace(params, max_tokens=min(params.max_tokens, self.settings.answer_tokens))
        asked = self._question(question)
        self._make_room_for_answer(asked, params)
        ids = [*self.timeline.ids(), *self._mark(), *asked]
        inputs = ModelInputs(torch.tensor(ids), self.timeline.positions(len(ids) - len(self.timeline)), (len(ids),))
        prepared = Prepared(inputs, self.media(), torch.zeros(len(ids)).bool())
        reader = AnswerReader(self.vlm.processor.tokenizer, prepared, params)
        return Stream(self._answer(asked, params), prepared, reader)

    def next_token(self, question: str) -> Tensor:
        """Scores (V,) of the first token of an answer to `question`; the session is left as it was."""
        try:
            return self._scores(self._fork(question))
        finally:
            self.cache.truncate(len(self.timeline))

    def chance_of_yes(self, question: str) -> float:
        """Probability of yes against no as the answer's first word; the session is left as it was."""
        return _yes(self.next_token(question), *self._yes_and_no())

    def short_answer(self, question: str) -> str:
        """The likeliest answer, cut at its first line or after some tokens; the session is left as it was."""
        tokens: list[int] = []
        try:
            scores_V = self._scores(self._fork(question))
            while len(tokens) < _SHORT:
                token = self._likeliest(scores_V)
                if token in self.vlm.engine.stop_tokens:
                    break
                tokens.append(token)
                here = self.timeline.positions(self.cache.length + 1 - len(self.timeline))[:, -1:]
                scores_V = self._scores(self._forward([token], here))
        finally:
            self.cache.truncate(len(self.timeline))
        return (self.vlm.processor.tokenizer.decode(tokens).strip().splitlines() or [""])[0]

    def _fork(self, question: str) -> Tensor:
        """Hidden state after `question`, put behind the newest frame as if it had been asked."""
        asked = self._question(question)
        self._make_room(len(self._template.opening) + len(asked) + _SHORT)
        asked = [*self._mark(), *asked]
        return self._forward(asked, self.timeline.positions(len(asked))[:, len(self.timeline) :])

    def _question(self, text: str) -> list[int]:
        """The tokens of a question, up to where the answer begins. Raises QuestionTooLong."""
        asked = self._template.question(text.strip())
        if len(asked) > self.settings.dialogue_tokens:
            limit = self.settings.dialogue_tokens
            raise QuestionTooLong(f"the question has {len(asked)} tokens with its marks; the limit here is {limit}")
        return asked

    def _mark(self) -> tuple[int, ...]:
        """What stands before a question: the end of the video, or the opening of a turn without one."""
        return self._template.end if self.timeline.open.slots else self._template.opening

    def _answer(self, asked: list[int], params: SamplingParams) -> Generator[TokenEvent, None, None]:
        self._make_room_for_answer(asked, params)
        self._answering = True
        exchange = Piece(asked)
        try:
            opening, end = Piece(list(self._template.opening)), Piece(list(self._template.end))
            hidden = self._run(self.timeline.close(exchange, opening, end))
            yield from self._tokens(hidden, exchange, params)
        finally:
            exchange.ids += self._template.closing
            self._forward(list(self._template.closing), self.timeline.positions()[:, self.cache.length :])
            self.timeline.reopen()
            self._answering = False

    def _tokens(self, hidden_TD: Tensor, exchange: Piece, params: SamplingParams) -> Generator[TokenEvent, None, None]:
        room = params.max_tokens
        config, stops = self.vlm.config, self.vlm.engine.stop_tokens
        ids = torch.tensor(self.timeline.ids(), device=self._model.device)
        sampler = Sampler(params, ids, config.text.vocab_size, config.tokens.never_generated)
        guard = RepetitionGuard() if params.repetition_guard else None
        while True:
            choice = sampler.choose(self._scores(hidden_TD), stops)
            room -= 1
            reason = None
            if choice.token in stops:
                reason = "stop"
            else:
                exchange.ids.append(choice.token)
                hidden_TD = self._forward([choice.token], self.timeline.positions()[:, -1:])
                if guard is not None and guard.push(choice.token):
                    reason = "repetition"
                elif room == 0:
                    reason = "length"
            yield TokenEvent(choice.token, reason, choice.logprob, choice.top)
            if reason is not None:
                return

    # --- memory -----------------------------------------------------------------------------------------------

    def _make_room_for_answer(self, asked: list[int], params: SamplingParams) -> None:
        around = len(self._template.opening) + len(self._template.closing)
        self._make_room(len(asked) + params.max_tokens + around)

    def _make_room(self, tokens: int) -> None:
        """Let old exchanges and frames leave until `tokens` more fit, and some for those that follow."""
        if self.cache.length + tokens <= self.budget:
            return
        gone: set[Piece] = set(self._old_exchanges())
        slots = self.timeline.slots
        fixed = len(self.timeline) - sum(map(len, [*gone, *slots]))
        room = self.budget - tokens - fixed
        size = len(slots[0]) if slots else 1
        spare = min(max(1, self.budget // _SLACK // size), room // size - 1)
        keep = max(1, room // size - spare)
        times = [slot.time for slot in slots]
        thin = self.settings.past == "thin"
        places = to_thin(times, keep, self.settings.dense) if thin else to_forget(times, keep)
        self.drop([*gone, *(slots[place] for place in places)])

    def _old_exchanges(self) -> list[Piece]:
        exchanges = self.timeline.exchanges
        gone: list[Piece] = []
        while len(exchanges) > 1 and sum(map(len, exchanges)) > self.settings.dialogue_tokens:
            gone.append(exchanges.pop(0))
        return gone

    def drop(self, gone: Collection[Piece]) -> None:
        """Let these slots and exchanges leave; what is kept closes ranks, its keys turned to their new positions."""
        rows = self.timeline.rows()
        self.timeline = self.timeline.without(set(gone))
        kept = [row for piece in self.timeline.pieces() for row in rows[piece]]
        places = torch.tensor(kept)
        self._alone(lambda: self.cache.keep(places, self.timeline.positions()))
        self._evictions += 1
        if self.settings.exact:
            self._compute_anew(next((i for i, row in enumerate(kept) if row != i), len(kept)))

    def _compute_anew(self, first: int) -> None:
        """Run everything from row `first` on again: afterwards nothing that left has ever been."""
        embedded = torch.cat([self._embed(piece) for piece in self.timeline.pieces()])
        positions = self.timeline.positions()
        self.cache.truncate(first)
        chunk = self.vlm.engine.settings.step_tokens
        for start in range(first, embedded.shape[0], chunk):
            rows = slice(start, start + chunk)
            self._forward_embedded(embedded[rows], positions[:, rows])

    # --- the model --------------------------------------------------------------------------------------------

    def _run(self, pieces: Iterable[Piece]) -> Tensor:
        """Append pieces that the timeline already has; hidden states of their tokens (T, D)."""
        embedded = torch.cat([self._embed(piece) for piece in pieces])
        return self._forward_embedded(embedded, self.timeline.positions()[:, self.cache.length :])

    def _embed(self, piece: Piece) -> Tensor:
        if piece.seen is not None:
            return piece.seen.to(self._model.dtype)
        return self._alone(lambda: self._model.model.embed_tokens(torch.tensor(piece.ids, device=self._model.device)))

    def _forward(self, ids: list[int], positions: Tensor) -> Tensor:
        return self._forward_embedded(self._embed(Piece(ids)), positions)

    def _forward_embedded(self, x_TD: Tensor, positions: Tensor) -> Tensor:
        return self._alone(lambda: self.cache.append(x_TD, positions))

    def _scores(self, hidden_TD: Tensor) -> Tensor:
        """(V,): scores of what follows the last token."""
        return self._alone(lambda: self._model.logits(hidden_TD[-1:])[0])

    def _likeliest(self, scores_V: Tensor) -> int:
        never = list(self.vlm.config.tokens.never_generated)
        return int(scores_V.index_fill(0, torch.tensor(never, device=scores_V.device), -math.inf).argmax())

    def _yes_and_no(self) -> tuple[list[int], list[int]]:
        encode = self.vlm.processor.tokenizer.encode
        yes, no = ([encode(word)[0] for word in words] for words in (("yes", "Yes"), ("no", "No")))
        return yes, no

    def _alone(self, work: Callable[[], R]) -> R:
        """Run `work` while the engine makes no step on the same model."""

        def run() -> R:
            with torch.inference_mode():
                return work()

        return self.vlm.engine.between_steps(run)

    # --- what is known ----------------------------------------------------------------------------------------

    def media(self) -> tuple[MediaUse, ...]:
        """What the next answer is about: one use for each stretch of frames between exchanges."""
        blocks = [block for block in self.timeline.blocks if block.slots]
        return tuple(self._use(len(block.slots)) for block in blocks)

    def _use(self, slots: int) -> MediaUse:
        grid = self.timeline.slot_grid._replace(t=slots)
        patch = self.vlm.config.vision.patch_size
        size = grid.w * patch, grid.h * patch
        return MediaUse(
            "video", "live", self.source_size or size, size, grid, grid.tokens(self.timeline.merge), 2 * slots
        )

    def stats(self) -> SessionStats:
        times = [slot.time for slot in self.timeline.slots]
        return SessionStats(
            tokens=self.cache.length,
            budget_tokens=self.budget,
            slots=len(times),
            seen_slots=self._seen_slots,
            evictions=self._evictions,
            cache_bytes=self.cache.bytes,
            oldest=times[0] if times else None,
            newest=times[-1] if times else None,
        )


def _yes(scores_V: Tensor, yes: list[int], no: list[int]) -> float:
    chances = scores_V[[*yes, *no]].float().softmax(-1)
    return float(chances[: len(yes)].sum())


def _budget(vlm: VLM, settings: LiveSettings, system: int) -> int:
    positions = vlm.config.text.max_positions
    budget = settings.budget_tokens or min(4096, positions // 2)
    # Two exchanges, the last and the next, four slots, and the marks around them.
    least = system + 2 * (settings.dialogue_tokens + settings.answer_tokens) + 4 * settings.slot_tokens + 64
    if not least <= budget <= positions:
        raise ValueError(
            f"budget_tokens is {budget}; for these dialogue_tokens, answer_tokens and slot_tokens it must be"
            f" from {least} to the model's {positions} positions"
        )
    return budget
