"""What a user can get wrong."""

from __future__ import annotations

from clearsight.cli.options import UsageError


def user_errors() -> tuple[type[Exception], ...]:
    """What a user can cause and understand; all else is our fault and shows its traceback."""
    from clearsight.agent.screen.environment import ScreenGone
    from clearsight.cli.remote import RemoteError
    from clearsight.config import ConfigError
    from clearsight.live import LiveFull, QuestionTooLong
    from clearsight.live.sources import SourceError
    from clearsight.media import MediaError
    from clearsight.messages import MessageError
    from clearsight.model.hub import ModelNotFound
    from clearsight.model.weights import WeightsError
    from clearsight.processor import PromptTooLong, TokenizerError
    from clearsight.train.errors import TrainingError

    outside = UsageError, RemoteError, ScreenGone, SourceError, MediaError, MessageError, LiveFull, QuestionTooLong
    return *outside, ConfigError, ModelNotFound, WeightsError, PromptTooLong, TokenizerError, TrainingError
