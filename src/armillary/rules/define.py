"""Define a rule: check it, find recursion, set its timer; switch it on and off; apply it backwards."""

from collections.abc import Collection, Mapping
from typing import Any

from armillary.accounts.actor import Actor, system
from armillary.accounts.permit import permit
from armillary.algorithms import register
from armillary.base.db import Row, Transaction
from armillary.base.errors import NotFound, UsageError
from armillary.base.wakes import WORK
from armillary.collections import define as collections
from armillary.granules import find
from armillary.rules import match, schedule, store
from armillary.rules.rule import Rule, read


async def put(tx: Transaction, actor: Actor, document: Mapping[str, Any], version: int) -> None:
    """Make or replace the rule that the document describes."""
    rule = read(document)
    found = await store.find(tx, rule.id)
    permit(actor, "change", found["group"] if found else actor.group)
    for role in rule.roles:
        await _check_collection(tx, actor, rule, role.collection, f"when.{role.name}.collection")
    if rule.action.run is not None:  # it must be there
        await register.resolve(tx, actor, rule.action.run, rule.action.version)
    named = sorted({role.collection for role in rule.roles})
    version = max(version, found["version"] + 1 if found else 1)
    await store.put(tx, rule.id, version, dict(document), named, rule.enabled, actor.group, actor.account)
    await schedule.set_timer(tx, rule)


async def check_recursion(tx: Transaction, changed: Collection[str]) -> None:
    """Refuse changed rules whose products would, through whatever rules, wake them again for ever; once for all of an apply."""
    known: dict[tuple[str, str | None], frozenset[str]] = {}
    edges = {rule.id: await _edges(tx, rule, known) for rule in map(read, await store.enabled_specs(tx))}
    for rule_id in sorted(edges.keys() & set(changed)):
        if path := cycle(edges, rule_id):
            remedy = "Let the product go to a collection of its own, or disable one of the rules."
            raise UsageError(f"Rule {rule_id} would trigger itself for ever: {' → '.join(path)}.", remedy, field="then")


async def _edges(
    tx: Transaction, rule: Rule, known: dict[tuple[str, str | None], frozenset[str]]
) -> tuple[frozenset[str], frozenset[str]]:
    """The collections that wake a rule, and those that it fills."""
    wakes = frozenset(role.collection for role in rule.roles) if rule.schedule is None else frozenset()
    if rule.action.run is None:
        return wakes, frozenset()
    key = rule.action.run, rule.action.version
    if key not in known:
        algorithm = (await register.resolve(tx, system("rules"), *key)).algorithm
        known[key] = frozenset(output.collection for output in algorithm.outputs.values())
    return wakes, known[key]


async def remove(tx: Transaction, actor: Actor, rule: str) -> None:
    """Delete a rule; its firings stay."""
    found = await row(tx, actor, rule)
    permit(actor, "change", found["group"])
    await store.delete(tx, rule)


async def enable(tx: Transaction, actor: Actor, rule: str, is_enabled: bool) -> None:
    """Switch a rule on or off."""
    found = await row(tx, actor, rule)
    permit(actor, "change", found["group"])
    await store.enable(tx, rule, is_enabled)
    if is_enabled:
        await check_recursion(tx, [rule])


async def backfill(tx: Transaction, actor: Actor, rule_id: str, *, dry_run: bool) -> int:
    """Apply a rule to what is catalogued already; returns how many granules wake it. What fired before does not again."""
    found = await row(tx, actor, rule_id)
    permit(actor, "change", found["group"])
    rule = read(found["spec"])
    wakes = [
        (rule.id, granule.collection, granule.granule)
        for role in rule.keys[:1]  # every set has a granule in the first single role
        for granule in await find.proposed(tx, *_of_role(rule, role.name), limit=1_000_000)
    ]
    if wakes and not dry_run:
        await store.insert_wakes(tx, wakes)
        tx.wake(WORK)
    return len(wakes)


async def row(tx: Transaction, actor: Actor, rule: str) -> Row:
    """The rule as it is stored."""
    found = await store.find(tx, rule)
    if found is None:
        raise NotFound(f"There is no rule {rule!r}.", "`armillary rule list` shows those that are.")
    permit(actor, "see", found["group"])
    return found


def _of_role(rule: Rule, name: str) -> tuple[str, dict[str, Any]]:
    proposal = match.proposal(rule, rule.role(name), {})
    return proposal.sql, proposal.params


async def _check_collection(tx: Transaction, actor: Actor, rule: Rule, collection: str, field: str) -> None:
    try:
        await collections.get(tx, actor, collection)
    except NotFound as error:
        remedy = "Apply the collection first, or mend the name."
        raise UsageError(
            f"Rule {rule.id} names collection {collection!r}, which is not there.", remedy, field=field
        ) from error


def cycle(edges: Mapping[str, tuple[frozenset[str], frozenset[str]]], start: str) -> list[str] | None:
    """The way from a rule back to itself, over collections and other rules; None if there is none."""
    woken: dict[str, list[str]] = {}
    for rule, (wakes, _fills) in edges.items():
        for collection in wakes:
            woken.setdefault(collection, []).append(rule)
    paths, seen = [[start]], set[str]()
    while paths:
        path = paths.pop(0)
        for collection in sorted(edges[path[-1]][1]):
            for rule in woken.get(collection, []):
                if rule == start:
                    return [*path, collection, start]
                if rule not in seen:
                    seen.add(rule)
                    paths.append([*path, collection, rule])
    return None
