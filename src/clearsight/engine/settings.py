"""What bounds the engine, each bound one named setting."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from clearsight.config import TextConfig

_CONTEXTS = 4
_MEMORY_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """kv_bytes: all keys and values, None for a quarter of the memory, at most four full contexts. block_size: tokens.

    max_running, max_waiting: requests. step_tokens: of one pass through the language model, prompts and answers
    together. vision_work: patches times layers of one step, which the others wait for. pixel_bytes: pictures of all
    requests under way, as patches. vision_cache_bytes: embeddings kept for the next question. draft_tokens: guessed
    ahead for each answer, 0 for none.
    """

    kv_bytes: int | None = None
    block_size: int = 16
    max_running: int = 16
    max_waiting: int = 256
    step_tokens: int = 512
    vision_work: int = 4096
    pixel_bytes: int = 4 * 2**30
    vision_cache_bytes: int = 256 * 2**20
    draft_tokens: int = 4

    def __post_init__(self) -> None:
        for item in fields(self):
            value, least = getattr(self, item.name), 0 if item.name in ("vision_cache_bytes", "draft_tokens") else 1
            if value is not None and value < least:
                raise ValueError(f"{item.name} is {value}; it must be at least {least}")
        if self.step_tokens < self.max_running:
            raise ValueError(
                f"step_tokens is {self.step_tokens}; {self.max_running} running requests need at least as many"
            )


def kv_token_bytes(config: TextConfig, itemsize: int) -> int:
    """Bytes that the keys and values of one token take over all layers."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * itemsize


def kv_blocks(settings: EngineSettings, config: TextConfig, itemsize: int) -> int:
    """How many blocks fit the bytes given, or a default that follows the machine and the model."""
    per_block = settings.block_size * kv_token_bytes(config, itemsize)
    limit = settings.kv_bytes
    if limit is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        contexts = _CONTEXTS * config.max_positions * kv_token_bytes(config, itemsize)
        limit = min(contexts, int(_MEMORY_SHARE * memory))
    if limit < per_block:
        raise ValueError(f"kv_bytes is {limit}; one block of {settings.block_size} tokens takes {per_block}")
    return limit // per_block
