"""Finish attempts: fence, outputs, provenance, states and events in one transaction; a refused report leaves the others."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from armillary.accounts.actor import Actor
from armillary.algorithms.algorithm import Algorithm, ErrorClass
from armillary.algorithms.register import by_digest
from armillary.base.crash import crash_point
from armillary.base.db import Row, Transaction
from armillary.base.errors import ArmillaryError, NotFound, TransientError, UsageError
from armillary.base.wakes import JOBS, QUEUE
from armillary.granules import ingest
from armillary.granules.granule import Committed, Reference
from armillary.jobs import depend, retry, store
from armillary.jobs.job import AttemptOutcome, Ending, Held, JobState, MadeOutput, Report, Result
from armillary.jobs.queue import LATE, elsewhere, is_holder
from armillary.provenance import record
from armillary.provenance.activity import Activity

MAX_RESULT_BYTES = 64 * 1024


async def finish(tx: Transaction, actor: Actor, worker_id: UUID, host: str, reports: Sequence[Report]) -> list[Result]:
    """Record what a worker reports; the answers keep the order of the reports.

    Repeating a recorded report answers recorded; one that comes after its lease was taken away is refused.
    """
    held = await store.lock_leases(tx, [report.job_id for report in reports])
    mine: dict[tuple[UUID, int], _Reported] = {}
    late: list[Report] = []
    for report in sorted(reports, key=lambda one: one.job_id):
        key, lease = (report.job_id, report.lease), held.get(report.job_id)
        if lease is None or not is_holder(lease, worker_id, report.lease) or key in mine:
            late.append(report)
            continue
        mine[key] = _Reported(lease, report, (await by_digest(tx, lease.algorithm_digest)).algorithm)
    successes = [one for one in mine.values() if one.report.outcome is AttemptOutcome.SUCCEEDED]
    made = {one.held.job_id: _without_outputs(one) for one in successes if not one.report.outputs}
    makers = [one for one in successes if one.report.outputs]
    published = await tx.together(lambda part: _publish(tx, actor, part), makers)
    made |= {one.held.job_id: outputs for one, outputs in zip(makers, published, strict=True)}
    ended = {key: await _end(tx, one, made.get(one.held.job_id, [])) for key, one in mine.items()}
    if ended:
        await _write(tx, host, [ending for ending, _ in ended.values()])
    results = {key: _result(key, *end) for key, end in ended.items()}
    results |= await _late(tx, worker_id, [one for one in late if (one.job_id, one.lease) not in results])
    crash_point("finish.before-commit")
    return [results[report.job_id, report.lease] for report in reports]


@dataclass(frozen=True)
class _Reported:
    """A report by the holder of its lease."""

    held: Held
    report: Report
    algorithm: Algorithm


def _without_outputs(success: _Reported) -> list[MadeOutput] | ArmillaryError:
    """Nothing, if the algorithm may leave nothing."""
    try:
        check_outputs(success.algorithm, success.report)
    except UsageError as error:
        return error
    return []


async def _publish(tx: Transaction, actor: Actor, successes: Sequence[_Reported]) -> list[list[MadeOutput]]:
    """Check the outputs of all against their declarations and make them visible; raises if one's may not be."""
    uploads = [ready for one in successes for ready in _uploads(one)]
    # The outputs of one report may be revisions of one granule, and then they follow each other.
    helpings = [[upload] for upload in uploads] if len(successes) == 1 else [uploads] if uploads else []
    committed = iter([made for helping in helpings for made in await ingest.commit(tx, actor, helping)])
    return [[_made(one, output.output, next(committed)) for output in one.report.outputs] for one in successes]


def _uploads(reported: _Reported) -> list[ingest.Wanted]:
    check_outputs(reported.algorithm, reported.report)
    uploads = []
    for output in reported.report.outputs:
        if isinstance(output.commit, ArmillaryError):
            raise output.commit
        uploads.append(ingest.Wanted(output.commit, reported.held.job_id, reported.held.lease))
    return uploads


