"""The server of this home: start and stop it, ask how it is, back it up."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from armillary.base.errors import ArmillaryError, Conflict, NotFound, TransientError
from armillary.cli.context import Context, json_option, pass_context
from armillary.cli.group import Noun, Verb
from armillary.cli.output import counts, show_fields, show_json, show_list, show_table, when

START_SECONDS = 120
STOP_SECONDS = 120
PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}
LIGHT = "This machine has the light install only."
FULL = "Install the server: `pip install 'armillary[server]'`."


@click.command(
    cls=Verb,
    short_help="Start a server on this machine and say where it answers.",
    epilog="Examples:  armillary up   armillary up --port 8080 --detach   armillary --home /data/armillary up",
)
@click.option("--detach", is_flag=True, help="Return once it answers; it runs on until `armillary down`.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen at; 0 takes a free one.  [default: 7117]")
@click.option("--host", help="Address to listen at.  [default: 127.0.0.1]")
@click.option("--dsn", help="A PostgreSQL to use instead of the embedded one.")
@click.option("--store", help="Where the bytes are: a folder, s3://…, gs://… or az://…")
@json_option
@pass_context
def up(
    context: Context,
    detach: bool,
    port: int | None,
    host: str | None,
    dsn: str | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Start a server on this machine and say where it answers.

    At the first start it makes the home with an embedded PostgreSQL, a folder for bytes and a pool of local workers; later
    it takes up what is there. Ctrl-C stops it in good order: jobs that run are given back, nothing is lost.
    """
    home = context.home
    _refuse_second(home)
    _check_server_is_installed()
    given = {"--port": port, "--host": host, "--dsn": dsn, "--store": store}
    flags = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
    if not detach:
        _forward_signals()
    process = _start(home, flags, detached=detach)
    try:
        announced = _wait_until_ready(home, process, detached=detach)
        _show_announcement(home, announced, detached=detach, as_json=as_json)
        return 0 if detach else process.wait()
    except (KeyboardInterrupt, _Stopped):
        return _stop_child(process)
    except ArmillaryError:
        _stop_child(process)
        raise


@click.command(cls=Verb, epilog="Example:  armillary down", short_help="Stop the server of this home in good order.")
@click.option("--timeout", type=click.FloatRange(0), default=STOP_SECONDS, show_default=True, help="Seconds to wait.")
@pass_context
def down(context: Context, timeout: float) -> None:
    """Stop the server of this home in good order: running jobs are given back, the database is shut down."""
    pid = holder(context.home)
    if pid is None:
        click.echo(f"Nothing runs on {context.home}.")
        return
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended by itself just now
    except PermissionError as error:
        message = f"Process {pid}, which runs {context.home}, is not yours."
        raise Conflict(message, "Ask its owner to stop it.") from error
    if not _until(lambda: holder(context.home) != pid, timeout):
        remedy = f"Wait longer, or look into {log_file(context.home)}; `kill -9 {pid}` loses nothing."
        raise TransientError(f"The server (process {pid}) has not stopped after {timeout:g} s.", remedy)
    click.echo(f"Stopped the server of {context.home}.")


