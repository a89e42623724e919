"""Hours of mixed work with flat memory: pictures of all sizes, schemas, cancels and errors, answered by nano.

`python benchmarks/soak.py --minutes 60` ends in one JSON line. It fails if an answer ever differs from the first one
to the same question, if anything is held when all requests are over, or if memory goes on growing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from clearsight.answer import read_answer
from clearsight.bench.memory import resident_bytes
from clearsight.engine import AsyncEngine, EngineFull, EngineSettings
from clearsight.engine.constraints import GrammarError
from clearsight.inputs import SamplingParams
from clearsight.media import MediaError
from clearsight.messages import MessageError
from clearsight.processor import PromptTooLong
from clearsight.vlm import VLM

QUESTIONS = ("What does it say?", "What is it?", "How many circles are there?", "Describe the picture.")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 8}}, "required": ["a"]}
EXPECTED = (MediaError, MessageError, GrammarError, PromptTooLong, EngineFull)
AT_ONCE = 6
PHASE_SECONDS = 20.0
WARM = 0.5  # share of the phases in which caches, pools and the allocator may still grow
GROWTH_BYTES = 48 * 2**20


@dataclass
class Soak:
    vlm: VLM
    rng: random.Random
    first: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("answers", "cancels", "errors"), 0))

    async def phase(self, engine: AsyncEngine, seconds: float) -> None:
        """Several clients at once until the time is over; then nothing may be held."""
        until = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < until:
                await self.one(engine)

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        while engine.engine.has_work:
            await asyncio.sleep(0.01)
        stats = engine.stats()
        assert stats.kv_bytes_used == stats.pixel_bytes == stats.running == stats.waiting == 0, stats

    async def one(self, engine: AsyncEngine) -> None:
        seed = self.rng.randrange(400)
        kind = self.rng.choices(("plain", "schema", "broken", "bad schema", "too long"), (12, 3, 2, 1, 1))[0]
        patience = self.rng.randrange(1, 6) if self.rng.random() < 0.25 else None
        try:
            turn = await asyncio.to_thread(self.start, kind, seed)
        except EXPECTED:
            self.counts["errors"] += 1
            return
        events = []
        async with contextlib.aclosing(engine.stream(turn.request)) as stream:
            async for event in stream:
                events.append(event)
                if len(events) == patience:
                    break
        if patience is not None and events[-1].finish_reason is None:
            self.counts["cancels"] += 1
            return
        text = read_answer(turn.reader, events).text
        assert self.first.setdefault(f"{kind} {seed}", text) == text, (kind, seed, text)
        self.counts["answers"] += 1

    def start(self, kind: str, seed: int) -> Any:
        rng = random.Random(seed)
        parts: list[Any] = [{"type": "image", "image": drawn(rng)} for _ in range(rng.randrange(3))]
        options: dict[str, Any] = {"salt": rng.choice([b"", b"tenant"])}
        if kind == "broken":
            parts.append({"type": "image", "image": encoded(drawn(rng))[: rng.randrange(1, 200)]})
        if kind == "schema":
            options["response_format"] = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
        if kind == "bad schema":
            options["response_format"] = {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}
        text = "word " * 40_000 if kind == "too long" else rng.choice(QUESTIONS)
        messages = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
        return self.vlm.start(messages, SamplingParams(max_tokens=24), **options)


def drawn(rng: random.Random) -> Image.Image:
    """Noise of a random size, now and then large."""
    most = 500 if rng.random() < 0.1 else 160
    width, height = rng.randrange(28, most), rng.randrange(28, most)
    coarse = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height))


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def soak(minutes: float, seed: int) -> dict[str, Any]:
    settings = EngineSettings(kv_bytes=24 * 2**20, vision_cache_bytes=2**20, max_running=4)
    # Exactness: bfloat16 may round differently with the size of a batch, which is no fault to look for here.
    work = Soak(VLM.load("nano", dtype=torch.float32, settings=settings), random.Random(seed))
    engine = AsyncEngine(work.vlm.engine)
    end, sizes = time.monotonic() + 60 * minutes, []
    while len(sizes) < 2 or time.monotonic() < end:
        await work.phase(engine, min(PHASE_SECONDS, 60 * minutes / 4))
        sizes.append(resident_bytes())
    stats = engine.stats()
    await engine.close()
    warm = sizes[int(len(sizes) * WARM) :]
    growth = max(warm) - min(warm[: max(1, len(warm) // 4)])
    shown = [round(size / 2**20) for size in sizes[:: max(1, len(sizes) // 20)]]
    result = {
        "minutes": minutes,
        **work.counts,
        "preemptions": stats.preemptions,
        "prefix_tokens": stats.prefix_hit_tokens,
        "phases": len(sizes),
        "resident_mb": shown,
        "growth_mb": round(growth / 2**20, 1),
    }
    assert growth <= GROWTH_BYTES, f"memory grew by {growth} bytes after warming up: {result}"
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(soak(arguments.minutes, arguments.seed))))


if __name__ == "__main__":
    main()
