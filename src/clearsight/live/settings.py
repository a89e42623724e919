"""What bounds a live session, each bound one named setting."""

from __future__ import annotations

from dataclasses import dataclass, fields

from clearsight.processor.chat import DEFAULT_SYSTEM

PASTS = ("thin", "forget")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """budget_tokens: everything the session remembers, room for questions and answers included; the cache is this large
    from the first frame to the last. None: 4,096, or half of what the model has positions for if that is less.

    frames_per_second: how many frames are looked at; the others are skipped. slot_tokens: most tokens of one pair of
    frames, which decides their size. max_pending: pairs that may wait; the oldest is dropped for a newer one.
    dialogue_tokens: questions and answers that stay; older ones leave. answer_tokens: longest answer. past: "thin"
    keeps old frames ever further apart, "forget" drops the oldest. dense: share of the frames, the newest, that "thin"
    leaves alone. exact: after frames have left, compute what is kept anew (see docs/live.md) instead of only moving it.
    """

    system: str = DEFAULT_SYSTEM
    budget_tokens: int | None = None
    frames_per_second: float = 2.0
    slot_tokens: int = 64
    max_pending: int = 4
    dialogue_tokens: int = 512
    answer_tokens: int = 256
    past: str = "thin"
    dense: float = 0.5
    exact: bool = False
    max_instructions: int = 8

    def __post_init__(self) -> None:
        if self.past not in PASTS:
            raise ValueError(f"past is {self.past!r}; it must be one of {', '.join(PASTS)}")
        if not 0 <= self.dense <= 1:
            raise ValueError(f"dense is {self.dense}; it must be between 0 and 1")
        if not 0 < self.frames_per_second <= 60:
            raise ValueError(f"frames_per_second is {self.frames_per_second}; it must be above 0 and at most 60")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in _COUNTS and value is not None and value < 1:
                raise ValueError(f"{item.name} is {value}; it must be at least 1")


_COUNTS = ("budget_tokens", "slot_tokens", "max_pending", "dialogue_tokens", "answer_tokens", "max_instructions")
