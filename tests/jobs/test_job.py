import contextlib
from itertools import permutations
from pathlib import Path

import pytest

from armillary.jobs.job import EXIT_CODES, TRANSITIONS, ErrorClass, JobState


async def test_the_database_allows_exactly_the_transitions_of_the_table(database):
    async with database.transaction() as tx:
        rows = await tx.rows("select from_state, to_state from job_transition")
    here = {(before.value, after.value) for before, followers in TRANSITIONS.items() for after in followers}
    assert {(row["from_state"], row["to_state"]) for row in rows} == here
    assert set(TRANSITIONS) == set(JobState)


async def test_the_database_refuses_every_other_transition(world):
    job = (await world.submit(await world.granule("a"))).job.id
    update = "update job set state = %s where id = %s"
    for before, after in permutations(JobState, 2):
        async with world.database.transaction() as tx:
            await tx.execute("alter table job disable trigger job_transition")
            await tx.execute(update, [before, job])
            await tx.execute("alter table job enable trigger job_transition")
        expected = (
            contextlib.nullcontext()
            if after in TRANSITIONS[before]
            else pytest.raises(Exception, match="cannot become")
        )
        with expected:
            async with world.database.transaction() as tx:
                assert await tx.execute(update, [after, job]) == 1


def test_every_error_class_has_its_words():
    assert [str(one) for one in ErrorClass] == [
        "input missing", "science error", "out of memory", "out of disk", "timed out", "preempted", "lost",
        "infrastructure", "cancelled",
    ]  # fmt: skip


def test_the_reference_names_every_class_with_its_exit_code():
    page = Path(__file__).parents[2] / "docs" / "reference" / "error-classes.md"
    rows = [line.split("|")[1:3] for line in page.read_text().splitlines() if line.startswith("| ")]
    written = {name.strip(): code.strip() for name, code in rows if name.strip() != "class"}
    assert written == {str(one): "" for one in ErrorClass} | {str(one): str(code) for code, one in EXIT_CODES.items()}
