"""The SQL of algorithms."""

from typing import Any

from armillary.accounts.permit import VISIBLE
from armillary.algorithms import specfile
from armillary.algorithms.algorithm import Registered, version_key
from armillary.base.db import Row, Transaction, jsonb

_COLUMNS = """id, version, digest, spec, bundle_key, bundle_sha256, bundle_size, "group", registered_by"""

# A version never changes, so what was read once holds for ever.
_known: dict[str, Registered] = {}


async def insert(tx: Transaction, registered: Registered) -> bool:
    """Store a version; false if this id and version is there already, whatever it holds."""
    algorithm = registered.algorithm
    return bool(
        await tx.execute(
            """insert into algorithm (id, version, version_key, digest, spec, bundle_key, bundle_sha256,
                                      bundle_size, environment, "group", registered_by)
               values (%(id)s, %(version)s, %(version_key)s, %(digest)s, %(spec)s, %(bundle_key)s, %(bundle_sha256)s,
                       %(bundle_size)s, %(environment)s, %(group)s, %(registered_by)s)
               on conflict (id, version) do nothing""",
            vars(registered)
            | {
                "id": algorithm.id,
                "version": algorithm.version,
                "version_key": version_key(algorithm.version),
                "spec": jsonb(algorithm.spec),
                "environment": jsonb(algorithm.environment),
            },
        )
    )


async def find(tx: Transaction, scope: dict[str, Any], id: str, selector: str | None) -> Registered | None:  # noqa: A002
    """The newest version that begins with the selector's numbers; "1" means 1.x."""
    row = await tx.row(
        f"""select {_COLUMNS} from algorithm
            where id = %(id)s and {VISIBLE}
              and version_key[1:cardinality(%(prefix)s::int[])] = %(prefix)s::int[]
            order by version_key desc limit 1""",
        scope | {"id": id, "prefix": version_key(selector) if selector else []},
    )
    return None if row is None else _registered(row)


async def by_digest(tx: Transaction, digest: str) -> Registered | None:
    """The version with this digest."""
    if digest not in _known:
        row = await tx.row(f"select {_COLUMNS} from algorithm where digest = %s", [digest])
        if row is None:
            return None
        _registered(row)
    return _known[digest]


async def versions(tx: Transaction, scope: dict[str, Any], id: str) -> list[Row]:  # noqa: A002
    """Every version of one algorithm, newest first."""
    return await tx.rows(
        f"""select {_COLUMNS}, registered_at from algorithm where id = %(id)s and {VISIBLE}
            order by version_key desc""",
        scope | {"id": id},
    )


async def newest(tx: Transaction, scope: dict[str, Any], after: str, limit: int) -> list[Row]:
    """The newest version of each algorithm, by id."""
    return await tx.rows(
        f"""select distinct on (id) {_COLUMNS}, registered_at from algorithm
            where id > %(after)s and {VISIBLE} order by id, version_key desc limit %(limit)s""",
        scope | {"after": after, "limit": limit},
    )


async def bundle_size(tx: Transaction, sha256: str) -> int | None:
    """Bytes of a bundle that some version names."""
    size: int | None = await tx.value("select bundle_size from algorithm where bundle_sha256 = %s limit 1", [sha256])
    return size


async def bundle_keys(tx: Transaction) -> list[str]:
    """Keys of all bundles that versions name."""
    return [
        row["bundle_key"]
        for row in await tx.rows("select distinct bundle_key from algorithm where bundle_key is not null")
    ]


def _registered(row: Row) -> Registered:
    found = _known.get(row["digest"])
    if found is None:
        found = _known[row["digest"]] = Registered(
            algorithm=specfile.check(row["spec"]),
            digest=row["digest"],
            group=row["group"],
            bundle_sha256=row["bundle_sha256"],
            bundle_size=row["bundle_size"],
            bundle_key=row["bundle_key"],
            registered_by=row["registered_by"],
        )
    return found
