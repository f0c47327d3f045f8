"""On a wake: find the firings that a granule completes, insert each once, submit its job in the same transaction.

Every statement of a READ COMMITTED transaction sees what was committed before it, and a wake is claimed after its granule's
commit; so whichever granule of a set arrives last sees the whole set, and the unique key lets exactly one firing be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.base import events, log
from armillary.base.crash import crash_point
from armillary.base.db import Database, Row, Transaction
from armillary.base.errors import ArmillaryError
from armillary.base.ids import new_id
from armillary.base.wakes import WORK
from armillary.deliveries import send
from armillary.granules import find
from armillary.granules.granule import Granule, Reference
from armillary.jobs import submit
from armillary.jobs.job import Submission
from armillary.rules import match, store
from armillary.rules.firing import Decision, FiringState, decide, explained, key
from armillary.rules.match import Bound
from armillary.rules.rule import Role, Rule, read

CONSUMER = "rules"
BATCH = 50

_log = log.get("rules")


@dataclass
class _Open:
    """A firing that this transaction has inserted or locked, and what is bound to its roles."""

    id: UUID
    version: int  # that its next event will have
    created_at: datetime
    now: datetime
    bound: Bound
    members: dict[str, list[Granule]] = field(default_factory=dict)

    @property
    def references(self) -> dict[str, tuple[Reference, ...]]:
        """By role, what a job or a delivery is given."""
        filled = {**{name: [granule] for name, granule in self.bound.items()}, **self.members}
        return {
            name: tuple(Reference(one.collection, one.granule, one.revision) for one in granules)
            for name, granules in filled.items()
            if granules
        }

    @property
    def places(self) -> list[store.Place]:
        """The same as rows."""
        return [
            (self.id, name, one.collection, one.id, one.revision)
            for name, references in self.references.items()
            for one in references
        ]


class Rules:
    """The enabled rules, parsed once per version."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Rule, Row]] = {}

    async def enabled(self, tx: Transaction) -> list[tuple[Rule, Row]]:
        """Every enabled rule as of this statement."""
        versions = {row["id"]: row["version"] for row in await store.enabled(tx)}
        stale = [rule for rule, version in versions.items() if self._known.get(rule, (None,))[0] != version]
        for row in await store.specs(tx, stale) if stale else []:
            self._known[row["id"]] = (row["version"], read(row["spec"]), row)
        self._known = {rule: known for rule, known in self._known.items() if rule in versions}
        return [(rule, row) for _version, rule, row in self._known.values()]

    async def get(self, tx: Transaction, rule: str) -> tuple[Rule, Row] | None:
        """One rule if it is enabled; the others are not asked for, as there may be thousands."""
        version = await store.enabled_version(tx, rule)
        if version is None:
            return None
        if self._known.get(rule, (None,))[0] != version:
            (row,) = await store.specs(tx, [rule])
            self._known[rule] = (row["version"], read(row["spec"]), row)
        return self._known[rule][1:]


async def react(database: Database, rules: Rules) -> bool:
    """One round of everything that is due; whether there was anything."""
    expanded = await database.retry(lambda tx: expand(tx, rules))
    crash_point("rules.expanded")
    fired = await database.retry(lambda tx: fire_wakes(tx, rules))
    crash_point("rules.fired")
    timed_out = await database.retry(lambda tx: time_out(tx, rules))
    return expanded or fired or timed_out


async def late(tx: Transaction, after: timedelta) -> int:
    """How much work of rules nobody has done for so long after it was due, or that fails again and again."""
    return await store.late_wakes(tx, after, events.MANY_TRIES)


async def expand(tx: Transaction, rules: Rules) -> bool:
    """Turn granules' wakes into one wake per rule that has a role for them."""
    wakes = await events.claim(tx, CONSUMER, BATCH)
    if not wakes:
        return False
    granules = await find.current(tx, [(wake.detail["collection"], wake.detail["granule"]) for wake in wakes])
    interested = [
        (rule.id, granule.collection, granule.granule)
        for rule, _row in await rules.enabled(tx)
        for granule in granules.values()
        if rule.schedule is None and any(match.accepts(role, granule) for role in rule.roles)
    ]
    if interested:
        await store.insert_wakes(tx, interested)
        tx.wake(WORK)
    await events.done(tx, wakes)
    return True


async def fire_wakes(tx: Transaction, rules: Rules) -> bool:
    """The wakes of one rule: one rule per transaction, so that two reactors rarely want the same locks."""
    wakes = await store.claim_wakes(tx, BATCH)
    if not wakes:
        return False
    found = await rules.get(tx, wakes[0]["rule"])
    results = await tx.together(lambda part: _arrivals(tx, *found, part), wakes) if found else [None] * len(wakes)
    for wake, problem in zip(wakes, results, strict=True):
        if problem is not None:
            _log.warning("rule failed", rule=wake["rule"], granule=wake["granule"], reason=str(problem))
            await store.failed_wake(tx, wake["id"], str(problem))
    await store.done_wakes(tx, [wake["id"] for wake, problem in zip(wakes, results, strict=True) if problem is None])
    return True


