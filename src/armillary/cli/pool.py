"""`armillary pool …` and `armillary worker …`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

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
                ("workers", lambda row: counts(row["workers"]) or "0"),
                ("running", "running"),
                ("waiting", "waiting"),
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
            ("definition", text_of(found["spec"])),
        ]
    )
    click.echo()
    show_list(found["workers"], WORKER_COLUMNS, as_json=False, nothing="It has no workers.")


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
