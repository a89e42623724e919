"""What bounds the server, each bound one named setting."""

from __future__ import annotations

from dataclasses import dataclass, fields

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """names: what clients may call the model, the first being its own. keys: API keys, none for an open server.

    hosts: names that the server answers to, None for any. origins: browser pages elsewhere that may use the API.

    max_body_bytes, body_seconds: of one request, and the time to send it. header_seconds: to send what stands before
    it. send_seconds: for which a client may stop reading its answer. max_in_flight: requests being prepared or
    answered; more are told to come back. preparing: threads that read and decode pictures. max_remote: addresses to
    fetch in one request. max_text: characters of one request beside its pictures. max_tokens, max_n: of one answer,
    answers to one request. stored_responses, stored_bytes: what /v1/responses remembers. grace_seconds: for answers
    under way when the server stops.

    live_sessions: at once on /v1/realtime. live_budget_tokens: most that one remembers. live_frame_bytes,
    live_frames_per_second: of the frames it is sent. live_idle_seconds: for which a client may be silent.
    """

    names: tuple[str, ...] = ("clearsight",)
    keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()
    max_body_bytes: int = 64 * 2**20
    body_seconds: float = 30.0
    header_seconds: float = 10.0
    send_seconds: float = 60.0
    max_in_flight: int = 128
    preparing: int = 8
    max_messages: int = 512
    max_parts: int = 256
    max_remote: int = 8
    max_text: int = 1_000_000
    max_tokens: int = 16_384
    default_max_tokens: int = 512
    max_n: int = 8
    stored_responses: int = 256
    stored_bytes: int = 64 * 2**20
    grace_seconds: float = 10.0
    live_sessions: int = 4
    live_budget_tokens: int = 4096
    live_frame_bytes: int = 4 * 2**20
    live_frames_per_second: float = 30.0
    live_idle_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not self.names or not all(self.names):
            raise ValueError("the server needs at least one model name")
        if not all(len(key) >= 8 for key in self.keys):
            raise ValueError("an API key needs at least 8 characters")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, (int, float)) and value < (0 if item.name == "grace_seconds" else 1e-3):
                raise ValueError(f"{item.name} is {value}; it must be above 0")


def check_exposure(host: str, keys: tuple[str, ...]) -> None:
    """A server that others can reach must ask for a key. Raises ValueError."""
    if host not in LOOPBACK and not keys:
        raise ValueError(f"listening on {host} lets others in; give --api-key, or listen on 127.0.0.1")


def hosts_for(host: str, keys: tuple[str, ...]) -> tuple[str, ...] | None:
    """What a server without keys on this machine answers to, so that no web page can reach it under its own name."""
    return None if keys or host not in LOOPBACK else ("127.0.0.1", "localhost", "[::1]")
