"""A home has one server at a time, and says which."""

import subprocess
import sys

import pytest

from armillary.base.errors import Conflict
from armillary.base.home import locked, write_private

HOLD = """
import sys, pathlib
from armillary.base.home import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_told_who_the_first_is_and_a_kill_lets_go(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match=f"process {holder.pid}"), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            pass


def test_a_private_file_is_ours_alone(tmp_path):
    write_private(tmp_path / "x" / "token", "secret")
    assert (tmp_path / "x" / "token").stat().st_mode & 0o777 == 0o600
