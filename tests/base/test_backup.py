"""A backup of a store that is in use."""

import os

import pytest

from armillary.base.backup import copy_store
from armillary.base.errors import TransientError


def test_what_is_deleted_while_it_is_copied_is_no_loss(tmp_path):
    store, target = tmp_path / "store", tmp_path / "copy"
    (store / "a" / "b").mkdir(parents=True)
    (store / "a" / "b" / "kept").write_bytes(b"kept")
    (store / "a" / "gone").symlink_to(tmp_path / "nothing")  # listed, and not there when it is read
    copy_store(store, target)
    assert [path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()] == ["a/b/kept"]


def test_what_is_there_and_cannot_be_copied_is_said(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    os.mkfifo(store / "odd")
    with pytest.raises(TransientError, match=r"could not be copied: .*odd"):
        copy_store(store, tmp_path / "copy")
