"""The SQL of definitions and their history."""

from typing import Any

from armillary.accounts.permit import VISIBLE
from armillary.base.db import Row, Transaction, jsonb

_COLUMNS = 'kind, id, version, spec, "group", applied_by, applied_at'


async def latest(tx: Transaction, kind: str, definition: str) -> Row | None:
    """The definition in force; its spec is null where it was deleted."""
    return await tx.row(
        f"select {_COLUMNS} from definition where kind = %s and id = %s order by version desc limit 1",
        [kind, definition],
    )


async def insert(
    tx: Transaction, kind: str, definition: str, version: int, spec: Any, group: str, account: str
) -> None:
    """A new version; a deletion is a version whose spec is null."""
    await tx.execute(
        """insert into definition (kind, id, version, spec, "group", applied_by) values (%s, %s, %s, %s, %s, %s)""",
        [kind, definition, version, jsonb(spec), group, account],
    )


async def history(tx: Transaction, kind: str, definition: str, scope: dict[str, Any]) -> list[Row]:
    """Every version, newest first."""
    return await tx.rows(
        f"select {_COLUMNS} from definition where kind = %(kind)s and id = %(id)s and {VISIBLE} order by version desc",
        scope | {"kind": kind, "id": definition},
    )


async def in_force(tx: Transaction, kind: str | None, scope: dict[str, Any]) -> list[Row]:
    """The newest version of everything that was not deleted."""
    return await tx.rows(
        f"""select * from (select distinct on (kind, id) {_COLUMNS} from definition
               where (%(kind)s::text is null or kind = %(kind)s) and {VISIBLE} order by kind, id, version desc) as newest
            where spec <> 'null'::jsonb order by kind, id""",
        scope | {"kind": kind},
    )
