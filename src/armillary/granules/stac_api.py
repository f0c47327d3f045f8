"""The STAC API 1.0: landing page, collections, items and search by GET and POST."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from armillary.accounts.actor import Actor
from armillary.accounts.api import SignedIn
from armillary.base import clock
from armillary.base.db import Row
from armillary.base.errors import UsageError
from armillary.base.http import PROBLEM, Web
from armillary.collections import define
from armillary.collections.collection import read as read_collection
from armillary.granules import cql2, find, footprint, search, stac
from armillary.granules.granule import Granule
from armillary.granules.search import NEWEST, SortKey, sort_keys

MAX_IDS = 10_000


class StacRoute(APIRoute):
    """Answers a request that cannot be meant with 400, as the STAC API says."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The handler with this one difference."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except UsageError as error:
                body = error.problem() | {"status": 400, "code": error.kind, "description": str(error)}
                return JSONResponse(body, 400, media_type=PROBLEM)

        return handler


router = APIRouter(prefix="/stac", tags=["stac"], route_class=StacRoute)


class GeoJson(JSONResponse):
    """A response of GeoJSON."""

    media_type = stac.GEOJSON


# About itself --------------------------------------------------------------------------------------------------


@router.get("")
@router.get("/", include_in_schema=False)
async def landing(web: Web, actor: SignedIn) -> dict[str, Any]:
    """The landing page."""
    return stac.landing(await _collections(web, actor), web.url(), web.instance)


@router.get("/conformance")
async def conformance(_actor: SignedIn) -> dict[str, Any]:
    """What this API conforms to."""
    return {"conformsTo": list(stac.CONFORMS_TO)}


@router.get("/collections")
async def collections(web: Web, actor: SignedIn) -> dict[str, Any]:
    """All collections."""
    return stac.collections(await _collections(web, actor), web.url())


@router.get("/collections/{collection}")
async def collection(web: Web, actor: SignedIn, collection: str) -> dict[str, Any]:
    """One collection."""
    async with web.database.transaction() as tx:
        row = await define.row(tx, actor, collection)
        beginnings = await search.beginnings(tx, actor, [collection])
    return stac.collection(read_collection(row["spec"]), web.url(), beginnings.get(collection))


async def _collections(web: Web, actor: Actor) -> list[dict[str, Any]]:
    async with web.database.transaction() as tx:
        rows: list[Row] = await define.visible(tx, actor)
        beginnings = await search.beginnings(tx, actor, [row["id"] for row in rows])
    return [stac.collection(read_collection(row["spec"]), web.url(), beginnings.get(row["id"])) for row in rows]


@router.get("/queryables")
async def queryables(web: Web, actor: SignedIn) -> Response:
    """What filters may ask for."""
    async with web.database.transaction() as tx:
        types = await search.property_types(tx, actor, None)
    document = stac.queryables(types, f"{web.url()}/stac/queryables", "What filters may ask for.")
    return JSONResponse(document, media_type=stac.SCHEMA)


@router.get("/collections/{collection}/queryables")
async def collection_queryables(web: Web, actor: SignedIn, collection: str) -> Response:
    """What filters may ask for in one collection."""
    async with web.database.transaction() as tx:
        await define.row(tx, actor, collection)
        types = await search.property_types(tx, actor, collection)
    url = f"{web.url()}/stac/collections/{quote(collection)}/queryables"
    document = stac.queryables(types, url, f"What filters may ask for in {collection}.")
    return JSONResponse(document, media_type=stac.SCHEMA)


# Items ---------------------------------------------------------------------------------------------------------


class ParametersWire(BaseModel):
    """The query string of a search; each is read further by `from_query`."""

    collections: str | None = Field(None, description="Collections, separated by commas.")
    ids: str | None = Field(None, description="Granules, separated by commas.")
    bbox: str | None = Field(None, description="west,south,east,north in degrees.")
    intersects: str | None = Field(None, description="A GeoJSON geometry.")
    datetime: str | None = Field(None, description="An instant, or two with a slash between; .. is open.")
    filter: str | None = Field(None, description="CQL2.")
    filter_lang: str | None = Field(None, alias="filter-lang", description="cql2-text or cql2-json.")
    filter_crs: str | None = Field(None, alias="filter-crs", description="CRS84 alone.")
    sortby: str | None = Field(None, description="Names, separated by commas; -name descends.")
    fields: str | None = Field(None, description="Names, separated by commas; -name leaves one out.")
    limit: str | None = Field(None, description="Items on a page, 10 unless given.")
    token: str | None = Field(None, description="Of the link `next`.")
    sign: str | None = Field(None, description="true: links to files that work without a token for a while.")

    def given(self) -> dict[str, str]:
        """By their names in the URL."""
        return self.model_dump(by_alias=True, exclude_none=True)


