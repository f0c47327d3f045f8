"""What one job leaves never reaches the next: its folder is handed on empty, or not at all."""

import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.runner.jobfolder import MOST_SPARE, JobFolders

NEW = {"": 0o755, "inputs": 0o755, "outputs": 0o755, "tmp": 0o755, "job.json": 0o644}


@pytest.fixture
def folders(tmp_path: Path) -> JobFolders:
    return JobFolders(tmp_path / "work")


def _contents(folder: Path) -> dict[str, int]:
    """Everything in a folder, with its mode."""
    found = [folder, *folder.rglob("*")]
    return {
        "" if path == folder else str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in found
    }


def _make(folders: JobFolders, name: str, **description: object) -> Path:
    folder = folders.parent / name
    folders.make(folder, description)
    assert _contents(folder) == NEW
    assert json.loads((folder / "job.json").read_bytes()) == description
    return folder


def _is_handed_on(folders: JobFolders, folder: Path) -> bool:
    """Whether the next job gets this folder; what it gets is as a new one in any case."""
    folders.hand_on(folder)
    assert not folder.exists()
    spare = len(list(folders.parent.glob(".spare-*")))
    _make(folders, "next")
    assert list(folders.parent.glob(".spare-*")) == []
    return spare == 1


def test_a_folder_is_emptied_and_handed_on(folders: JobFolders) -> None:
    folder = _make(folders, "first", parameters={"name": "a long one"}, inputs={})
    (folder / "outputs" / "picture" / "a").mkdir(parents=True)
    (folder / "outputs" / "picture" / "a" / "file").write_text("x")
    (folder / "inputs" / "scene").symlink_to("/")
    (folder / "tmp" / ".hidden").touch()
    (folder / "progress.jsonl").touch()
    (folder / "core").mkdir()
    assert _is_handed_on(folders, folder)
    assert Path("/").exists()


CHANGES = {
    "its folder is closed": lambda folder: folder.chmod(0o500),
    "its outputs are closed": lambda folder: (folder / "outputs").chmod(0o500),
    "its outputs are gone": lambda folder: (folder / "outputs").rmdir(),
    "its outputs are elsewhere": lambda folder: (
        (folder / "outputs").rename(folder.parent / "mine"), (folder / "outputs").symlink_to(folder.parent / "mine")
    ),
    "a file stands for its inputs": lambda folder: ((folder / "inputs").rmdir(), (folder / "inputs").touch()),
    "its description is gone": lambda folder: (folder / "job.json").unlink(),
    "its description is closed": lambda folder: (folder / "job.json").chmod(0o400),
    "its description has a second name": lambda folder: os.link(folder / "job.json", folder.parent / "job.json"),
    "its description is a link": lambda folder: (
        (folder / "job.json").rename(folder.parent / "job.json"), (folder / "job.json").symlink_to("../job.json")
    ),
    "all of it is gone": lambda folder: shutil.rmtree(folder),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_as_it_was_made_is_not_used_again(folders: JobFolders, change: str) -> None:
    folder = _make(folders, "first", looks=4)
    CHANGES[change](folder)
    assert not _is_handed_on(folders, folder)
    other = folders.parent / "job.json"
    assert not other.exists() or json.loads(other.read_bytes()) == {"looks": 4}, "somebody's file was written to"


def test_folders_that_nobody_needs_are_removed(folders: JobFolders) -> None:
    made = [_make(folders, str(number)) for number in range(MOST_SPARE + 3)]
    for folder in made:
        folders.hand_on(folder)
    assert len(list(folders.parent.iterdir())) == MOST_SPARE


def test_a_spare_folder_that_somebody_tidied_away_is_not_missed(folders: JobFolders) -> None:
    for folder in [_make(folders, "first"), _make(folders, "second")]:
        folders.hand_on(folder)
    whole, part = sorted(folders.parent.iterdir())
    shutil.rmtree(whole)
    (part / "tmp").rmdir()
    (part / "job.json").unlink()
    _make(folders, "third")
    _make(folders, "fourth")


def test_a_folder_that_is_there_already_is_not_shared(folders: JobFolders) -> None:
    folders.hand_on(_make(folders, "first"))
    _make(folders, "second")
    for _ in range(2):
        with pytest.raises(OSError, match="second"):
            folders.make(folders.parent / "second", {})


def test_what_cannot_be_emptied_is_removed_with_more_force(folders: JobFolders) -> None:
    folder = _make(folders, "first")
    (folder / "tmp" / "closed").mkdir()
    (folder / "tmp" / "closed" / "file").touch()
    (folder / "tmp" / "closed").chmod(0)
    _is_handed_on(folders, folder)


NAMES = st.sampled_from(["a", "job.json", "inputs", "outputs", "tmp", "tmp/a", "outputs/a", "inputs/a", "a/b", "."])
DEEDS = st.sampled_from(["write", "folder", "link", "hard link", "remove", "close", "open"])


def _do(deed: str, path: Path, other: Path) -> None:
    match deed:
        case "write":
            path.write_text("left")
        case "folder":
            path.mkdir(parents=True)
        case "link":
            path.symlink_to(other)
        case "hard link":
            os.link(other, path)
        case "remove" if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        case "remove":
            path.unlink()
        case "close":
            path.chmod(0o500)
        case _:
            path.chmod(0o777)


@given(st.lists(st.lists(st.tuples(DEEDS, NAMES, NAMES), max_size=6), min_size=1, max_size=4))
def test_whatever_jobs_do_each_finds_a_new_folder(jobs: list[list[tuple[str, str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folders = JobFolders(Path(place) / "work")
        for number, deeds in enumerate(jobs):
            folder = _make(folders, f"job-{number}", number=10 ** (10 - number))
            for deed, name, other in deeds:
                try:
                    _do(deed, folder / name, folder / other)
                except OSError:
                    continue
            folders.hand_on(folder)
            assert not folder.exists()
