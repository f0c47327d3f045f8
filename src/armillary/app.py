"""Build the one web application out of every noun's face."""

from fastapi import Depends, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CollectorRegistry

from armillary import __version__
from armillary.accounts import api as accounts
from armillary.accounts.api import signed_in
from armillary.algorithms import api as algorithms
from armillary.base.http import Context, install_errors
from armillary.collections import api as collections
from armillary.definitions import api as definitions
from armillary.deliveries import api as deliveries
from armillary.granules import api as granules
from armillary.granules import stac_api as stac
from armillary.jobs import api as jobs
from armillary.jobs.bulk import api as bulk
from armillary.metrics import api as metrics
from armillary.metrics.requests import Requests
from armillary.metrics.scrape import Scrape
from armillary.pools import api as pools
from armillary.portal import pages
from armillary.provenance import api as provenance
from armillary.rules import api as rules
from armillary.watchdog import api as watchdog

# In the order in which a request looks for its route: what workers and clients ask all the time comes first.
FACES = (pools, granules, jobs, bulk, accounts, algorithms, collections, definitions, deliveries, stac, provenance, rules,
         watchdog, metrics, pages)  # fmt: skip


def build(context: Context) -> FastAPI:
    """The application of one server."""
    app = FastAPI(
        title="Armillary",
        version=__version__,
        summary="Raw instrument data in, verified, catalogued, reproducible products out.",
        openapi_url=None,  # ours asks who wants to know
    )
    app.state.context = context
    app.state.known_tokens = {}
    registry = CollectorRegistry()
    app.state.scrape = Scrape(lambda: context.database, registry)
    app.add_middleware(Requests, registry=registry)
    install_errors(app)
    for face in FACES:
        # The routes themselves: a router within a router is searched twice by every request.
        app.router.routes.extend(face.router.routes)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """What each call takes, for whoever is signed in."""

    @app.get("/openapi.json", include_in_schema=False, dependencies=[Depends(signed_in)])
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False, dependencies=[Depends(signed_in)])
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="/openapi.json", title=app.title)
