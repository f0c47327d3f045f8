"""An algorithm's folder as one archive: the same bytes for the same content, nothing that does not belong."""

import os
import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from armillary.algorithms.bundle import check_archive
from armillary.base.errors import UsageError
from armillary.cli.bundle import pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "algorithm"
    (folder / "src" / "package").mkdir(parents=True)
    (folder / "algorithm.yaml").write_text("kind: algorithm")
    (folder / "src" / "package" / "run.py").write_text("print('run')")
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o755)
    return folder


def names(data: bytes) -> dict[str, int]:
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        return {member.name: member.mode for member in archive}


def test_a_bundle_holds_files_and_whether_they_are_programs(folder: Path) -> None:
    bundle = pack(folder)
    assert names(bundle.data) == {"run.sh": 0o755, "src/package/run.py": 0o644}
    check_archive(bundle.data)  # the server takes it


def test_the_same_content_is_the_same_bundle_wherever_and_whenever(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    (copy / "run.sh").chmod(0o700)
    os.utime(copy / "run.sh", (1, 1))
    assert pack(copy).data == pack(folder).data
    (copy / "run.sh").write_text("#!/bin/bash")
    assert pack(copy).sha256 != pack(folder).sha256


def test_tests_beside_a_program_are_no_part_of_it(folder: Path) -> None:
    """Another test is no other version; a package within the program may be called so."""
    before = pack(folder).sha256
    (folder / "tests" / "data").mkdir(parents=True)
    (folder / "tests" / "data" / "run.py").write_text("assert True")
    assert pack(folder).sha256 == before
    (folder / "src" / "package" / "tests").mkdir()
    (folder / "src" / "package" / "tests" / "inner.py").write_text("")
    assert "src/package/tests/inner.py" in names(pack(folder).data)


def test_definitions_beside_a_program_are_no_part_of_it(folder: Path) -> None:
    before = pack(folder).sha256
    (folder / "algorithm.yaml").write_text("kind: algorithm  # with a comment")
    (folder / "rules.yaml").write_text("kind: rule\n---\nkind: collection\n")
    assert pack(folder).sha256 == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("settings.yaml", "looks: [19, 7]"),
        ("mixed.yaml", "kind: rule\n---\nlooks: 3\n"),
        ("broken.yaml", "kind: ["),
        ("src/package/rules.yaml", "kind: rule"),
    ],
)
def test_yaml_that_the_program_reads_belongs_to_it(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    assert name in names(pack(folder).data)


def test_what_making_and_editing_leave_is_left_out(folder: Path) -> None:
    before = pack(folder).sha256
    for name in (
        ".git/HEAD",
        ".venv/bin/python",
        "src/package/__pycache__/run.pyc",
        "dist/a.whl",
        "x.egg-info/PKG",
        "a~",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("junk")
    assert pack(folder).sha256 == before


def test_links_inside_are_packed_as_what_they_lead_to_and_others_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "src" / "also.sh").symlink_to(folder / "run.sh")
    os.link(folder / "run.sh", folder / "hard.sh")
    bundle = pack(folder)
    check_archive(bundle.data)
    with tarfile.open(fileobj=BytesIO(bundle.data)) as archive:
        for name in ("src/also.sh", "hard.sh"):
            member = archive.extractfile(name)
            assert member is not None
            assert member.read() == b"#!/bin/sh"
    (tmp_path / "secret").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match="leads out of the algorithm's folder"):
        pack(folder)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(UsageError, match="is not a file"):
        pack(folder)


def test_data_in_the_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("armillary.cli.bundle.MAX_BYTES", 1000)
    (folder / "data").write_bytes(os.urandom(2000))
    with pytest.raises(UsageError, match="larger than 256 MiB"):
        pack(folder)
