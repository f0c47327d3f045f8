"""Search: the right granules, each once, in order, whoever asks and whatever is added meanwhile."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
import spherely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from armillary.accounts.actor import Actor
from armillary.base.db import Database, jsonb
from armillary.base.errors import UsageError
from armillary.granules import cql2, footprint, search
from armillary.granules.search import Query, SortKey
from armillary.testing.catalogue import OWNER, Catalogue, square

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


@pytest.fixture
async def catalogue(database: Database, tmp_path: Path) -> Catalogue:
    made = await Catalogue.make(database, tmp_path / "store")
    await made.collections("slc", "dem", on_change="revise")
    return made


async def names(database: Database, query: Query, actor: Actor = OWNER) -> list[str]:
    """All pages of a search."""
    found: list[str] = []
    after = query.after
    while True:
        async with database.transaction() as tx:
            page = await search.search(tx, actor, search.replace(query, after=after))
        assert len(page.granules) <= query.limit
        found += [granule.granule for granule in page.granules]
        after = page.next
        if after is None:
            return found


async def test_each_condition_narrows(catalogue: Catalogue, database: Database) -> None:
    await catalogue.granule("slc", "west", geometry=square(0, 0), datetime=iso(NOON), platform="a")
    await catalogue.granule("slc", "east", geometry=square(50, 0), datetime=iso(NOON + timedelta(days=1)), platform="b")
    await catalogue.granule("dem", "tile", geometry=square(0, 0, 5))
    assert await names(database, Query()) == ["east", "west", "tile"]
    assert await names(database, Query(collections=("slc",))) == ["east", "west"]
    assert await names(database, Query(collections=("slc", "none"))) == ["east", "west"]
    assert await names(database, Query(ids=("west", "tile", "none"))) == ["west", "tile"]
    assert await names(database, Query(place=footprint.shape([0.5, 0.5, 2, 2], "earth"))) == ["west", "tile"]
    assert await names(database, Query(latest=NOON)) == ["west"]
    assert await names(database, Query(earliest=NOON + timedelta(seconds=1))) == ["east"]
    assert await names(database, Query(is_timed=True)) == ["east", "west"]
    assert await names(database, Query(filter=cql2.parse("platform = 'b'"))) == ["east"]
    assert await names(database, Query(filter=cql2.parse("NOT S_INTERSECTS(geometry, BBOX(40, -5, 60, 5))"))) == [
        "west", "tile",
    ]  # fmt: skip


async def test_a_range_is_found_by_any_time_that_it_shares(catalogue: Catalogue, database: Database) -> None:
    ends = {"start_datetime": iso(NOON), "end_datetime": iso(NOON + timedelta(hours=1))}
    await catalogue.granule("slc", "one", **ends)
    for earliest, latest, expected in [
        (NOON - timedelta(hours=1), NOON, ["one"]),
        (NOON + timedelta(hours=1), None, ["one"]),
        (NOON + timedelta(minutes=10), NOON + timedelta(minutes=20), ["one"]),
        (NOON + timedelta(hours=1, microseconds=1), None, []),
        (None, NOON - timedelta(microseconds=1), []),
    ]:
        assert await names(database, Query(earliest=earliest, latest=latest)) == expected


async def test_only_the_current_revision_is_found(catalogue: Catalogue, database: Database) -> None:
    await catalogue.granule("slc", "one", content=b"1", geometry=square(0, 0))
    await catalogue.granule("slc", "one", content=b"2", geometry=square(50, 0))
    async with database.transaction() as tx:
        page = await search.search(tx, OWNER, Query())
    assert [(granule.granule, granule.revision) for granule in page.granules] == [("one", 2)]
    assert await names(database, Query(place=footprint.shape([0, 0, 1, 1], "earth"))) == []


async def test_nobody_finds_what_another_group_owns(catalogue: Catalogue, database: Database) -> None:
    await catalogue.granule("slc", "one", datetime=iso(NOON))
    stranger = Actor("stranger", "others")
    assert await names(database, Query(), stranger) == []
    async with database.transaction() as tx:
        assert await search.property_types(tx, stranger, None) == {}
        assert await search.beginnings(tx, stranger, ["slc"]) == {}
        assert await search.property_types(tx, OWNER, "slc") == {"datetime": "string"}
        assert await search.beginnings(tx, OWNER, ["slc"]) == {"slc": NOON}


async def test_paging_sees_each_granule_once_while_others_arrive(catalogue: Catalogue, database: Database) -> None:
    for number in range(7):
        await catalogue.granule("slc", f"old-{number}", datetime=iso(NOON + timedelta(days=number)))
    found, after = [], None
    for number in range(20):
        async with database.transaction() as tx:
            page = await search.search(tx, OWNER, Query(limit=2, after=after))
        found += [granule.granule for granule in page.granules]
        await catalogue.granule("slc", f"newer-{number}", datetime=iso(NOON + timedelta(days=100 + number)))
        after = page.next
        if after is None:
            break
    assert found == [f"old-{number}" for number in reversed(range(7))]


@pytest.mark.parametrize("token", ["x", "bm90IGpzb24", "W10", "W1siLWRhdGV0aW1lIl0sIFtdXQ", "é"])
async def test_a_token_that_is_none_of_ours_is_refused(catalogue: Catalogue, database: Database, token: str) -> None:
    async with database.transaction() as tx:
        with pytest.raises(UsageError) as refused:
            await search.search(tx, OWNER, Query(after=token))
    assert refused.value.field == "token"


async def test_a_token_belongs_to_its_order(catalogue: Catalogue, database: Database) -> None:
    for name in ("a", "b"):
        await catalogue.granule("slc", name)
    async with database.transaction() as tx:
        page = await search.search(tx, OWNER, Query(limit=1))
        with pytest.raises(UsageError, match="belongs to another search"):
            await search.search(tx, OWNER, Query(limit=1, sort=(SortKey("id"),), after=page.next))


@pytest.mark.parametrize("name", ["geometry", "", "a'b", "a;b", "x" * 200, "%s", "a\\b"])
def test_what_has_no_order_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        search.sort_keys([SortKey(name)])
    assert refused.value.field == "sortby"


# In bulk -------------------------------------------------------------------------------------------------------

Placed = tuple[str, dict[str, Any], footprint.Frame]


@pytest.fixture
def bulk(database_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection past the functions that ingest one by one."""
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("insert into user_group (id) values ('owners') on conflict do nothing")
        connection.execute("""insert into collection (id, spec, "group") values ('c', '{"id": "c"}', 'owners')""")
        yield connection


