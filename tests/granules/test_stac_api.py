"""The STAC API over HTTP, with the field's own client and validator; no request leaves this machine."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pystac_client
import pytest
import uvicorn
from stac_validator.validate import StacValidate

from armillary import app
from armillary.accounts import authenticate
from armillary.base.db import Database
from armillary.base.errors import UsageError
from armillary.base.http import Context
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.granules.stac_api import to_interval
from armillary.testing.catalogue import Catalogue, square


class Service(NamedTuple):
    url: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@pytest.fixture
async def service(database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    """A real server with a small catalogue: twelve scenes, a tile across the antimeridian, a field in the sky."""
    catalogue = await Catalogue.make(database, tmp_path / "store")
    await catalogue.collections("slc", "dem", "sky", title="Scenes")
    for number in range(12):
        geometry = square(number * 10, 0)
        time = f"2026-03-{number + 1:02}T00:00:00Z"
        await catalogue.granule(
            "slc", f"scene-{number:02}", geometry=geometry, datetime=time, **{"eo:cloud_cover": number}
        )
    tile = {"type": "Polygon", "coordinates": [[[179, 0], [181, 0], [181, 1], [179, 1], [179, 0]]]}
    await catalogue.granule("dem", "tile", geometry=tile)
    await catalogue.granule("sky", "field", geometry=square(350, 0), frame="sky", datetime="2026-01-01T00:00:00Z")
    async with database.transaction() as tx:
        token = await authenticate.make_owner(tx)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        context = Context(database, Settings(home=tmp_path), catalogue.store, Links(b"k"), "i", lambda: url)
        server = uvicorn.Server(uvicorn.Config(app.build(context), log_level="warning", lifespan="off"))
        running = asyncio.create_task(server.serve([listener]))
        try:
            yield Service(url, token)
        finally:
            server.should_exit = True
            await running


async def ask(service: Service, path: str, body: Any = None, status: int = 200, **query: str) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=service.url, headers=service.headers, verify=False) as client:
        if body is None:
            answer = await client.get(path, params=query or None)
        else:
            answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def found(service: Service, body: dict[str, Any] | None = None, **query: str) -> list[str]:
    return [item["id"] for item in (await ask(service, "/stac/search", body, **query))["features"]]


async def test_the_fields_own_client_works(service: Service) -> None:
    def use() -> None:
        client = pystac_client.Client.open(f"{service.url}/stac", headers=service.headers)
        for wanted in ("CORE", "COLLECTIONS", "ITEM_SEARCH", "FILTER", "SORT", "FIELDS"):
            assert client.conforms_to(wanted), wanted
        assert sorted(one.id for one in client.get_collections()) == ["dem", "sky", "slc"]
        for method in ("GET", "POST"):
            every = client.search(collections=["slc"], limit=5, method=method)
            assert [item.id for item in every.items()] == [f"scene-{n:02}" for n in reversed(range(12))]
            some = client.search(
                bbox=[0, 0, 35, 1], datetime="2026-03-02/..", sortby="+properties.eo:cloud_cover", method=method,
                filter="eo:cloud_cover < 3" if method == "GET" else {"op": "<", "args": [{"property": "eo:cloud_cover"}, 3]},
            )  # fmt: skip
            assert [item.id for item in some.items()] == ["scene-01", "scene-02"]
        across = client.search(intersects={"type": "Point", "coordinates": [-179.5, 0.5]})
        assert [item.id for item in across.items()] == ["tile"]
        collection = client.get_collection("slc")
        assert collection.get_item("scene-03").properties["eo:cloud_cover"] == 3
        assert len(list(collection.get_items())) == 12
        assert "eo:cloud_cover" in collection.get_queryables()["properties"]

    await asyncio.to_thread(use)


async def test_the_fields_own_validator_finds_nothing(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schemas: dict[str, Any]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the validator asked the network")

    monkeypatch.setattr("requests.get", refuse)
    local = {}
    for number, (uri, schema) in enumerate(schemas.items()):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(schema))
        local[uri] = str(path)
    items = (await ask(service, "/stac/search", limit="100"))["features"]
    collections = (await ask(service, "/stac/collections"))["collections"]
    for document in (*items, *collections, await ask(service, "/stac")):
        validator = StacValidate(schema_map=dict(local))
        assert validator.validate_dict(document), validator.message
    broken = StacValidate(schema_map=dict(local))
    assert not broken.validate_dict(items[0] | {"geometry": 5})


async def test_get_and_post_mean_the_same(service: Service) -> None:
    for query, body, expected in [
        ({"ids": "scene-01,scene-05"}, {"ids": ["scene-01", "scene-05"]}, ["scene-05", "scene-01"]),
        ({"collections": "dem,sky"}, {"collections": ["dem", "sky"]}, ["field", "tile"]),
        ({"bbox": "-1,-1,-10,11,1,10"}, {"bbox": [-1, -1, -10, 11, 1, 10]}, ["scene-01", "scene-00"]),
        ({"bbox": "179.5,0,-179.5,1"}, {"bbox": [179.5, 0, -179.5, 1]}, ["tile"]),
        ({"datetime": "2026-03-05T00:00:00Z"}, {"datetime": "2026-03-05T00:00:00Z"}, ["scene-04"]),
        ({"datetime": "../2026-01-05T00:00:00Z"}, {"datetime": "../2026-01-05T00:00:00Z"}, ["field"]),
        (
            {"filter": "eo:cloud_cover > 10"},
            {"filter": "eo:cloud_cover > 10", "filter-lang": "cql2-text"},
            ["scene-11"],
        ),
        ({"sortby": "id", "limit": "1"}, {"sortby": [{"field": "id"}], "limit": 1}, ["field"]),
        ({"sortby": "-id", "limit": "1"}, {"sortby": [{"field": "id", "direction": "desc"}], "limit": 1}, ["tile"]),
    ]:
        assert await found(service, **query) == expected
        assert await found(service, body) == expected


async def test_the_sky_is_asked_by_its_own_property(service: Service) -> None:
    assert await found(service, bbox="349,-1,352,2") == []
    assert await found(service, filter="S_INTERSECTS(armillary:sky_geometry, POINT(350.5 0.5))") == ["field"]
    assert await found(service, filter="S_INTERSECTS(armillary:sky_geometry, POINT(-9.5 0.5))") == ["field"]


async def test_pages_follow_links_to_the_end(service: Service) -> None:
    page = await ask(service, "/stac/collections/slc/items", limit="5", filter="eo:cloud_cover >= 1")
    ids: list[str] = []
    while True:
        ids += [item["id"] for item in page["features"]]
        following = [link for link in page["links"] if link["rel"] == "next"]
        if not following:
            break
        page = await ask(service, following[0]["href"].removeprefix(service.url))
    assert ids == [f"scene-{number:02}" for number in range(11, 0, -1)]


async def test_only_the_asked_fields_are_sent(service: Service) -> None:
    page = await ask(service, "/stac/search", ids="scene-01", fields="id,properties.datetime,-collection")
    assert page["features"] == [
        {"type": "Feature", "id": "scene-01", "collection": "slc", "properties": {"datetime": "2026-03-02T00:00:00Z"}}
    ]


async def test_signed_links_work_without_a_token_and_in_ranges(service: Service) -> None:
    item = await ask(service, "/stac/collections/slc/items/scene-01", sign="true")
    async with httpx2.AsyncClient() as anyone:
        answer = await anyone.get(item["assets"]["data"]["href"], headers={"Range": "bytes=2-4"})
        assert (answer.status_code, answer.content) == (206, b"ene")
        assert (await anyone.get(item["assets"]["data"]["href"].partition("?")[0])).status_code == 401
        assert (await anyone.get(f"{service.url}/stac")).status_code == 401


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"bbox": "1,2,3"}, "bbox"),
        ({"bbox": "a,b,c,d"}, "bbox"),
        ({"bbox": "0,10,1,5"}, "bbox"),
        ({"datetime": "yesterday"}, "datetime"),
        ({"datetime": "2026-03-02/2026-03-01"}, "datetime"),
        ({"limit": "0"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"intersects": "{"}, "intersects"),
        ({"intersects": '{"type":"Point","coordinates":[0,99]}'}, "intersects.coordinates"),
        ({"bbox": "0,0,1,1", "intersects": '{"type":"Point","coordinates":[0,0]}'}, "intersects"),
        ({"filter": "a ="}, "filter"),
        ({"filter": "a = 1", "filter-lang": "sql"}, "filter-lang"),
        ({"filter": "a = 1", "filter-crs": "EPSG:3857"}, "filter-crs"),
        ({"sortby": "geometry"}, "sortby"),
        ({"token": "x"}, "token"),
    ],
)
async def test_what_cannot_be_meant_is_answered_with_400(service: Service, query: dict[str, str], field: str) -> None:
    body = await ask(service, "/stac/search", status=400, **query)
    assert (body["status"], body["code"], body["field"]) == (400, "usage", field)
    assert body["description"]
    assert body["remedy"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"collection": ["slc"]}, "collection"),
        ({"collections": "slc"}, "collections"),
        ({"ids": [1]}, "ids"),
        ({"limit": 1.5}, "limit"),
        ({"limit": True}, "limit"),
        ({"sortby": ["id"]}, "sortby"),
        ({"fields": ["id"]}, "fields"),
        ({"token": 5}, "token"),
        ({"datetime": 5}, "datetime"),
        ({"bbox": "0,0,1,1"}, "bbox"),
        ({"filter": {"op": "="}}, "filter"),
    ],
)
async def test_a_document_that_cannot_be_meant_is_answered_with_400(
    service: Service, body: dict[str, Any], field: str
) -> None:
    assert (await ask(service, "/stac/search", body, status=400))["field"] == field


async def test_what_is_not_there_is_answered_with_404(service: Service) -> None:
    for path in (
        "collections/none",
        "collections/none/items",
        "collections/slc/items/none",
        "collections/none/queryables",
    ):
        body = await ask(service, f"/stac/{path}", status=404)
        assert (body["code"], body["type"]) == ("not-found", "urn:armillary:error:not-found")


async def test_queryables_are_a_schema_of_columns_and_properties(service: Service) -> None:
    document = await ask(service, "/stac/queryables")
    assert document["properties"]["eo:cloud_cover"] == {"title": "eo:cloud_cover", "type": "number"}
    assert document["properties"]["datetime"]["format"] == "date-time"
    assert document["$id"] == f"{service.url}/stac/queryables"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T00:00:00Z", (1, 1)),
        ("2026-03-01T00:00:00Z/2026-03-02T00:00:00Z", (1, 2)),
        ("../2026-03-02T02:00:00+02:00", (None, 2)),
        ("2026-03-01t00:00:00z/", (1, None)),
        (None, (None, None)),
    ],
)
def test_times_are_instants_or_ranges_with_open_ends(text: str | None, expected: tuple[int | None, int | None]) -> None:
    assert to_interval(text) == tuple(day and datetime(2026, 3, day, tzinfo=UTC) for day in expected)


@pytest.mark.parametrize("text", ["..", "../..", "/", "2026-03-01T00:00:00", "2026", "a/b/c"])
def test_times_without_a_zone_or_a_meaning_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        to_interval(text)
    assert refused.value.field == "datetime"
