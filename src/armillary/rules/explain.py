"""Why a rule did or did not fire for a granule: role by role, in words."""

from dataclasses import dataclass

from armillary.accounts.actor import Actor
from armillary.base.db import Transaction
from armillary.granules import find
from armillary.granules.granule import Granule
from armillary.rules import define, match, store
from armillary.rules.firing import Firing
from armillary.rules.rule import Role, Rule, read

SHOWN = 5


@dataclass(frozen=True)
class Explanation:
    """Sentences, and the firings that the granule is in."""

    lines: list[str]
    firings: list[Firing]


async def explain(tx: Transaction, actor: Actor, rule_id: str, collection: str, granule_id: str) -> Explanation:
    """What the rule makes of the granule, now."""
    row = await define.row(tx, actor, rule_id)
    rule = read(row["spec"])
    granule = await find.get(tx, actor, collection, granule_id)
    lines = [] if row["enabled"] else [f"Rule {rule.id} is disabled."]
    for role in rule.roles:
        lines += await _role_lines(tx, rule, role, granule)
    firings = await store.firings_of_granule(tx, rule.id, collection, granule_id)
    lines += [f"Firing {firing.id} is {firing.state}: {firing.reason}" for firing in firings]
    return Explanation(lines or ["Nothing to say."], firings)


async def _role_lines(tx: Transaction, rule: Rule, role: Role, granule: Granule) -> list[str]:
    if role.collection != granule.collection:
        return [f"{role.name}: takes granules of {role.collection}, this is one of {granule.collection}."]
    if not match.accepts(role, granule):
        return [f"{role.name}: its filter refuses this granule."]
    lines = [f"{role.name}: this granule fits."]
    if not role.is_key:
        return lines
    lines += [await _partners(tx, rule, other, role, granule) for other in rule.keys if other.name != role.name]
    for other in rule.others:
        found = await _fitting(tx, rule, other, {role.name: granule})
        enough = "enough" if match.is_complete(_without_relations(other), found, {}) else "too few"
        lines.append(f"  {other.name}: {len(found)} granules related to it so far ({enough}; at least {other.min}).")
    return lines


async def _partners(tx: Transaction, rule: Rule, other: Role, role: Role, granule: Granule) -> str:
    found = await _fitting(tx, rule, other, {role.name: granule})
    if found:
        names = ", ".join(one.granule for one in found[:SHOWN])
        return f"  {other.name}: {len(found)} candidates ({names}{', …' if len(found) > SHOWN else ''})."
    proposal = match.proposal(rule, other, {})
    anywhere = len(await find.proposed(tx, proposal.sql, proposal.params, limit=1000))
    return f"  {other.name}: no granule stands in the relations; {anywhere} pass its own filter."


async def _fitting(tx: Transaction, rule: Rule, role: Role, bound: match.Bound) -> list[Granule]:
    proposal = match.proposal(rule, role, bound)
    found = await find.proposed(tx, proposal.sql, proposal.params)
    return [one for one in found if match.accepts(role, one) and match.fits(rule, role, one, bound)]


def _without_relations(role: Role) -> Role:
    return Role(role.name, role.collection, many=role.many, min=role.min)
