"""Apply documents: plan what would change, then change it, in an order in which each finds what it names."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from armillary.accounts.actor import Actor
from armillary.base.db import Row, Transaction
from armillary.base.errors import ArmillaryError, NotFound, UsageError
from armillary.collections import define as collections
from armillary.definitions import store
from armillary.deliveries import send as deliveries
from armillary.pools import define as pools
from armillary.rules import define as rules

Put = Callable[[Transaction, Actor, Mapping[str, Any], int], Awaitable[None]]
Remove = Callable[[Transaction, Actor, str], Awaitable[None]]

# Each kind after those that it names.
KINDS: Mapping[str, tuple[Put, Remove]] = {
    "collection": (collections.put, collections.remove),
    "pool": (pools.put, pools.remove),
    "delivery": (deliveries.define, deliveries.remove),
    "rule": (rules.put, rules.remove),
}


@dataclass(frozen=True)
class Change:
    """What a document does, or would do."""

    kind: str
    id: str
    action: Literal["create", "change", "same"]
    differences: tuple[str, ...] = ()


async def apply(tx: Transaction, actor: Actor, documents: Sequence[Mapping[str, Any]]) -> list[Change]:
    """Apply all or, if one is refused, none; the caller rolls back to only plan."""
    order = list(KINDS)
    for document in documents:
        if document.get("kind") not in KINDS or not isinstance(document.get("id"), str):
            kinds = ", ".join(("algorithm", *KINDS))
            raise UsageError(
                f"A document has kind {document.get('kind')!r} and id {document.get('id')!r}.",
                f"Kinds: {kinds}.",
                field="kind",
            )
    changes = []
    for document in sorted(documents, key=lambda document: order.index(document["kind"])):
        try:
            changes.append(await _apply(tx, actor, document))
        except ArmillaryError as error:
            error.message = f"{document['kind']} {document['id']}: {error.message}"
            raise
    if changed := [one.id for one in changes if one.kind == "rule" and one.action != "same"]:
        await rules.check_recursion(tx, changed)
    return changes


async def _apply(tx: Transaction, actor: Actor, document: Mapping[str, Any]) -> Change:
    kind, definition = document["kind"], document["id"]
    before = await store.latest(tx, kind, definition)
    if before and before["spec"] == document:
        return Change(kind, definition, "same")
    version = before["version"] + 1 if before else 1
    await KINDS[kind][0](tx, actor, document, version)
    await store.insert(tx, kind, definition, version, dict(document), actor.group, actor.account)
    if before is None or before["spec"] is None:
        return Change(kind, definition, "create")
    return Change(kind, definition, "change", tuple(differences(before["spec"], document)))


async def remove(tx: Transaction, actor: Actor, kind: str, definition: str) -> None:
    """Delete a definition; its history stays."""
    if kind not in KINDS:
        raise UsageError(f"Nothing of kind {kind!r} can be deleted.", f"Kinds: {', '.join(KINDS)}.", field="kind")
    before = await store.latest(tx, kind, definition)
    if before is None or before["spec"] is None:
        raise NotFound(f"There is no {kind} {definition!r}.")
    await KINDS[kind][1](tx, actor, definition)
    await store.insert(tx, kind, definition, before["version"] + 1, None, before["group"], actor.account)


async def in_force(tx: Transaction, actor: Actor, kind: str | None = None) -> list[Row]:
    """What is defined now, as it was written."""
    return await store.in_force(tx, kind, actor.scope)


async def history(tx: Transaction, actor: Actor, kind: str, definition: str) -> list[Row]:
    """Every version, newest first; a deletion has no spec."""
    found = await store.history(tx, kind, definition, actor.scope)
    if not found:
        raise NotFound(f"There never was a {kind} {definition!r}.")
    return found


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What changed between two documents, one line per value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = list(dict.fromkeys((*old, *new)))
        return [
            line
            for name in names
            for line in differences(old.get(name), new.get(name), f"{path}.{name}" if path else str(name))
        ]
    return [] if old == new else [f"{path}: {_short(old)} → {_short(new)}"]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