def _made(reported: _Reported, output: str, committed: Committed) -> MadeOutput:
    wished = reported.algorithm.outputs[output].collection
    if committed.collection != wished:
        raise UsageError(
            f"Output {output!r} was uploaded to {committed.collection}, not {wished}.",
            "Upload it to the collection that the algorithm declares.",
            field=f"outputs.{output}",
        )
    return MadeOutput(output, committed)


async def _end(
    tx: Transaction, reported: _Reported, made: list[MadeOutput] | ArmillaryError
) -> tuple[Ending, ArmillaryError | None]:
    """What the report makes of the job; a success whose outputs are refused is a failure with that problem."""
    held, report = reported.held, reported.report
    if report.outcome is not AttemptOutcome.SUCCEEDED:
        return await _unsuccessful(tx, held, report, reported.algorithm), None
    if isinstance(made, ArmillaryError):
        failed = replace(
            report,
            outcome=AttemptOutcome.FAILED,
            error_class=class_of_refusal(made),
            reason=f"Its outputs were refused: {made}",
        )
        return await _unsuccessful(tx, held, failed, reported.algorithm), made
    return (
        Ending(
            held, report.outcome, JobState.SUCCEEDED, report.reason, "", exit_code=report.exit_code,
            started_at=report.started_at, ended_at=report.ended_at, usage=report.usage, result=report.result,
            failures=held.failures, outputs=made,
        ),
        None,
    )  # fmt: skip


def _result(key: tuple[UUID, int], ending: Ending, problem: ArmillaryError | None) -> Result:
    if problem:
        return Result(*key, "problem", ending.reason, problem.problem(), ending)
    return Result(*key, "recorded", ending=ending)


def check_outputs(algorithm: Algorithm, report: Report) -> None:
    """Refuse outputs that the algorithm does not declare, and the lack of those that it does."""
    for output in report.outputs:
        if output.output not in algorithm.outputs:
            known = ", ".join(algorithm.outputs) or "none"
            raise UsageError(
                f"{algorithm.id} declares no output {output.output!r}.", f"It declares: {known}.", field="outputs"
            )
    for name, declared in algorithm.outputs.items():
        count = sum(output.output == name for output in report.outputs)
        if count == 0 and not declared.optional:
            remedy = f"Write outputs/{name}/<granule id>/, or declare it optional."
            raise UsageError(f"The algorithm left no output {name!r}.", remedy, field=f"outputs.{name}")
        if count > 1 and not declared.many:
            remedy = "Write one, or declare it many: true."
            raise UsageError(f"The algorithm left {count} granules as {name!r}.", remedy, field=f"outputs.{name}")


def class_of_refusal(error: ArmillaryError) -> ErrorClass:
    """Whose fault refused outputs are: bytes that did not arrive (in time) are worth another attempt, wrong products are not."""
    if isinstance(error, NotFound | TransientError) or error.field in ("assets", "upload"):
        return ErrorClass.INFRASTRUCTURE
    return ErrorClass.SCIENCE_ERROR


async def _unsuccessful(tx: Transaction, held: Held, report: Report, algorithm: Algorithm) -> Ending:
    reason = " ".join(filter(None, [report.reason, report.remedy]))
    ending = Ending(
        held, report.outcome, JobState.CANCELLED, reason, "Cancelled.", ErrorClass.CANCELLED, report.exit_code,
        report.started_at, report.ended_at, report.usage, report.result, held.failures,
    )  # fmt: skip
    if held.stop == "deadline":
        return replace(ending, **LATE, reason=f"{reason} {LATE['job_reason']}".lstrip())
    if held.stop == "cancel" or report.outcome is AttemptOutcome.CANCELLED:
        return replace(ending, outcome=AttemptOutcome.CANCELLED)
    error_class = _error_class(report)
    has_budgets = held.failures and algorithm.retry.has_budgets
    decision = retry.decide(
        algorithm.retry, error_class, attempt=held.lease, failures=held.failures, resources=held.resources,
        jitter=random.random(), earlier=await store.classes(tx, held.job_id, held.failures) if has_budgets else None,
    )  # fmt: skip
    ending = replace(
        ending,
        outcome=AttemptOutcome.PREEMPTED if error_class is ErrorClass.PREEMPTED else AttemptOutcome.FAILED,
        error_class=error_class,
        failures=decision.failures,
    )
    said = f"Attempt {held.lease}: {error_class}. {reason}".rstrip()
    if isinstance(decision, retry.NoRetry):
        return replace(ending, state=JobState.FAILED, job_reason=f"{said} {decision.reason}")
    pool, moved = await elsewhere(tx, held.pool, decision.pool)
    return replace(
        ending,
        state=JobState.QUEUED,
        job_reason=f"{said} {decision.reason}{moved}",
        delay_seconds=decision.delay_seconds,
        resources=decision.resources,
        pool=pool,
    )


