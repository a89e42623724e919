"""Standing instructions: asked again at new frames, heard only when the answer settles on something new."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

KINDS = ("yes", "change")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """instruction: a question, or what to do in plain words ("tell me when the light turns red").

    when: "yes" speaks when it becomes true, "change" when the short answer becomes another. every: pairs of frames from
    one look to the next. agree: looks in a row that must say the same. sure: probability from which yes is yes, and one
    minus that from which no is no; between them a look counts for nothing.
    """

    instruction: str
    when: str = "yes"
    every: int = 1
    agree: int = 2
    sure: float = 0.6

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ValueError("a standing instruction must not be empty")
        if self.when not in KINDS:
            raise ValueError(f"when is {self.when!r}; it must be one of {', '.join(KINDS)}")
        for name in ("every", "agree"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0.5 <= self.sure < 1:
            raise ValueError(f"sure is {self.sure}; it must be from 0.5 to below 1")

    @property
    def question(self) -> str:
        """What the model is asked at each look."""
        text = self.instruction.strip()
        if text.endswith("?") or self.when == "change":
            return text
        return f'Instruction: "{text}" Is this the case in the newest frames? Answer yes or no.'

    def read(self, yes: float) -> bool | None:
        """A probability of yes as a reading."""
        return True if yes >= self.sure else False if yes <= 1 - self.sure else None


@dataclass(slots=True)
class Watcher:
    """One instruction with what it has seen so far."""

    standing: Standing
    settled: Hashable = None
    _candidate: Hashable = None
    _run: int = field(default=0)
    _until: int = field(default=0)

    def due(self) -> bool:
        """Called once for each new pair of frames: whether to look now."""
        self._until = (self._until or self.standing.every) - 1
        return self._until == 0

    def push(self, reading: Hashable) -> bool:
        """Take a reading (None: undecided); whether it is time to speak."""
        if reading is None or reading == self.settled:
            self._run = 0
            return False
        self._run = self._run + 1 if reading == self._candidate else 1
        self._candidate = reading
        if self._run < self.standing.agree:
            return False
        first, self.settled, self._run = self.settled is None, reading, 0
        return reading is True if self.standing.when == "yes" else not first


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a standing instruction had to say. time: of the newest frame, in seconds; yes: its probability, if asked."""

    number: int
    instruction: str
    text: str
    time: float
    yes: float | None
