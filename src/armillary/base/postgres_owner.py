"""As whom the embedded PostgreSQL runs: as ourselves, or, for root, whom it refuses, as another id."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from armillary.base.errors import TransientError, UsageError


@dataclass(frozen=True)
class Owner:
    """The user that the server runs as, and the command that makes a program run so."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    @property
    def is_another(self) -> bool:
        return self.uid != os.geteuid()


@cache
def owner() -> Owner:
    """Us; for root, whom PostgreSQL refuses, another id in a user namespace or an unprivileged user."""
    if os.geteuid() != 0:
        return Owner(os.geteuid(), os.getegid())
    unshare = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
    if _succeeds([*unshare, "true"]):
        return Owner(0, 0, unshare)
    for name in ("armillary", "postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(user.pw_uid, user.pw_gid)
    raise UsageError(
        "PostgreSQL does not run as root; here are neither user namespaces nor an unprivileged user.",
        "Run Armillary as another user, or name a database of your own by its DSN.",
    )


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def check_owner_may_enter(*folders: Path) -> None:
    """Refuse folders that the owner cannot use."""
    if not owner().is_another:
        return
    for folder in folders:
        found = subprocess.run(["test", "-x", folder], check=False, cwd="/", **_as_owner())
        if found.returncode != 0:
            name = pwd.getpwuid(owner().uid).pw_name
            raise UsageError(
                f"PostgreSQL does not run as root, and user {name} cannot enter {folder}.",
                "Run Armillary as another user, or choose a place that all users can enter.",
            )


def give_to_owner(path: Path) -> None:
    """Give a folder and all in it to the owner, where it is another's."""
    new = owner()
    if os.geteuid() != 0 or path.stat().st_uid == new.uid:
        return
    os.chown(path, new.uid, new.gid)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(folder, name), new.uid, new.gid, follow_symlinks=False)


def _as_owner() -> dict[str, Any]:
    new = owner()
    return {"user": new.uid, "group": new.gid, "extra_groups": []} if new.is_another else {}


def run(
    command: list[str], lock: int, text: str = "", folder: Path = Path("/"), more: Mapping[str, str] | None = None
) -> None:
    """Run one of PostgreSQL's programs to its end, out of reach of Ctrl-C, in a clean environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    result = subprocess.run(
        [*owner().prefix, *command], input=text, capture_output=True, text=True, check=False, cwd=folder,
        env=environment | {"LC_ALL": "C"} | dict(more or {}), start_new_session=True, pass_fds=(lock,), **_as_owner(),
    )  # fmt: skip
    if result.returncode != 0:
        raise TransientError(
            f"{Path(command[0]).name} failed: {last_line(result.stderr or result.stdout)}",
            "Put it right and try again.",
        )


def last_line(text: str) -> str:
    """What a program said last, as the end of a sentence; pg_upgrade's last words alone say nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .") not in ("", "Failure, exiting")]
    return (lines[-1] if lines else "it left no message").rstrip(".") + "."
