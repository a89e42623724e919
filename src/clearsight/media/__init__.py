"""From a source to RGB pixels; every limit on a picture or video and every refusal of one lives here."""

from clearsight.media.limits import DEFAULT_LIMITS, MediaError, MediaLimits
from clearsight.media.picture import Header, Picture, load, open_picture, read_header
from clearsight.media.sandbox import Sandbox
from clearsight.media.source import is_remote
from clearsight.media.video import Clip, VideoHeader, looks_like_video, open_video

__all__ = [
    "DEFAULT_LIMITS",
    "Clip",
    "Header",
    "MediaError",
    "MediaLimits",
    "Picture",
    "Sandbox",
    "VideoHeader",
    "is_remote",
    "load",
    "looks_like_video",
    "open_picture",
    "open_video",
    "read_header",
]
