"""Search the catalogue: SQL proposes in order, exact tests choose, and a page ends where the next one begins."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from armillary.accounts.actor import Actor
from armillary.accounts.permit import VISIBLE
from armillary.base.clock import iso
from armillary.base.db import Transaction
from armillary.base.errors import UsageError
from armillary.granules import cql2, footprint
from armillary.granules.granule import Granule

DEFAULT_LIMIT = 10
MAX_LIMIT = 10_000
FEWEST_CANDIDATES, MOST_CANDIDATES = 50, 500
ENOUGH_CANDIDATES = 20_000  # a page that has something by then ends there

_GRANULE = """item.collection, item.granule, item.revision, item.is_current, item.digest, item.frame, item.geometry,
    item.bbox, item.starts_at, item.ends_at, item.properties, item.assets, item.size_bytes, item."group",
    item.created_by, item.created_at, upload.prefix"""
_VISIBLE = VISIBLE.replace('"group"', 'item."group"')
_SORTABLE = re.compile(r"[\w:. -]{1,100}")
_CASTS = {"time": "timestamptz", "text": "text", "number": "numeric", "any": "jsonb"}


@dataclass(frozen=True)
class SortKey:
    """What to sort by, missing values last."""

    name: str
    descending: bool = False
    is_present: bool = False  # only granules that have it are asked for

    @property
    def may_be_missing(self) -> bool:
        return self.kind in ("any", "time") and not self.is_present

    @property
    def kind(self) -> cql2.Kind:
        return cql2.GRANULES.property(self.name).kind


NEWEST = (SortKey("datetime", descending=True),)


@dataclass(frozen=True)
class Query:
    """What is searched for; everything left out matches."""

    collections: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    place: footprint.Shape | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    is_timed: bool = False  # whether a granule without a time is out
    filter: cql2.Expression | None = None
    sort: tuple[SortKey, ...] = NEWEST
    limit: int = DEFAULT_LIMIT
    after: str | None = None  # the token of the page before


@dataclass(frozen=True)
class Page:
    """Some granules in order, and the token of the page after them."""

    granules: list[Granule]
    next: str | None


@dataclass(frozen=True)
class _Statement:
    """A part of a query under construction."""

    conditions: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)

    def also(self, condition: str, **params: Any) -> "_Statement":
        return _Statement((*self.conditions, condition), self.params | params)


async def search(tx: Transaction, actor: Actor, query: Query) -> Page:
    """The current revisions that the actor may see and the query matches, one page of them."""
    keys = (*query.sort, SortKey("collection"), SortKey("id"))
    after = _read_token(query.after, keys) if query.after else None
    wanted = _wanted(query, actor)
    granules: list[Granule] = []
    # Granules without the first key come last. Asking for them apart lets an index give the others in order.
    for has_key in (True, False):
        if after and has_key and after[0] is None:
            continue
        part = wanted.also(f"{_sql(keys[0])} is {'not null' if has_key else 'null'}")
        order = (replace(keys[0], is_present=True), *keys[1:]) if has_key else keys[1:]
        start = after if after and (after[0] is not None) == has_key else None
        granules, rest = await _fill(
            tx, query, part, order, start if has_key else (start and start[1:]) or None, granules
        )
        if rest is not None:
            return Page(granules, _token(rest if has_key else [None, *rest], keys))
    return Page(granules, None)


async def _fill(
    tx: Transaction,
    query: Query,
    wanted: _Statement,
    keys: Sequence[SortKey],
    after: list[Any] | None,
    granules: list[Granule],
) -> tuple[list[Granule], list[Any] | None]:
    """Add what matches until the page is full; returns the keys to go on after, [] for the beginning, None at the end."""
    is_exact = query.place is None and (query.filter is None or query.filter.is_exact)
    candidates = query.limit - len(granules) + 1 if is_exact else max(FEWEST_CANDIDATES, query.limit)
    candidates, seen = min(candidates, max(MOST_CANDIDATES, query.limit + 1)), 0
    while True:
        rows = await _rows(tx, wanted, keys, after, candidates)
        for row in rows:
            if len(granules) == query.limit:
                return granules, after or []
            after = [row.pop(f"key_{number}") for number in range(len(keys))]
            granule = Granule(**row)
            if is_exact or _matches(query, granule):
                granules.append(granule)
        if len(rows) < candidates:
            return granules, None
        seen += len(rows)
        if seen >= ENOUGH_CANDIDATES and granules:
            return granules, after
        candidates = min(2 * candidates, max(MOST_CANDIDATES, query.limit + 1))


def _matches(query: Query, granule: Granule) -> bool:
    """What SQL only proposed."""
    subject = cql2.Subject.of(granule)
    if query.place is not None and not footprint.intersects(query.place, subject.shape):
        return False
    return query.filter is None or query.filter.is_exact or cql2.matches(query.filter, subject) is True


async def _rows(
    tx: Transaction, wanted: _Statement, keys: Sequence[SortKey], after: list[Any] | None, count: int
) -> list[dict[str, Any]]:
    if after is not None:
        wanted = _beyond(wanted, keys, after)
    chosen = ", ".join(f"{_sql(key)} as key_{number}" for number, key in enumerate(keys))
    order = ", ".join(
        _sql(key) + (" desc" if key.descending else "") + (" nulls last" if key.may_be_missing else "") for key in keys
    )
    return await tx.rows(
        f"""select {_GRANULE}, {chosen} from item join upload on upload.id = item.upload_id
            where {" and ".join(wanted.conditions)} order by {order} limit %(count)s""",
        wanted.params | {"count": count},
    )


def _wanted(query: Query, actor: Actor) -> _Statement:
    wanted = _Statement(("item.is_current", _VISIBLE), dict(actor.scope))
    if query.collections:
        one = len(query.collections) == 1  # equality lets the index on the collection give the order as well
        sql = "item.collection = %(collection)s" if one else "item.collection = any(%(collections)s)"
        wanted = wanted.also(sql, collection=query.collections[0], collections=list(query.collections))
    if query.ids:
        wanted = wanted.also("item.granule = any(%(ids)s)", ids=list(query.ids))
    if query.place is not None:
        terms = footprint.query_terms(query.place, query.place.frame)
        wanted = wanted.also("item.cells && %(terms)s::bigint[]", terms=terms)
    if query.is_timed:
        wanted = wanted.also("item.starts_at is not null")
    if query.earliest is not None:
        wanted = wanted.also("item.ends_at >= %(earliest)s", earliest=query.earliest)
    if query.latest is not None:
        wanted = wanted.also("item.starts_at <= %(latest)s", latest=query.latest)
    if query.filter is not None:
        compiled = cql2.to_sql(query.filter)
        wanted = wanted.also(compiled.sql, **compiled.params)
    return wanted


def _sql(key: SortKey) -> str:
    column = cql2.COLUMNS.get(key.name)
    if column is None:
        assert _SORTABLE.fullmatch(key.name), "sort_keys lets no other name pass"
        return f"nullif(item.properties -> '{key.name}', 'null'::jsonb)"
    return column.sql


def sort_keys(names: Sequence[SortKey], field: str = "sortby") -> tuple[SortKey, ...]:
    """The keys without prefixes; `UsageError` for what has no order."""
    keys = tuple(replace(key, name=key.name.removeprefix("properties.")) for key in names)
    for key in keys:
        if not _SORTABLE.fullmatch(key.name) or key.kind == "geometry":
            raise UsageError(f"Granules are not sorted by {key.name!r}.", "Sort by a property.", field=field)
    if len(keys) > 8:
        raise UsageError("The search sorts by more than eight properties.", "Leave some out.", field=field)
    return keys


# Paging --------------------------------------------------------------------------------------------------------


def _beyond(wanted: _Statement, keys: Sequence[SortKey], after: Sequence[Any]) -> _Statement:
    """Only what comes after a row with these keys."""
    params = {
        f"after_{number}": _param(value, key) for number, (key, value) in enumerate(zip(keys, after, strict=True))
    }
    condition = "false"
    for number, (key, value) in reversed(list(enumerate(zip(keys, after, strict=True)))):
        sql, at = _sql(key), f"%(after_{number})s::{_CASTS[key.kind]}"
        if value is None:
            condition = f"({sql} is null and {condition})"
            continue
        farther = f"{sql} {'<' if key.descending else '>'} {at}"
        if key.may_be_missing:
            farther = f"{farther} or {sql} is null"
        condition = f"({farther} or ({sql} = {at} and {condition}))"
    first = keys[0]
    if after[0] is not None and not first.may_be_missing:
        # Says nothing new, but is a range that an index begins at.
        bound = f"{_sql(first)} {'<=' if first.descending else '>='} %(after_0)s::{_CASTS[first.kind]}"
        wanted = wanted.also(bound)
    return wanted.also(condition, **params)


def _param(value: Any, key: SortKey) -> Any:
    return cql2.json_text(value) if key.kind == "any" and value is not None else value


def _token(values: Sequence[Any], keys: Sequence[SortKey]) -> str:
    written = [iso(value) if isinstance(value, datetime) else value for value in values]
    document = [[("-" if key.descending else "+") + key.name for key in keys], written]
    return base64.urlsafe_b64encode(cql2.json_text(document).encode()).decode().rstrip("=")


def _read_token(token: str, keys: Sequence[SortKey]) -> list[Any]:
    try:
        padded = token.encode() + b"=" * (-len(token) % 4)
        names, values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        good = isinstance(values, list) and names == [("-" if key.descending else "+") + key.name for key in keys]
        good = good and (
            len(values) == len(keys) or values == [None]
        )  # the latter: all that have the first key are seen
        read = [_read_value(value, key) for value, key in zip(values, keys, strict=False)] if good else []
    except (ValueError, TypeError) as error:
        raise UsageError("The token is not one of this server.", "Follow the link `next`.", field="token") from error
    if not good:
        raise UsageError("The token belongs to another search.", "Keep sortby while paging.", field="token")
    return read


def _read_value(value: Any, key: SortKey) -> Any:
    expected: Mapping[str, tuple[type, ...]] = {"time": (str,), "text": (str,), "number": (int, float)}
    if value is not None and key.kind in expected and not isinstance(value, expected[key.kind]):
        raise TypeError(key.name)
    return datetime.fromisoformat(value) if key.kind == "time" and value is not None else value


# What there is -------------------------------------------------------------------------------------------------


async def beginnings(tx: Transaction, actor: Actor, collections: Sequence[str]) -> dict[str, datetime]:
    """When the first granule of each collection begins."""
    rows = await tx.rows(
        f"""select wanted.id, (select min(item.starts_at) from item
                where item.collection = wanted.id and item.is_current and {_VISIBLE}) as starts_at
            from unnest(%(collections)s::text[]) as wanted (id)""",
        actor.scope | {"collections": list(collections)},
    )
    return {row["id"]: row["starts_at"] for row in rows if row["starts_at"] is not None}


async def property_types(tx: Transaction, actor: Actor, collection: str | None, sample: int = 500) -> dict[str, str]:
    """The properties of the newest granules with their JSON types."""
    rows = await tx.rows(
        f"""select distinct on (name) name, jsonb_typeof(value) as type from (
                select item.properties from item where item.is_current and {_VISIBLE}
                    and (%(collection)s::text is null or item.collection = %(collection)s)
                order by item.created_at desc limit %(sample)s) as newest, jsonb_each(newest.properties) as each (name, value)
            where jsonb_typeof(value) <> 'null' order by name""",
        actor.scope | {"collection": collection, "sample": sample},
    )
    return {row["name"]: row["type"] for row in rows}
