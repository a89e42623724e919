"""Every refusal in the form that OpenAI's clients know (error.message, type, param, code)."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from clearsight.config import ConfigError
from clearsight.engine import EngineFailed, EngineFull, RequestTooLarge
from clearsight.engine.constraints import GrammarError
from clearsight.live import LiveClosed, LiveFull
from clearsight.media import MediaError
from clearsight.messages import MessageError
from clearsight.processor.processor import PromptTooLong


class ApiError(Exception):
    """A refusal with its status."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.retry = status, message, param, code, retry


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """What every refusal looks like."""

    error: ErrorDetail


_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, object]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def from_exception(error: BaseException) -> ApiError:
    """The refusal that an exception of the inner rooms stands for. Re-raises what is none."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, (EngineFull, LiveFull)):
        return ApiError(429, str(error), code="overloaded", retry=2)
    if isinstance(error, (PromptTooLong, RequestTooLarge)):
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, MediaError):
        return ApiError(400, str(error), param="messages", code="invalid_image")
    if isinstance(error, MessageError):
        return ApiError(400, str(error), param="messages")
    if isinstance(error, GrammarError):
        return ApiError(400, str(error), param="response_format")
    if isinstance(error, ValueError) and not isinstance(error, ConfigError):
        return ApiError(400, str(error))
    if isinstance(error, (EngineFailed, LiveClosed)):
        return ApiError(503, str(error), retry=2)
    raise error


def respond(error: ApiError) -> JSONResponse:
    headers = {} if error.retry is None else {"Retry-After": str(error.retry)}
    return JSONResponse(error_body(error.status, error.message, error.param, error.code), error.status, headers)


def install(app: FastAPI) -> None:
    """Give every kind of failure, the framework's own included, the one form."""

    @app.exception_handler(ApiError)
    async def _known(_: Request, error: ApiError) -> JSONResponse:
        return respond(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"] if step != "body")
        text = f"{place}: {first['msg']}" if place else str(first["msg"])
        return respond(ApiError(400, text, param=place or None))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        response = respond(ApiError(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
        return respond(ApiError(500, f"the server failed: {type(error).__name__}"))