def fill(connection: psycopg.Connection[Any], rows: Sequence[dict[str, Any]]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        uploads = [uuid4() for _ in rows]
        with cursor.copy(
            """copy upload (id, collection, granule, prefix, state, created_by, "group", expires_at) from stdin"""
        ) as copy:
            for upload, row in zip(uploads, rows, strict=True):
                copy.write_row([upload, "c", row["id"], f"c/{row['id']}/{upload}", "committed", "me", "owners", NOON])
        with cursor.copy("copy granule (collection, id, revision, version) from stdin") as copy:
            for row in rows:
                copy.write_row(["c", row["id"], 1, 1])
        with cursor.copy(
            """copy item (collection, granule, revision, upload_id, digest, frame, geometry, cells, starts_at, ends_at,
                          properties, assets, size_bytes, "group", created_by) from stdin"""
        ) as copy:
            for upload, row in zip(uploads, rows, strict=True):
                geometry, frame, time = row.get("geometry"), row.get("frame", "none"), row.get("time")
                place = jsonb(geometry) if geometry else None
                cells = footprint.cells(geometry, frame)
                values = ["c", row["id"], 1, upload, "", frame, place, cells, time, time]
                copy.write_row([*values, jsonb(row.get("properties", {})), jsonb({}), 1, "owners", "me"])


order_values = st.one_of(st.none(), st.integers(-2, 2), st.sampled_from(["a", "b", "é"]), st.booleans())
kept = st.dictionaries(st.sampled_from(["a", "b"]), order_values, max_size=2)
days = st.one_of(st.none(), st.integers(0, 2))
sort_keys = st.lists(
    st.builds(SortKey, st.sampled_from(["a", "b", "datetime", "id", "created", "armillary:size_bytes"]), st.booleans()),
    min_size=1, max_size=3, unique_by=lambda key: key.name,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(st.tuples(kept, days), max_size=9), sort=sort_keys, limit=st.integers(1, 4))
async def test_pages_in_any_order_hold_each_granule_once(
    bulk: psycopg.Connection[Any], database: Database, rows: list[Any], sort: list[SortKey], limit: int
) -> None:
    bulk.execute("truncate item, granule, upload cascade")
    fill(bulk, [
        {"id": f"g{number}", "properties": properties, "time": None if day is None else NOON + timedelta(days=day)}
        for number, (properties, day) in enumerate(rows)
    ])  # fmt: skip
    paged = await names(database, Query(sort=tuple(sort), limit=limit))
    whole = await names(database, Query(sort=tuple(sort), limit=100))
    assert paged == whole
    assert sorted(paged) == [f"g{number}" for number in range(len(rows))]
    first = sort[0]
    if first.name in ("a", "b"):  # missing values come last, whatever the direction
        missing = [rows[int(name[1:])][0].get(first.name) is None for name in paged]
        assert missing == sorted(missing)


def random_places(count: int, seed: int, largest_degrees: float) -> list[Placed]:
    """Scenes, slivers, lines and points anywhere on Earth and in the sky, often at a pole or across the antimeridian."""
    random = np.random.default_rng(seed)
    placed: list[Placed] = []
    while len(placed) < count:
        frame: footprint.Frame = "sky" if random.random() < 0.2 else "earth"
        x = random.choice([random.uniform(-180, 180), 180.0, -179.9, 0.0], p=[0.8, 0.1, 0.05, 0.05])
        y = random.choice([math.degrees(math.asin(random.uniform(-1, 1))), 89.9, -90.0], p=[0.9, 0.05, 0.05])
        size = 10 ** random.uniform(-3, math.log10(largest_degrees))
        corners = int(random.integers(3, 9))
        angles = np.sort(random.uniform(0, 2 * math.pi, corners))
        thin = random.choice([1.0, 0.5, 0.005])
        turn = random.uniform(0, math.pi)
        u, v = size * np.cos(angles), size * thin * np.sin(angles)
        xs, ys = x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)
        ring = [[float(a), float(b)] for a, b in zip(xs, np.clip(ys, -90, 90), strict=True)]
        kind = random.choice(["Polygon", "LineString", "Point"], p=[0.9, 0.05, 0.05])
        coordinates = [[*ring, ring[0]]] if kind == "Polygon" else ring if kind == "LineString" else ring[0]
        try:
            geometry = footprint.check({"type": kind, "coordinates": coordinates}, frame)
        except UsageError:  # what the pole clipped away
            continue
        assert geometry is not None
        placed.append((f"g{len(placed)}", geometry, frame))
    return placed


