"""Rules by the clock: a row holds the next time, so that nothing is forgotten and nothing happens twice."""

from datetime import UTC, datetime

from cronsim import CronSim

from armillary.base.db import Transaction
from armillary.rules import fire, store
from armillary.rules.fire import Rules
from armillary.rules.rule import Rule


def next_time(schedule: str, after: datetime) -> datetime:
    """The first time of a cron schedule after another, in UTC."""
    time: datetime = next(CronSim(schedule, after.astimezone(UTC)))
    return time


async def set_timer(tx: Transaction, rule: Rule) -> None:
    """Set or clear the timer of a rule that was just defined."""
    if rule.schedule and rule.enabled:
        await store.set_timer(tx, rule.id, next_time(rule.schedule, await store.now(tx)))
    else:
        await store.set_timer(tx, rule.id, None)


async def tick(tx: Transaction, rules: Rules) -> bool:
    """Fire what is due; times missed while no server ran are made up for by one firing, the last of them."""
    due = await store.due_timers(tx)
    for row in due:
        found = await rules.get(tx, row["rule"])
        if found is None or found[0].schedule is None:
            await store.set_timer(tx, row["rule"], None)
            continue
        last, following = row["next_at"], next_time(found[0].schedule, row["next_at"])
        while following <= row["now"]:
            last, following = following, next_time(found[0].schedule, following)
        await fire.on_schedule(tx, rules, last, row["rule"])
        await store.set_timer(tx, row["rule"], following)
    return bool(due)
