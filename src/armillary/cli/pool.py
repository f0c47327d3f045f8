"""`armillary pool …` and `armillary worker …`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from armillary.base import units
from armillary.base.units import human_size
from armillary.cli.context import Context, Id, json_option, pass_context
from armillary.cli.group import Noun
from armillary.cli.output import Column, counts, show_fields, show_json, show_list, when

WORKER_COLUMNS: Sequence[Column] = (
    ("worker", "id"),
    ("state", "state"),
    ("host", "host"),
    ("process", "pid"),
    ("size", lambda row: _capacity(row)),
    ("heard of", lambda row: when(row["beat_at"])),
    ("reason", "reason"),
)


@click.group(cls=Noun, short_help="Pools of workers.")
def pool() -> None:
    """Pools: where jobs run, and how many workers they get. They are defined by `armillary apply`."""


@pool.command("list", epilog="Example:  armillary pool list")
@json_option
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List all pools."""
    with context.client() as client:
        show_list(
            client.pages("/api/pools", "pools"),
            [
                ("pool", "id"),
                ("provider", lambda row: row["spec"].get("provider") or "none"),
                ("wanted", lambda row: "" if row["wanted"] is None else str(row["wanted"])),
                ("workers", lambda row: counts(row["workers"]) or "0"),
                ("running", "running"),
                ("waiting", "waiting"),
                ("why", "why"),
            ],
            as_json=as_json,
            nothing="There are no pools; `armillary apply` defines some.",
        )


@pool.command("show", epilog="Example:  armillary pool show default")
@click.argument("pool_id", metavar="POOL")
@json_option
@pass_context
def show(context: Context, pool_id: str, as_json: bool) -> None:
    """Show a pool: its definition, its workers, and what its provider says."""
    from armillary.cli.definition import text_of

    with context.client() as client:
        found = client.call("GET", _path(pool_id))
    if as_json:
        show_json(found)
        return
    show_fields(
        [
            ("pool", found["id"]),
            ("group", found["group"]),
            ("running", found["running"]),
            ("waiting", found["waiting"]),
            ("wanted", "" if found["wanted"] is None else found["wanted"]),
            ("why", found["why"]),
            ("today", _today(found)),
            ("definition", text_of(found["spec"])),
        ]
    )
    click.echo()
    show_list(found["workers"], WORKER_COLUMNS, as_json=False, nothing="It has no workers.")
    coming = [row for row in found["starts"] if row["state"] != "running" or not row["worker"] or row["note"]]
    for title, rows, said in (("on their way or going", coming, "note"), ("ended last", found["ended"], "reason")):
        if rows:
            click.echo(f"\n{title}:")
            show_list(rows, _start_columns(said), as_json=False, nothing="")


@pool.command("drain", epilog="Example:  armillary pool drain default")
@click.argument("pool_id", metavar="POOL")
@json_option
@pass_context
def drain(context: Context, pool_id: str, as_json: bool) -> None:
    """Let the workers of a pool finish what they run and leave."""
    with context.client() as client:
        answer = client.call("POST", f"{_path(pool_id)}/drain")
    if as_json:
        show_json(answer)
    else:
        number = len(answer["workers"])
        click.echo(f"{number} worker{'s' if number != 1 else ''} of pool {pool_id} will leave when done.")


@pool.group("token", cls=Noun, short_help="Tokens for workers elsewhere.")
def token() -> None:
    """Tokens that let workers anywhere join a pool: `armillary worker start --url … --pool … --token-file …`."""


@token.command(
    "make", epilog="Example:  armillary pool token make default --title 'the machine in the lab' --lasts 90d"
)
@click.argument("pool_id", metavar="POOL")
@click.option("--title", default="", help="Where it will be used.")
@click.option("--lasts", default=None, help="How long it is good, as in 90d; until it is revoked if not given.")
@json_option
@pass_context
def token_make(context: Context, pool_id: str, title: str, lasts: str | None, as_json: bool) -> None:
    """Make a token and print it, this once."""
    seconds = units.duration(lasts, "--lasts").total_seconds() if lasts else None
    with context.client() as client:
        made = client.call("POST", f"{_path(pool_id)}/tokens", body={"title": title, "lasts_seconds": seconds})
    if as_json:
        show_json(made)
        return
    click.echo(made["token"])
    click.echo(
        f"Keep it in a file of mode 0600; `armillary pool token revoke {pool_id} {made['id']}` ends it.", err=True
    )


