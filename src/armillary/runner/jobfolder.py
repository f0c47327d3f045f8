"""The folders of jobs: made, emptied and handed on to the next job, as making them takes longer than a short job does.

File systems are slow to make anew what was just removed: ext4 takes no inode that was freed within the last seconds, and
looks past each of them. Half of a runner's time went there when it made five and removed five for each job.
"""

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

from armillary.runner.environment import remove_read_only

FOLDERS = ("inputs", "outputs", "tmp")
DESCRIPTION = "job.json"
MOST_SPARE = 64


class JobFolders:
    """Those of one runner, below its own folder."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self._spare: list[Path] = []
        self._numbers = itertools.count()
        self._as_made: list[tuple[int, ...]] = []

    def make(self, folder: Path, description: Any) -> None:
        """A folder with `job.json` and empty folders for all else. `OSError` if it cannot be made."""
        if not self._take_spare(folder):
            folder.mkdir(parents=True)
        for name in FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        _write(folder / DESCRIPTION, json.dumps(description, ensure_ascii=False).encode())
        self._as_made = self._as_made or _look(folder)

    def hand_on(self, folder: Path) -> None:
        """Empty it for the next job. Where what `make` made is not as it was, nothing of it is used again."""
        try:
            if len(self._spare) < MOST_SPARE and _look(folder) == self._as_made:
                _empty(folder)
                self._spare.append(folder.rename(self.parent / f".spare-{next(self._numbers)}"))
                return
        except OSError:
            pass  # what cannot be emptied so is removed with more force
        self.remove(folder)

    def remove(self, folder: Path) -> None:
        """Leave nothing of it."""
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            remove_read_only(folder)

    def _take_spare(self, folder: Path) -> bool:
        """Whether there was one; somebody who tidies up may have removed it, or parts of it."""
        try:
            self._spare.pop().rename(folder)
        except (IndexError, FileNotFoundError):
            return False
        return True


def _look(folder: Path) -> list[tuple[int, ...]]:
    """What a job could have put another in the place of, or closed: types, modes, owners, names of the description."""
    description = (folder / DESCRIPTION).lstat()
    folders = [path.lstat() for path in (folder, *(folder / name for name in FOLDERS))]
    return [*((one.st_mode, one.st_uid) for one in (*folders, description)), (description.st_nlink,)]


def _empty(folder: Path) -> None:
    _clear(folder, kept=(*FOLDERS, DESCRIPTION))
    for name in FOLDERS:
        _clear(folder / name)


def _clear(folder: Path, kept: tuple[str, ...] = ()) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in kept:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()


def _write(path: Path, data: bytes) -> None:
    """In place of what is there: a file that is cut to nothing first would be written to the disk at once by ext4."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.truncate()