def _error_class(report: Report) -> ErrorClass:
    if report.outcome is AttemptOutcome.PREEMPTED:
        return ErrorClass.PREEMPTED
    # A worker that lives has not lost the job, and it was not asked to cancel it.
    if report.error_class in (None, ErrorClass.LOST, ErrorClass.CANCELLED):
        return ErrorClass.INFRASTRUCTURE
    return report.error_class


async def _write(tx: Transaction, host: str, endings: Sequence[Ending]) -> None:
    await store.end(tx, endings)
    await depend.settle(tx, [(one.held.job_id, one.state) for one in endings if not one.state.is_live])
    done = [ending for ending in endings if ending.state is JobState.SUCCEEDED]
    if done:
        inputs = await store.inputs_of(tx, [ending.held.job_id for ending in done])
        await record.record(tx, [_activity(host, ending, inputs.get(ending.held.job_id, [])) for ending in done])
    tx.wake(JOBS)
    if any(ending.state is JobState.QUEUED for ending in endings):
        tx.wake(QUEUE)


def _activity(host: str, ending: Ending, inputs: Sequence[Row]) -> Activity:
    held = ending.held
    return Activity(
        job_id=held.job_id,
        attempt=held.lease,
        algorithm=held.algorithm,
        algorithm_version=held.algorithm_version,
        algorithm_digest=held.algorithm_digest,
        parameters=held.parameters,
        host=host,
        group=held.group,
        agent=held.created_by,
        started_at=_first(ending.started_at, held.leased_at),
        ended_at=_first(ending.ended_at, ending.started_at, held.leased_at),
        used=[(row["role"], Reference(row["collection"], row["granule"], row["revision"])) for row in inputs],
        # What was there already, byte for byte, keeps the maker that it has.
        generated=[
            (made.output, made.committed.reference) for made in ending.outputs if made.committed.outcome != "same"
        ],
    )


def _first(*times: datetime | None) -> datetime:
    return next(time for time in times if time is not None)


async def _late(tx: Transaction, worker_id: UUID, reports: Sequence[Report]) -> dict[tuple[UUID, int], Result]:
    """Reports without a lease: said before, or too late."""
    keys = [(report.job_id, report.lease) for report in reports]
    ended = await store.ended_attempts(tx, keys) if keys else {}
    return {key: _repeated(worker_id, report, ended.get(key)) for key, report in zip(keys, reports, strict=True)}


def _repeated(worker_id: UUID, report: Report, attempt: Row | None) -> Result:
    key = report.job_id, report.lease
    if attempt is None or attempt["worker_id"] != worker_id:
        return Result(*key, "refused", "This worker does not hold that lease.")
    outcome, is_success = attempt["outcome"], report.outcome is AttemptOutcome.SUCCEEDED
    if outcome == AttemptOutcome.LOST or (outcome == AttemptOutcome.PREEMPTED and is_success):
        return Result(*key, "refused", f"The lease was taken away: {attempt['reason']}")
    if outcome == AttemptOutcome.FAILED and is_success:
        return Result(*key, "problem", attempt["reason"], UsageError(attempt["reason"]).problem())
    return Result(*key, "recorded", "It was recorded before.")
