"""Jobs, leases and attempts against a model: whatever order things happen in, nothing is lost or published twice."""

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from armillary.algorithms.algorithm import ErrorClass
from armillary.base.db import Database
from armillary.base.errors import Conflict
from armillary.jobs import queue, steer
from armillary.jobs.cancel import cancel
from armillary.jobs.job import AttemptOutcome, JobState, Report
from armillary.pools import worker as workers
from armillary.testing.database import Clock
from armillary.testing.world import OWNER, World, algorithm

ATTEMPTS = 2  # of counted failures
RETRIED = [ErrorClass.INFRASTRUCTURE, ErrorClass.OUT_OF_MEMORY]
FAILURES = [*RETRIED, ErrorClass.SCIENCE_ERROR, ErrorClass.TIMED_OUT]


@dataclass
class Model:
    """What a job must be."""

    state: JobState = JobState.QUEUED
    holder: object = None
    lease: int = 0
    failures: int = 0
    is_cancelling: bool = False
    published: int | None = None
    ended: dict = field(default_factory=dict)  # lease → how it ended


class Engine(RuleBasedStateMachine):
    server = None  # of databases

    def __init__(self):
        super().__init__()
        self.loop = asyncio.Runner()
        self.fresh = self.server.fresh()
        dsn = self.fresh.__enter__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(dsn, connections=2)
        self.world = World(self.database, Path(self.folder.name))
        self.clock = Clock(dsn, datetime(2026, 3, 1, 12, tzinfo=UTC))
        self.run(self.database.open())
        self.run(self.world.make())
        policy = {"attempts": ATTEMPTS, "on": [str(one) for one in RETRIED], "delay": "1s"}
        self.run(self.world.algorithm(algorithm("model", retry=policy)))
        self.scene = self.run(self.world.granule("scene"))
        self.jobs: dict = {}
        self.believed: list = []  # (worker, lease, its product): what workers think they hold, dead ones too
        self.alive: list = []

    def teardown(self):
        self.run(self.database.close())
        self.clock.close()
        self.loop.close()
        self.folder.cleanup()
        self.fresh.__exit__(None, None, None)

    def run(self, coroutine):
        return self.loop.run(coroutine)

    def do(self, verb, *args):
        async def work():
            async with self.database.transaction() as tx:
                return await verb(tx, *args)

        return self.run(work())

    @initialize()
    def begin(self):
        self.register()
        self.submit(0)

    @rule(level=st.integers(0, 3))
    def submit(self, level):
        found = self.run(self.world.submit(self.scene, algorithm="model", parameters={"level": level}))
        if found.outcome == "submitted":
            self.jobs[found.job.id] = Model()
        else:
            wanted = (
                (JobState.SUCCEEDED,)
                if found.outcome == "reused"
                else (JobState.QUEUED, JobState.RUNNING, JobState.HELD)
            )
            assert self.jobs[found.job.id].state in wanted

    @rule()
    @precondition(lambda self: len(self.alive) < 3)
    def register(self):
        self.alive.append(self.run(self.world.worker()))

    @rule(data=st.data(), count=st.integers(1, 3))
    @precondition(lambda self: self.alive)
    def lease(self, data, count):
        worker = data.draw(st.sampled_from(self.alive))
        for lease in self.run(self.world.lease(worker, count)):
            model = self.jobs[lease.job_id]
            assert model.state is JobState.QUEUED
            assert lease.number == model.lease + 1
            model.state, model.holder, model.lease = JobState.RUNNING, worker, lease.number
            name = f"{lease.job_id}"
            self.believed.append((worker, lease, self.run(self.world.succeed(worker, lease, name, name.encode()))))

    @rule(data=st.data(), error_class=st.sampled_from([None, *FAILURES]), twice=st.booleans())
    @precondition(lambda self: self.believed)
    def finish(self, data, error_class, twice):
        worker, lease, success = data.draw(st.sampled_from(self.believed))
        report = success
        if error_class is not None:
            report = Report(lease.job_id, lease.number, AttemptOutcome.FAILED, error_class, "It went wrong.")
        model = self.jobs[lease.job_id]
        is_held = model.state is JobState.RUNNING and (model.holder, model.lease) == (worker, lease.number)
        results = self.run(self.world.finish(worker, *([report] * (2 if twice else 1))))
        if is_held:
            assert {result.outcome for result in results} == {"recorded"}
            self._ended(model, lease, error_class)
        else:
            wanted = self._repeated(model.ended[lease.number], error_class)
            assert {result.outcome for result in results} == {wanted}, (model, lease.number)

    def _ended(self, model, lease, error_class):
        model.holder = None
        if error_class is None:
            model.state, model.published, model.ended[lease.number] = JobState.SUCCEEDED, lease.number, "succeeded"
            return
        if model.is_cancelling:
            model.state, model.is_cancelling, model.ended[lease.number] = JobState.CANCELLED, False, "cancelled"
            return
        model.failures += 1
        model.ended[lease.number] = "failed"
        again = error_class in RETRIED and model.failures < ATTEMPTS
        model.state = JobState.QUEUED if again else JobState.FAILED

    def _repeated(self, outcome, error_class):
        if outcome == "lost" or (outcome == "preempted" and error_class is None):
            return "refused"
        return "problem" if outcome == "failed" and error_class is None else "recorded"

    @rule(data=st.data(), how=st.sampled_from(["lost", "preempted"]))
    @precondition(lambda self: self.alive)
    def end_worker(self, data, how):
        worker = data.draw(st.sampled_from(self.alive))
        self.alive.remove(worker)
        if how == "lost":
            self.do(workers.end, [worker.worker_id], "It was silent.")
        else:
            self.do(workers.leave, worker.worker_id, "It had to go.")
        for model in self.jobs.values():
            if model.holder is worker:
                self._interrupted(model, how)

    @rule(data=st.data())
    @precondition(lambda self: any(model.holder for model in self.jobs.values()))
    def give_back(self, data):
        job = data.draw(st.sampled_from([job for job, model in self.jobs.items() if model.holder]))
        model = self.jobs[job]
        assert self.do(queue.give_back, model.holder.worker_id, [(job, model.lease)], "No room.") == 1
        self._interrupted(model, "preempted")

    def _interrupted(self, model, how):
        model.ended[model.lease] = how
        model.holder = None
        model.state = JobState.CANCELLED if model.is_cancelling else JobState.QUEUED
        model.is_cancelling = False

    @rule(data=st.data(), verb=st.sampled_from([cancel, steer.again, steer.hold, steer.release]))
    @precondition(lambda self: self.jobs)
    def steer(self, data, verb):
        job = data.draw(st.sampled_from(list(self.jobs)))
        model = self.jobs[job]
        try:
            self.do(verb, OWNER, job)
        except Conflict:
            return  # the invariant sees that nothing has changed
        if verb is cancel and model.state is JobState.RUNNING:
            model.is_cancelling = True
        elif verb is cancel:
            model.state = JobState.CANCELLED
        elif verb is steer.hold:
            model.state = JobState.HELD
        elif verb is steer.again and model.state is not JobState.QUEUED:
            model.state, model.failures = JobState.QUEUED, 0
        else:
            model.state = JobState.QUEUED

    @rule(seconds=st.sampled_from([1, 30, 700]))
    def wait(self, seconds):
        self.clock.advance(timedelta(seconds=seconds))

    @invariant()
    def the_database_is_what_the_model_says(self):
        for row in self.do(lambda tx: tx.rows("select * from job")):
            model = self.jobs[row["id"]]
            assert (row["state"], row["attempts"], row["failures"]) == (model.state, model.lease, model.failures), model
            assert row["failures"] <= ATTEMPTS
        queued = {row["job_id"]: row for row in self.do(lambda tx: tx.rows("select job_id, worker_id from job_queue"))}
        assert set(queued) == {job for job, model in self.jobs.items() if model.state.is_live}
        for job, row in queued.items():
            assert row["worker_id"] == (self.jobs[job].holder.worker_id if self.jobs[job].holder else None)

    @invariant()
    def attempts_follow_each_other_and_only_the_last_may_be_open(self):
        rows = self.do(lambda tx: tx.rows("select * from attempt order by job_id, number"))
        found: dict = {}
        for row in rows:
            found.setdefault(row["job_id"], []).append(row)
        for job, model in self.jobs.items():
            attempts = found.get(job, [])
            assert [one["number"] for one in attempts] == list(range(1, model.lease + 1))
            assert {one["number"]: one["outcome"] for one in attempts if one["ended_at"]} == model.ended
            is_open = [one["number"] for one in attempts if not one["ended_at"]]
            assert is_open == ([model.lease] if model.state is JobState.RUNNING else [])

    @invariant()
    def what_is_published_is_what_succeeded_once(self):
        rows = self.do(
            lambda tx: tx.rows(
                """select item.granule, item.revision, upload.lease from item join upload on upload.id = item.upload_id
                   where item.collection = 'picture'"""
            )
        )
        published = {str(job): model.published for job, model in self.jobs.items() if model.published}
        assert {row["granule"]: row["lease"] for row in rows} == published
        assert all(row["revision"] == 1 for row in rows)
        assert self.do(lambda tx: tx.value("select count(*) from activity")) == len(published)


