"""From model inputs to tokens. The engine sees neither a tokenizer nor a picture file."""

from clearsight.engine.defaults import GenerationDefaults
from clearsight.engine.engine import Engine

__all__ = ["Engine", "GenerationDefaults"]
