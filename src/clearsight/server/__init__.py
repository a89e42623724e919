"""An OpenAI-compatible server: thin edges over `VLM.start` and the asynchronous engine."""

from clearsight.server.app import create_app
from clearsight.server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]