async def time_out(tx: Transaction, rules: Rules) -> bool:
    """Decide waiting firings whose time is over."""
    due = await store.due(tx, BATCH)
    for row in due:
        found = await rules.get(tx, row["rule"])
        if found:
            await _refill(tx, *found, row)
        else:
            gone = Decision(FiringState.EXPIRED, "Its rule is gone or disabled.")
            await store.settle(tx, [(row["id"], gone, None)])
    return bool(due)


async def _arrivals(tx: Transaction, rule: Rule, row: Row, wakes: Sequence[Row]) -> list[None]:
    """Everything that some granules mean to a rule, as a helping of SQL and not one for each."""
    found = await find.current(tx, [(wake["collection"], wake["granule"]) for wake in wakes])
    granules = list(found.values())
    sets: dict[str, Bound] = {}
    for role in rule.keys:
        for granule in granules:
            if match.accepts(role, granule):
                for bound in await _complete(tx, rule, {role.name: granule}):
                    sets[key(rule, bound)] = bound
    await _fire(tx, rule, row, sets)
    for role in rule.others:
        for granule in granules:
            if match.accepts(role, granule):
                await _offer(tx, rule, row, role, granule)
    return [None] * len(wakes)


async def _complete(tx: Transaction, rule: Rule, bound: Bound) -> list[Bound]:
    """Every way to fill the remaining single roles."""
    role = next((role for role in rule.keys if role.name not in bound), None)
    if role is None:
        return [bound]
    candidates = await _candidates(tx, rule, role, bound)
    return [full for candidate in candidates for full in await _complete(tx, rule, {**bound, role.name: candidate})]


async def _candidates(tx: Transaction, rule: Rule, role: Role, bound: Bound) -> list[Granule]:
    proposal = match.proposal(rule, role, bound)
    found = await find.proposed(tx, proposal.sql, proposal.params)
    # SQL may propose more than the filter accepts: what is decided exactly is decided here.
    fitting = [one for one in found if match.accepts(role, one) and match.fits(rule, role, one, bound)]
    return fitting if role.many or role.is_key else fitting[:1]  # an optional single takes the newest


async def _fire(tx: Transaction, rule: Rule, row: Row, sets: dict[str, Bound]) -> None:
    """Insert the firings of these sets, by key, that have never been, and decide them; look again at those that wait."""
    keys = sorted(sets)  # so that two arrivals of one set never wait for each other crosswise
    if not keys:
        return
    inserted = await store.insert_firings(tx, rule.id, row["version"], [(new_id(), one) for one in keys], row["group"])
    new = [_Open(one["id"], 2, one["created_at"], one["now"], sets[one["key"]]) for one in inserted]
    for one in new:
        one.members = {role.name: await _candidates(tx, rule, role, one.bound) for role in rule.others}
    await store.bind(tx, [place for one in new for place in one.places])
    waiting = await _settle(tx, rule, row, new)
    if waiting:
        # What arrived since our query was offered to open firings while ours was not committed: look again once it is.
        firsts = [next(iter(one.bound.values())) for one in waiting]
        await store.insert_wakes(tx, [(rule.id, first.collection, first.granule) for first in firsts])
        tx.wake(WORK)
    fired_before = set(keys) - {one["key"] for one in inserted}
    for firing_key in sorted(fired_before) if rule.others else ():  # without others, none of them can be waiting
        locked = await store.lock_key(tx, rule.id, firing_key)
        if locked is not None:
            await _refill(tx, rule, row, locked)


async def _offer(tx: Transaction, rule: Rule, row: Row, role: Role, granule: Granule) -> None:
    """A granule for a role that is many, optional or awaited: only firings that are still open are asked."""
    open_rows = await store.open_firings(tx, rule.id)
    by_firing = await _bound_many(tx, rule, [one["id"] for one in open_rows])
    for one in open_rows:
        bound, _ = by_firing[one["id"]]
        if not match.fits(rule, role, granule, bound):
            continue
        if one["state"] == "submitted":
            if role.name in one["missing"]:
                await store.note_late(tx, one["id"], role.name, granule.collection, granule.granule)
            continue
        locked = await store.lock(tx, one["id"])
        if locked is None:
            continue  # the timer was faster
        await _refill(tx, rule, row, locked)


async def _refill(tx: Transaction, rule: Rule, row: Row, locked: Row) -> None:
    """Fill the open roles of a locked firing by a new statement, and decide."""
    bound, members = (await _bound_many(tx, rule, [locked["id"]]))[locked["id"]]
    for role in rule.others:
        members[role.name] = await _candidates(tx, rule, role, bound)
    again = _Open(locked["id"], locked["version"] + 1, locked["created_at"], locked["now"], bound, members)
    await store.bind(tx, again.places)
    await _settle(tx, rule, row, [again])


