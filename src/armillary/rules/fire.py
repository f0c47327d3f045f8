"""On a wake: find the firings that a granule completes, insert each once, submit its job in the same transaction.

Every statement of a READ COMMITTED transaction sees what was committed before it, and a wake is claimed after its granule's
commit; so whichever granule of a set arrives last sees the whole set, and the unique key lets exactly one firing be.
"""

from collections.abc import Sequence
from datetime import datetime
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
from armillary.rules import match, store
from armillary.rules.firing import Decision, FiringState, decide, key
from armillary.rules.match import Bound
from armillary.rules.rule import Role, Rule, read

CONSUMER = "rules"
BATCH = 50

_log = log.get("rules")


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
        """One rule if it is enabled."""
        return next((found for found in await self.enabled(tx) if found[0].id == rule), None)


async def react(database: Database, rules: Rules) -> bool:
    """One round of everything that is due; whether there was anything."""
    expanded = await database.retry(lambda tx: expand(tx, rules))
    crash_point("rules.expanded")
    fired = await database.retry(lambda tx: fire_wakes(tx, rules))
    crash_point("rules.fired")
    timed_out = await database.retry(lambda tx: time_out(tx, rules))
    return expanded or fired or timed_out


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
    done = []
    for wake in wakes:
        try:
            async with tx.savepoint():
                if found:
                    await _arrival(tx, *found, wake["collection"], wake["granule"])
            done.append(wake["id"])
        except ArmillaryError as error:
            _log.warning("rule failed", rule=wake["rule"], granule=wake["granule"], reason=str(error))
            await store.failed_wake(tx, wake["id"], str(error))
    await store.done_wakes(tx, done)
    return True


async def time_out(tx: Transaction, rules: Rules) -> bool:
    """Decide waiting firings whose time is over."""
    due = await store.due(tx, BATCH)
    for row in due:
        found = await rules.get(tx, row["rule"])
        if found:
            bound, members = await _bound(tx, found[0], row["id"])
            await _refill(tx, found[0], found[1], row, bound, members)
        else:
            await store.settle(tx, row["id"], Decision(FiringState.EXPIRED, "Its rule is gone or disabled."), None)
    return bool(due)


async def _arrival(tx: Transaction, rule: Rule, row: Row, collection: str, granule_id: str) -> None:
    granule = (await find.current(tx, [(collection, granule_id)])).get((collection, granule_id))
    if granule is None:
        return
    sets: dict[str, Bound] = {}
    for role in rule.keys:
        if match.accepts(role, granule):
            for bound in await _complete(tx, rule, {role.name: granule}):
                sets[key(rule, bound)] = bound
    for firing_key in sorted(sets):  # in key order, so that two arrivals of one set never wait for each other crosswise
        await _fire(tx, rule, row, firing_key, sets[firing_key])
    for role in rule.others:
        if match.accepts(role, granule):
            await _offer(tx, rule, row, role, granule)


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


async def _fire(tx: Transaction, rule: Rule, row: Row, firing_key: str, bound: Bound) -> None:
    firing = new_id()
    inserted = await store.insert_firing(tx, firing, rule.id, row["version"], firing_key, row["group"])
    if inserted is None:  # this set fired before: look again at what it still waits for
        waiting = await store.lock_key(tx, rule.id, firing_key)
        if waiting is not None:
            await _refill(tx, rule, row, waiting, *await _bound(tx, rule, waiting["id"]))
        return
    members = {role.name: await _candidates(tx, rule, role, bound) for role in rule.others}
    await store.bind(tx, firing, _rows({name: [granule] for name, granule in bound.items()} | members))
    decision = decide(rule, bound, members, inserted["created_at"], inserted["now"])
    await _settle(tx, rule, row, firing, 2, decision, {**{name: [one] for name, one in bound.items()}, **members})
    if decision.state == FiringState.WAITING:
        # What arrived since our query was offered to open firings while ours was not committed: look again once it is.
        first = next(iter(bound.values()))
        await store.insert_wakes(tx, [(rule.id, first.collection, first.granule)])
        tx.wake(WORK)


