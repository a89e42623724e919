"""The front door for Python users: load a model, ask about pictures, read or stream the answer."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from clearsight.config import ModelConfig, read_json
from clearsight.engine import Engine, GenerationDefaults
from clearsight.inputs import SamplingParams
from clearsight.messages import MessageLike
from clearsight.model.hub import preset_for, read_config, resolve, short_name
from clearsight.model.weights import load_model, random_model
from clearsight.processor import MediaUse, Prepared, Processor, TextStream


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; end tokens are not counted as answer."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer. finish_reason: "stop", "length" or "repetition". media: what was used of each picture."""

    text: str
    finish_reason: str
    usage: Usage
    media: tuple[MediaUse, ...]


class StopFilter:
    """Holds back text that might be the start of a stop string; cuts the answer before the first that completes."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Text that is now safe to show."""
        self._held += text
        found = [at for at in map(self._held.find, self._stops) if at >= 0]
        if found:
            self.stopped = True
            safe, self._held = self._held[: min(found)], ""
            return safe
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        safe, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return safe

    def finish(self) -> str:
        """What was held back when no stop string came."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)


class Stream:
    """Pieces of an answer as they are made; `reply` holds the whole once the iteration has ended."""

    def __init__(self, engine: Engine, decoder: TextStream, prepared: Prepared, params: SamplingParams) -> None:
        self.prepared = prepared
        self._pieces = self._run(engine, decoder, params)
        self._reply: Reply | None = None

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def reply(self) -> Reply:
        """The whole answer; reads the rest of the stream first if there is any."""
        for _ in self._pieces:
            pass
        if self._reply is None:
            raise RuntimeError("the stream was closed before its answer was complete")
        return self._reply

    def close(self) -> None:
        """Stop answering and free what the request holds."""
        self._pieces.close()

    def _run(self, engine: Engine, decoder: TextStream, params: SamplingParams) -> Generator[str, None, None]:
        stops = StopFilter(params.stop)
        pieces: list[str] = []
        made, reason = 0, "stop"
        for event in engine.generate(self.prepared.inputs, params):
            if event.finish_reason == "stop":
                break
            made += 1
            reason = event.finish_reason or "stop"
            text = stops.push(decoder.push(event.token))
            if text:
                pieces.append(text)
                yield text
            if stops.stopped:
                reason = "stop"
                break
        if not stops.stopped:
            text = stops.push(decoder.finish())
            text += "" if stops.stopped else stops.finish()
            if text:
                pieces.append(text)
                yield text
        usage = Usage(self.prepared.inputs.ids.shape[0], made)
        self._reply = Reply("".join(pieces), reason, usage, self.prepared.media)


class VLM:
    """A model with its processor and engine.

    >>> vlm = VLM.load("nano")
    >>> vlm.chat([{"role": "user", "content": [{"type": "image", "image": "sign.png"}, "What does it say?"]}]).text
    """

    def __init__(self, name: str, processor: Processor, engine: Engine, default_sampling: SamplingParams) -> None:
        self.name = name
        self.processor = processor
        self.engine = engine
        self.default_sampling = default_sampling

    @property
    def config(self) -> ModelConfig:
        return self.engine.model.config

    @classmethod
    def load(
        cls,
        name: str = "nano",
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        random_weights: bool = False,
        seed: int = 0,
    ) -> VLM:
        """Load a model by short name, hub name or folder.

        dtype None keeps the stored one. random_weights gives a preset's true shape without any download.
        Raises ModelNotFound, ConfigError or WeightsError, each one sentence.
        """
        if random_weights:
            config = preset_for(name)
            model = random_model(config, seed=seed, device=device, dtype=dtype or torch.bfloat16)
            defaults = GenerationDefaults.from_json({}, config.tokens)
            return cls(
                name,
                Processor.packaged(short_name(name) or name),
                Engine(model, defaults.stop_tokens),
                defaults.sampling,
            )
        folder = resolve(name)
        config = read_config(folder)
        defaults = _generation_defaults(folder, config)
        processor = Processor.from_folder(folder, config)
        model = load_model(folder, config, device=device, dtype=dtype)
        return cls(name, processor, Engine(model, defaults.stop_tokens), defaults.sampling)

    def stream(
        self, messages: Iterable[MessageLike], sampling: SamplingParams | None = None, *, add_vision_id: bool = False
    ) -> Stream:
        """Start an answer. Bad pictures, messages and prompts that are too long raise here, before any model work."""
        prepared = self.processor.prepare(messages, add_vision_id=add_vision_id)
        decoder = self.processor.tokenizer.stream()
        return Stream(self.engine, decoder, prepared, sampling or self.default_sampling)

    def chat(
        self, messages: Iterable[MessageLike], sampling: SamplingParams | None = None, *, add_vision_id: bool = False
    ) -> Reply:
        """The whole answer at once; equal to the collected stream."""
        return self.stream(messages, sampling, add_vision_id=add_vision_id).reply


def load_processor(name: str) -> Processor:
    """Tokenizer and picture settings alone, enough to count tokens. Official models need no download."""
    short = short_name(name)
    if short is not None:
        return Processor.packaged(short)
    folder = resolve(name, weights=False)
    return Processor.from_folder(folder, read_config(folder))


def _generation_defaults(folder: Path, config: ModelConfig) -> GenerationDefaults:
    path = folder / "generation_config.json"
    return GenerationDefaults.from_json(read_json(path) if path.exists() else {}, config.tokens)
