"""What every HTTP face shares: the request's context, errors as problem+json, paging, JSON bodies with limits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from armillary.base import log
from armillary.base.db import Database
from armillary.base.errors import ArmillaryError, NotAuthenticated, TransientError
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.base.storage import Store

PROTOCOL = 1
PROBLEM = "application/problem+json"

_log = log.get("web")


@dataclass(frozen=True)
class Context:
    """What the handlers of one server work with."""

    database: Database
    settings: Settings
    store: Store
    links: Links
    instance: str
    url: Callable[[], str]


async def _context(request: Request) -> Context:  # async, as each request would else go through a thread for it
    context: Context = request.app.state.context
    return context


Web = Annotated[Context, Depends(_context)]


class Wire(BaseModel):
    """A body: unknown fields are refused, so that a typo is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def problem(error: ArmillaryError) -> JSONResponse:
    """An error as RFC 9457 problem details; STAC clients find `code` and `description` there as well."""
    body = error.problem() | {"code": error.kind, "description": str(error)}
    headers = {"Retry-After": "1"} if isinstance(error, TransientError) else {}
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, error.status, headers, media_type=PROBLEM)


def install_errors(app: FastAPI) -> None:
    """Show every failure of `app` as problem+json."""

    @app.exception_handler(ArmillaryError)
    async def _known(_request: Request, error: ArmillaryError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(str(step) for step in first["loc"] if step not in ("body", "query", "path"))
        body = {
            "type": "urn:armillary:error:usage", "title": "usage", "status": 422, "field": name,
            "detail": f"{name or 'The body'}: {first['msg']}.", "remedy": "See /docs for what this call takes.",
            "code": "usage", "description": f"{name}: {first['msg']}.",
        }  # fmt: skip
        return JSONResponse(body, 422, media_type=PROBLEM)

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        kind = {404: "not-found", 405: "not-allowed"}.get(error.status_code, "usage")
        body = {"type": f"urn:armillary:error:{kind}", "title": kind, "status": error.status_code,
                "detail": f"{error.detail}.", "code": kind, "description": str(error.detail)}  # fmt: skip
        return JSONResponse(body, error.status_code, error.headers, media_type=PROBLEM)

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        _log.error("request failed", path=request.url.path, exc_info=error)
        body: dict[str, Any] = {
            "type": "urn:armillary:error:internal", "title": "internal", "status": 500, "code": "internal",
            "detail": f"The server failed at this request ({type(error).__name__}).",
            "remedy": "Look at the server's log and report it; it is a bug.", "description": "internal error",
        }  # fmt: skip
        return JSONResponse(body, 500, media_type=PROBLEM)