async def _offer(tx: Transaction, rule: Rule, row: Row, role: Role, granule: Granule) -> None:
    """A granule for a role that is many, optional or awaited: only firings that are still open are asked."""
    open_rows = await store.open_firings(tx, rule.id)
    by_firing = await _bound_many(tx, rule, [one["id"] for one in open_rows])
    for one in open_rows:
        bound, members = by_firing[one["id"]]
        if not match.fits(rule, role, granule, bound):
            continue
        if one["state"] == "submitted":
            if role.name in one["missing"]:
                await store.note_late(tx, one["id"], role.name, granule.collection, granule.granule)
            continue
        locked = await store.lock(tx, one["id"])
        if locked is None:
            continue  # the timer was faster
        bound, members = await _bound(tx, rule, one["id"])
        await _refill(tx, rule, row, locked, bound, members)


async def _refill(
    tx: Transaction, rule: Rule, row: Row, locked: Row, bound: Bound, members: dict[str, list[Granule]]
) -> None:
    """Fill the open roles of a locked firing by a new statement, and decide."""
    for role in rule.others:
        members[role.name] = await _candidates(tx, rule, role, bound)
    await store.bind(tx, locked["id"], _rows(members))
    decision = decide(rule, bound, members, locked["created_at"], locked["now"])
    everything = {**{name: [one] for name, one in bound.items()}, **members}
    await _settle(tx, rule, row, locked["id"], locked["version"] + 1, decision, everything)


async def _settle(
    tx: Transaction,
    rule: Rule,
    row: Row,
    firing: UUID,
    version: int,
    decision: Decision,
    members: dict[str, list[Granule]],
) -> None:
    job = None
    if decision.state == FiringState.SUBMITTED:
        try:
            async with tx.savepoint():
                job = await _act(tx, rule, row, firing, members)
        except ArmillaryError as error:
            decision = Decision(FiringState.REFUSED, str(error), decision.missing)
    await store.settle(tx, firing, decision, job)
    await events.emit(
        tx,
        subject=f"firing:{firing}",
        version=version,
        kind=f"firing.{decision.state}",
        actor=f"rule:{rule.id}",
        group=row["group"],
        detail={"rule": rule.id, "reason": decision.reason, "job": str(job) if job else None},
    )


async def _act(tx: Transaction, rule: Rule, row: Row, firing: UUID, members: dict[str, list[Granule]]) -> UUID | None:
    actor = Actor(f"rule:{rule.id}", row["group"], kind="system")
    references = {name: [_reference(granule) for granule in granules] for name, granules in members.items() if granules}
    if rule.action.deliver:
        role = rule.action.role or rule.keys[0].name
        for reference in references.get(role, []):
            await send.intend(tx, actor, rule.action.deliver, reference, cause={"rule": rule.id, "firing": str(firing)})
        return None
    request = submit.JobRequest(
        algorithm=rule.action.run or "",
        version=rule.action.version,
        inputs={name: tuple(found) for name, found in references.items()},
        parameters=dict(rule.action.parameters),
        pool=rule.action.pool,
        priority=rule.action.priority,
        twins=rule.action.twins,
        hold=rule.action.hold,
        deadline=rule.action.deadline,
        on_deadline=rule.action.on_deadline,
        cause={"rule": rule.id, "firing": str(firing)},
    )
    return (await submit.submit(tx, actor, request)).job.id


async def _bound(tx: Transaction, rule: Rule, firing: UUID) -> tuple[Bound, dict[str, list[Granule]]]:
    return (await _bound_many(tx, rule, [firing]))[firing]


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


def _rows(members: dict[str, list[Granule]]) -> list[tuple[str, str, str, int]]:
    return [
        (name, granule.collection, granule.granule, granule.revision)
        for name, granules in members.items()
        for granule in granules
    ]


def _reference(granule: Granule) -> Reference:
    return Reference(granule.collection, granule.granule, granule.revision)


async def on_schedule(tx: Transaction, rules: Rules, scheduled_at: datetime, rule_id: str) -> None:
    """Fire a scheduled rule for one of its times: exactly once, as the time is its key."""
    found = await rules.get(tx, rule_id)
    if found is None:
        return
    rule, row = found
    firing = new_id()
    inserted = await store.insert_firing(tx, firing, rule.id, row["version"], scheduled_at.isoformat(), row["group"])
    if inserted is None:
        return
    members = {}
    for role in rule.others:
        candidates = await _candidates(tx, rule, role, {})
        since = scheduled_at - role.last if role.last else None
        members[role.name] = [granule for granule in candidates if since is None or granule.created_at >= since]
    await store.bind(tx, firing, _rows(members))
    decision = decide(rule, {}, members, inserted["created_at"], inserted["now"])
    await _settle(tx, rule, row, firing, 2, decision, members)
