"""`/metrics` for Prometheus, and the token that reads it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from armillary.accounts import authenticate
from armillary.accounts.actor import Actor
from armillary.accounts.api import SignedIn, may_scrape
from armillary.accounts.permit import administer
from armillary.base.http import Web
from armillary.metrics.metric import Part
from armillary.metrics.scrape import CONTENT_TYPE, Scrape

router = APIRouter(tags=["metrics"])


@router.get("/metrics")
async def metrics(
    request: Request, _actor: Annotated[Actor, Depends(may_scrape)], part: Part | None = None
) -> Response:
    """All metrics in the text format of Prometheus: `part=instance` those of the whole, `part=server` of this server."""
    scrape: Scrape = request.app.state.scrape
    return Response(await scrape.text(part), media_type=CONTENT_TYPE)


@router.post("/api/metrics/token", status_code=201)
async def make_token(web: Web, actor: SignedIn) -> dict[str, str]:
    """A token that reads `/metrics` and nothing else, shown this once; the one before is revoked."""
    administer(actor)
    async with web.database.transaction() as tx:
        secret = await authenticate.make_metrics_token(tx, actor.account)
    return {"token": secret}