PARAMETERS = tuple(field.alias or name for name, field in ParametersWire.model_fields.items())
Parameters = Annotated[ParametersWire, Query()]


@router.get("/collections/{collection}/items", response_class=GeoJson)
async def items(web: Web, actor: SignedIn, collection: str, asked: Parameters) -> Response:
    """The items of one collection."""
    async with web.database.transaction() as tx:
        await define.row(tx, actor, collection)
    here = f"{web.url()}/stac/collections/{quote(collection)}/items"
    given = {name: value for name, value in asked.given().items() if name != "collections"}
    return await _get(web, actor, given, here, collection)


@router.get("/collections/{collection}/items/{item}", response_class=GeoJson)
async def item(web: Web, actor: SignedIn, collection: str, item: str, sign: bool = False) -> Response:
    """One item, the current revision."""
    async with web.database.transaction() as tx:
        found = await find.get(tx, actor, collection, item)
    return GeoJson(_item(web, found, sign))


@router.get("/search", response_class=GeoJson)
async def search_by_get(web: Web, actor: SignedIn, asked: Parameters) -> Response:
    """Search; parameters in the query string."""
    return await _get(web, actor, asked.given(), f"{web.url()}/stac/search")


@router.post("/search", response_class=GeoJson)
async def search_by_post(web: Web, actor: SignedIn, body: Annotated[dict[str, Any], Body()]) -> Response:
    """Search; parameters as a document."""
    unknown = sorted(set(body) - {*PARAMETERS, "conf"})
    if unknown:
        raise UsageError(f"{unknown[0]} is no parameter.", f"Known: {', '.join(PARAMETERS)}.", field=unknown[0])
    here = f"{web.url()}/stac/search"
    page, shown = await _page(web, actor, body)
    links: list[dict[str, Any]] = [{"rel": "self", "href": here, "type": stac.GEOJSON}]
    if page.next:
        more = {"method": "POST", "body": body | {"token": page.next}, "merge": False}
        links.append({"rel": "next", "href": here, "type": stac.GEOJSON} | more)
    return GeoJson(stac.found(shown, links, web.url()))


async def _get(web: Web, actor: Actor, asked: Mapping[str, str], here: str, collection: str | None = None) -> Response:
    document = from_query(asked) | ({"collections": [collection]} if collection else {})
    page, shown = await _page(web, actor, document)
    links = [{"rel": "self", "href": f"{here}?{urlencode(asked)}" if asked else here, "type": stac.GEOJSON}]
    if collection:
        links.append({"rel": "collection", "href": here.removesuffix("/items"), "type": stac.JSON})
    if page.next:
        following = f"{here}?{urlencode({**asked, 'token': page.next})}"
        links.append({"rel": "next", "href": following, "type": stac.GEOJSON, "method": "GET"})
    return GeoJson(stac.found(shown, links, web.url()))


async def _page(web: Web, actor: Actor, document: Mapping[str, Any]) -> tuple[search.Page, list[dict[str, Any]]]:
    query, fields, sign = to_query(document), to_fields(document.get("fields")), document.get("sign")
    async with web.database.transaction() as tx:
        page = await search.search(tx, actor, query)
    return page, [stac.select(_item(web, granule, sign in (True, "true", "1")), *fields) for granule in page.granules]


def _item(web: Web, granule: Granule, sign: bool) -> dict[str, Any]:
    def signed(path: str) -> str:
        return web.links.sign(path, web.settings.store.link_expires)

    return stac.item(granule, web.url(), signed if sign else None)


# Reading what was asked ----------------------------------------------------------------------------------------


def from_query(asked: Mapping[str, str]) -> dict[str, Any]:
    """The query string as the document that a POST would carry."""
    document: dict[str, Any] = {name: value for name, value in asked.items() if value != ""}
    for name in ("collections", "ids"):
        if name in document:
            document[name] = document[name].split(",")
    if "bbox" in document:
        document["bbox"] = [_number(part, "bbox") for part in document["bbox"].split(",")]
    if "intersects" in document:
        try:
            document["intersects"] = json.loads(document["intersects"])
        except (ValueError, RecursionError) as error:
            remedy = "Give a GeoJSON geometry."
            raise UsageError(f"intersects is not JSON: {error}.", remedy, field="intersects") from error
    if "limit" in document:
        document["limit"] = _number(document["limit"], "limit")
    if "sortby" in document:
        names = [name.strip() for name in document["sortby"].replace(" ", "+").split(",")]  # a plus comes as a space
        document["sortby"] = [
            {"field": name.lstrip("+-"), "direction": "desc" if name.startswith("-") else "asc"} for name in names
        ]
    if "fields" in document:
        names = [name.strip() for name in document["fields"].split(",") if name.strip()]
        document["fields"] = {
            "include": [name.lstrip("+") for name in names if not name.startswith("-")],
            "exclude": [name[1:] for name in names if name.startswith("-")],
        }
    return document


