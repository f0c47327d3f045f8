"""A page per granule and job, and a front page: no script, a strict content security policy, data from the API alone."""

import functools
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from armillary.base.errors import ArmillaryError, NotAuthenticated, from_problem
from armillary.base.units import human_size
from armillary.portal import health, listing
from armillary.portal.footprint import drawing

router = APIRouter(include_in_schema=False)

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
SHOWN = 20


@functools.cache
def templates() -> Any:
    """The templates; made at the first page, since a server starts faster without."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["size"] = human_size
    made.filters["marked"] = health.marked
    made.filters["segment"] = lambda text: quote(str(text), safe="")
    made.filters["time"] = lambda text: str(text or "")[:19].replace("T", " ")
    return made


class Api:
    """The HTTP API, called in this process with the visitor's own credentials."""

    def __init__(self, request: Request) -> None:
        import httpx2  # costs a tenth of a second, which a start need not pay

        headers = {name: request.headers[name] for name in ("authorization", "cookie") if name in request.headers}
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=request.app), base_url="http://armillary", headers=headers
        )

    async def get(self, path: str, **params: Any) -> Any:
        """The answer's JSON; its problem as our own error."""
        answer = await self._client.get(path, params=params)
        if answer.status_code >= 400:
            raise from_problem(answer.json())
        return answer.json()


@router.get("/")
async def front(request: Request) -> Response:
    """What there is and what happens."""
    api = Api(request)

    async def values() -> dict[str, Any]:
        return {
            "status": await api.get("/api/status"),
            "collections": (await api.get("/api/collections"))["collections"],
            "jobs": (await api.get("/api/jobs", limit=SHOWN))["jobs"],
            "granules": (await api.get("/stac/search", limit=SHOWN, sortby="-created"))["features"],
        }

    return await _page("front.html", values)


@router.get("/status")
async def status(request: Request) -> Response:
    """What is wrong, what works and waits, and how servers, disks, loops and the database are."""

    async def values() -> dict[str, Any]:
        return health.view(await Api(request).get("/api/health"))

    return await _page("health.html", values)


@router.get("/granules/{collection}/{granule}")
async def granule(request: Request, collection: str, granule: str, revision: int | None = None) -> Response:
    """Picture, footprint, files, provenance, attempts, delivery."""
    api, name = Api(request), f"{quote(collection, safe='')}/{quote(granule, safe='')}"

    async def values() -> dict[str, Any]:
        found = await _granule(api, name, revision)
        lineage = await api.get(f"/api/provenance/{name}", depth=1, revision=found["revision"])
        maker = await _maker(api, lineage, collection, granule)
        return {
            "granule": found,
            "pictures": _pictures(found),
            "listed": listing.summary(found),
            "map": drawing(found["item"]),
            "lineage": lineage,
            "job": maker,
            "cost": await api.get(f"/api/jobs/costs/{name}", revision=found["revision"]),
            "deliveries": (await api.get("/api/deliveries", granule=f"{collection}/{granule}"))["deliveries"],
        }

    return await _page("granule.html", values)


@router.get("/granules/{collection}/{granule}/assets/{asset:path}")
async def asset(
    request: Request,
    collection: str,
    granule: str,
    asset: str,
    revision: int | None = None,
    page: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """All files of an asset of many, page by page."""
    api, name = Api(request), f"{quote(collection, safe='')}/{quote(granule, safe='')}"

    async def values() -> dict[str, Any]:
        found = await _granule(api, name, revision)
        return {"granule": found, "page": listing.page(found, asset, page)}

    return await _page("asset.html", values)


@router.get("/jobs/{job}")
async def job(request: Request, job: str) -> Response:
    """A job with its attempts and the end of its log."""
    api = Api(request)

    async def values() -> dict[str, Any]:
        return {"job": await api.get(f"/api/jobs/{quote(job, safe='')}")}

    return await _page("job.html", values)


@router.get("/style.css")
async def style() -> Response:
    """The one style sheet."""
    return PlainTextResponse((HERE / "style.css").read_text(), media_type="text/css")


@router.get("/favicon.ico")
async def icon() -> Response:
    """There is none."""
    return RedirectResponse("/style.css", 307)


async def _page(template: str, values: Any) -> Response:
    try:
        return HTMLResponse(templates().get_template(template).render(await values()), headers=HEADERS)
    except NotAuthenticated as error:
        return HTMLResponse(templates().get_template("problem.html").render(error=error, title="Sign in"), 401, HEADERS)
    except ArmillaryError as error:
        rendered = templates().get_template("problem.html").render(error=error, title=error.kind)
        return HTMLResponse(rendered, error.status, HEADERS)


async def _granule(api: Api, name: str, revision: int | None) -> Any:
    return await api.get(f"/api/granules/{name}", **({"revision": revision} if revision else {}))


async def _maker(api: Api, lineage: dict[str, Any], collection: str, granule: str) -> dict[str, Any] | None:
    """The job that made the granule, with its attempts."""
    for activity in lineage.get("activities", []):
        outputs = activity.get("generated", [])
        if any((one["collection"], one["granule"]) == (collection, granule) for one in outputs):
            found: dict[str, Any] = await api.get(f"/api/jobs/{activity['job']}")
            return found
    return None


def _pictures(found: dict[str, Any]) -> list[dict[str, str]]:
    roles = {name: asset.get("roles", []) for name, asset in found["item"]["assets"].items()}
    return [
        {"href": file["href"], "name": file["path"]}
        for file in found["files"]
        if file["path"].lower().endswith((".png", ".jpg", ".jpeg", ".webp", ".gif"))
        and ("overview" in roles.get(file["asset"], []) or file["path"].startswith("browse."))
    ]
