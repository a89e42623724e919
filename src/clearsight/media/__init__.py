"""From a source to RGB pixels; every limit on a picture and every refusal of one lives here."""

from clearsight.media.limits import DEFAULT_LIMITS, MediaError, MediaLimits
from clearsight.media.picture import Frames, Header, Picture, load, open_frames, open_picture, read_header
from clearsight.media.source import is_remote

__all__ = [
    "DEFAULT_LIMITS",
    "Frames",
    "Header",
    "MediaError",
    "MediaLimits",
    "Picture",
    "is_remote",
    "load",
    "open_frames",
    "open_picture",
    "read_header",
]
