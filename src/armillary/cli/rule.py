"""`armillary rule …`: rules, their firings, and why they fired or not."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from armillary.cli.context import Context, GranuleName, json_option, limit_option, pass_context
from armillary.cli.estimates import show_estimate
from armillary.cli.group import Noun
from armillary.cli.output import counts, show_fields, show_json, show_list, when

if TYPE_CHECKING:
    from armillary.client.client import Client


@click.group(cls=Noun, short_help="Rules, their firings, and why they fired or not.")
def rule() -> None:
    """Rules: which granules together start what. They are defined by `armillary apply`."""


@rule.command("list", epilog="Example:  armillary rule list")
@json_option
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List all rules and how their firings stand."""
    with context.client() as client:
        show_list(
            client.pages("/api/rules", "rules"),
            [
                ("rule", "id"),
                ("on", "enabled"),
                ("roles", lambda row: ", ".join(row["spec"].get("when") or {})),
                ("then", lambda row: _action(row["spec"])),
                ("firings", lambda row: counts(row.get("firings") or {})),
            ],
            as_json=as_json,
            nothing="There are no rules; `armillary apply` defines some.",
        )


@rule.command("show", epilog="Example:  armillary rule show interferogram-12-days")
@click.argument("rule_id", metavar="RULE")
@json_option
@pass_context
def show(context: Context, rule_id: str, as_json: bool) -> None:
    """Show one rule as it was defined."""
    from armillary.cli.definition import text_of

    with context.client() as client:
        found = client.call("GET", _path(rule_id))
    if as_json:
        show_json(found)
        return
    show_fields(
        [
            ("rule", found["id"]),
            ("version", found["version"]),
            ("enabled", found["enabled"]),
            ("group", found["group"]),
            ("definition", text_of(found["spec"])),
        ]
    )


@rule.command("firings", epilog="Example:  armillary rule firings interferogram-12-days --state waiting")
@click.argument("rule_id", metavar="RULE")
@click.option("--state", "wanted", help="Only waiting, submitted or dropped ones.")
@limit_option
@json_option
@pass_context
def firings(context: Context, rule_id: str, wanted: str | None, limit: int, as_json: bool) -> None:
    """List the firings of a rule, newest first, with what each waits for."""
    with context.client() as client:
        params = {"state": wanted, "limit": limit}
        show_list(
            client.call("GET", f"{_path(rule_id)}/firings", params=params)["firings"],
            [
                ("firing", "id"),
                ("state", "state"),
                ("granules", _bound),
                ("missing", lambda row: ", ".join(map(str, row.get("missing") or []))),
                ("due", lambda row: when(row.get("due_at"))),
                ("job", lambda row: row.get("job_id") or row.get("job")),
                ("which was", "outcome"),
                ("reason", "reason"),
            ],
            as_json=as_json,
            nothing="It has not fired.",
        )


@rule.command(
    "explain", epilog="Example:  armillary rule explain interferogram-12-days sentinel-1-slc/S1A_IW_SLC__1SDV_…"
)
@click.argument("rule_id", metavar="RULE")
@click.argument("name", metavar="COLLECTION/ID", type=GranuleName())
@json_option
@pass_context
def explain(context: Context, rule_id: str, name: str, as_json: bool) -> None:
    """Say why a rule did or did not fire for a granule."""
    with context.client() as client:
        found = client.call("GET", f"{_path(rule_id)}/explain", params={"granule": name})
    if as_json:
        show_json(found)
        return
    for line in found["explanation"]:
        click.echo(line)


@rule.command("backfill", epilog="Example:  armillary rule backfill interferogram-12-days --dry-run")
@click.argument("rule_id", metavar="RULE")
@click.option("--dry-run", is_flag=True, help="Only count, and say what it would take and cost.")
@json_option
@pass_context
def backfill(context: Context, rule_id: str, dry_run: bool, as_json: bool) -> None:
    """Apply a rule to what is catalogued already; sets that it has fired for do not fire again."""
    with context.client() as client:
        found = client.call("POST", f"{_path(rule_id)}/backfill", params={"dry_run": str(dry_run).lower()})
        if dry_run and found["loads"]:
            found["estimate"] = client.call("POST", "/api/estimates", body={"loads": found["loads"]})
    if as_json:
        show_json(found)
        return
    verb = "would be tried" if dry_run else "are being tried"
    click.echo(f"{found['granules']:,} granules {verb}; `armillary rule firings {rule_id}` shows what comes of it.")
    if "estimate" in found:
        click.echo("If each of them starts one job, and none has been done before:")
        show_estimate(found["estimate"])


@rule.command("enable", epilog="Example:  armillary rule enable interferogram-12-days")
@click.argument("rule_id", metavar="RULE")
@pass_context
def enable(context: Context, rule_id: str) -> None:
    """Switch a rule on. What arrived while it was off is taken up by `armillary rule backfill`."""
    with context.client() as client:
        _switch(client, rule_id, "enable")
    click.echo(f"Rule {rule_id} is on.")


@rule.command("disable", epilog="Example:  armillary rule disable interferogram-12-days")
@click.argument("rule_id", metavar="RULE")
@pass_context
def disable(context: Context, rule_id: str) -> None:
    """Switch a rule off: it fires no more. Jobs that it started go on."""
    with context.client() as client:
        _switch(client, rule_id, "disable")
    click.echo(f"Rule {rule_id} is off.")


def _switch(client: "Client", rule_id: str, verb: str) -> None:
    client.call("POST", f"{_path(rule_id)}/{verb}")


def _path(rule_id: str) -> str:
    from armillary.client.client import segment

    return f"/api/rules/{segment(rule_id)}"


def _action(spec: Mapping[str, Any]) -> str:
    then = spec.get("then") or {}
    return f"run {then['run']}" if "run" in then else f"deliver to {then.get('deliver', '?')}"


def _bound(row: Mapping[str, Any]) -> str:
    return "\n".join(f"{role}: {', '.join(names)}" for role, names in (row.get("granules") or {}).items())
