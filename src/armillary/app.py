"""Build the one web application out of every noun's face."""

from fastapi import FastAPI

from armillary import __version__
from armillary.accounts import api as accounts
from armillary.algorithms import api as algorithms
from armillary.base.http import Context, install_errors
from armillary.collections import api as collections
from armillary.definitions import api as definitions
from armillary.deliveries import api as deliveries
from armillary.granules import api as granules
from armillary.granules import stac_api as stac
from armillary.jobs import api as jobs
from armillary.pools import api as pools
from armillary.portal import pages
from armillary.provenance import api as provenance
from armillary.rules import api as rules
from armillary.watchdog import api as watchdog

FACES = (accounts, algorithms, collections, definitions, deliveries, granules, stac, jobs, pools, provenance, rules,
         watchdog, pages)  # fmt: skip


def build(context: Context) -> FastAPI:
    """The application of one server."""
    app = FastAPI(
        title="Armillary",
        version=__version__,
        summary="Raw instrument data in, verified, catalogued, reproducible products out.",
    )
    app.state.context = context
    app.state.known_tokens = {}
    install_errors(app)
    for face in FACES:
        app.include_router(face.router)
    return app
