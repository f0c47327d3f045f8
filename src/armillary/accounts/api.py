"""Who is asking: the bearer token or the session's cookie of each request; sign-in by a one-time link."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from armillary.accounts import authenticate
from armillary.accounts.actor import Actor
from armillary.accounts.permit import administer
from armillary.base.errors import NotAllowed, NotAuthenticated
from armillary.base.http import Web
from armillary.base.wakes import TOKENS

COOKIE = "armillary_session"
# For how long a token is believed without asking; that one was revoked is heard of at once. A worker that is gone is refused
# whatever its token says, and thousands of workers ask once a minute each: often enough to be remembered between.
REMEMBER_SECONDS = {"worker": 600.0}
REMEMBER_OTHERS_SECONDS = 5.0
MOST_REMEMBERED = 100_000

router = APIRouter(tags=["accounts"])


async def signed_in(request: Request, web: Web) -> Actor:
    """The actor of this request; refused without a good token."""
    actor = await _known(request, web)
    if actor.kind == "metrics":
        raise NotAllowed("This token reads /metrics and nothing else.", "Use one of an account.")
    return actor


async def may_scrape(request: Request, web: Web) -> Actor:
    """The owner, or whoever holds the token of the metrics, which tell of all groups."""
    actor = await _known(request, web)
    if actor.kind != "metrics":
        administer(actor)
    return actor


async def _known(request: Request, web: Web) -> Actor:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        secret = request.cookies.get(COOKIE, "")
        if secret and request.method not in ("GET", "HEAD"):
            # A cookie travels with forged requests too; changing anything takes the header.
            raise NotAllowed("A session's cookie only reads.", "Send the token in the Authorization header.")
    if not secret:
        raise NotAuthenticated(
            "This needs a token.",
            "Send `Authorization: Bearer <token>`; the owner's is in <home>/owner-token.",
        )
    known: dict[str, tuple[float, int, Actor]] = request.app.state.known_tokens
    revocations = web.database.wakes.count(TOKENS)
    until, count, actor = known.get(secret, (0.0, 0, None))
    if actor is None or until < time.monotonic() or count != revocations:
        async with web.database.transaction() as tx:
            actor = await authenticate.authenticate(tx, secret)
        if len(known) > MOST_REMEMBERED:
            known.clear()
        seconds = REMEMBER_SECONDS.get(actor.kind, REMEMBER_OTHERS_SECONDS)
        known[secret] = (time.monotonic() + seconds, revocations, actor)
    return actor


SignedIn = Annotated[Actor, Depends(signed_in)]


@router.get("/sign-in", include_in_schema=False)
async def sign_in(web: Web, code: str, to: str = "/") -> Response:
    """Exchange a one-time code for a session and go on."""
    async with web.database.transaction() as tx:
        session = await authenticate.sign_in(tx, code)
    # Only paths of this server: an open redirect would lend our name to others.
    answer = RedirectResponse(to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/", 303)
    answer.set_cookie(COOKIE, session, max_age=7 * 86400, httponly=True, samesite="strict", path="/")
    return answer


@router.post("/api/sign-in")
async def make_sign_in(web: Web, actor: SignedIn) -> dict[str, str]:
    """A link that signs in once."""
    administer(actor)
    async with web.database.transaction() as tx:
        code = await authenticate.make_sign_in(tx, actor.account)
    return {"url": f"{web.url()}/sign-in?code={code}"}
