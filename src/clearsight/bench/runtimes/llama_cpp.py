"""llama.cpp's own server on the same weights, tokens and sizes of pictures. Only the bench's own processes import it.

A picture cannot be handed over as patches, so noise of the same size in pixels stands for it.
"""

from __future__ import annotations

import atexit
import base64
import io
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import torch
from PIL import Image

from clearsight.bench.cases import Case, make_inputs
from clearsight.bench.memory import peak_bytes_of
from clearsight.bench.runtimes import Answer
from clearsight.bench.runtimes.gguf_files import TEXT, VISION, spelled, weight_bytes, write_text, write_vision
from clearsight.config import ModelConfig
from clearsight.model.hub import read_config

_CONVERSATIONS = 64  # at once; what comes on top waits
_CONTEXT = 8192  # tokens that all conversations share
_START_SECONDS = 600.0
_LOG_SECONDS = 10.0
_BEGUN, _ENCODED = "encoding mtmd batch", "decoding image batch 1/"
"""What the server logs right before its vision tower starts, and right after the tower's last layer."""

Line = tuple[float, str]
"""When a line of the log came (seconds of one clock), and its text."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The tokens of an answer, when each was known, and how many of the prompt's the server counted."""

    tokens: tuple[int, ...]
    times: tuple[float, ...]
    prompt: int


def read_reply(lines: Iterable[str]) -> Reply:
    """A streamed answer as its lines come. Raises RuntimeError with the server's own words if it is an error."""
    tokens: list[int] = []
    times: list[float] = []
    for line in lines:
        kind, _, text = line.partition(": ")
        if kind == "error":
            raise RuntimeError(f"llama-server: {text}")
        if kind != "data":
            continue
        data = json.loads(text)
        tokens += data["tokens"]
        times += [time.perf_counter()] * len(data["tokens"])
        if data["stop"]:
            seen = data["timings"]
            return Reply(tuple(tokens), tuple(times), seen["prompt_n"] + seen["cache_n"])
    raise RuntimeError("llama-server ended its answer early")


def encoding_seconds(log: Sequence[Line]) -> float | None:
    """How long the vision tower took, by the first picture in the log; None while it is not through."""
    begun = next((moment for moment, text in log if _BEGUN in text), None)
    encoded = next((moment for moment, text in log if _ENCODED in text), None)
    return None if begun is None or encoded is None else encoded - begun


def picture(case: Case) -> Image.Image:
    """Noise of the case's size, drawn from its seed."""
    assert case.size is not None
    width, height = case.size
    return Image.fromarray(np.random.default_rng(case.seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


class Server:
    """The program on a free port of this machine; it ends with this process."""

    def __init__(self, model: Path, vision: Path, threads: int) -> None:
        port = _free_port()
        options = {
            "--model": model,
            "--mmproj": vision,
            "--port": port,
            "--threads": threads,
            "--parallel": _CONVERSATIONS,
            "--ctx-size": _CONTEXT,
            "--image-min-tokens": 1,
            "--cache-ram": 0,
            "--log-verbosity": 4,
        }
        words = [str(word) for pair in options.items() for word in pair]
        self._process = subprocess.Popen(
            ["llama-server", "--kv-unified", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        atexit.register(self._process.kill)
        self._log: list[Line] = []
        self._news = threading.Condition()
        assert self._process.stderr is not None
        threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True).start()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None, trust_env=False)
        self._wait_until_ready()
        self.media_marker: str = self._client.get("/props").json()["media_marker"]

    @property
    def peak_bytes(self) -> int:
        return peak_bytes_of(self._process.pid)

    def complete(self, prompt: Any, count: int) -> Reply:
        """`count` greedy tokens."""
        body = {"prompt": prompt, "n_predict": count, "temperature": 0, "ignore_eos": True}
        body |= {"stream": True, "return_tokens": True, "cache_prompt": True}
        with self._client.stream("POST", "/completion", json=body) as response:
            if response.status_code != 200:
                raise RuntimeError(f"llama-server: {response.read().decode()}")
            return read_reply(response.iter_lines())

    def encoding_seconds(self, prompt: Any) -> float:
        """How long the vision tower takes over the one picture of a prompt."""
        with self._news:
            self._log.clear()
        self.complete(prompt, 1)
        with self._news:
            self._news.wait_for(lambda: encoding_seconds(self._log) is not None, _LOG_SECONDS)
            found = encoding_seconds(self._log)
        if found is None:
            raise RuntimeError(f"llama-server's log does not say {_BEGUN!r} and {_ENCODED!r}; another version may")
        return found

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self._log.append((time.perf_counter(), line.rstrip()))
                self._news.notify_all()

    def _wait_until_ready(self) -> None:
        stop = time.perf_counter() + _START_SECONDS
        while time.perf_counter() < stop and self._process.poll() is None:
            try:
                if self._client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        with self._news:
            last = self._log[-1][1] if self._log else "it said nothing"
        raise RuntimeError(f"llama-server did not start: {last}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class LlamaCpp:
    """All conversations in one batch that grows and shrinks, as the server does by itself."""

    def __init__(self, folder: Path, converted: Path) -> None:
        self.config: ModelConfig = read_config(folder)
        self.token_bytes = weight_bytes(converted / TEXT)
        self.server = Server(converted / TEXT, converted / VISION, torch.get_num_threads())

    def vision(self, case: Case) -> float:
        return self.server.encoding_seconds(self.prompt(case))

    def answer(self, case: Case) -> Answer:
        return self.answer_together([case])[0]

    def answer_together(self, cases: Sequence[Case]) -> list[Answer]:
        prompts = [self.prompt(case) for case in cases]
        begin = time.perf_counter()
        with ThreadPoolExecutor(len(cases)) as pool:
            replies = list(pool.map(self.server.complete, prompts, [case.answer for case in cases]))
        for case, reply in zip(cases, replies, strict=True):
            meant = len(self._ids(case))
            if (reply.prompt, len(reply.tokens)) != (meant, case.answer):
                raise RuntimeError(
                    f"llama-server read {reply.prompt} tokens and wrote {len(reply.tokens)};"
                    f" {meant} and {case.answer} were meant"
                )
        return [Answer(begin, reply.times) for reply in replies]

    def peak_bytes(self) -> int:
        return self.server.peak_bytes

    def prompt(self, case: Case) -> Any:
        """As the server takes it: token numbers, or with a picture the text that its tokenizer reads as them."""
        ids = self._ids(case)
        if case.size is None:
            return ids
        file = io.BytesIO()
        picture(case).save(file, format="BMP")
        words = ids[ids.index(self.config.tokens.vision_end) + 1 :]
        text = self.server.media_marker + "".join(spelled(word, self.config.tokens) for word in words)
        return {"prompt_string": text, "multimodal_data": [base64.b64encode(file.getvalue()).decode()]}

    def _ids(self, case: Case) -> list[int]:
        return make_inputs(case, self.config).ids.tolist()


def convert(folder: Path, to: Path, weights: str) -> None:
    """weights: the GGUF name of what the language model's matrices become; the vision tower's are bytes, Q8_0.

    F32 keeps both as they are.
    """
    write_text(folder, to / TEXT, weights)
    write_vision(folder, to / VISION, "F32" if weights == "F32" else "Q8_0")


def load(folder: Path, converted: Path, weights: str) -> LlamaCpp:
    """weights: what `convert` was told; the files say it themselves."""
    return LlamaCpp(folder, converted)
