"""Record who made what, from what, with what: in the transaction that publishes the products."""

from collections.abc import Sequence

from armillary.base.db import Transaction
from armillary.provenance import store
from armillary.provenance.activity import Activity


async def record(tx: Transaction, activities: Sequence[Activity]) -> None:
    """Record activities that have just ended well; a granule's revision has one maker for ever."""
    await store.insert(tx, activities)