@token.command("list", epilog="Example:  armillary pool token list default")
@click.argument("pool_id", metavar="POOL")
@json_option
@pass_context
def token_list(context: Context, pool_id: str, as_json: bool) -> None:
    """List the tokens of a pool, without what is secret about them."""
    with context.client() as client:
        show_list(
            client.pages(f"{_path(pool_id)}/tokens", "tokens"),
            [
                ("token", "id"),
                ("state", "state"),
                ("title", "title"),
                ("made by", "made_by"),
                ("made", lambda row: when(row["created_at"])),
                ("until", lambda row: when(row["expires_at"]) if row["expires_at"] else ""),
                ("workers", "workers"),
            ],
            as_json=as_json,
            nothing="It has no tokens; `armillary pool token make` makes one.",
        )


@token.command("revoke", epilog="Example:  armillary pool token revoke default 019a…")
@click.argument("pool_id", metavar="POOL")
@click.argument("token_id", metavar="TOKEN")
@json_option
@pass_context
def token_revoke(context: Context, pool_id: str, token_id: str, as_json: bool) -> None:
    """Revoke a token: its workers are refused at once, and their jobs go on elsewhere."""
    with context.client() as client:
        answer = client.call("DELETE", f"{_path(pool_id)}/tokens/{token_id}")
    if as_json:
        show_json(answer)
    else:
        number = len(answer["workers"])
        click.echo(f"It is revoked; {number} worker{'s' if number != 1 else ''} came with it.")


@click.group(cls=Noun, short_help="The programs that run jobs.")
def worker() -> None:
    """Workers: the programs that run jobs, each of one pool."""


@worker.command("list", epilog="Examples:  armillary worker list   armillary worker list --pool default")
@click.option("--pool", "pool_id", help="Only of this pool.")
@click.option("--all", "with_gone", is_flag=True, help="Those that are gone as well.")
@json_option
@pass_context
def worker_list(context: Context, pool_id: str | None, with_gone: bool, as_json: bool) -> None:
    """List workers."""
    with context.client() as client:
        found = client.pages("/api/workers", "workers", {"pool": pool_id})
        show_list(
            (row for row in found if with_gone or row["state"] != "gone"),
            [*WORKER_COLUMNS[:2], ("pool", "pool"), *WORKER_COLUMNS[2:], ("running", "running")],
            as_json=as_json,
            nothing="There are no workers.",
        )


@worker.command(
    "start",
    epilog="Example:  armillary worker start --url https://data.example.org --pool default --token-file ~/token",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def worker_start(options: tuple[str, ...]) -> None:
    """Be a worker, on this machine, until told to stop: the same program as `armillary-runner`."""
    from armillary.runner.main import main

    main.main(list(options), prog_name="armillary worker start")


def _start_columns(said: str) -> Sequence[Column]:
    return (
        ("start", "id"),
        ("reference", lambda row: row["reference"] or ""),
        ("state", lambda row: row.get("state", "ended")),
        ("since", lambda row: when(row.get("ended_at") or row["started_at"])),
        (said, said),
    )


def _today(found: Mapping[str, Any]) -> str:
    cost = f", {found['cost_today']:.2f} in cost" if found["cost_today"] else ""
    return f"{found['hours_today']:.1f} worker hours{cost}"


def _path(pool_id: str) -> str:
    from armillary.client.client import segment

    return f"/api/pools/{segment(pool_id)}"


def _capacity(row: Mapping[str, Any]) -> str:
    capacity = row.get("capacity") or {}
    if not capacity:
        return ""
    return f"{capacity['cpu']:g} CPUs, {human_size(capacity['memory_bytes'])}"


@worker.command("release", epilog="Example:  armillary worker release 01991f3c-…")
@click.argument("worker_id", metavar="WORKER", type=Id("worker"))
@pass_context
def worker_release(context: Context, worker_id: str) -> None:
    """Take a quarantined worker back, once what made it fail is mended."""
    from armillary.client.client import segment

    with context.client() as client:
        client.call("POST", f"/api/workers/{segment(worker_id)}/release")
    click.echo(f"Worker {worker_id} is given work again.")
