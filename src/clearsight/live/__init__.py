"""A session that never ends: frames in, questions at any time, instructions that speak when something happens."""

from clearsight.live.live import Live, LiveAnswer, LiveClosed, LiveFull, LiveStats
from clearsight.live.session import QuestionTooLong, Session
from clearsight.live.settings import LiveSettings
from clearsight.live.standing import Spoken, Standing

__all__ = [
    "Live",
    "LiveAnswer",
    "LiveClosed",
    "LiveFull",
    "LiveSettings",
    "LiveStats",
    "QuestionTooLong",
    "Session",
    "Spoken",
    "Standing",
]