def _number(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{field} holds {text!r}, which is not a number.", "Give numbers.", field=field) from error


def to_query(document: Mapping[str, Any]) -> search.Query:
    """What a search asks for."""
    if document.get("bbox") is not None and document.get("intersects") is not None:
        raise UsageError("A search has bbox or intersects, not both.", "Leave one out.", field="intersects")
    earliest, latest = to_interval(document.get("datetime"))
    return search.Query(
        collections=_names(document.get("collections"), "collections"),
        ids=_names(document.get("ids"), "ids"),
        place=_place(document),
        earliest=earliest,
        latest=latest,
        is_timed=bool(document.get("datetime")),
        filter=_filter(document),
        sort=_sort(document.get("sortby")),
        limit=_limit(document.get("limit")),
        after=_text(document.get("token"), "token"),
    )


def _names(value: Any, field: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) and "\0" not in name for name in value):
        raise UsageError(f"{field} is not a list of names.", 'Write ["a", "b"].', field=field)
    if len(value) > MAX_IDS:
        raise UsageError(f"{field} lists more than {MAX_IDS} names.", "Ask for fewer at once.", field=field)
    return tuple(value)


def _text(value: Any, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{field} is not a text.", "Put it in quotes.", field=field)
    return value


def _place(document: Mapping[str, Any]) -> footprint.Shape | None:
    if document.get("bbox") is not None:
        return footprint.shape(footprint.check_bbox(document["bbox"]), "earth", "bbox")
    if document.get("intersects") is not None:
        geometry = footprint.check(document["intersects"], "earth", "intersects")
        assert geometry is not None
        return footprint.shape(geometry, "earth", "intersects")
    return None


def to_interval(text: Any) -> tuple[datetime | None, datetime | None]:
    """The ends of STAC's datetime: an instant, or two separated by a slash, of which one may be open."""
    if text is None or text == "":
        return None, None
    remedy = "Write 2026-03-01T00:00:00Z, or two of them with a slash between; .. is open."
    ends = text.split("/") if isinstance(text, str) else []
    if len(ends) not in (1, 2) or all(end in ("", "..") for end in ends):
        raise UsageError(f"datetime {text!r} is not understood.", remedy, field="datetime")
    try:
        read = [None if end in ("", "..") else clock.parse(end.upper()) for end in ends]
    except ValueError as error:
        raise UsageError(f"datetime {text!r} is not understood: {error}.", remedy, field="datetime") from error
    earliest, latest = read[0], read[-1]
    if earliest and latest and earliest > latest:
        raise UsageError("datetime ends before it starts.", "Exchange its ends.", field="datetime")
    return earliest, latest


def _filter(document: Mapping[str, Any]) -> cql2.Expression | None:
    crs, language = document.get("filter-crs"), document.get("filter-lang")
    if crs not in (None, stac.CRS84):
        raise UsageError(f"filter-crs {crs!r} is not offered.", f"Use {stac.CRS84}.", field="filter-crs")
    if language not in (None, "cql2-text", "cql2-json"):
        remedy = "Use cql2-text or cql2-json."
        raise UsageError(f"filter-lang {language!r} is not offered.", remedy, field="filter-lang")
    asked = document.get("filter")
    return None if asked is None else cql2.parse(asked)


def _sort(value: Any) -> tuple[SortKey, ...]:
    if not value:
        return NEWEST
    keys = value if isinstance(value, list) else []
    good = all(isinstance(key, dict) and isinstance(key.get("field"), str) for key in keys)
    if not keys or not good or any(key.get("direction", "asc") not in ("asc", "desc") for key in keys):
        remedy = 'Write [{"field": "datetime", "direction": "desc"}].'
        raise UsageError("sortby is not understood.", remedy, field="sortby")
    return sort_keys([SortKey(key["field"], key.get("direction") == "desc") for key in keys])


def _limit(value: Any) -> int:
    if value is None:
        return search.DEFAULT_LIMIT
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
        raise UsageError(f"limit is {value!r}.", f"Give 1 to {search.MAX_LIMIT}.", field="limit")
    return min(int(value), search.MAX_LIMIT)


def to_fields(value: Any) -> tuple[Sequence[str], Sequence[str]]:
    """Which fields of an item to show and to leave out."""
    if not value:
        return (), ()
    remedy = 'Write {"include": ["id"], "exclude": ["assets"]}.'
    if not isinstance(value, dict) or set(value) - {"include", "exclude"}:
        raise UsageError("fields is not understood.", remedy, field="fields")
    include, exclude = (value.get(name) or [] for name in ("include", "exclude"))
    if not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in (include, exclude)
    ):
        raise UsageError("fields is not understood.", remedy, field="fields")
    return include, exclude