async def _settle(tx: Transaction, rule: Rule, row: Row, firings: Sequence[_Open]) -> list[_Open]:
    """Decide firings that are ours: act, store and announce it; those that go on waiting are given back."""
    if not firings:
        return []
    decisions = {one.id: decide(rule, one.bound, one.members, one.created_at, one.now) for one in firings}
    ready = [one for one in firings if decisions[one.id].state == FiringState.SUBMITTED]
    made: dict[UUID, Submission | None] = {}
    for one, outcome in zip(ready, await tx.together(lambda part: _act(tx, rule, row, part), ready), strict=True):
        if isinstance(outcome, ArmillaryError):
            decisions[one.id] = Decision(FiringState.REFUSED, str(outcome), decisions[one.id].missing)
        elif outcome is not None:
            made[one.id] = outcome
            decisions[one.id] = explained(decisions[one.id], outcome, rule.action.twins)
    await store.settle(tx, [(one.id, decisions[one.id], made.get(one.id)) for one in firings])
    await events.emit_many(tx, [_event(rule, row, one, decisions[one.id], made.get(one.id)) for one in firings])
    return [one for one in firings if decisions[one.id].state == FiringState.WAITING]


def _event(rule: Rule, row: Row, firing: _Open, decision: Decision, made: Submission | None) -> dict[str, Any]:
    return {
        "subject": f"firing:{firing.id}",
        "version": firing.version,
        "kind": f"firing.{decision.state}",
        "actor": f"rule:{rule.id}",
        "group": row["group"],
        "detail": {"rule": rule.id, "reason": decision.reason, "job": str(made.job.id) if made else None}
        | ({"outcome": made.outcome} if made else {}),
    }


async def _act(tx: Transaction, rule: Rule, row: Row, firings: Sequence[_Open]) -> list[Submission | None]:
    """Do what the rule says for each; what its submissions came to."""
    actor = Actor(f"rule:{rule.id}", row["group"], kind="system")
    if rule.action.deliver:
        role = rule.action.role or rule.keys[0].name
        for one in firings:
            for reference in one.references.get(role, ()):
                await send.intend(tx, actor, rule.action.deliver, reference, cause=_cause(rule, one))
        return [None] * len(firings)
    requests = [
        submit.JobRequest(
            algorithm=rule.action.run or "",
            version=rule.action.version,
            inputs=one.references,
            parameters=dict(rule.action.parameters),
            pool=rule.action.pool,
            priority=rule.action.priority,
            twins=rule.action.twins,
            hold=rule.action.hold,
            deadline=rule.action.deadline,
            on_deadline=rule.action.on_deadline,
            cause=_cause(rule, one),
        )
        for one in firings
    ]
    return [*await submit.submit_many(tx, actor, requests)]


async def referred(tx: Transaction, references: Sequence[Reference]) -> set[Reference]:
    """Those revisions that a firing waits with: retention must leave them."""
    return await store.waiting_references(tx, references)


def _cause(rule: Rule, firing: _Open) -> dict[str, str]:
    return {"rule": rule.id, "firing": str(firing.id)}


async def _bound_many(
    tx: Transaction, rule: Rule, firings: Sequence[UUID]
) -> dict[UUID, tuple[Bound, dict[str, list[Granule]]]]:
    rows = await store.members(tx, firings)
    references = {Reference(row["collection"], row["granule"], row["revision"]) for row in rows}
    granules = await find.at_revisions(tx, list(references))
    keys = {role.name for role in rule.keys}
    bound: dict[UUID, dict[str, Granule]] = {firing: {} for firing in firings}
    members: dict[UUID, dict[str, list[Granule]]] = {firing: {} for firing in firings}
    for row in rows:
        granule = granules[Reference(row["collection"], row["granule"], row["revision"])]
        if row["role"] in keys:
            bound[row["firing"]][row["role"]] = granule
        else:
            members[row["firing"]].setdefault(row["role"], []).append(granule)
    return {firing: (bound[firing], members[firing]) for firing in firings}


async def on_schedule(tx: Transaction, rules: Rules, scheduled_at: datetime, rule_id: str) -> None:
    """Fire a scheduled rule for one of its times: exactly once, as the time is its key."""
    found = await rules.get(tx, rule_id)
    if found is None:
        return
    rule, row = found
    wanted = [(new_id(), scheduled_at.isoformat())]
    inserted = await store.insert_firings(tx, rule.id, row["version"], wanted, row["group"])
    if not inserted:
        return
    firing = _Open(inserted[0]["id"], 2, inserted[0]["created_at"], inserted[0]["now"], {})
    for role in rule.others:
        candidates = await _candidates(tx, rule, role, {})
        since = scheduled_at - role.last if role.last else None
        firing.members[role.name] = [one for one in candidates if since is None or one.created_at >= since]
    await store.bind(tx, firing.places)
    await _settle(tx, rule, row, [firing])
