"""The SQL of deliveries and their destinations."""

from typing import Any
from uuid import UUID

from armillary.accounts.permit import VISIBLE
from armillary.base.db import Row, Transaction, jsonb
from armillary.deliveries.delivery import Delivery

_DELIVERY = """id, version, destination, collection, granule, revision, state, reason, job_id, sent, receipt, "group",
    created_by, created_at, sent_at, acknowledged_at"""


async def put_destination(tx: Transaction, destination: str, version: int, spec: dict[str, Any], group: str) -> None:
    """Make or replace a destination."""
    await tx.execute(
        """insert into destination (id, version, spec, "group") values (%s, %s, %s, %s)
           on conflict (id) do update set version = excluded.version, spec = excluded.spec""",
        [destination, version, jsonb(spec), group],
    )


async def delete_destination(tx: Transaction, destination: str) -> None:
    """Delete a destination; the database refuses where deliveries name it."""
    await tx.execute("delete from destination where id = %s", [destination])


async def destination(tx: Transaction, destination: str) -> Row | None:
    """One destination."""
    return await tx.row("select * from destination where id = %s", [destination])


async def insert(tx: Transaction, values: dict[str, Any]) -> bool:
    """Record an intent; False if this revision goes there already."""
    return bool(
        await tx.execute(
            """insert into delivery (id, destination, collection, granule, revision, state, reason, "group", created_by)
               values (%(id)s, %(destination)s, %(collection)s, %(granule)s, %(revision)s, 'intended', 'To be sent.',
                       %(group)s, %(created_by)s) on conflict do nothing""",
            values,
        )
    )


async def set_job(tx: Transaction, delivery: UUID, job: UUID) -> None:
    """The job that sends it."""
    await tx.execute("update delivery set job_id = %s where id = %s", [job, delivery])


async def find(tx: Transaction, delivery: UUID, *, lock: bool = False) -> Delivery | None:
    """One delivery."""
    return await tx.one(
        Delivery, f"select {_DELIVERY} from delivery where id = %s {'for update' if lock else ''}", [delivery]
    )


async def of_granule(
    tx: Transaction, destination: str, collection: str, granule: str, revision: int
) -> Delivery | None:
    """The delivery of a revision to a destination, locked."""
    return await tx.one(
        Delivery,
        f"""select {_DELIVERY} from delivery
            where destination = %s and collection = %s and granule = %s and revision = %s for update""",
        [destination, collection, granule, revision],
    )


async def of_job(tx: Transaction, job: UUID) -> list[Delivery]:
    """The deliveries that a job sends, locked."""
    return await tx.all(Delivery, f"select {_DELIVERY} from delivery where job_id = %s order by id for update", [job])


async def set_state(
    tx: Transaction, delivery: UUID, state: str, reason: str, sent: Any = None, receipt: Any = None
) -> int:
    """Move a delivery on; returns its new version."""
    version: int = await tx.value(
        """update delivery set state = %(state)s, reason = %(reason)s, version = version + 1,
               sent = coalesce(%(sent)s, sent), receipt = coalesce(%(receipt)s, receipt),
               sent_at = case when %(state)s = 'sent' then armillary_now() else sent_at end,
               acknowledged_at = case when %(state)s = 'acknowledged' then armillary_now() else acknowledged_at end
           where id = %(id)s returning version""",
        {
            "id": delivery,
            "state": state,
            "reason": reason,
            "sent": None if sent is None else jsonb(sent),
            "receipt": None if receipt is None else jsonb(receipt),
        },
    )
    return version


async def listed(
    tx: Transaction, scope: dict[str, Any], state: str | None, granule: tuple[str, str] | None, limit: int
) -> list[Delivery]:
    """Deliveries, newest first."""
    return await tx.all(
        Delivery,
        f"""select {_DELIVERY} from delivery where {VISIBLE} and (%(state)s::text is null or state = %(state)s)
            and (%(collection)s::text is null or (collection = %(collection)s and granule = %(granule)s))
            order by created_at desc limit %(limit)s""",
        scope
        | {"state": state, "limit": limit, "collection": granule and granule[0], "granule": granule and granule[1]},
    )


async def unacknowledged(tx: Transaction, scope: dict[str, Any], limit: int) -> list[Row]:
    """Sent to someone who answers, and never answered; the oldest first."""
    return await tx.rows(
        f"""select delivery.id, destination, collection, granule, revision, sent_at, armillary_now() - sent_at as waited
            from delivery join destination on destination.id = delivery.destination
            where state = 'sent' and destination.spec ? 'notify' and {VISIBLE.replace('"group"', 'delivery."group"')}
            order by sent_at limit %(limit)s""",
        scope | {"limit": limit},
    )