@click.command(
    cls=Verb,
    epilog="Examples:  armillary status   armillary status --json",
    short_help="Show what runs, what waits and what is wrong.",
)
@json_option
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Show what runs, what waits and what is wrong, with a link that signs in once."""
    with context.client(patience_seconds=3) as client:
        answer = client.call("GET", "/api/status")
        answer["sign_in"] = _sign_in_link(client)
    if as_json:
        show_json(answer)
        return
    show_fields(
        [
            ("server", answer["server"]["url"]),
            ("home", answer["server"].get("home")),
            ("processes", [_server_line(server) for server in answer.get("servers", [])]),
            ("granules", f"{answer.get('granules', 0):,}"),
            ("jobs", counts(answer["jobs"])),
            ("firings", counts(answer.get("firings", {}))),
            ("deliveries", counts(answer.get("deliveries", {}))),
            ("sign in", answer["sign_in"]),
        ]
    )
    if answer["pools"]:
        click.echo()
        names = ("id", "workers", "running", "waiting")
        show_table(["pool", *names[1:]], [[str(pool[name]) for name in names] for pool in answer["pools"]])
    click.echo()
    _show_problems(answer.get("findings", []), answer["problems"])


@click.command(
    cls=Verb,
    epilog="Examples:  armillary doctor   armillary doctor --checksums",
    short_help="Check that records and bytes agree.",
)
@click.option("--checksums", is_flag=True, help="Read every stored byte again.")
@json_option
@pass_context
def doctor(context: Context, checksums: bool, as_json: bool) -> int:
    """Check that records, bytes, leases and firings agree. It changes nothing; with a finding the exit code is 1."""
    with context.client() as client:
        params = {"checksums": str(checksums).lower()}
        # Reading every byte again may take hours, and no answer comes before the end.
        answer = client.call("GET", "/api/doctor", params=params, held_seconds=86400)
    if as_json:
        show_json(answer)
        return 1 if answer["findings"] else 0
    rows = [[check["name"], f"{check['looked_at']:,}"] for check in answer["checks"]]
    show_table(["check", "looked at"], rows)
    click.echo()
    for finding in answer["findings"]:
        click.echo(click.style(f"{finding['check']}  {finding['subject']}", fg="red"))
        click.echo(f"    {finding['message']}\n    {finding['remedy']}")
    number = len(answer["findings"])
    click.echo(f"{number} finding{'s' if number != 1 else ''}." if number else click.style("All is well.", fg="green"))
    return 1 if number else 0


@click.command(
    cls=Verb,
    context_settings=PASS_ON,
    epilog="Example:  armillary serve --role web,reactor --dsn postgresql://db/armillary --store s3://bucket",
    short_help="Run one server process of chosen roles.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_context
def serve(context: Context, arguments: tuple[str, ...]) -> None:
    """Run one server process until SIGTERM, for several servers on one database.

    \b
    --role web,reactor,pools,watchdog   what this process does (all, unless chosen)
    --dsn, --store, --host, --port, --public-url   as in `armillary config show`
    """
    _check_server_is_installed()
    command = _serve_command(context.home, arguments)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606  this process becomes the server: signals reach it directly


@click.group(cls=Noun, short_help="Settings and where they come from.")
def config() -> None:
    """Settings: the home's config.yaml, then ARMILLARY_… in the environment, then flags."""


@config.command("show", epilog="Examples:  armillary config show   ARMILLARY_WEB__PORT=8080 armillary config show")
@click.option("--server", "of_server", is_flag=True, help="Those of the running server instead of those to start with.")
@json_option
@pass_context
def config_show(context: Context, of_server: bool, as_json: bool) -> None:
    """Show every setting, its value and where that came from."""
    rows = _settings_of_server(context) if of_server else _settings_here(context.home)
    columns = [("setting", "name"), ("value", "value"), ("from", "source")]
    show_list(rows, columns[: 2 if of_server else 3], as_json=as_json, nothing="There are no settings.")


