"""Keep the folder of an attempt that failed, so that one can look at what it left: bounded, and without secrets.

What is sent is one line of JSON, which names every file, and then the bytes of those that are kept, one after another.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from armillary.algorithms import specfile
from armillary.runner.runtime import Command

MAX_FILES = 2000
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|KEY|AUTH|COOKIE|DSN", re.IGNORECASE)
DESCRIPTION = "environment.json"
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Folder:
    """What is to be kept: every file with its size, and which ones' bytes go with it, in the order of sending."""

    root: Path
    files: tuple[tuple[str, int], ...]
    kept: frozenset[str]
    added: Mapping[str, bytes]
    is_whole: bool
    for_seconds: float

    @property
    def index(self) -> bytes:
        """The first line."""
        files = [{"path": path, "size": size, "kept": path in self.kept} for path, size in self.files]
        return json.dumps({"files": files, "whole": self.is_whole, "for_seconds": self.for_seconds}).encode() + b"\n"

    @property
    def size_bytes(self) -> int:
        """Of all that is sent."""
        return len(self.index) + sum(size for path, size in self.files if path in self.kept)

    def chunks(self) -> Iterator[bytes]:
        """All that is sent. A file that has shrunk meanwhile is filled up, so that those after it are where they should be."""
        yield self.index
        for path, size in self.files:
            if path in self.added:
                yield self.added[path]
            elif path in self.kept:
                yield from _read(self.root / path, size)


def collect(
    root: Path, spec: Mapping[str, Any], outcome: str, command: Command | None, *, is_built_in: bool
) -> Folder | None:
    """What an attempt's folder holds, if its algorithm wants it kept; inputs are named, and fetched from the catalogue."""
    policy = specfile.keep_policy(spec.get("keep") or {})
    if not policy.applies(failed=outcome == "failed") or not root.is_dir():
        return None
    found = sorted(_files(root))
    added = {DESCRIPTION: describe(command, is_built_in=is_built_in)} if command else {}
    files = [(name, len(data)) for name, data in added.items()] + found[: MAX_FILES - len(added)]
    room = policy.most_bytes
    kept = set(added)
    for path, size in sorted(found[:MAX_FILES], key=lambda one: one[1]):  # small ones say most
        if path.split("/")[0] != "inputs" and size <= room and path not in added:
            kept.add(path)
            room -= size
    is_whole = len(found) <= MAX_FILES
    return Folder(root, tuple(files), frozenset(kept), added, is_whole, policy.for_seconds)


def describe(command: Command, *, is_built_in: bool) -> bytes:
    """How the program was started. A built-in one sees the runner's own variables: only their names are kept."""
    variables = {
        name: "(not kept)" if is_built_in or SECRET.search(name) else value
        for name, value in sorted(command.environment.items())
    }
    said: dict[str, Any] = {"arguments": list(command.arguments), "variables": variables, "image": dict(command.image)}
    machine = os.uname()
    said |= {"machine": {"host": machine.nodename, "kernel": machine.release, "architecture": machine.machine}}
    said |= {"disk_free_bytes": shutil.disk_usage(command.folder).free}
    return json.dumps(said, indent=1, ensure_ascii=False).encode()


def _files(root: Path) -> Iterator[tuple[str, int]]:
    """Plain files and their sizes: links lead elsewhere, and pipes have no end."""
    for parent, _, names in os.walk(root, followlinks=False):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.lstat()
                relative = str(path.relative_to(root))
                relative.encode()
            except (OSError, UnicodeError):
                continue
            if stat.S_ISREG(status.st_mode) and relative.isprintable() and not name.startswith(".checkpoint"):
                yield relative, status.st_size


def _read(path: Path, size: int) -> Iterator[bytes]:
    left = size
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            while left and (block := stream.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                yield block
    except OSError:
        pass
    while left:
        block = bytes(min(BLOCK_BYTES, left))
        left -= len(block)
        yield block
