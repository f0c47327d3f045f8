"""Submit jobs: check each, find its twin, enqueue it; the reason of the outcome comes with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.algorithms.algorithm import Algorithm, Input, Registered
from armillary.algorithms.parameters import check_parameters
from armillary.algorithms.register import resolve
from armillary.base.clock import iso
from armillary.base.db import Transaction
from armillary.base.errors import Conflict, NotFound, TransientError, UsageError
from armillary.base.ids import new_id
from armillary.base.wakes import JOBS, QUEUE
from armillary.granules import find
from armillary.granules.granule import Granule, Reference, retired
from armillary.jobs import depend, store
from armillary.jobs.depend import Dependency
from armillary.jobs.identity import identity
from armillary.jobs.job import CURRENT, JobKey, JobState, Submission, resources_json
from armillary.jobs.job import JobRequest as JobRequest

TRIES = 5
PRIORITIES = range(-1000, 1001)


@dataclass(frozen=True)
class Wanted:
    """A request that was found sound: everything that its row will hold."""

    id: UUID
    request: JobRequest
    registered: Registered
    inputs: Mapping[str, Sequence[Reference]]
    parameters: Mapping[str, Any]
    identity: str
    after: Sequence[Dependency] = ()
    ignores_done: bool = False  # what an equal job made is gone, so its success is no reason not to run

    @property
    def waits_for(self) -> list[UUID]:
        """The jobs that have to end first."""
        return [link.after for link in self.after if not link.is_met]

    @property
    def reason(self) -> str:
        """Why it stands where it does once it is submitted."""
        if self.request.hold:
            return "Held until it is released."
        if self.waits_for:
            return depend.waiting(self.waits_for)
        if self.request.twins == "again":
            return "Queued; it runs whether or not an equal job lives or has products."
        if self.ignores_done:
            return "Queued; an equal job succeeded, but its products are gone."
        what = "lives" if self.request.twins == "share" else "lives or has products"
        return f"Queued; no equal job {what}."


async def submit(tx: Transaction, actor: Actor, request: JobRequest) -> Submission:
    """Submit one job in the caller's transaction."""
    return (await submit_many(tx, actor, [request]))[0]


async def submit_many(tx: Transaction, actor: Actor, requests: Sequence[JobRequest]) -> list[Submission]:
    """Submit jobs, all or none, in as many round trips as one; the answers keep the order of the requests."""
    permit(actor, "change", actor.group)
    registered = await _algorithms(tx, actor, requests)
    granules = await _granules(tx, requests)
    states = await depend.look(tx, actor, requests)
    now = await tx.value("select armillary_now()") if any(request.deadline for request in requests) else None
    wanted = [
        _check(actor, _with_deadline(request, now), registered[request.algorithm, request.version], granules, states)
        for request in requests
    ]
    results: dict[UUID, Submission] = {}
    for _ in range(TRIES):
        missing = [one for one in wanted if one.id not in results]
        if not missing:
            return [results[one.id] for one in wanted]
        results |= await _enqueue(tx, actor, missing)
        missing = [one for one in missing if one.id not in results]
        twins, gone = await _twins(tx, actor, missing) if missing else ({}, set())
        results |= twins
        wanted = [_without_reuse(one) if one.id in gone else one for one in wanted]
    raise TransientError("The job's twin came and went too often to settle which to take.", "Submit it again.")


# Checks --------------------------------------------------------------------------------------------------------


async def _algorithms(
    tx: Transaction, actor: Actor, requests: Sequence[JobRequest]
) -> dict[tuple[str, str | None], Registered]:
    named = {(request.algorithm, request.version) for request in requests}
    return {key: await resolve(tx, actor, *key) for key in named}


async def _granules(tx: Transaction, requests: Sequence[JobRequest]) -> dict[Reference, Granule]:
    """Every granule that the requests name; one named without a revision is found under `CURRENT`."""
    named = {one for request in requests for references in request.inputs.values() for one in references}
    exact = [one for one in named if one.revision != CURRENT]
    current = [(one.collection, one.id) for one in named if one.revision == CURRENT]
    found = await find.at_revisions(tx, exact) if exact else {}
    newest = await find.current(tx, current) if current else {}
    return found | {Reference(*key, CURRENT): granule for key, granule in newest.items()}


def _with_deadline(request: JobRequest, now: datetime | None) -> JobRequest:
    """The request with its deadline as a time."""
    if request.deadline is None:
        return request
    assert now is not None
    at = now + request.deadline if isinstance(request.deadline, timedelta) else request.deadline
    if at <= now:
        raise UsageError(f"The deadline {iso(at)} has passed.", "Name a time to come.", field="deadline")
    return replace(request, deadline=at)


def _check(
    actor: Actor,
    request: JobRequest,
    registered: Registered,
    granules: Mapping[Reference, Granule],
    states: Mapping[UUID, JobState],
) -> Wanted:
    algorithm = registered.algorithm
    if request.priority not in PRIORITIES:
        raise UsageError(f"priority {request.priority} is out of range.", "Choose -1000 to 1000.", field="priority")
    parameters = check_parameters(algorithm, request.parameters)
    for role in request.inputs:
        if role not in algorithm.inputs:
            known = ", ".join(algorithm.inputs) or "none"
            raise UsageError(f"{algorithm.id} has no input {role!r}.", f"It has: {known}.", field=f"inputs.{role}")
    inputs = {
        role: _references(actor, algorithm, declared, request.inputs.get(role, ()), granules)
        for role, declared in algorithm.inputs.items()
    }
    work = identity(registered.digest, algorithm.inputs, inputs, parameters)
    after = depend.dependencies(request, states)
    return Wanted(new_id(), request, registered, inputs, parameters, work, after)