@click.command(
    cls=Verb,
    epilog="Example:  armillary backup /backups/armillary-2026-03-01",
    short_help="Write database and store into a new folder.",
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@pass_context
def backup(context: Context, folder: Path) -> None:
    """Write database, store, secrets and configuration into the new FOLDER; the server may go on running."""
    _run_offline(context.home, "backup", folder)
    click.echo(f"Backed up {context.home} to {folder}.")


@click.command(
    cls=Verb,
    epilog="Example:  armillary --home /data/new restore /backups/armillary-2026-03-01",
    short_help="Read a backup into a new home.",
)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@pass_context
def restore(context: Context, folder: Path) -> None:
    """Read the backup in FOLDER into a home that has no instance yet."""
    _run_offline(context.home, "restore", folder)
    click.echo(f"Restored {folder} to {context.home}. Start it with `armillary up`.")


@click.group(cls=Noun, short_help="The embedded database.")
def database() -> None:
    """The embedded PostgreSQL of this home."""


@database.command("upgrade", epilog="Example:  armillary database upgrade /tmp/pg17/bin")
@click.argument("old_programs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@pass_context
def database_upgrade(context: Context, old_programs: Path) -> None:
    """Bring the database of an older PostgreSQL to the one that this Armillary brings.

    OLD_PROGRAMS is the folder of the old version's programs (postgres, pg_dump …): the wheel of that version has them. The old
    data folder is kept beside the new one.
    """
    if holder(context.home) is not None:
        raise Conflict(f"A server runs on {context.home}.", "Stop it first: `armillary down`.")
    _check_server_is_installed()
    from armillary.base import postgres

    old_data = postgres.upgrade(context.home, old_programs)
    click.echo(f"Upgraded; the old data stay in {old_data}. Start the server with `armillary up`.")


# Starting --------------------------------------------------------------------------------------------------


class _Stopped(Exception):
    """SIGTERM or SIGHUP."""


def holder(home: Path) -> int | None:
    """The process that runs this home; None if nobody does. The kernel's lock says so, whatever files were left."""
    import fcntl

    try:
        handle = os.open(home / "run" / "lock", os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.pread(handle, 500, 0).decode(errors="replace").split()
        # Its holder has just begun where it has not written who it is yet.
        return int(words[1]) if len(words) > 1 and words[1].isdecimal() else _until_named(handle)
    finally:
        os.close(handle)
    return None


def log_file(home: Path) -> Path:
    """What a detached server writes about itself."""
    return home / "log" / "server.log"


def _until_named(handle: int) -> int | None:
    for _ in _moments(2):
        words = os.pread(handle, 500, 0).decode(errors="replace").split()
        if len(words) > 1 and words[1].isdecimal():
            return int(words[1])
    return None


def _refuse_second(home: Path) -> None:
    pid = holder(home)
    if pid is None:
        return
    where = announcement(home).get("url")
    first = f"process {pid}" + (f" at {where}" if where else "")
    raise Conflict(
        f"{home} is run by {first} already.", "Use that one, or give this one a home of its own: --home DIR."
    )


def _check_server_is_installed() -> None:
    from importlib.util import find_spec

    missing = [module for module in ("fastapi", "psycopg", "uvicorn") if find_spec(module) is None]
    if missing:
        raise NotFound(f"{LIGHT} ({', '.join(missing)} is missing.)", FULL)


def _serve_command(home: Path, flags: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "armillary.serve", "--home", str(home), *flags]


def _start(home: Path, flags: Sequence[str], *, detached: bool) -> "subprocess.Popen[bytes]":
    """Start it in a session of its own: Ctrl-C is ours to pass on, so that it stops once and in good order."""
    command = _serve_command(home, flags)
    if not detached:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    log = log_file(home)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def _wait_until_ready(home: Path, process: "subprocess.Popen[bytes]", *, detached: bool) -> dict[str, Any]:
    for _ in _moments(START_SECONDS):
        if process.poll() is not None:
            raise ArmillaryError("The server did not start.", _last_words(home) if detached else "It says why above.")
        announced = announcement(home)
        # What an earlier server left does not count, only the word of the one that we started.
        if announced.get("pid") == process.pid:
            return announced
    raise TransientError(f"The server was not ready after {START_SECONDS} s.", f"Look into {log_file(home)}.")


def announcement(home: Path) -> dict[str, Any]:
    """What the server of this home says of itself."""
    try:
        content = json.loads((home / "run" / "server.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _last_words(home: Path) -> str:
    try:
        lines = log_file(home).read_text(errors="replace").splitlines()
    except OSError:
        return f"Look into {log_file(home)}."
    said = [line for line in lines[-50:] if line.startswith("armillary: ")] or lines[-1:] or ["nothing"]
    return f"It said: {said[-1].removeprefix('armillary: ')} (The whole is in {log_file(home)}.)"


def _show_announcement(home: Path, announced: dict[str, Any], *, detached: bool, as_json: bool) -> None:
    if as_json:
        show_json({"home": str(home)} | announced)
        return
    show_fields(
        [
            ("open", announced.get("sign_in") or announced["url"]),
            ("server", f"{announced['url']}  (process {announced['pid']})"),
            ("data", home),
            ("token", home / "owner-token"),
            ("log", log_file(home) if detached else None),
            ("stop", f"armillary --home {home} down" if detached else "Ctrl-C"),
        ]
    )
    click.echo("The first link signs in once, within 15 minutes; `armillary status` makes another.")


def _forward_signals() -> None:
    def stop(_number: int, _frame: object) -> None:
        raise _Stopped

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _stop_child(process: "subprocess.Popen[bytes]") -> int:
    """Let it stop in good order; a second Ctrl-C ends it at once, which loses nothing either."""
    if process.poll() is not None:
        return process.returncode
    click.echo("Stopping; running jobs are given back. (Ctrl-C again ends it at once.)", err=True)
    process.terminate()
    try:
        return process.wait()
    except (KeyboardInterrupt, _Stopped):
        process.kill()
        process.wait()
        click.echo("Ended at once; the next `armillary up` takes over what was left.", err=True)
        return 1


# Small things ----------------------------------------------------------------------------------------------


def _run_offline(home: Path, command: str, folder: Path) -> None:
    _check_server_is_installed()
    words = [sys.executable, "-m", "armillary.serve", command, str(folder.absolute()), "--home", str(home)]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it left with code {done.returncode}"])[-1]
        raise ArmillaryError(f"{command} failed: {last.removeprefix('armillary: ')}")


def _settings_here(home: Path) -> Iterator[dict[str, str]]:
    from importlib.util import find_spec

    if find_spec("pydantic") is None:
        raise NotFound(LIGHT, f"{FULL} `armillary config show --server` asks the running server.")
    from armillary.base import settings

    found, sources = settings.read(home)
    for name, source in sources.items():
        yield {"name": name, "value": str(settings.value(found, name)), "source": source}


def _settings_of_server(context: Context) -> list[dict[str, str]]:
    with context.client() as client:
        return list(client.call("GET", "/api/config")["settings"])


def _sign_in_link(client: Any) -> str | None:
    try:
        return str(client.call("POST", "/api/sign-in")["url"])
    except ArmillaryError:
        return None  # only owners may make links


def _server_line(server: dict[str, Any]) -> str:
    roles = ",".join(server["roles"])
    return f"{server['host']} process {server['pid']} since {when(server['started_at'])} ({roles})"


def _show_problems(findings: Sequence[dict[str, Any]], problems: Sequence[dict[str, str]]) -> None:
    from armillary.cli.finding import lines

    wrong = [finding for finding in findings if finding["severity"] != "notice"]
    if not wrong and not problems:
        click.echo(click.style("Nothing is wrong.", fg="green"))
    for finding in wrong:
        click.echo("\n".join(lines(finding)))
    for problem in problems:
        click.echo(f"{click.style(problem['what'], fg='red')}: {problem['why']}\n    {problem['remedy']}")
    if notices := len(findings) - len(wrong):
        click.echo(f"{notices} notice{'s' if notices != 1 else ''} of what was dealt with: `armillary finding list`.")


def _moments(limit_seconds: float, pause: float = 0.02) -> Iterator[None]:
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        yield
        time.sleep(pause)


def _until(condition: Any, limit_seconds: float) -> bool:
    return any(condition() for _ in _moments(limit_seconds)) or bool(condition())
