"""Servers that do not do their part: roles that nobody has, loops that fail or hang, work that nobody takes up."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from armillary.base import events, servers
from armillary.base.clock import parse
from armillary.base.loops import Turn, turns
from armillary.base.servers import Living
from armillary.rules import fire
from armillary.watchdog.finding import Finding
from armillary.watchdog.sweep import Sweep, View
from armillary.watchdog.words import several, span

FAILING = timedelta(seconds=30)
HANGING = timedelta(minutes=5)
LATE = timedelta(minutes=2)

# What stands still while no server has the role.
ROLES: Mapping[str, str] = {
    "web": "workers, clients and browsers reach nobody",
    "reactor": "no rule fires, no delivery is sent",
    "pools": "no worker is started or declared dead",
    "watchdog": "nothing is collected, no deadline is kept",
}


async def find(view: View) -> list[Finding]:
    """Read what the servers said last, and what waits."""
    async with view.database.transaction() as tx:
        now = await tx.value("select armillary_now()")
        living = await servers.living(tx)
        late = await events.late(tx, LATE)
        rules = await fire.late(tx, LATE)
    return decide(living, late | ({"rules' matching": rules} if rules else {}), now)


def decide(living: Sequence[Living], late: Mapping[str, int], now: datetime) -> list[Finding]:
    """One finding for each role that is missing, each loop that is ill, and each consumer that is behind."""
    had = {role for one in living for role in one.roles}
    found = [
        Finding(
            subject=f"role:{role}",
            severity="error",
            reason=f"No server with the role {role} runs: {stands}.",
            remedy=f"Start one: `armillary serve --role {role}` with the same --dsn and --store.",
        )
        for role, stands in ROLES.items()
        if role not in had
    ]
    for server in living:
        ahead = timedelta(seconds=server.told.get("clock_ahead_seconds", 0.0))
        for name, turn in turns(server.told.get("loops", {})).items():
            if ill := illness(turn, now + ahead):
                found.append(_ill(server, name, ill))
    found += [
        Finding(
            subject=f"wakes:{consumer}",
            severity="warning",
            reason=f"{several(number, 'piece')} of work of {consumer} wait for more than {span(LATE)}, or fail again and "
            "again.",
            remedy="Is a server with the reactor's role running, and what does its log say? `armillary doctor` names each.",
        )
        for consumer, number in sorted(late.items())
    ]
    return found


def illness(turn: Turn, now: datetime) -> str:
    """What is wrong with a loop, if anything; `now` is its own machine's time."""
    if turn.failing_since and now - parse(turn.failing_since) > FAILING:
        return f"fails since {turn.failing_since[:19]}Z: {turn.error}"
    quiet = now - parse(turn.ended_at)
    if quiet > timedelta(seconds=turn.every_seconds) + HANGING:
        return f"has not ended a turn for {span(quiet)}"
    return ""


def _ill(server: Living, name: str, ill: str) -> Finding:
    return Finding(
        subject=f"loop:{server.host}/{server.pid}/{name}",
        severity="error",
        reason=f"The loop {name} of the server on {server.host} (process {server.pid}) {ill}",
        action="It goes on trying." if ill.startswith("fails") else "",
        remedy="See the server's log; if it hangs, end that process: another server, or its next start, takes over.",
    )


SWEEP = Sweep("loops", "Servers, roles and loops that do not do their part.", timedelta(seconds=10), find)