class BruteForce:
    """Every pair of parts, decided by spherely alone; only those are spared whose surrounding circles are apart."""

    def __init__(self, placed: Sequence[Placed]) -> None:
        self.owners: list[str] = []
        self.frames: list[str] = []
        parts, middles, radii = [], [], []
        for name, geometry, frame in placed:
            made = footprint.shape(geometry, frame)
            middle, radius = made.cap
            for part in made.geographies:
                self.owners.append(name)
                self.frames.append(frame)
                parts.append(part)
                middles.append(middle)
                radii.append(radius)
        self.parts = np.empty(len(parts), dtype=object)
        self.parts[:] = parts
        self.middles, self.radii = np.array(middles), np.array(radii)

    def meet(self, place: footprint.Shape) -> set[str]:
        middle, radius = place.cap
        apart = np.arccos(np.clip(self.middles @ middle, -1, 1)) > self.radii + radius + 0.001
        near = np.flatnonzero(~apart & (np.array(self.frames) == place.frame))
        met = np.zeros(len(near), dtype=bool)
        for part in place.geographies:
            met |= spherely.distance(part, self.parts[near]) <= footprint.TOUCH_METERS
        return {self.owners[index] for index in near[met]}


@pytest.mark.slow
async def test_search_equals_brute_force(bulk: psycopg.Connection[Any], database: Database) -> None:
    """10,000 random footprints and 1,000 random searches."""
    placed = random_places(10_000, seed=1, largest_degrees=4)
    fill(bulk, [{"id": name, "geometry": geometry, "frame": frame} for name, geometry, frame in placed])
    bulk.execute("analyze item")
    brute = BruteForce(placed)
    matches = 0
    for _, geometry, frame in random_places(1000, seed=2, largest_degrees=12):
        place = footprint.shape(geometry, frame)
        async with database.transaction() as tx:
            page = await search.search(tx, OWNER, Query(place=place, limit=10_000))
        found = [granule.granule for granule in page.granules]
        expected = brute.meet(place)
        assert len(found) == len(set(found))
        assert set(found) == expected
        matches += len(expected)
    assert matches > 5_000  # the searches found something
