"""The SQL of rules, their wakes and their firings."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from armillary.accounts.permit import VISIBLE
from armillary.base.db import Row, Transaction, jsonb
from armillary.granules.granule import Reference
from armillary.jobs.job import Submission
from armillary.rules.firing import Decision, Firing

_FIRING = """id, rule, rule_version, key, version, state, reason, due_at, job_id, missing, late, "group", created_at,
    submitted_at, outcome"""

Place = tuple[UUID, str, str, str, int]  # firing, role, collection, granule, revision


# Rules ---------------------------------------------------------------------------------------------------------


async def put(tx: Transaction, rule: str, version: int, spec: dict[str, Any], collections: list[str], enabled: bool,
              group: str, account: str) -> None:  # fmt: skip
    """Make or replace a rule."""
    await tx.execute(
        """insert into rule (id, version, spec, collections, enabled, "group", created_by)
           values (%s, %s, %s, %s, %s, %s, %s)
           on conflict (id) do update set version = excluded.version, spec = excluded.spec,
               collections = excluded.collections, enabled = excluded.enabled""",
        [rule, version, jsonb(spec), collections, enabled, group, account],
    )


async def delete(tx: Transaction, rule: str) -> None:
    """Delete a rule; its firings are history and stay."""
    await tx.execute("delete from rule where id = %s", [rule])


async def find(tx: Transaction, rule: str) -> Row | None:
    """One rule."""
    return await tx.row("select * from rule where id = %s", [rule])


async def visible(tx: Transaction, scope: dict[str, Any]) -> list[Row]:
    """The rules that the actor may see, with how their firings stand."""
    return await tx.rows(
        f"""select rule.*, (select coalesce(jsonb_object_agg(state, n), '{{}}') from
                (select state, count(*) as n from firing where firing.rule = rule.id group by state) as counted) as firings
            from rule where {VISIBLE} order by id""",
        scope,
    )


async def enabled_specs(tx: Transaction) -> list[dict[str, Any]]:
    """The documents of all rules that are enabled."""
    return [row["spec"] for row in await tx.rows("select spec from rule where enabled order by id")]


async def enabled(tx: Transaction) -> list[Row]:
    """Which versions of which rules are enabled: small, so that parsed rules can be kept in memory."""
    return await tx.rows("select id, version from rule where enabled")


async def enabled_version(tx: Transaction, rule: str) -> int | None:
    """The version of one rule if it is enabled."""
    version: int | None = await tx.value("select version from rule where id = %s and enabled", [rule])
    return version


async def specs(tx: Transaction, ids: Sequence[str]) -> list[Row]:
    """The texts of some rules."""
    return await tx.rows('select id, version, spec, "group", created_by from rule where id = any(%s)', [list(ids)])


async def enable(tx: Transaction, rule: str, is_enabled: bool) -> None:
    """Switch a rule on or off; it becomes another version so that every server notices."""
    await tx.execute("update rule set enabled = %s, version = version + 1 where id = %s", [is_enabled, rule])


# Wakes ---------------------------------------------------------------------------------------------------------


async def insert_wakes(tx: Transaction, wakes: list[tuple[str, str, str]]) -> None:
    """A granule may complete firings of a rule: (rule, collection, granule)."""
    await tx.execute(
        """insert into rule_wake (rule, collection, granule)
           select * from unnest(%s::text[], %s::text[], %s::text[])""",
        [list(column) for column in zip(*wakes, strict=True)],
    )


async def claim_wakes(tx: Transaction, limit: int) -> list[Row]:
    """Due wakes of one rule, the one that has waited longest first."""
    return await tx.rows(
        """with first as materialized (
               select id, rule from rule_wake where due_at <= armillary_now() order by due_at, id
               limit 1 for update skip locked)
           select rule_wake.id, rule_wake.rule, collection, granule, tries from rule_wake, first
           where rule_wake.rule = first.rule and due_at <= armillary_now()
           order by rule_wake.due_at, rule_wake.id limit %s for update of rule_wake skip locked""",
        [limit],
    )


async def done_wakes(tx: Transaction, ids: Sequence[int]) -> None:
    """These wakes were worked through in this transaction."""
    await tx.execute("delete from rule_wake where id = any(%s)", [list(ids)])


async def failed_wake(tx: Transaction, wake: int, reason: str) -> None:
    """Again later, twice as late each time."""
    await tx.execute(
        """update rule_wake set tries = tries + 1, error = %s,
               due_at = armillary_now() + least(300, power(2, tries)) * interval '1 second' where id = %s""",
        [reason, wake],
    )


async def late_wakes(tx: Transaction, after: timedelta, tries: int) -> int:
    """How many wakes of rules nobody has done for so long after they were due, or that failed more often than that."""
    number: int = await tx.value(
        "select count(*) from rule_wake where due_at < armillary_now() - %s or tries > %s", [after, tries]
    )
    return number


# Firings -------------------------------------------------------------------------------------------------------


async def insert_firings(
    tx: Transaction, rule: str, rule_version: int, wanted: Sequence[tuple[UUID, str]], group: str
) -> list[Row]:
    """Insert those (id, key) whose key never fired, in the given order: exactly one caller gets each back."""
    return await tx.rows(
        """insert into firing (id, rule, rule_version, key, state, "group")
           select id, %s, %s, key, 'waiting', %s from unnest(%s::uuid[], %s::text[]) as wanted (id, key)
           on conflict (rule, key) do nothing returning id, key, created_at, armillary_now() as now""",
        [rule, rule_version, group, [one[0] for one in wanted], [one[1] for one in wanted]],
    )


async def bind(tx: Transaction, places: Sequence[Place]) -> None:
    """Bind granules to roles of firings."""
    if places:
        await tx.execute(
            """insert into firing_role (firing, role, collection, granule, revision)
               select * from unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::integer[])
               on conflict do nothing""",
            [list(column) for column in zip(*places, strict=True)],
        )


async def settle(tx: Transaction, settled: Sequence[tuple[UUID, Decision, Submission | None]]) -> None:
    """Store the decisions on firings, and what their submissions came to."""
    rows = [
        {
            "id": str(firing),
            "state": decision.state,
            "reason": decision.reason,
            "missing": decision.missing,
            "due_at": decision.due_at and decision.due_at.isoformat(),
            "job": submission and str(submission.job.id),
            "outcome": submission and submission.outcome,
        }
        for firing, decision, submission in settled
    ]
    await tx.execute(
        """update firing set state = s.state, reason = s.reason, missing = s.missing, due_at = s.due_at, job_id = s.job,
               outcome = s.outcome, version = version + 1, submitted_at = case when s.state = 'submitted' then armillary_now() end
           from jsonb_to_recordset(%s) as s
               (id uuid, state text, reason text, missing text[], due_at timestamptz, job uuid, outcome text)
           where firing.id = s.id""",
        [jsonb(rows)],
    )


async def lock(tx: Transaction, firing: UUID) -> Row | None:
    """The firing, locked, if it still waits: time-out and arrival race for this lock."""
    return await tx.row(
        f"""select {_FIRING}, armillary_now() as now from firing where id = %s and state = 'waiting' for update""",
        [firing],
    )


async def lock_key(tx: Transaction, rule: str, key: str) -> Row | None:
    """The same, found by its key."""
    return await tx.row(
        f"""select {_FIRING}, armillary_now() as now from firing
            where rule = %s and key = %s and state = 'waiting' for update""",
        [rule, key],
    )


async def due(tx: Transaction, limit: int) -> list[Row]:
    """Waiting firings whose time is over, locked."""
    return await tx.rows(
        f"""select {_FIRING}, armillary_now() as now from firing where state = 'waiting' and due_at <= armillary_now()
            order by due_at limit %s for update skip locked""",
        [limit],
    )


async def open_firings(tx: Transaction, rule: str) -> list[Row]:
    """Waiting firings of a rule, and those that went on without something: never the whole history."""
    return await tx.rows(
        """select id, state, missing from firing
           where rule = %s and (state = 'waiting' or (state = 'submitted' and missing <> '{}')) order by id""",
        [rule],
    )


async def members(tx: Transaction, firings: Sequence[UUID]) -> list[Row]:
    """What is bound to which role."""
    return await tx.rows(
        "select firing, role, collection, granule, revision from firing_role where firing = any(%s)", [list(firings)]
    )


async def waiting_references(tx: Transaction, references: Sequence[Reference]) -> set[Reference]:
    """Those of these revisions that are bound to a firing that waits."""
    rows = await tx.rows(
        """select distinct role.collection, role.granule, role.revision
           from firing_role as role
           join unnest(%s::text[], %s::text[], %s::integer[]) as asked (collection, granule, revision)
               using (collection, granule, revision)
           join firing on firing.id = role.firing and firing.state = 'waiting'""",
        [
            [one.collection for one in references],
            [one.id for one in references],
            [one.revision for one in references],
        ],
    )
    return {Reference(*row.values()) for row in rows}


async def note_late(tx: Transaction, firing: UUID, role: str, collection: str, granule: str) -> None:
    """Something came for a firing that had gone on without it."""
    await tx.execute(
        """update firing set version = version + 1,
               late = late || jsonb_build_array(jsonb_build_object('role', %s::text, 'granule', %s::text, 'at', armillary_now()))
           where id = %s and not late @> jsonb_build_array(jsonb_build_object('role', %s::text, 'granule', %s::text))""",
        [role, f"{collection}/{granule}", firing, role, f"{collection}/{granule}"],
    )


async def firings(
    tx: Transaction, rule: str | None, state: str | None, limit: int, scope: dict[str, Any]
) -> list[Firing]:
    """Firings, newest first."""
    return await tx.all(
        Firing,
        f"""select {_FIRING} from firing where (%(rule)s::text is null or rule = %(rule)s)
            and (%(state)s::text is null or state = %(state)s) and {VISIBLE} order by created_at desc limit %(limit)s""",
        scope | {"rule": rule, "state": state, "limit": limit},
    )


async def firings_of_granule(tx: Transaction, rule: str, collection: str, granule: str) -> list[Firing]:
    """The firings of a rule that a granule is bound in."""
    columns = ", ".join(f"firing.{name.strip()}" for name in _FIRING.split(","))
    return await tx.all(
        Firing,
        f"""select distinct {columns} from firing join firing_role on firing_role.firing = firing.id
            where rule = %s and collection = %s and granule = %s""",
        [rule, collection, granule],
    )


# Timers --------------------------------------------------------------------------------------------------------


async def set_timer(tx: Transaction, rule: str, next_at: datetime | None) -> None:
    """When a scheduled rule fires next; None for never."""
    if next_at is None:
        await tx.execute("delete from rule_timer where rule = %s", [rule])
    else:
        await tx.execute(
            """insert into rule_timer (rule, next_at) values (%s, %s)
               on conflict (rule) do update set next_at = excluded.next_at""",
            [rule, next_at],
        )


async def due_timers(tx: Transaction) -> list[Row]:
    """Timers whose time has come, locked."""
    return await tx.rows(
        """select rule_timer.rule, next_at, armillary_now() as now from rule_timer join rule on rule.id = rule_timer.rule
           where enabled and next_at <= armillary_now() for update of rule_timer skip locked"""
    )


async def now(tx: Transaction) -> datetime:
    """The time."""
    time: datetime = await tx.value("select armillary_now()")
    return time
