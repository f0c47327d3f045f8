"""`armillary run` and `armillary job …`: ask for work, watch it, steer it."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from armillary.base.errors import ArmillaryError, UsageError
from armillary.base.units import human_duration, human_size
from armillary.cli.context import Command, Context, Id, granule_name, json_option, limit_option, pass_context
from armillary.cli.estimates import show_estimate
from armillary.cli.group import Noun, Verb
from armillary.cli.output import how_long, show_fields, show_json, show_list, show_table, state, text, when

if TYPE_CHECKING:
    from armillary.client.client import Client

LIVE = ("held", "queued", "running", "waiting")
WAIT_SECONDS = 30.0
OPERATION_SECONDS = 3600.0  # a million jobs take their time
JOB_ID = Id("job")
LOAD = ("algorithm", "version", "pool", "jobs")
BARS = "▁▂▃▄▅▆▇█"


@click.command(
    cls=Verb,
    short_help="Run an algorithm on granules.",
    epilog="Examples:  armillary run browse --input raster=elevation/n45e010 --wait   "
    "armillary run insar --input reference=slc/a --input secondary=slc/b --param looks=[19,7]   "
    "armillary run mosaic --after JOB --after JOB --deadline 6h",
)
@click.argument("algorithm")
@click.option("--input", "inputs", multiple=True, metavar="ROLE=COLLECTION/ID", help="A granule; may be repeated.")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter, as JSON or text.")
@click.option("--version", help="A version, or its beginning; the newest unless given.")
@click.option("--pool", help="The pool whose workers run it.")
@click.option("--priority", type=int, help="Larger goes first.")
@click.option(
    "--twins",
    type=click.Choice(["share", "reuse", "again"]),
    help="What to do with the same work: share one that is under way, reuse one that is done as well, or run again.",
)
@click.option("--hold", is_flag=True, help="Do not start it before `armillary job release`.")
@click.option("--after", multiple=True, metavar="JOB", type=Id("job"), help="Start it after this job; may be repeated.")
@click.option(
    "--on-failure",
    type=click.Choice(["cancel", "hold", "run"]),
    help="What becomes of it if a job that it runs after does not succeed: cancel (unless given), hold, or run anyway.",
)
@click.option("--deadline", metavar="WHEN", help="2h from now, or a time as in 2026-03-01T12:00:00Z.")
@click.option(
    "--on-deadline",
    type=click.Choice(["fail", "warn"]),
    help="Past it, fail (unless given) or only say so in its reason.",
)
@click.option("--wait", is_flag=True, help="Show its log until it ends; the exit code is 0 if it succeeded.")
@click.option(
    "--estimate", is_flag=True, help="Only say what would become of it, how long it would take and what cost."
)
@json_option
@pass_context
def run(
    context: Context,
    algorithm: str,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    version: str | None,
    pool: str | None,
    priority: int | None,
    twins: str | None,
    hold: bool,
    after: tuple[str, ...],
    on_failure: str | None,
    deadline: str | None,
    on_deadline: str | None,
    wait: bool,
    estimate: bool,
    as_json: bool,
) -> int:
    """Run ALGORITHM on granules. The same work is not done twice unless you say so; what was done is told."""
    roles = split_inputs(inputs)
    for names in roles.values():
        for name in names:
            granule_name(name)
    wanted = {"version": version, "pool": pool, "priority": priority, "twins": twins, "after": list(after) or None}
    wanted |= {"on_failure": on_failure, "deadline": deadline, "on_deadline": on_deadline}
    request = {"algorithm": algorithm, "inputs": roles, "parameters": parameter_values(parameters), "hold": hold}
    request |= {name: value for name, value in wanted.items() if value is not None}
    with context.client() as client:
        if estimate:
            found = client.estimate([request])
            show_json(found) if as_json else show_estimate(found)
            return 0
        answer = client.submit(request)
        job = answer["job"]
        if not as_json:
            reason = f": {answer['reason']}" if answer["reason"] else ""
            click.echo(f"Job {job['id']} {answer['outcome']}{reason}")
        if not wait:
            if as_json:
                show_json(answer)
            return 0
        _follow_log(client, job["id"], None, quiet=as_json)
        ended = client.job(job["id"])
        if as_json:
            show_json(answer | {"job": ended})
        else:
            _show_end(ended)
        return 0 if ended["state"] == "succeeded" else 1


@click.command(
    cls=Verb,
    short_help="What jobs cost, by day, group, algorithm and more.",
    epilog="Examples:  armillary cost --by day   armillary cost --by group,day,algorithm --since 2026-03-01",
)
@click.option(
    "--by",
    default="day,algorithm",
    show_default=True,
    help="Any of day, group, account, algorithm, pool and rule, with commas between.",
)
@click.option("--since", metavar="DATE", help="Attempts that ended on that day (UTC) or later.")
@click.option("--until", metavar="DATE", help="Attempts that ended before that day.")
@json_option
@pass_context
def cost(context: Context, by: str, since: str | None, until: str | None, as_json: bool) -> None:
    """Add up what attempts cost that have ended, at the prices that held when they were leased (`scale.cost_per_hour` of pools)."""
    keys = [key.strip() for key in by.split(",")]
    with context.client() as client:
        params = {"by": keys, "since": _midnight(since), "until": _midnight(until)}
        rows = client.call("GET", "/api/jobs/costs", params=params)["costs"]
    show_list(
        rows,
        [
            *((key, key) for key in keys),
            ("attempts", lambda row: f"{row['attempts']:,}"),
            ("hours", lambda row: f"{row['seconds'] / 3600:.2f}"),
            ("cost", lambda row: f"{row['cost']:.4f}"),
        ],
        as_json=as_json,
        nothing="No attempt ended in that time.",
    )


@click.group(cls=Noun, short_help="Jobs, their logs, and steering them.")
def job() -> None:
    """Jobs: work that was asked for, by a person or by a rule."""


@job.command("list", epilog='Examples:  armillary job list --state failed   armillary job list --where "failures > 1"')
@click.option("--state", "wanted", help="queued, running, held, succeeded, failed or cancelled.")
@click.option("--algorithm", help="Only of this algorithm.")
@click.option("--pool", help="Only of this pool.")
@click.option("--where", metavar="CQL2", help="Only those that a filter is true of.")
@limit_option
@json_option
@pass_context
def list_(
    context: Context,
    wanted: str | None,
    algorithm: str | None,
    pool: str | None,
    where: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    with context.client() as client:
        show_list(
            client.jobs(state=wanted, algorithm=algorithm, pool=pool, where=where, limit=min(limit, 1000)),
            [
                ("job", "id"),
                ("algorithm", lambda row: f"{row['algorithm']} {row['algorithm_version']}"),
                ("state", "state"),
                ("progress", _progress),
                ("tries", "attempts_made"),
                ("pool", "pool"),
                ("submitted", lambda row: when(row["created_at"])),
                ("took", lambda row: how_long(row["started_at"], row["ended_at"])),
                ("reason", lambda row: row["reason"] if row["state"] != "succeeded" else ""),
            ],
            as_json=as_json,
            nothing="There are no such jobs.",
            limit=limit,
        )


@job.command("show", epilog="Example:  armillary job show 01991f3c-…")
@click.argument("job_id", metavar="JOB", type=JOB_ID)
@json_option
@pass_context
def show(context: Context, job_id: str, as_json: bool) -> None:
    """Show a job: its state and why, its inputs and outputs, and every attempt with what it used."""
    with context.client() as client:
        found = client.job(job_id)
    if as_json:
        show_json(found)
        return
    show_fields(
        [
            ("job", found["id"]),
            ("algorithm", f"{found['algorithm']} {found['algorithm_version']}"),
            ("state", state(found["state"])),
            ("reason", found["reason"]),
            ("error class", found["error_class"]),
            ("progress", _progress(found)),
            ("pool", f"{found['pool']}, priority {found['priority']}"),
            ("runs after", [_dependency(one) for one in found["after"]]),
            ("deadline", _deadline(found)),
            ("parameters", found["parameters"]),
            ("inputs", [f"{one['role']}: {_granule(one)}" for one in found["inputs"]]),
            ("outputs", [f"{one['output']}: {_granule(one)}" for one in found["outputs"]]),
            ("result", found["result"]),
            ("asked for", f"{when(found['created_at'])} by {found['created_by']} {_cause(found['cause'])}"),
            ("took", how_long(found["started_at"], found["ended_at"])),
            ("cost", f"{found['cost']:.4f}, all attempts together" if found["cost"] else ""),
        ]
    )
    if found["attempts"]:
        click.echo()
        show_table(
            ["attempt", "host", "began", "took", "outcome", "cpu", "peak memory", "read", "written", "reason"],
            [_attempt(attempt) for attempt in found["attempts"]],
        )
        usage = found["attempts"][-1].get("usage") or {}
        for line in [*curves(usage), *transfers(usage)]:
            click.echo(line)


@job.command(
    "logs", epilog="Examples:  armillary job logs JOB   armillary job logs JOB -f   armillary job logs JOB --attempt 1"
)
@click.argument("job_id", metavar="JOB", type=JOB_ID)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--attempt", type=click.IntRange(1), help="The last unless given.")
@pass_context
def logs(context: Context, job_id: str, follow: bool, attempt: int | None) -> None:
    """Print what a job wrote."""
    with context.client() as client:
        if follow:
            _follow_log(client, job_id, attempt, quiet=False)
            return
        offset, has_ended = 0, False
        while not has_ended:
            part = client.job_log(job_id, offset=offset, attempt=attempt)
            sys.stdout.buffer.write(part.data)
            has_ended, offset = not part.data, part.next_offset
        sys.stdout.buffer.flush()


@job.command(
    "files",
    epilog="Examples:  armillary job files JOB   armillary job files JOB outputs   armillary job files JOB --attempt 1",
)
@click.argument("job_id", metavar="JOB", type=JOB_ID)
@click.argument("path", default="")
@click.option("--attempt", type=click.IntRange(1), help="The last that left something, unless given.")
@json_option
@pass_context
def files(context: Context, job_id: str, path: str, attempt: int | None, as_json: bool) -> None:
    """List what a failed attempt left in its folder, below PATH if one is given."""
    with context.client() as client:
        found = client.job_files(job_id, attempt=attempt)
    found["files"] = _below(found["files"], path)
    if as_json:
        show_json(found)
        return
    show_table(
        ["file", "size", ""],
        [[one["path"], human_size(one["size"]), "" if one["kept"] else "not kept"] for one in found["files"]],
    )
    click.echo(
        f"Attempt {found['attempt']}, kept until {when(found['expires_at'])}."
        + ("" if found["whole"] else " There were more files.")
    )


@job.command(
    "download",
    epilog="Examples:  armillary job download JOB error.json   armillary job download JOB outputs --to there",
)
@click.argument("job_id", metavar="JOB", type=JOB_ID)
@click.argument("path")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="A file or folder that is not there yet; PATH's name here unless given.",
)
@click.option("--attempt", type=click.IntRange(1), help="The last that left something, unless given.")
@pass_context
def download(context: Context, job_id: str, path: str, to: Path | None, attempt: int | None) -> None:
    """Fetch a file, or all that is kept of a folder, that a failed attempt left at PATH ("." is all)."""
    path = path.strip("/")
    target = to or Path(path.rpartition("/")[2] if path != "." else job_id)
    if target.exists():
        raise UsageError(f"{target} is there already.", "Name another with --to.", field="to")
    with context.client() as client:
        found = client.job_files(job_id, attempt=attempt)
        wanted = [one["path"] for one in _below(found["files"], "" if path == "." else path) if one["kept"]]
        if not wanted:
            wanted = [path]  # whose answer says why there is nothing
        for name in wanted:
            place = target if name == path else target / name.removeprefix(f"{path}/")
            place.parent.mkdir(parents=True, exist_ok=True)
            part = place.with_name(f"{place.name}.part")
            try:
                with part.open("wb") as stream:
                    client.job_file(job_id, name, stream, attempt=found["attempt"])
                part.rename(place)
            finally:
                part.unlink(missing_ok=True)
    click.echo(f"{target}: {len(wanted)} {'file' if len(wanted) == 1 else 'files'}")


def selection_options(command: Command) -> Command:
    """Jobs by their ids, or by what they are; and how an operation on many is done."""
    for option in reversed(
        [
            click.argument("job_ids", metavar="[JOB...]", nargs=-1, type=JOB_ID),
            click.option(
                "--where", metavar="CQL2", help="Many at once: a filter such as \"state = 'queued' and priority < 5\"."
            ),
            click.option("--state", "wanted", help="Many at once: those in this state."),
            click.option("--algorithm", help="Many at once: those of this algorithm."),
            click.option("--pool", "of_pool", help="Many at once: those of this pool."),
            click.option("--limit", type=click.IntRange(1), help="At most so many, the oldest."),
            click.option("--reason", help="Why; kept with the operation and its jobs."),
            click.option("--dry-run", is_flag=True, help="Only show which jobs it would be."),
            click.option("--yes", is_flag=True, help="Do not ask."),
        ]
    ):
        command = option(command)
    return command


@job.command(
    "cancel",
    epilog="Examples:  armillary job cancel JOB   "
    "armillary job cancel --where \"state = 'queued' and algorithm = 'browse'\" --dry-run",
)
@selection_options
@json_option
@pass_context
def cancel(context: Context, /, as_json: bool, **selection: Any) -> None:
    """Cancel jobs: at once while they wait, through their worker while they run."""
    _act(context, "cancel", as_json, selection)


@job.command(
    "retry",
    epilog="Examples:  armillary job retry JOB   armillary job retry --where \"error_class = 'infrastructure'\"",
)
@selection_options
@json_option
@pass_context
def retry(context: Context, /, as_json: bool, **selection: Any) -> None:
    """Try jobs again that failed or were cancelled."""
    _act(context, "retry", as_json, selection)


@job.command(
    "hold", epilog="Examples:  armillary job hold JOB   armillary job hold --algorithm insar --reason calibration"
)
@selection_options
@json_option
@pass_context
def hold(context: Context, /, as_json: bool, **selection: Any) -> None:
    """Keep waiting jobs from running."""
    _act(context, "hold", as_json, selection)


@job.command(
    "release",
    epilog="Examples:  armillary job release JOB   armillary job release JOB --now   armillary job release --state held",
)
@selection_options
@click.option("--now", is_flag=True, help="Even if jobs that it runs after have not ended; for jobs by their ids.")
@json_option
@pass_context
def release(context: Context, /, as_json: bool, now: bool, **selection: Any) -> None:
    """Let held jobs run."""
    _act(context, "release", as_json, selection, {"now": now})


@job.command(
    "priority", epilog="Examples:  armillary job priority JOB 10   armillary job priority --algorithm browse 50"
)
@selection_options
@click.argument("priority", metavar="NUMBER", type=int)
@json_option
@pass_context
def priority(context: Context, /, priority: int, as_json: bool, **selection: Any) -> None:
    """Move waiting jobs within their queue; larger goes first."""
    _act(context, "priority", as_json, selection, {"priority": priority})


@job.command(
    "move", epilog='Examples:  armillary job move JOB large   armillary job move --where "memory_bytes > 3e10" large'
)
@selection_options
@click.argument("pool", metavar="POOL")
@json_option
@pass_context
def move(context: Context, /, pool: str, as_json: bool, **selection: Any) -> None:
    """Move waiting jobs to another pool."""
    _operate(context, "move", as_json, selection, {"pool": pool})


@job.command(
    "purge",
    epilog="Examples:  armillary job purge JOB   "
    "armillary job purge --where \"ended < TIMESTAMP('2026-01-01T00:00:00Z')\" --dry-run",
)
@selection_options
@json_option
@pass_context
def purge(context: Context, /, as_json: bool, **selection: Any) -> None:
    """Delete ended jobs and their logs; products, provenance, attempts and what they cost stay."""
    _operate(context, "purge", as_json, selection, {})


@job.command("operations", epilog="Example:  armillary job operations")
@limit_option
@json_option
@pass_context
def operations(context: Context, limit: int, as_json: bool) -> None:
    """List what was done to many jobs at once, newest first."""
    with context.client() as client:
        show_list(
            client.pages("/api/job-operations", "operations", {"limit": min(limit, 1000)}),
            [
                ("operation", "id"),
                ("what", lambda row: " ".join([row["verb"], *map(str, row["arguments"].values())])),
                ("jobs", "jobs"),
                ("selection", lambda row: row["selection"].get("where") or text(row["selection"])),
                ("by", "actor"),
                ("at", lambda row: when(row["created_at"])),
                ("undone", lambda row: f"{row['undone_by']}, {row['restored']} jobs" if row["undone_at"] else ""),
                ("reason", "reason"),
            ],
            as_json=as_json,
            nothing="Nothing was done to many jobs at once.",
            limit=limit,
        )


@job.command("undo", epilog="Example:  armillary job undo OPERATION")
@click.argument("operation", type=Id("operation"))
@json_option
@pass_context
def undo(context: Context, operation: str, as_json: bool) -> None:
    """Undo a hold, release, priority or move of many jobs; jobs that have moved on since stay as they are."""
    with context.client() as client:
        done = client.call("POST", f"/api/job-operations/{operation}/undo", held_seconds=OPERATION_SECONDS, once=True)
    if as_json:
        show_json(done)
    else:
        click.echo(f"{done['restored']:,} of {done['jobs']:,} jobs are what they were.")


# What is typed ---------------------------------------------------------------------------------------------


def split_inputs(inputs: Iterable[str]) -> dict[str, list[str]]:
    """`role=what`, several times, as lists by role."""
    roles: dict[str, list[str]] = {}
    for given in inputs:
        role, equals, what = given.partition("=")
        if not role or not equals or not what:
            raise UsageError(f"--input {given!r} is not understood.", "Write ROLE=COLLECTION/ID.", field="input")
        roles.setdefault(role, []).append(what)
    return roles


def parameter_values(parameters: Iterable[str]) -> dict[str, Any]:
    """`name=value`, several times; a value is JSON where it can be read as such, and text otherwise."""
    values: dict[str, Any] = {}
    for given in parameters:
        name, equals, text = given.partition("=")
        if not name or not equals:
            raise UsageError(f"--param {given!r} is not understood.", "Write NAME=VALUE.", field="param")
        if name in values:
            raise UsageError(f"--param {name} is given twice.", "Write a list as NAME=[1,2].", field="param")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


# What is shown ---------------------------------------------------------------------------------------------


def _act(
    context: Context,
    action: Any,
    as_json: bool,
    selection: dict[str, Any],
    body: dict[str, Any] | None = None,
) -> None:
    """Do the same to several jobs; one that refuses does not keep the others, and decides the exit code."""
    job_ids = selection["job_ids"]
    if not job_ids or selection["dry_run"]:
        _operate(
            context, action, as_json, selection, {name: body[name] for name in ("priority",) if body and name in body}
        )
        return
    if _filters(selection):
        raise UsageError("Jobs are named and selected at once.", "Do the one or the other.", field="where")
    refused: ArmillaryError | None = None
    with context.client() as client:
        for job_id in job_ids:
            try:
                found = client.act_on_job(job_id, action, body)
            except ArmillaryError as error:
                if len(job_ids) == 1:
                    raise
                refused = error
                click.echo(f"armillary: {error}", err=True)
                continue
            if as_json:
                click.echo(json.dumps(found, default=str))
            else:
                click.echo(f"Job {found['id']} is {state(found['state'])}: {found['reason']}".removesuffix(": "))
    if refused is not None:
        raise refused


def _operate(
    context: Context, verb: str, as_json: bool, selection: Mapping[str, Any], arguments: Mapping[str, Any]
) -> None:
    """Do it to all that are selected, in one transaction, or show which those are."""
    chosen = {name: value for name, value in _filters(selection).items() if value} | {"jobs": selection["job_ids"]}
    body = {"verb": verb, "selection": chosen, "arguments": arguments, "reason": selection["reason"] or ""}
    body |= {"limit": selection["limit"]}
    asks = not (selection["yes"] or as_json or selection["dry_run"]) and sys.stdin.isatty()
    with context.client() as client:

        def call(*, dry_run: bool) -> Any:
            path, whole = "/api/job-operations", body | {"dry_run": dry_run}
            return client.call("POST", path, body=whole, once=True, held_seconds=OPERATION_SECONDS)

        if selection["dry_run"] or asks:
            found = call(dry_run=True)
            if verb in ("retry", "release") and found["counts"]:  # what would run from then on
                loads = [{name: row[name] for name in LOAD} for row in found["counts"]]
                found["estimate"] = client.call("POST", "/api/estimates", body={"loads": loads})
            show_json(found) if as_json else _show_preview(verb, found)
        if selection["dry_run"] or (asks and not click.confirm("Do it?")):
            return
        done = call(dry_run=False)
    if as_json:
        show_json(done)
        return
    click.echo(f"{done['jobs']:,} jobs: {verb}. Operation {done['id']}.")
    if done["undoable"] and done["jobs"]:
        click.echo(f"`armillary job undo {done['id']}` takes it back.")


def _filters(selection: Mapping[str, Any]) -> dict[str, Any]:
    names = {"where": "where", "state": "wanted", "algorithm": "algorithm", "pool": "of_pool"}
    return {name: selection[option] for name, option in names.items() if selection[option]}


def _show_preview(verb: str, found: Mapping[str, Any]) -> None:
    click.echo(f"{verb} would change {found['jobs']:,} jobs. It concerns {found['concerns']}.")
    if found["counts"]:
        show_table(
            ["algorithm", "pool", "state", "jobs"],
            [[f"{r['algorithm']} {r['version']}", r["pool"], r["state"], f"{r['jobs']:,}"] for r in found["counts"]],
        )
    if "estimate" in found:
        show_estimate(found["estimate"])
    if found["counts"]:
        click.echo()
        names = ["id", "algorithm", "state", "pool", "priority", "reason"]
        show_table(["job", *names[1:]], [[str(row[name]) for name in names] for row in found["sample"]])
    if found["jobs"] > len(found["sample"]):
        click.echo(f"The first {len(found['sample'])} of them.", err=True)


def _follow_log(client: "Client", job_id: str, attempt: int | None, *, quiet: bool) -> None:
    """Print the log as it grows, attempt after attempt unless one is named, until the job has ended."""
    offset, number = 0, attempt
    while True:
        part = client.job_log(job_id, offset=offset, attempt=number, wait_seconds=WAIT_SECONDS)
        if not quiet:
            sys.stdout.buffer.write(part.data)
            sys.stdout.buffer.flush()
        offset = part.next_offset
        number = part.attempt or number
        if not part.has_ended:
            continue
        found = client.job(job_id)
        if attempt is not None or found["state"] not in LIVE:
            return
        if found["attempts_made"] != number:
            offset, number = 0, found["attempts_made"]
            if not quiet:
                click.echo(click.style(f"— attempt {number} —", dim=True), err=True)


def _show_end(found: Mapping[str, Any]) -> None:
    click.echo(f"Job {found['id']} {state(found['state'])} in {how_long(found['started_at'], found['ended_at'])}")
    if found["state"] != "succeeded":
        click.echo(f"    {found['reason']}")
    for output in found["outputs"]:
        click.echo(f"    {output['output']}: {_granule(output)}")


def _attempt(attempt: Mapping[str, Any]) -> list[str]:
    usage = attempt.get("usage") or {}
    cpu, memory = usage.get("cpu_seconds"), usage.get("peak_memory_bytes")
    return [
        str(attempt["number"]),
        str(attempt["host"]),
        when(attempt["started_at"] or attempt["leased_at"]),
        how_long(attempt["started_at"], attempt["ended_at"]),
        attempt["outcome"] or "running",
        human_duration(cpu) if cpu is not None else "",
        human_size(memory) if memory else "",
        *(human_size(usage[name]) if usage.get(name) else "" for name in ("read_bytes", "written_bytes")),
        attempt["reason"] or "",
    ]


def curves(usage: Mapping[str, Any]) -> list[str]:
    """What an attempt used over time, a line each; none for one that was too short."""
    curve = usage.get("curve") or {}
    at = curve.get("seconds") or []
    if len(at) < 2:
        return []
    shown = {
        "cores": ([_rate(curve["cpu_seconds"], at, place) for place in range(1, len(at))], "{:.1f}".format),
        "memory": (curve["memory_bytes"], human_size),
        "disk": (curve["disk_bytes"], human_size),
        "read": ([_rate(curve["read_bytes"], at, place) for place in range(1, len(at))], _per_second),
        "written": ([_rate(curve["written_bytes"], at, place) for place in range(1, len(at))], _per_second),
    }
    return [
        "",
        *(f"{name:<8}{sparkline(values)}  at most {told(max(values))}" for name, (values, told) in shown.items()),
    ]


def transfers(usage: Mapping[str, Any]) -> list[str]:
    """How fast inputs came, a line for each that was fetched."""
    fetched = [one for one in usage.get("transfers") or [] if one.get("seconds") and one.get("from") != "cache"]
    lines = [
        f"{one['name']}: {human_size(one['bytes'])} from {one['from']}, {_per_second(one['bytes'] / one['seconds'])}"
        for one in fetched[:10]
    ]
    return ["", *lines] if lines else []


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Values as a line of bars, the largest of each stretch where there are more than fit."""
    step = max(1.0, len(values) / width)
    stretches = [values[int(place * step) : max(int(place * step) + 1, int((place + 1) * step))]
                 for place in range(min(width, len(values)))]  # fmt: skip
    most = max(values) or 1
    return "".join(BARS[min(len(BARS) - 1, int(max(stretch) / most * len(BARS)))] for stretch in stretches)


