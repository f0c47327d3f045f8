"""The processes of a server: database, web, reactor, pools and watchdog, in one process unless roles are chosen.

`python -m armillary.serve --home DIR` runs until SIGTERM or Ctrl-C. A kill at any moment loses nothing: what it started
(PostgreSQL, workers) lives on, and the next server of this home takes it over.
"""

import argparse
import asyncio
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from armillary.base import home as homes
from armillary.base.errors import ArmillaryError

ROLES = ("web", "reactor", "pools", "watchdog")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a server, or one of its offline commands."""
    arguments = _arguments(argv)
    try:
        from armillary.base import settings as settings_module

        settings, _sources = settings_module.read(arguments.home, _flags(arguments))
        if arguments.command == "backup":
            from armillary.base import backup

            backup.backup(settings, arguments.file)
        elif arguments.command == "restore":
            from armillary.base import backup

            backup.restore(settings, arguments.file)
        else:
            with homes.locked(settings.home):
                _run(settings, arguments.role)
    except ArmillaryError as error:
        sys.exit(f"armillary: {error}")


def _run(settings: Any, roles: Sequence[str]) -> None:
    starting: Future[str] = Future()
    # PostgreSQL starts while Python imports the web framework: together they are most of the start.
    threading.Thread(target=_start_database, args=(settings, starting), daemon=True).start()
    from armillary.server import Server

    dsn = starting.result()
    asyncio.run(Server(settings, tuple(roles), dsn).run())
    if settings.database.dsn is None:
        from armillary.base import postgres

        postgres.stop(settings.home)


def _start_database(settings: Any, started: "Future[str]") -> None:
    try:
        if settings.database.dsn is None:
            from armillary.base import postgres

            started.set_result(postgres.start(settings.home).dsn)
        else:
            started.set_result(settings.database.dsn)
    except BaseException as error:  # noqa: BLE001  the main thread raises it
        started.set_exception(error)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="armillary serve", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "backup", "restore"), default="run")
    parser.add_argument("file", nargs="?", type=Path, help="the folder of a backup")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--role", type=_roles, default=ROLES, help=f"comma-separated: {','.join(ROLES)}")
    for flag in ("host", "port", "public-url", "dsn", "store"):
        parser.add_argument(f"--{flag}")
    arguments = parser.parse_args(argv)
    if arguments.command != "run" and arguments.file is None:
        parser.error(f"{arguments.command} needs a folder")
    return arguments


def _roles(text: str) -> tuple[str, ...]:
    roles = tuple(text.split(","))
    if set(roles) - set(ROLES):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(ROLES)}")
    return roles


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    names = {
        "host": "web.host", "port": "web.port", "public_url": "web.public_url", "dsn": "database.dsn", "store": "store.url",
    }  # fmt: skip
    return {name: getattr(arguments, flag) for flag, name in names.items() if getattr(arguments, flag) is not None}


if __name__ == "__main__":
    main()
