"""How long searches of a million granules take, beside a fetch by primary key and a sequential scan in the same run.

Run `.venv/bin/python benchmarks/search.py [--granules N]`. The catalogue is that of a mission like Sentinel-1: 5,000
frames of 250 by 180 km along sun-synchronous orbits, each seen every twelve days, on the embedded PostgreSQL with the
settings of production. Prints a table and one line of JSON; the ratios carry over to another machine, the times do not.
"""

import argparse
import asyncio
import json
import math
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from armillary.accounts.actor import system
from armillary.base import postgres
from armillary.base.db import Database
from armillary.base.migrate import migrate
from armillary.granules import cql2, footprint, search
from armillary.granules.search import Query

QUICK = ("--granules", "2000")

FRAMES = 5_000
START = datetime(2020, 1, 1, tzinfo=UTC)
REPEAT = timedelta(days=12)
ACTOR = system("benchmark")
REPETITIONS = 30
INDEXES = (
    "select indexdef from pg_indexes where tablename in ('item', 'upload', 'granule') and indexdef not like '%UNIQUE%'"
)


@dataclass(frozen=True)
class Frame:
    """What every pass over one place has in common."""

    number: int
    geometry: str
    bbox: list[float]
    cells: list[int]
    orbit: int


def main() -> None:
    """Fill a fresh database, ask each question, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--granules", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="armillary-bench-") as folder:
        home = Path(folder)
        dsn = postgres.start(home).dsn
        try:
            asyncio.run(migrate(dsn))
            began = time.perf_counter()
            fill(dsn, chosen.granules, random.Random(chosen.seed))
            print(f"{chosen.granules} granules in {time.perf_counter() - began:.0f} s", flush=True)
            report(asyncio.run(ask_all(dsn, chosen.granules, random.Random(chosen.seed + 1))), chosen.granules)
        finally:
            postgres.stop(home)


# The catalogue -------------------------------------------------------------------------------------------------


def frames(chance: random.Random) -> Iterator[Frame]:
    """Scenes along orbits inclined by 98.2 degrees, ascending and descending."""
    for number in range(FRAMES):
        along, node = chance.uniform(-180, 180), chance.uniform(-180, 180)
        inclination = math.radians(98.2)
        lat = math.degrees(math.asin(math.sin(math.radians(along)) * math.sin(inclination)))
        lat = max(-78.0, min(80.0, lat))
        lon = node + math.degrees(
            math.atan2(math.cos(inclination) * math.sin(math.radians(along)), math.cos(math.radians(along)))
        )
        lon = (lon + 180) % 360 - 180
        dx, dy = 125 / (111.2 * math.cos(math.radians(lat))), 90 / 111.2
        tilt = -0.2 * dx if abs(along) < 90 else 0.2 * dx
        ring = [
            (lon - dx, lat - dy),
            (lon + dx, lat - dy + 0.3),
            (lon + dx + tilt, lat + dy),
            (lon - dx + tilt, lat + dy - 0.3),
        ]
        drawn = {"type": "Polygon", "coordinates": [[list(at) for at in (*ring, ring[0])]]}
        geometry = footprint.check(drawn, "earth")
        assert geometry is not None
        box, cells = footprint.bbox(geometry), footprint.cells(geometry, "earth")
        yield Frame(number, json.dumps(geometry), box, cells, number % 175 + 1)


def fill(dsn: str, granules: int, chance: random.Random) -> None:
    """COPY the rows without indexes, then make these."""
    every = list(frames(chance))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("insert into user_group (id) values ('owners') on conflict do nothing")
        connection.execute("""insert into collection (id, spec, "group") values ('slc', '{"id": "slc"}', 'owners')""")
        indexes = [row[0] for row in connection.execute(INDEXES)]
        for index in indexes:
            connection.execute(f"drop index {index.split()[2]}".encode())
        uploads = [uuid.UUID(int=chance.getrandbits(128), version=4) for _ in range(granules)]
        copy(connection, "upload (id, collection, granule, prefix, state, created_by, \"group\", expires_at)", (
            (upload, "slc", name(n), f"slc/{name(n)}/{upload}", "committed", "me", "owners", START)
            for n, upload in enumerate(uploads)
        ))  # fmt: skip
        copy(
            connection, "granule (collection, id, revision, version)", (("slc", name(n), 1, 1) for n in range(granules))
        )
        columns = """item (collection, granule, revision, upload_id, digest, frame, geometry, bbox, cells, starts_at, ends_at,
            properties, assets, size_bytes, "group", created_by, created_at)"""
        copy(connection, columns, (row(n, upload, every[n % FRAMES], chance) for n, upload in enumerate(uploads)))
        for index in indexes:
            connection.execute(index.encode())
        connection.execute("vacuum analyze")


def copy(connection: psycopg.Connection[Any], target: str, rows: Iterator[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"copy {target} from stdin".encode()) as stream:
        for one in rows:
            stream.write_row(one)


def name(number: int) -> str:
    return f"S1A_IW_SLC__1SDV_{number:09}"


def row(number: int, upload: uuid.UUID, frame: Frame, chance: random.Random) -> tuple[Any, ...]:
    starts = START + (number // FRAMES) * REPEAT + timedelta(seconds=frame.number * 207)
    ends = starts + timedelta(seconds=27)
    properties = {
        "platform": chance.choice(["sentinel-1a", "sentinel-1c"]), "constellation": "sentinel-1",
        "instruments": ["c-sar"], "sar:instrument_mode": "IW", "sar:polarizations": ["VV", "VH"],
        "sat:relative_orbit": frame.orbit, "sat:orbit_state": "descending" if frame.number % 2 else "ascending",
        "sat:absolute_orbit": number // 30, "processing:level": "L1", "quality": chance.random(),
        "start_datetime": search.iso(starts), "end_datetime": search.iso(ends),
    }  # fmt: skip
    key = f"slc/{name(number)}/{upload}/product.zip"
    asset = {
        "kind": "file",
        "type": "application/zip",
        "roles": ["data"],
        "size": 4 << 30,
        "sha256": "0" * 64,
        "key": key,
    }
    assets = {"product": asset | {"files": [{"path": "product.zip", "size": 4 << 30, "sha256": "0" * 64}]}}
    return ("slc", name(number), 1, upload, "0" * 64, "earth", frame.geometry, frame.bbox, frame.cells, starts, ends,
            json.dumps(properties), json.dumps(assets), 4 << 30, "owners", "me", ends)  # fmt: skip


# The questions -------------------------------------------------------------------------------------------------


def questions(granules: int, chance: random.Random) -> dict[str, Callable[[], Query]]:
    """Each makes a fresh query of its kind."""

    def box(size: float) -> footprint.Shape:
        lon, lat = chance.uniform(-180, 180 - size), chance.uniform(-70, 70 - min(size, 60))
        return footprint.shape([lon, lat, lon + size, lat + size], "earth")

    def month() -> dict[str, datetime]:
        first = START + chance.random() * (granules // FRAMES) * REPEAT
        return {"earliest": first, "latest": first + timedelta(days=30)}

    def orbit() -> cql2.Expression:
        return cql2.parse(f"sat:relative_orbit = {chance.randrange(1, 176)} AND sat:orbit_state = 'ascending'")

    def triangle() -> footprint.Shape:
        lon, lat = chance.uniform(-170, 160), chance.uniform(-60, 60)
        ring = [[lon, lat], [lon + 8, lat + 1], [lon + 3, lat + 6], [lon, lat]]
        return footprint.shape({"type": "Polygon", "coordinates": [ring]}, "earth")

    def quality() -> cql2.Expression:
        return cql2.parse(f"quality > {chance.uniform(0.3, 0.7):.3f}")

    return {
        "newest": Query,
        "newest of a collection": lambda: Query(collections=("slc",)),
        "by id": lambda: Query(ids=(name(chance.randrange(granules)),)),
        "at a point": lambda: Query(place=box(0)),
        "box of 1°": lambda: Query(place=box(1)),
        "box of 10°": lambda: Query(place=box(10)),
        "box of 60°": lambda: Query(place=box(60)),
        "polygon of 8° by 6°": lambda: Query(place=triangle()),
        "the whole Earth": lambda: Query(place=footprint.shape([-180, -90, 180, 90], "earth")),
        "box of 1° in a month": lambda: Query(place=box(1), **month()),
        "box of 10° in a month": lambda: Query(place=box(10), **month()),
        "a month": lambda: Query(**month()),
        "an orbit and direction": lambda: Query(filter=orbit()),
        "box of 10° and an orbit": lambda: Query(place=box(10), filter=orbit()),
        "box of 10° and a range": lambda: Query(place=box(10), filter=quality()),
    }


async def ask_all(dsn: str, granules: int, chance: random.Random) -> dict[str, list[float]]:
    """Milliseconds of each question and each bound, a few times."""
    database = Database(dsn)
    await database.open()
    measured: dict[str, list[float]] = {}
    try:

        async def by_key() -> None:
            async with database.transaction() as tx:
                await tx.row("select * from item where collection = 'slc' and granule = %s and revision = 1",
                             [name(chance.randrange(granules))])  # fmt: skip

        async def scan() -> None:
            async with database.transaction() as tx:
                await tx.execute("set local enable_indexscan = off")
                await tx.execute("set local enable_bitmapscan = off")
                lon, lat = chance.uniform(-180, 170), chance.uniform(-70, 60)
                await tx.rows(
                    """select * from item where is_current and bbox[1] <= %s and bbox[3] >= %s and bbox[2] <= %s
                       and bbox[4] >= %s order by starts_at desc limit 10""",
                    [lon + 10, lon, lat + 10, lat],
                )

        measured["primary key"] = await timed(by_key, REPETITIONS)
        measured["sequential scan, boxes compared"] = await timed(scan, 5)
        for question, make in questions(granules, chance).items():

            async def ask(make: Callable[[], Query] = make) -> None:
                query = make()
                async with database.transaction() as tx:
                    await search.search(tx, ACTOR, query)

            measured[question] = await timed(ask, REPETITIONS)
    finally:
        await database.close()
    return measured


async def timed(work: Callable[[], Awaitable[None]], repetitions: int) -> list[float]:
    await work()
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        await work()
        times.append(1000 * (time.perf_counter() - began))
    return times


def report(measured: dict[str, list[float]], granules: int) -> None:
    key = statistics.median(measured["primary key"])
    scan = statistics.median(measured["sequential scan, boxes compared"])
    print(f"{'':34}{'median ms':>10}{'p95 ms':>9}{'× key':>8}{'scan ÷':>8}")
    figures = {}
    for question, times in measured.items():
        median, p95 = statistics.median(times), sorted(times)[math.ceil(0.95 * len(times)) - 1]
        figures[question] = {"median_ms": round(median, 2), "p95_ms": round(p95, 2), "of_key": round(median / key, 1)}
        print(f"{question:34}{median:10.2f}{p95:9.2f}{median / key:8.1f}{scan / median:8.0f}")
    print(json.dumps({"granules": granules, "repetitions": REPETITIONS, "figures": figures}))


if __name__ == "__main__":
    main()
