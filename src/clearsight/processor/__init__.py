"""From messages to model inputs: tokens, picture geometry, positions and the chat format."""

from clearsight.processor.image import ImageSettings
from clearsight.processor.processor import Count, MediaUse, Prepared, Processor, PromptTooLong
from clearsight.processor.tokenizer import TextStream, Tokenizer, TokenizerError

__all__ = [
    "Count",
    "ImageSettings",
    "MediaUse",
    "Prepared",
    "Processor",
    "PromptTooLong",
    "TextStream",
    "Tokenizer",
    "TokenizerError",
]
