"""What clients of /v1/realtime send, in the manner of OpenAI's realtime events; unknown fields are refused by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Words = Annotated[str, Field(min_length=1, max_length=8192)]


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid")
    event_id: Annotated[str, Field(max_length=256)] | None = None


class SessionWishes(BaseModel):
    """instructions: the system text. The others as in `LiveSettings`; budgets above the server's are refused."""

    model_config = ConfigDict(extra="forbid")
    instructions: Words | None = None
    frames_per_second: Annotated[float, Field(gt=0, le=60)] | None = None
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    slot_tokens: Annotated[int, Field(ge=1)] | None = None
    past: Literal["thin", "forget"] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None


class SessionUpdate(_Event):
    """Only before the first frame, question or instruction: what is remembered depends on it."""

    type: Literal["session.update"]
    session: SessionWishes


class AppendFrame(_Event):
    """image: base64 of a picture file, or a data: address. time: seconds, rising."""

    type: Literal["input_video_buffer.append"]
    image: str
    time: float


class InputText(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["input_text"]
    text: Words


class UserItem(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["message"]
    role: Literal["user"]
    content: Annotated[list[InputText], Field(min_length=1, max_length=16)]

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content)


class CreateItem(_Event):
    """A question; `response.create` has it answered."""

    type: Literal["conversation.item.create"]
    item: UserItem


class CreateResponse(_Event):
    type: Literal["response.create"]


class CancelResponse(_Event):
    type: Literal["response.cancel"]


class CreateStanding(_Event):
    """A standing instruction, as in `Standing`."""

    type: Literal["standing.create"]
    instruction: Words
    when: Literal["yes", "change"] = "yes"
    every: Annotated[int, Field(ge=1, le=1000)] = 1
    agree: Annotated[int, Field(ge=1, le=100)] = 2
    sure: Annotated[float, Field(ge=0.5, lt=1)] = 0.6


class DeleteStanding(_Event):
    type: Literal["standing.delete"]
    number: int


ClientEvent = Annotated[
    SessionUpdate | AppendFrame | CreateItem | CreateResponse | CancelResponse | CreateStanding | DeleteStanding,
    Field(discriminator="type"),
]
CLIENT_EVENT: TypeAdapter[ClientEvent] = TypeAdapter(ClientEvent)