def _references(
    actor: Actor,
    algorithm: Algorithm,
    declared: Input,
    references: Sequence[Reference],
    granules: Mapping[Reference, Granule],
) -> tuple[Reference, ...]:
    field = f"inputs.{declared.role}"
    if not references and not declared.optional:
        raise UsageError(f"{algorithm.id} needs an input {declared.role!r}.", "Name a granule for it.", field=field)
    if len(references) > 1 and not declared.many:
        raise UsageError(
            f"{algorithm.id} takes one granule as {declared.role!r}, not {len(references)}.", "Choose one.", field=field
        )
    found = tuple(_exact(actor, one, declared, granules.get(one)) for one in references)
    if len(set(found)) != len(found):
        raise UsageError(f"A granule is named twice as {declared.role!r}.", "Name it once.", field=field)
    return found


def _exact(actor: Actor, wished: Reference, declared: Input, granule: Granule | None) -> Reference:
    field = f"inputs.{declared.role}"
    scope = actor.scope
    if granule is None or not (scope["all_groups"] or granule.group in scope["groups"]):
        which = f" revision {wished.revision} of" if wished.revision != CURRENT else ""
        raise NotFound(f"There is no{which} granule {wished}.", "Search with `armillary granule list`.", field=field)
    if declared.collections and wished.collection not in declared.collections:
        raise UsageError(
            f"{wished} is not of the collection that {declared.role!r} takes.",
            f"Choose from {' or '.join(declared.collections)}.",
            field=field,
        )
    # A rule's firing took it while it was current, and its transaction or row has kept the bytes from going since.
    if granule.discarded_at or (granule.retired_at and actor.kind != "system"):
        raise Conflict(retired(granule), "Take a newer revision.", field=field)
    return Reference(granule.collection, granule.granule, granule.revision)


# Enqueue, or find the twin -------------------------------------------------------------------------------------


async def _enqueue(tx: Transaction, actor: Actor, wanted: Sequence[Wanted]) -> dict[UUID, Submission]:
    try:
        made = await store.insert(tx, [_row(actor, one) for one in wanted])
    except psycopg.errors.ForeignKeyViolation as error:
        if error.diag.constraint_name != "job_queue_pool":
            raise
        pools = ", ".join(sorted({one.request.pool for one in wanted}))
        raise NotFound(
            f"There is no pool {pools}.", "`armillary pool list` shows those that are.", field="pool"
        ) from error
    links = [
        (one.id, link.after, link.on_failure, link.is_met) for one in wanted if one.id in made for link in one.after
    ]
    if links:
        await store.insert_dependencies(tx, links)
    tx.wake(QUEUE)
    tx.wake(JOBS)
    return {
        one.id: Submission(JobKey(one.id, made[one.id]), "submitted", one.reason) for one in wanted if one.id in made
    }


async def _twins(tx: Transaction, actor: Actor, missing: Sequence[Wanted]) -> tuple[dict[UUID, Submission], set[UUID]]:
    """The twins of those that were not enqueued, and those whose finished twin's products are gone."""
    live = await store.live_twins(tx, actor.group, [one.identity for one in missing])
    done = await store.done_twins(tx, actor.group, [one.identity for one in missing])
    results, gone = {}, set()
    for one in missing:
        if (twin := live.get(one.identity)) is not None:
            results[one.id] = Submission(twin, "shared", _shared(one, twin))
        elif one.identity in done and one.request.twins == "reuse":
            key, outputs = done[one.identity]
            made = await find.at_revisions(tx, outputs)
            if len(made) == len(outputs) and not any(granule.retired_at for granule in made.values()):
                reason = f"Job {key.id} did the same work and its products are here."
                results[one.id] = Submission(key, "reused", reason)
            else:
                gone.add(one.id)
    return results, gone


def _shared(one: Wanted, twin: JobKey) -> str:
    heedless = " It does not wait for what this one was to run after." if one.waits_for else ""
    return f"Job {twin.id} does the same work and is {twin.state}.{heedless}"


def _without_reuse(wanted: Wanted) -> Wanted:
    return replace(wanted, ignores_done=True)


def _row(actor: Actor, wanted: Wanted) -> dict[str, Any]:
    request, algorithm = wanted.request, wanted.registered.algorithm
    return {
        "id": str(wanted.id),
        "algorithm": algorithm.id,
        "algorithm_version": algorithm.version,
        "algorithm_digest": wanted.registered.digest,
        "parameters": wanted.parameters,
        "identity": wanted.identity,
        "twins": request.twins,
        "reuses": request.twins == "reuse" and not wanted.ignores_done,
        "state": JobState.HELD if request.hold or wanted.waits_for else JobState.QUEUED,
        "reason": wanted.reason,
        "is_held": request.hold,
        "waits": len(wanted.waits_for),
        "deadline": request.deadline.isoformat() if isinstance(request.deadline, datetime) else None,
        "on_deadline": request.on_deadline,
        "pool": request.pool,
        "priority": request.priority,
        "resources": resources_json(algorithm.resources),
        "cause": request.cause or {"account": actor.account},
        "group": actor.group,
        "created_by": actor.account,
        "inputs": [
            {
                "role": role,
                "position": position,
                "collection": one.collection,
                "granule": one.id,
                "revision": one.revision,
            }
            for role, references in wanted.inputs.items()
            for position, one in enumerate(references)
        ],
    }
