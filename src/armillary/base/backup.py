"""Back up and restore a whole instance: the database as of one moment, and every byte that it speaks of."""

import json
import shutil
from pathlib import Path

import psycopg

from armillary import __version__
from armillary.base import dump, postgres
from armillary.base.errors import Conflict, TransientError, UsageError
from armillary.base.settings import Settings

KEPT = ("owner-token", "secrets", "config.yaml")  # of the home, beside database and store


def backup(settings: Settings, folder: Path) -> None:
    """Write a backup into a new folder; the server may go on running.

    The database goes first: bytes are never replaced, so all that its moment speaks of are still there afterwards, but for those
    of revisions that were retired then and may have been given up since: the first round after a restore says so of them.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", "Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    was_running = settings.database.dsn is not None or postgres.is_running(settings.home)
    dsn = settings.database.dsn or postgres.start(settings.home).dsn
    try:
        dump.dump(dsn, folder / "database.dump")
    finally:
        if not was_running:
            postgres.stop(settings.home)
    copy_store(_local_store(settings), folder / "store")
    for name in KEPT:
        source = settings.home / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            shutil.copy2(source, folder / name)
    (folder / "backup.json").write_text(json.dumps({"version": __version__, "complete": True}))


def copy_store(source: Path, target: Path) -> None:
    """Copy a store that is in use: what the collector deletes meanwhile is no loss, all else that fails is one."""
    try:
        shutil.copytree(source, target)
    except shutil.Error as error:
        if lost := [why for path, _, why in error.args[0] if Path(path).exists()]:
            raise TransientError(
                f"The store could not be copied: {lost[0]}", "Put it right, and back up anew."
            ) from error


def restore(settings: Settings, folder: Path) -> None:
    """Read a backup into a home that has no instance yet."""
    if not (folder / "backup.json").exists():
        raise UsageError(f"{folder} holds no complete backup.", "A backup ends with its backup.json.")
    store = _local_store(settings)
    if store.exists() or (settings.home / "owner-token").exists():
        raise Conflict(f"{settings.home} holds an instance.", "Restore into a new home.")
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    dsn = settings.database.dsn or postgres.start(settings.home).dsn
    try:
        with psycopg.connect(dsn) as connection:
            if connection.execute("select to_regclass('instance')").fetchone() != (None,):
                raise Conflict("The database holds an instance.", "Restore into an empty one.")
        dump.restore(dsn, folder / "database.dump")
    finally:
        if settings.database.dsn is None:
            postgres.stop(settings.home)
    shutil.copytree(folder / "store", store)
    for name in KEPT:
        source = folder / name
        if source.is_dir():
            shutil.copytree(source, settings.home / name)
        elif source.exists():
            shutil.copy2(source, settings.home / name)


def _local_store(settings: Settings) -> Path:
    url = settings.store.url or str(settings.home / "store")
    if "://" in url:
        raise UsageError(
            f"The store {url} keeps itself.", "Use its own versioning or replication; back up the database by pg_dump."
        )
    return Path(url)