def _rate(values: Sequence[float], at: Sequence[float], place: int) -> float:
    return max(0.0, (values[place] - values[place - 1]) / max(0.01, at[place] - at[place - 1]))


def _per_second(value: float) -> str:
    return f"{human_size(int(value))}/s"


def _below(found: Sequence[Mapping[str, Any]], path: str) -> list[Mapping[str, Any]]:
    path = path.strip("/")
    return [one for one in found if not path or one["path"] == path or one["path"].startswith(f"{path}/")]


def _progress(row: Mapping[str, Any]) -> str:
    progress = row.get("progress") or {}
    if row["state"] != "running" or not progress:
        return ""
    percent = f"{progress['fraction']:.0%}" if progress.get("fraction") is not None else ""
    return " ".join(part for part in (percent, progress.get("stage"), progress.get("message")) if part)


def _granule(one: Mapping[str, Any]) -> str:
    return f"{one['collection']}/{one['id']} (revision {one['revision']})"


def _midnight(day: str | None) -> str | None:
    return f"{day}T00:00:00Z" if day and "T" not in day else day


def _dependency(one: Mapping[str, Any]) -> str:
    otherwise = (
        "" if one["is_met"] or one["on_failure"] == "cancel" else f"; {one['on_failure']} if it does not succeed"
    )
    return f"{one['job']} ({one['algorithm']}, {one['state']}{otherwise})"


def _deadline(row: Mapping[str, Any]) -> str:
    only = ", only a warning" if row["on_deadline"] == "warn" else ""
    return f"{when(row['deadline_at'])}{only}" if row["deadline_at"] else ""


def _cause(cause: Mapping[str, Any]) -> str:
    return f"(rule {cause['rule']})" if cause.get("rule") else ""