class Chosen:
    """Draws what it was given."""

    def __init__(self, value):
        self.value = value

    def draw(self, _strategy):
        return self.value


@pytest.mark.slow
def test_no_order_of_events_loses_a_job_or_publishes_twice(database_server):
    run_state_machine_as_test(
        type("Engine", (Engine,), {"server": database_server}),
        settings=settings(
            max_examples=settings.default.max_examples * 2 // 5,
            stateful_step_count=40,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("is_fenced", [True, False])
def test_the_model_notices_when_the_fence_is_off(database_server, monkeypatch, is_fenced):
    if not is_fenced:
        monkeypatch.setattr("armillary.jobs.finish.is_holder", lambda held, worker_id, number: held is not None)
    engine = type("Engine", (Engine,), {"server": database_server})()
    try:
        engine.begin()
        engine.lease(Chosen(engine.alive[0]), 1)
        (stale,) = engine.believed
        engine.end_worker(Chosen(engine.alive[0]), "lost")
        engine.register()
        engine.lease(Chosen(engine.alive[0]), 1)
        with contextlib.nullcontext() if is_fenced else pytest.raises(AssertionError):
            engine.finish(Chosen(stale), ErrorClass.INFRASTRUCTURE, False)
            engine.the_database_is_what_the_model_says()
    finally:
        engine.teardown()
