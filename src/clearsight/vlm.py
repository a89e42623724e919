"""The front door for Python users: load a model, ask about pictures, read or stream the answer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from clearsight.answer import AnswerReader, Delta, Reply, Usage
from clearsight.config import ModelConfig, read_json
from clearsight.engine import Engine, EngineSettings, GenerationDefaults, Request
from clearsight.engine.constraints import Grammars
from clearsight.inputs import SamplingParams, TokenEvent
from clearsight.media import DEFAULT_LIMITS, MediaLimits
from clearsight.messages import MessageLike, parse_tools
from clearsight.model.hub import preset_for, read_config, resolve, resolve_adapter, short_name
from clearsight.model.lora import read_adapter
from clearsight.model.precision import has_bfloat16
from clearsight.model.quantize import load as load_model
from clearsight.model.quantize import quantize as quantize_model
from clearsight.model.weights import random_model
from clearsight.processor import Prepared, Processor
from clearsight.processor.clips import Progress
from clearsight.processor.processor import ToolLike
from clearsight.wishes import constraint_for

__all__ = ["VLM", "Reply", "Stream", "Turn", "Usage", "load_processor"]


@dataclass(frozen=True, slots=True)
class Turn:
    """A request ready to run, what went into it, and what reads its answer."""

    request: Request
    prepared: Prepared
    reader: AnswerReader


class Stream:
    """Pieces of an answer as they are made; `reply` holds the whole once the iteration has ended."""

    def __init__(self, events: Generator[TokenEvent, None, None], prepared: Prepared, reader: AnswerReader) -> None:
        """events: the tokens of the answer; closing them frees what they hold."""
        self.prepared = prepared
        self._reader = reader
        self._pieces = self._run(events)

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def reply(self) -> Reply:
        """The whole answer; reads the rest of the stream first if there is any."""
        for _ in self._pieces:
            pass
        return self._reader.reply

    def close(self) -> None:
        """Stop answering and free what the request holds."""
        self._pieces.close()

    def _run(self, running: Generator[TokenEvent, None, None]) -> Generator[str, None, None]:
        with contextlib.closing(running) as events:
            for event in events:
                yield from _texts(self._reader.push(event))
                if self._reader.stopped:
                    break
        yield from _texts(self._reader.finish())


def _texts(deltas: Iterable[Delta]) -> Iterator[str]:
    return (delta.text for delta in deltas if delta.text)


class VLM:
    """A model with its processor and engine.

    >>> vlm = VLM.load("nano")
    >>> vlm.chat([{"role": "user", "content": [{"type": "image", "image": "sign.png"}, "What does it say?"]}]).text
    """

    def __init__(self, name: str, processor: Processor, engine: Engine, default_sampling: SamplingParams) -> None:
        self.name = name
        self.processor = processor
        self.engine = engine
        processor.context = min(processor.context, engine.capacity)
        self.default_sampling = default_sampling
        self._grammars: Grammars | None = None
        self._lock = threading.Lock()

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
        quantize: str | None = None,
        random_weights: bool = False,
        seed: int = 0,
        settings: EngineSettings = EngineSettings(),
        media_limits: MediaLimits = DEFAULT_LIMITS,
        adapters: Mapping[str, str | Path] = MappingProxyType({}),
    ) -> VLM:
        """Load a model by short name, hub name or folder.

        dtype None keeps the stored one, but full weights become float32 on a device that only emulates bfloat16, where
        it would take tens of times as long. quantize: None, "int8" or "int4" (model/quantize.py). random_weights gives
        a preset's true shape without any download. settings and media_limits: what bounds the engine, and the pictures
        it is given. adapters: LoRA adapters in PEFT's format by the names that requests choose them by: folders, or
        the model's own (nano brings "games" and "shop").
        Raises ModelNotFound, ConfigError or WeightsError, each one sentence.
        """
        vlm = (
            cls._random(name, device, dtype, quantize, seed, settings, media_limits)
            if random_weights
            else cls._stored(name, device, dtype, quantize, settings, media_limits)
        )
        for adapter, folder in adapters.items():
            vlm.engine.add_adapter(adapter, read_adapter(resolve_adapter(folder, name)))
        return vlm

    @classmethod
    def _random(
        cls,
        name: str,
        device: str | torch.device,
        dtype: torch.dtype | None,
        quantize: str | None,
        seed: int,
        settings: EngineSettings,
        media_limits: MediaLimits,
    ) -> VLM:
        config = preset_for(name)
        model = random_model(
            config, seed=seed, device=device, dtype=dtype or _full_dtype(device, quantize) or torch.bfloat16
        )
        if quantize is not None:
            quantize_model(model, quantize)
        defaults = GenerationDefaults.from_json({}, config.tokens)
        processor = Processor.packaged(short_name(name) or name, media_limits)
        return cls(name, processor, Engine(model, defaults.stop_tokens, settings), defaults.sampling)

    @classmethod
    def _stored(
        cls,
        name: str,
        device: str | torch.device,
        dtype: torch.dtype | None,
        quantize: str | None,
        settings: EngineSettings,
        media_limits: MediaLimits,
    ) -> VLM:
        folder = resolve(name)
        config = read_config(folder)
        defaults = _generation_defaults(folder, config)
        processor = Processor.from_folder(folder, config, media_limits)
        dtype = dtype or _full_dtype(device, quantize)
        model = load_model(folder, config, device=device, dtype=dtype, mode=quantize)
        return cls(name, processor, Engine(model, defaults.stop_tokens, settings), defaults.sampling)

    def start(self, messages: Iterable[MessageLike], sampling: SamplingParams | None = None, **options: Any) -> Turn:
        """One request that is ready to run; options as for `start_several`."""
        return self.start_several(1, messages, sampling, **options)[0]

    def start_several(
        self,
        number: int,
        messages: Iterable[MessageLike],
        sampling: SamplingParams | None = None,
        *,
        tools: Iterable[ToolLike] = (),
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        response_format: Mapping[str, Any] | None = None,
        tool_format: str = "hermes",
        add_vision_id: bool = False,
        salt: bytes = b"",
        priority: int = 0,
        adapter: str | None = None,
        progress: Progress | None = None,
    ) -> list[Turn]:
        """`number` answers to the same prompt, ready to run; what is wrong raises here, before any model work.

        tool_choice: "auto", "none", "required" or {"type": "function", "function": {"name": ...}}. response_format:
        {"type": "text" | "json_object" | "json_schema" | "regex" | "choice" | "grammar", ...}. salt: caches are shared
        only under equal salts. adapter: the name of a loaded one, None for the plain model. progress: told of frames
        read (see `Processor.prepare`). A seed is that of the first answer; the others count on from it.
        Raises MessageError, MediaError, PromptTooLong or GrammarError.
        """
        params = sampling or self.default_sampling
        known = parse_tools(tools)
        wishes = known, tool_choice, parallel_tool_calls, response_format, tool_format
        # Before the pictures are touched: what cannot be obeyed is the cheapest to find.
        constraints = [constraint_for(self.grammars, *wishes) for _ in range(number)]
        offered = () if tool_choice == "none" else known
        prepared = self.processor.prepare(
            messages,
            add_vision_id=add_vision_id,
            tools=offered,
            tool_format=tool_format,
            salt=salt,
            progress=progress,
        )
        requests = [
            Request(
                inputs=prepared.inputs,
                params=_counted(params, index),
                salt=salt,
                priority=priority,
                constraint=constraint,
                adapter=adapter,
            )
            for index, constraint in enumerate(constraints)
        ]
        return [self._turn(request, prepared, tool_format if offered else None) for request in requests]

    def start_text(
        self,
        text: str,
        sampling: SamplingParams | None = None,
        *,
        salt: bytes = b"",
        adapter: str | None = None,
    ) -> Turn:
        """A request to continue plain text, without chat format."""
        prepared, params = self.processor.prepare_text(text), sampling or self.default_sampling
        return self._turn(Request(inputs=prepared.inputs, params=params, salt=salt, adapter=adapter), prepared, None)

    def _turn(self, request: Request, prepared: Prepared, tool_format: str | None) -> Turn:
        reader = AnswerReader(self.processor.tokenizer, prepared, request.params, tool_format)
        return Turn(request, prepared, reader)

    def grammars(self) -> Grammars:
        """What compiles constraints for this vocabulary; built at the first use."""
        with self._lock:
            if self._grammars is None:
                tokenizer, ends = self.processor.tokenizer, sorted(self.engine.stop_tokens)
                pieces = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
                special = list(tokenizer.special_ids.values())
                rows = self.config.text.vocab_size
                self._grammars = Grammars(pieces, ends, special, tokenizer.encode, rows)
            return self._grammars

    def stream(self, messages: Iterable[MessageLike], sampling: SamplingParams | None = None, **options: Any) -> Stream:
        """Start an answer; options as for `start`, which raises here for what is wrong."""
        turn = self.start(messages, sampling, **options)
        return Stream(self.engine.run(turn.request), turn.prepared, turn.reader)

    def chat(self, messages: Iterable[MessageLike], sampling: SamplingParams | None = None, **options: Any) -> Reply:
        """The whole answer at once; equal to the collected stream. Options as for `start`."""
        return self.stream(messages, sampling, **options).reply


def _counted(params: SamplingParams, index: int) -> SamplingParams:
    return params if params.seed is None or index == 0 else replace(params, seed=(params.seed + index) % 2**63)


def load_processor(name: str) -> Processor:
    """Tokenizer and picture settings alone, enough to count tokens. Official models need no download."""
    short = short_name(name)
    if short is not None:
        return Processor.packaged(short)
    folder = resolve(name, weights=False)
    return Processor.from_folder(folder, read_config(folder))


def _full_dtype(device: str | torch.device, quantize: str | None) -> torch.dtype | None:
    """What full weights are kept in where nothing is asked for; None: as they are stored.

    Quantised models keep bfloat16: little is left in it, and twice its memory would be what quantising was to save.
    """
    return None if quantize is not None or has_bfloat16(torch.device(device)) else torch.float32


def _generation_defaults(folder: Path, config: ModelConfig) -> GenerationDefaults:
    path = folder / "generation_config.json"
    return GenerationDefaults.from_json(read_json(path) if path.exists() else {}, config.tokens)
