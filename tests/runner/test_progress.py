"""Progress is followed line by line, whatever is written there."""

import json
from pathlib import Path

import pytest

from armillary.runner.progress import READ_BYTES, Progress


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "progress.jsonl"


def test_the_last_whole_line_counts_and_is_told_once(file: Path) -> None:
    progress = Progress(file)
    assert progress.read() is None
    file.write_text('{"fraction": 0.1}\n{"fraction": 0.4, "stage": "resample", "message": "3 of 9"}\n{"frac')
    assert progress.read() == {"fraction": 0.4, "stage": "resample", "message": "3 of 9"}
    assert progress.read() is None
    with file.open("a") as stream:
        stream.write('tion": 1}\n')
    assert progress.read() == {"fraction": 1.0}


@pytest.mark.parametrize(
    "line", ["[1]", "no", '{"fraction": 7}', '{"fraction": "x"}', '{"fraction": true}', "{}", "\x00"]
)
def test_what_says_nothing_is_passed_over(file: Path, line: str) -> None:
    file.write_text(json.dumps({"stage": "one"}) + f"\n{line}\n")
    assert Progress(file).read() == {"stage": "one"}


def test_a_long_file_is_not_read_whole(file: Path) -> None:
    file.write_text("x" * 10 * READ_BYTES + '\n{"fraction": 0.5}\n')
    assert Progress(file).read() == {"fraction": 0.5}


def test_links_are_not_followed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"message": "secret"}\n')
    file.symlink_to(tmp_path / "secret")
    assert Progress(file).read() is None
