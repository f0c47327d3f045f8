"""`armillary ingest`: take files and folders in."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from armillary.base import units
from armillary.base.errors import ArmillaryError, UsageError
from armillary.cli.context import Context, json_option, pass_context
from armillary.cli.group import Verb
from armillary.cli.output import STATE_COLOURS

if TYPE_CHECKING:
    from armillary.client.client import Client
    from armillary.client.find import PathOutcome
    from armillary.client.ingest import Options

MOST_LINES = 20  # of each kind, where the outcome is no failure
STATES = ("created", "revised", "same", "planned", "skipped", "failed")
WORDS = {"same": "there already", "planned": "would be taken", "skipped": "left out"}


@click.command(
    cls=Verb,
    short_help="Take files and folders in as granules.",
    epilog="Examples:  armillary ingest /data/S1A_*.zip   armillary ingest /archive --dry-run   "
    "armillary ingest --watch /incoming --collection elevation",
)
@click.argument("paths", metavar="PATH...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--collection", help="The collection of all of them, instead of recognising each.")
@click.option("--dry-run", is_flag=True, help="Recognise and read, but take nothing in.")
@click.option(
    "--watch",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Go on with what arrives in this folder.",
)
@click.option(
    "--wait", metavar="TIME", default="60s", show_default=True, help="How long to wait for what is still being written."
)
@click.option("--quiet", metavar="TIME", default="0s", help="Take nothing that changed more recently than this.")
@click.option(
    "--read-timeout", metavar="TIME", default="2m", show_default=True, help="Limit of each metadata reader's call."
)
@click.option("--readers", type=click.IntRange(1, 64), default=2, show_default=True, help="Reader processes.")
@click.option(
    "--threads", type=click.IntRange(1, 64), default=4, show_default=True, help="Files sent at the same time."
)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Append each outcome to this file, as JSON lines."
)
@json_option
@pass_context
def ingest(
    context: Context,
    paths: tuple[Path, ...],
    collection: str | None,
    dry_run: bool,
    folder: Path | None,
    wait: str,
    quiet: str,
    read_timeout: str,
    readers: int,
    threads: int,
    report: Path | None,
    as_json: bool,
) -> int:
    """Take files and folders in as granules: each is recognised by a collection's patterns, read, checked and catalogued.

    A folder that no collection recognises is looked into. The same content again is the same granule; so an interrupted
    run is simply repeated. What is still being written is waited for. The exit code is 1 if anything failed.
    """
    from armillary.client.ingest import Options

    if bool(paths) == (folder is not None):
        raise UsageError("Name either paths or a folder to --watch.", "See `armillary ingest --help`.")
    options = Options(
        collection=collection,
        dry_run=dry_run,
        quiet=units.duration(quiet, "quiet"),
        patience=units.duration(wait, "wait"),
        readers=readers,
        read_timeout=units.duration(read_timeout, "read-timeout"),
        threads=threads,
    )
    with context.client(patience_seconds=60) as client, _report(report) as written:
        if folder is not None:
            return _watch(client, folder, options, _Lines(as_json, written))
        return _ingest(client, paths, options, as_json, written)


def _ingest(client: "Client", paths: Sequence[Path], options: "Options", as_json: bool, written: IO[str] | None) -> int:
    from armillary.client.ingest import ingest as take

    began = time.monotonic()
    with _drawing(as_json, written) as progress:
        outcomes = take(client, paths, options, progress)
    counts: Counter[str] = Counter(outcome.state for outcome in outcomes)
    if not as_json:
        _show(outcomes)
        click.echo(summary(counts, sum(one.size_bytes for one in outcomes), time.monotonic() - began))
    return 1 if counts["failed"] or not outcomes else 0


def _watch(client: "Client", folder: Path, options: "Options", lines: "_Lines") -> int:
    import threading

    from armillary.client.watch import watch

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    click.echo(f"Watching {folder.absolute()}; Ctrl-C ends it.", err=True)
    watch(client, [folder], options, lines, stop, trouble=lines.trouble)
    return 0


# What is shown ---------------------------------------------------------------------------------------------


def summary(counts: Counter[str], size_bytes: int, took_seconds: float) -> str:
    """One line: how many of what, how much, how fast."""
    if not counts:
        return "There was nothing to ingest."
    parts = [f"{counts[state]:,} {WORDS.get(state, state)}" for state in STATES if counts[state]]
    rate = f", {units.human_size(size_bytes / took_seconds)}/s" if took_seconds > 0.5 else ""
    return f"{', '.join(parts)} ({units.human_size(size_bytes)} in {units.human_duration(took_seconds)}{rate})"


def document(outcome: "PathOutcome") -> dict[str, Any]:
    """An outcome as JSON."""
    problem = outcome.problem
    return {
        "path": str(outcome.path).encode(errors="backslashreplace").decode(),
        "state": outcome.state,
        "collection": outcome.collection,
        "granule": outcome.granule,
        "revision": outcome.revision,
        "size_bytes": outcome.size_bytes,
        "reason": outcome.reason,
        "problem": problem.problem() if problem is not None and outcome.state == "failed" else None,
    }


def _show(outcomes: Sequence["PathOutcome"]) -> None:
    for state in STATES:
        these = [outcome for outcome in outcomes if outcome.state == state]
        shown = these if state == "failed" else these[:MOST_LINES]
        for outcome in shown:
            _line(outcome)
        if len(these) > len(shown):
            click.echo(f"         … and {len(these) - len(shown):,} more {WORDS.get(state, state)}")


def _line(outcome: "PathOutcome") -> None:
    mark = click.style(f"{outcome.state:8}", fg=STATE_COLOURS.get(outcome.state))
    here = Path.cwd()
    path = outcome.path.relative_to(here) if outcome.path.is_relative_to(here) else outcome.path
    name = str(path).encode(errors="backslashreplace").decode()
    name = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)
    target = f"  → {outcome.collection}/{outcome.granule}" if outcome.granule else ""
    click.echo(f"{mark} {name}{target}")
    if outcome.problem is not None:
        click.echo(f"         {outcome.problem}")
    elif outcome.state in ("planned", "skipped"):
        click.echo(f"         {outcome.reason}")


class _Lines:
    """One line for each outcome as it comes; what watching and `--json` show."""

    def __init__(self, as_json: bool, written: IO[str] | None) -> None:
        self._as_json = as_json
        self._written = written

    def found(self, path: Path, size_bytes: int) -> None:
        """Not told."""

    def moved(self, granule: str, count: int) -> None:
        """Not told."""

    def waiting(self, path: Path, reason: str) -> None:
        """On standard error: it is no outcome."""
        click.echo(f"waiting  {path}: {reason}", err=True)

    def ended(self, outcome: "PathOutcome") -> None:
        """One line."""
        _write(self._written, outcome)
        if self._as_json:
            click.echo(json.dumps(document(outcome), ensure_ascii=False))
        else:
            _line(outcome)
        sys.stdout.flush()

    def trouble(self, error: ArmillaryError) -> None:
        """What will pass."""
        click.echo(f"armillary: {error}", err=True)


class _Quiet(_Lines):
    """Nothing but the report, where the end shows everything."""

    def ended(self, outcome: "PathOutcome") -> None:
        """Not told."""
        _write(self._written, outcome)


class _Bar(_Quiet):
    """A bar over all bytes with their rate."""

    def __init__(self, progress: Any, written: IO[str] | None) -> None:
        super().__init__(False, written)
        self._progress = progress
        self._task = progress.add_task("Ingesting", total=None, note="")
        self._total = 0
        self._ended: Counter[str] = Counter()

    def found(self, path: Path, size_bytes: int) -> None:  # noqa: ARG002
        """More to do."""
        self._total += size_bytes
        self._progress.update(self._task, total=self._total)

    def moved(self, granule: str, count: int) -> None:  # noqa: ARG002
        """Some of it done."""
        self._progress.update(self._task, advance=count)

    def waiting(self, path: Path, reason: str) -> None:
        """Above the bar."""
        self._progress.console.print(f"waiting  {path}: {reason}", markup=False, highlight=False)

    def ended(self, outcome: "PathOutcome") -> None:
        """Count it; what needed not be sent needs not be counted as work either."""
        super().ended(outcome)
        self._ended[outcome.state] += 1
        if outcome.state not in ("created", "revised"):
            self._total -= outcome.size_bytes
        note = ", ".join(f"{number:,} {WORDS.get(state, state)}" for state, number in self._ended.items())
        self._progress.update(self._task, total=self._total, note=note)


@contextmanager
def _drawing(as_json: bool, written: IO[str] | None) -> Iterator[Any]:
    if as_json:
        yield _Lines(True, written)
    elif not sys.stderr.isatty():
        yield _Quiet(False, written)
    else:
        from armillary.cli.progress import bars

        with bars() as progress:
            yield _Bar(progress, written)


@contextmanager
def _report(path: Path | None) -> Iterator[IO[str] | None]:
    if path is None:
        yield None
        return
    with path.open("a", encoding="utf-8") as written:
        yield written


def _write(written: IO[str] | None, outcome: "PathOutcome") -> None:
    if written is not None:
        written.write(json.dumps(document(outcome), ensure_ascii=False) + "\n")
        written.flush()
