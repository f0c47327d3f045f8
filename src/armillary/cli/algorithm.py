"""`armillary algorithm …`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from armillary.base.units import human_size
from armillary.cli.context import Context, json_option, pass_context
from armillary.cli.group import Noun
from armillary.cli.output import show_fields, show_json, show_list, state, when


@click.group(cls=Noun, short_help="Registered algorithms, and testing one that is not.")
def algorithm() -> None:
    """Algorithms. A version is registered by `armillary apply FOLDER` and never changes."""


@algorithm.command("list", epilog="Example:  armillary algorithm list")
@json_option
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List the newest version of each algorithm."""
    with context.client() as client:
        show_list(
            client.pages("/api/algorithms", "algorithms"),
            [
                ("algorithm", "id"),
                ("version", "version"),
                ("title", "title"),
                ("registered", lambda row: when(row["registered_at"])),
                ("by", "registered_by"),
            ],
            as_json=as_json,
            nothing="There are no algorithms; `armillary apply FOLDER` registers one.",
        )


@algorithm.command(
    "show", epilog="Examples:  armillary algorithm show insar   armillary algorithm show insar --version 1.0"
)
@click.argument("algorithm_id", metavar="ALGORITHM")
@click.option("--version", help="A version, or its beginning; the newest unless given.")
@json_option
@pass_context
def show(context: Context, algorithm_id: str, version: str | None, as_json: bool) -> None:
    """Show an algorithm: its inputs, parameters, outputs, needs and versions."""
    from armillary.client.client import segment

    with context.client() as client:
        found = client.call("GET", f"/api/algorithms/{segment(algorithm_id)}", params={"version": version})
    if as_json:
        show_json(found)
        return
    spec = found["spec"]
    show_fields(
        [
            ("algorithm", f"{found['id']} {found['version']}"),
            ("title", found["title"]),
            ("digest", found["digest"]),
            ("registered", f"{when(found['registered_at'])} by {found['registered_by']}"),
            ("inputs", [_input(role, part) for role, part in (spec.get("inputs") or {}).items()]),
            ("parameters", [_parameter(name, part) for name, part in (spec.get("parameters") or {}).items()]),
            ("outputs", [f"{name}: {part['collection']}" for name, part in (spec.get("outputs") or {}).items()]),
            ("resources", ", ".join(f"{name} {value}" for name, value in (spec.get("resources") or {}).items())),
            ("environment", spec.get("environment")),
            ("versions", ", ".join(row["version"] for row in found["versions"])),
        ]
    )


@algorithm.command(
    "test",
    epilog="Examples:  armillary algorithm test algorithms/browse   "
    "armillary algorithm test algorithms/browse --input raster=samples/small.tif --keep /tmp/run",
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--input", "inputs", multiple=True, metavar="ROLE=PATH", help="A file or folder for a role; may be repeated."
)
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter, as JSON or text.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="A new folder for what it leaves.")
@json_option
def test(folder: Path, inputs: tuple[str, ...], parameters: tuple[str, ...], keep: Path | None, as_json: bool) -> int:
    """Run the algorithm in FOLDER without a server, exactly as a worker would, and check what it leaves.

    Without --input its samples/ are taken: samples/job.json, or a folder for each role.
    """
    from armillary.cli.job import parameter_values, split_inputs
    from armillary.runner.trial import trial

    roles = {role: [Path(path) for path in paths] for role, paths in split_inputs(inputs).items()}
    outcome: dict[str, Any] = trial(folder, inputs=roles, parameters=parameter_values(parameters), keep=keep)
    if as_json:
        show_json(outcome)
    else:
        _show_trial(outcome)
    return 0 if outcome["outcome"] == "succeeded" else 1


def _show_trial(outcome: Mapping[str, Any]) -> None:
    outputs = outcome.get("outputs") or []
    made = [f"{one['output']}: {one['granule']} ({', '.join(one['files'])})" for one in outputs]
    rest = {name.replace("_", " "): value for name, value in outcome.items() if name not in ("outcome", "outputs")}
    peak = rest.get("peak memory bytes")
    rest |= {"peak memory bytes": None, "peak memory": human_size(peak)} if peak else {}
    show_fields([("outcome", state(outcome["outcome"])), *rest.items(), ("made", made)])


def _input(role: str, part: dict[str, Any]) -> str:
    collections = part["collection"] if isinstance(part["collection"], list) else [part["collection"]]
    marks = [mark for mark in ("many", "optional", "ordered") if part.get(mark)]
    return f"{role}: {' or '.join(collections)}" + (f" ({', '.join(marks)})" if marks else "")


def _parameter(name: str, part: dict[str, Any]) -> str:
    default = f" = {part['default']}" if "default" in part else ""
    about = f"  {part['description']}" if part.get("description") else ""
    return f"{name}: {part.get('type', 'any')}{default}{about}"


@algorithm.command("pause", epilog='Example:  armillary algorithm pause insar --reason "The orbits of May are wrong"')
@click.argument("algorithm_id", metavar="ALGORITHM")
@click.option("--version", help="A version, or its beginning; the newest unless given.")
@click.option("--reason", default="", help="Why; shown with every job that waits for it.")
@pass_context
def pause(context: Context, algorithm_id: str, version: str | None, reason: str) -> None:
    """Hold the jobs of an algorithm, those to come included. What runs goes on."""
    from armillary.client.client import segment

    with context.client() as client:
        body = {"version": version, "reason": reason}
        client.call("POST", f"/api/algorithms/{segment(algorithm_id)}/pause", body=body)
    click.echo(f"{algorithm_id} is paused; `armillary algorithm resume {algorithm_id}` lets its jobs run again.")


@algorithm.command("resume", epilog="Example:  armillary algorithm resume insar")
@click.argument("algorithm_id", metavar="ALGORITHM")
@click.option("--version", help="A version, or its beginning; the newest unless given.")
@pass_context
def resume(context: Context, algorithm_id: str, version: str | None) -> None:
    """Let the jobs of a paused algorithm run again."""
    from armillary.client.client import segment

    with context.client() as client:
        answer = client.call("POST", f"/api/algorithms/{segment(algorithm_id)}/resume", body={"version": version})
    click.echo(f"{algorithm_id} runs again; {answer['released']} jobs were held.")


@algorithm.command("paused", epilog="Example:  armillary algorithm paused")
@json_option
@pass_context
def paused(context: Context, as_json: bool) -> None:
    """List paused algorithms: why, by whom and since when."""
    with context.client() as client:
        found = client.call("GET", "/api/pauses")["pauses"]
    show_list(
        found,
        [
            ("algorithm", "algorithm"),
            ("version", "version"),
            ("paused", lambda row: when(row["paused_at"])),
            ("by", "paused_by"),
            ("reason", "reason"),
        ],
        as_json=as_json,
        nothing="No algorithm is paused.",
    )
