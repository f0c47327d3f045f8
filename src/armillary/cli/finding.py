"""`armillary finding …`: what the watchdog found to be wrong, since when, and what to do about it."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from armillary.base.units import human_duration
from armillary.cli.context import Context, Id, json_option, limit_option, pass_context
from armillary.cli.group import Noun
from armillary.cli.output import Column, how_long, show_fields, show_json, show_list, when

SEVERITIES = ("notice", "warning", "error")
STATES = ("open", "closed", "all")
COLUMNS: Sequence[Column] = (
    ("finding", "id"),
    ("severity", "severity"),
    ("sweep", "sweep"),
    ("since", lambda row: when(row["opened_at"])),
    ("for", lambda row: how_long(row["opened_at"], row["closed_at"])),
    ("reason", "reason"),
)
COLOURS = {"error": "red", "warning": "yellow", "notice": "cyan"}


@click.group(cls=Noun, short_help="What is wrong with the machinery, since when, and what to do.")
def finding() -> None:
    """Findings: dead workers, stuck jobs, queues that nobody can serve, full disks and the like, by the watchdog.

    A notice was dealt with already; a warning wants you to look; of an error something stands still or is lost.
    """


@finding.command(
    "list", epilog="Examples:  armillary finding list   armillary finding list --state all --sweep queues --limit 20"
)
@click.option("--state", type=click.Choice(STATES), default="open", show_default=True, help="Open, closed, or all.")
@click.option("--sweep", help="Only of this sweep; `armillary finding sweeps` lists them.")
@click.option("--severity", type=click.Choice(SEVERITIES), help="Only of this severity.")
@click.option("--subject", help="Only about this, as in pool:default.")
@limit_option
@json_option
@pass_context
def list_(
    context: Context,
    state: str,
    sweep: str | None,
    severity: str | None,
    subject: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List findings, newest first."""
    with context.client() as client:
        params = {"state": state, "sweep": sweep, "severity": severity, "subject": subject}
        found = client.pages("/api/findings", "findings", params)
        show_list(found, COLUMNS, as_json=as_json, nothing="There are no such findings.", limit=limit)


@finding.command("show", epilog="Example:  armillary finding show 01991f3c-…")
@click.argument("finding_id", metavar="FINDING", type=Id("finding"))
@json_option
@pass_context
def show(context: Context, finding_id: str, as_json: bool) -> None:
    """Show a finding: its reason, what was done, what you can do, and what became of it."""
    from armillary.client.client import segment

    with context.client() as client:
        found: dict[str, Any] = client.call("GET", f"/api/findings/{segment(finding_id)}")
    if as_json:
        show_json(found)
        return
    show_fields(
        [
            ("finding", found["id"]),
            ("severity", click.style(found["severity"], fg=COLOURS[found["severity"]])),
            ("sweep", found["sweep"]),
            ("about", found["subject"]),
            ("reason", found["reason"]),
            ("done", found["action"]),
            ("to do", found["remedy"] if found["state"] == "open" else ""),
            ("since", when(found["opened_at"])),
            ("last seen", when(found["seen_at"])),
            ("closed", when(found["closed_at"])),
            ("events", [_event(one) for one in found["events"]]),
        ]
    )


@finding.command("sweeps", epilog="Example:  armillary finding sweeps")
@json_option
@pass_context
def sweeps(context: Context, as_json: bool) -> None:
    """List what is looked at, how often, when last, and how many findings are open."""
    with context.client() as client:
        found = client.call("GET", "/api/health")["sweeps"]
    columns: Sequence[Column] = (
        ("sweep", "name"),
        ("every", lambda row: human_duration(row["every_seconds"])),
        ("last", lambda row: when(row["ran_at"])),
        ("open", lambda row: str(sum(row["open"].values()))),
        ("looks for", "about"),
        ("failed", "error"),
    )
    show_list(found, columns, as_json=as_json, nothing="There are no sweeps.")


def lines(found: Mapping[str, Any]) -> list[str]:
    """A finding as `armillary status` shows it."""
    since = when(found["opened_at"])
    head = f"{click.style(found['severity'], fg=COLOURS[found['severity']])}: {found['reason']}  (since {since})"
    return [head, *(f"    {text}" for text in (found["action"], found["remedy"]) if text)]


def _event(one: Mapping[str, Any]) -> str:
    return f"{when(one['at'])}  {one['kind'].removeprefix('finding.')} ({one['detail']['severity']})"
