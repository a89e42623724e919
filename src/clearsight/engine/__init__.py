"""From model inputs to tokens. The engine sees neither a tokenizer nor a picture file."""

from clearsight.engine.async_engine import AsyncEngine, EngineFailed
from clearsight.engine.defaults import GenerationDefaults
from clearsight.engine.engine import Engine, EngineStats
from clearsight.engine.request import Constraint, EngineFull, Request, RequestTooLarge
from clearsight.engine.settings import EngineSettings

__all__ = [
    "AsyncEngine",
    "Constraint",
    "Engine",
    "EngineFailed",
    "EngineFull",
    "EngineSettings",
    "EngineStats",
    "GenerationDefaults",
    "Request",
    "RequestTooLarge",
]
