"""How a worker is started where it runs: the options that all providers share, its command line, its script."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from armillary.algorithms.algorithm import Resources
from armillary.pools.options import Options
from armillary.pools.provider import StartRequest

RUNNER = (sys.executable, "-m", "armillary.runner.main")


@dataclass(frozen=True)
class Site:
    """Where and how workers of a pool are started, if not by this server on its own machine."""

    url: str  # as the workers reach the server; empty: as the server knows itself
    command: tuple[str, ...]
    setup: tuple[str, ...]  # lines of shell before the command: modules, environments
    folder: str  # for tokens and logs, seen from here (or the login) and from where workers run
    work: str
    cache: str
    walltime: timedelta | None
    through: tuple[str, ...]  # the words before each command, to run it elsewhere


def read_site(options: Options, folder: Path) -> Site:
    """The options `url`, `command`, `setup`, `folder`, `work`, `cache`, `walltime` and `through`."""
    place = options.text("folder", str(folder))
    return Site(
        url=options.word("url").rstrip("/"),
        command=options.words("command", RUNNER),
        setup=options.lines("setup"),
        folder=place,
        work=options.text("work", f"{place}/work"),
        cache=options.text("cache", f"{place}/cache"),
        walltime=options.duration("walltime"),
        through=options.words("through"),
    )


def arguments(request: StartRequest, size: Resources | None) -> list[str]:
    """What every worker is told; the start's id makes its process findable without any record."""
    words = ["--pool", request.pool, "--url", request.url]
    if size is not None:
        words += ["--cpu", f"{size.cpu:g}", "--memory", str(size.memory_bytes)]
        words += ["--disk", str(size.disk_bytes), "--gpus", str(size.gpu)]
    return words


def script(site: Site, requests: Sequence[StartRequest], index: str, head: Sequence[str] = ()) -> str:
    """A shell script that becomes one of these workers: the one at `index`, a shell word that counts from 0.

    The token is read from a file that only its owner may read and that the worker removes; it is in no script, on no
    command line and in no environment.
    """
    first = requests[0]
    told = StartRequest(first.start, first.pool, site.url or first.url, "", first.size)
    words = shlex.join([*site.command, *arguments(told, first.size)])
    lasts = f" --lasts {site.walltime.total_seconds():.0f}s" if site.walltime else ""
    lines = [
        "#!/bin/sh",
        *head,
        f"# A worker of the pool {first.pool}.",
        *site.setup,
        f"set -- {' '.join(str(request.start) for request in requests)}",
        f'shift "{index}"',
        f"exec {words}{lasts} --work {_path(site.work)} --cache {_path(site.cache)} \\",
        f'  --start "$1" --token-file {_path(site.folder)}/"$1".token --forget-token',
    ]
    return "\n".join(lines) + "\n"


def _path(text: str) -> str:
    """A path in which variables count and nothing else does: `$TMPDIR/work` is where the worker runs, not here."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`").replace("$(", "\\$(")
    return f'"{escaped}"'


SAVE_TOKENS = (
    'umask 077 && mkdir -p "$1" && cd "$1" && '
    'while read -r start token; do printf "%s\\n" "$token" > "$start.token"; done'
)
DROP_TOKENS = 'cd "$1" && while read -r start; do rm -f "$start.token"; done'


def save_tokens(site: Site, requests: Sequence[StartRequest]) -> tuple[list[str], str]:
    """The command that keeps tokens in files of mode 0600, and what to send it."""
    lines = "".join(f"{request.start} {request.token}\n" for request in requests)
    return ["sh", "-c", SAVE_TOKENS, "sh", site.folder], lines


def drop_tokens(site: Site, requests: Sequence[StartRequest]) -> tuple[list[str], str]:
    """The command that removes them again."""
    return ["sh", "-c", DROP_TOKENS, "sh", site.folder], "".join(f"{request.start}\n" for request in requests)
