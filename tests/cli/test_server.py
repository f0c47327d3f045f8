"""Starting and stopping: in the foreground, in the background, after a kill, and when it cannot start."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from armillary.cli.server import announcement, holder

pytestmark = pytest.mark.slow
LIMIT_SECONDS = 120


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "h"
    yield home
    pid = holder(home)
    if pid is not None:
        command(home, "down")


def words(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "armillary.cli.main", "--home", str(home), *arguments]


def command(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARMILLARY_")}
    return subprocess.run(
        words(home, *arguments), text=True, capture_output=True, check=False, timeout=LIMIT_SECONDS,
        stdin=subprocess.DEVNULL, env=kept | environment,
    )  # fmt: skip


def up(home: Path) -> "subprocess.Popen[str]":
    """`armillary up` in the foreground, once it has said where it answers."""
    process = subprocess.Popen(
        words(home, "up", "--port", "0"), text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "/sign-in?code=" in first, first
    return process


def test_up_says_where_it_answers_and_where_the_data_is(home: Path) -> None:
    process = up(home)
    assert process.stdout is not None
    shown = [process.stdout.readline() for _ in range(4)]
    assert f"server  {announcement(home)['url']}" in shown[0]
    assert f"data    {home}" in shown[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_foreground_server_stops_in_good_order(home: Path, number: signal.Signals) -> None:
    process = up(home)
    server = holder(home)
    assert server is not None
    process.send_signal(number)
    assert process.wait(LIMIT_SECONDS) == 0
    assert holder(home) is None
    assert not Path("/proc", str(server)).exists()
    assert not (home / "run" / "server.json").exists()
    assert not list(home.glob("postgres/data/postmaster.pid"))


def test_a_killed_server_is_taken_over_by_the_next(home: Path) -> None:
    assert command(home, "up", "--detach", "--port", "0").returncode == 0
    first = holder(home)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT_SECONDS
    while holder(home) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert announcement(home)["pid"] == first  # what it left does not mislead the next
    assert "No server" in command(home, "status").stderr or "cannot be reached" in command(home, "status").stderr
    shown = json.loads(command(home, "up", "--detach", "--port", "0", "--json").stdout)
    assert shown["pid"] == holder(home) != first
    assert command(home, "status").returncode == 0


def test_a_killed_up_leaves_a_server_that_down_stops(home: Path) -> None:
    process = up(home)
    process.kill()
    process.wait()
    assert holder(home) is not None
    assert "is run by process" in command(home, "up").stderr
    assert command(home, "down").returncode == 0
    assert holder(home) is None
    assert command(home, "down").stdout == f"Nothing runs on {home}.\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--host", "203.0.113.7"], {}, ""),
        ([], {"ARMILLARY_WEB__PORT": "much"}, "web.port"),
        (["--dsn", "postgresql://127.0.0.1:1/none"], {}, ""),
    ],
)
def test_a_server_that_cannot_start_says_why(
    home: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    done = command(home, "up", "--detach", "--port" if not environment else "--host",
                   "0" if not environment else "127.0.0.1", *arguments, **environment)  # fmt: skip
    assert done.returncode != 0
    assert "The server did not start." in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert holder(home) is None


def test_serve_becomes_the_server_itself(home: Path) -> None:
    process = subprocess.Popen(words(home, "serve", "--role", "web,reactor", "--port", "0"), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + LIMIT_SECONDS
    while announcement(home).get("pid") != process.pid:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    status: dict[str, Any] = json.loads(command(home, "status", "--json").stdout)
    assert [server["roles"] for server in status["servers"]] == [["web", "reactor"]]
    process.terminate()
    assert process.wait(LIMIT_SECONDS) == 0


def test_nobody_holds_a_home_that_is_not_there(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") is None
    assert announcement(tmp_path / "none") == {}
