"""Kept folders: what a worker may say of one, and where the bytes of its files are."""

import json

import pytest

from armillary.base.errors import NotFound, UsageError
from armillary.jobs import kept

FILES = [
    {"path": "a", "size": 3, "kept": True},
    {"path": "inputs/scene/f", "size": 50, "kept": False},
    {"path": "big", "size": 70, "kept": False},
    {"path": "out/é", "size": 4, "kept": True},
]


def _line(**changes):
    return json.dumps({"files": FILES, "whole": True, "for_seconds": 3600} | changes).encode()


def test_an_index_is_read():
    index = kept.read_index(_line())
    assert (index.size_bytes, index.is_whole, index.kept_for.total_seconds()) == (7, True, 3600)
    assert kept.read_index(_line(for_seconds=1e12)).kept_for.days == 30


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", _line(files=[{}]), _line(files=[{"path": "../x", "size": 1, "kept": True}]),
        _line(files=[{"path": "/x", "size": 1, "kept": True}]), _line(files=[{"path": "a\nb", "size": 1, "kept": True}]),
        _line(files=[{"path": "a", "size": -1, "kept": True}]), _line(files=[{"path": "a", "size": 2**40, "kept": True}]),
        _line(files=FILES * 1000), _line(for_seconds="soon"),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_is_refused(line):
    with pytest.raises(UsageError):
        kept.read_index(line)


def test_files_are_found_among_those_that_are_kept():
    row = {"key": "kept/k", "files": FILES}
    assert kept.place(row, "a") == kept.Place("kept/k", 0, 3)
    assert kept.place(row, "out/é") == kept.Place("kept/k", 3, 7)
    for path, words in (("inputs/scene/f", "catalogue"), ("big", "most"), ("none", "no file none")):
        with pytest.raises(NotFound) as caught:
            kept.place(row, path)
        assert words in f"{caught.value.message} {caught.value.remedy}"
