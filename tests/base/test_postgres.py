"""The embedded PostgreSQL, with real servers and real signals."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from armillary.base import postgres, postgres_owner
from armillary.base.errors import Conflict, TransientError, UsageError


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose name has what paths may have; whatever runs in it is stopped at the end."""
    place = tmp_path / "a home, it's ours"
    yield place
    postgres.stop(place)
    shutil.rmtree(place, ignore_errors=True)


def ask(server: postgres.Server, question: str) -> object:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
        assert row is not None
        return row[0]


def tell(server: postgres.Server, statement: str) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(condition: object, seconds: float = 20) -> None:
    assert callable(condition)
    assert postgres._until(lambda: bool(condition()), seconds)


def test_a_first_start_makes_a_database_that_a_restart_keeps(home: Path) -> None:
    first = postgres.start(home)
    assert not first.adopted
    assert postgres.is_running(home) == first.pid
    tell(first, "create table kept as select 42 as answer")
    postgres.stop(first)
    assert postgres.is_running(home) is None
    second = postgres.start(home)
    assert second.pid != first.pid
    assert second.dsn == first.dsn
    assert ask(second, "select answer from kept") == 42


def test_a_live_server_is_adopted(home: Path) -> None:
    first = postgres.start(home)
    second = postgres.start(home)
    assert second.adopted
    assert second.pid == first.pid


def test_a_server_outlives_the_process_that_started_it_and_its_terminal(home: Path) -> None:
    code = (
        "import sys, pathlib; from armillary.base import postgres; "
        "print(postgres.start(pathlib.Path(sys.argv[1])).pid, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    os.killpg(starter.pid, signal.SIGINT)  # Ctrl-C reaches the whole foreground group
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate()
    server = postgres.start(home)
    assert server.adopted
    assert server.pid == pid
    assert os.getsid(pid) != starter.pid


def test_what_was_committed_survives_a_killed_server(home: Path) -> None:
    server = postgres.start(home)
    tell(server, "create table kept as select 42 as answer")
    os.kill(server.pid, signal.SIGKILL)
    after = postgres.start(home)
    assert not after.adopted
    assert ask(after, "select answer from kept") == 42


def test_a_killed_server_whose_backend_still_works_is_waited_for(home: Path) -> None:
    server = postgres.start(home)
    busy = psycopg.connect(server.dsn, autocommit=True)
    child = psutil.Process(busy.info.backend_pid)
    child.suspend()  # it cannot notice that its server is gone
    os.kill(server.pid, signal.SIGKILL)
    starter = run_python(
        "import sys, pathlib; from armillary.base import postgres; postgres.start(pathlib.Path(sys.argv[1]))",
        home,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        starter.wait(0.5)
    assert postgres.is_running(home) is None
    child.resume()
    assert starter.communicate(timeout=20)[1] == ""
    assert postgres.is_running(home)


def test_two_starters_end_with_one_server(home: Path) -> None:
    code = (
        "import sys, pathlib; from armillary.base import postgres; print(postgres.start(pathlib.Path(sys.argv[1])).pid)"
    )
    starters = [run_python(code, home) for _ in range(4)]
    said = [starter.communicate(timeout=60) for starter in starters]
    assert [error for _, error in said] == [""] * 4
    assert len({pid for pid, _ in said}) == 1


def test_a_pid_file_that_names_another_program_is_no_obstacle(home: Path) -> None:
    server = postgres.start(home)
    os.kill(server.pid, signal.SIGKILL)
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert postgres.is_running(home) is None
    assert not postgres.start(home).adopted


def test_a_killed_initdb_leaves_nothing_that_a_next_start_minds(home: Path) -> None:
    starter = run_python(
        "import sys, pathlib; from armillary.base import postgres; postgres.start(pathlib.Path(sys.argv[1]))",
        home,
    )
    root = home / "postgres"
    until(lambda: list(root.glob("making-*/data/global/*")))
    for child in psutil.Process(starter.pid).children(recursive=True):
        child.kill()
    starter.kill()
    starter.communicate()
    assert not (root / "data").exists()
    assert ask(postgres.start(home), "select 1") == 1
    assert not list(root.glob("making-*"))


def test_a_starter_killed_at_any_moment_leaves_a_home_that_starts(home: Path) -> None:
    code = "import sys, pathlib; from armillary.base import postgres; postgres.start(pathlib.Path(sys.argv[1]))"
    for moment in range(8):
        starter = run_python(code, home)
        with pytest.raises(subprocess.TimeoutExpired):
            starter.wait(0.25 + 0.05 * moment)
        starter.kill()
        starter.communicate()
        if postgres.is_running(home):
            break
    assert ask(postgres.start(home), "select 1") == 1


def test_a_home_with_a_long_path_gets_a_short_folder_for_its_socket(home: Path) -> None:
    long_home = home / ("long" * 20) / ("longer" * 20)
    server = postgres.start(long_home)
    try:
        folder = postgres.Place(long_home).socket_folder()
        assert long_home not in folder.parents
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert postgres.start(long_home).adopted
        postgres.stop(long_home)
        assert not folder.exists()
        assert postgres.start(long_home).dsn == server.dsn
        shutil.rmtree(folder)  # as a cleaner of old files would
        again = postgres.start(long_home)
        assert not again.adopted
        assert ask(again, "select 1") == 1
    finally:
        postgres.stop(long_home)


def test_a_copied_home_does_not_touch_the_socket_of_the_original(home: Path) -> None:
    original, copy = home / ("long" * 30), home / ("copy" * 30)
    postgres.stop(postgres.start(original))
    shutil.copytree(original, copy, symlinks=True)
    first = postgres.start(original)
    try:
        second = postgres.start(copy)
        assert not second.adopted
        assert ask(first, "show data_directory") != ask(second, "show data_directory")
    finally:
        postgres.stop(original)
        postgres.stop(copy)


def test_a_folder_that_somebody_else_made_in_place_of_ours_is_not_used(home: Path) -> None:
    place = postgres.Place(home)
    postgres.stop(postgres.start(home))
    taken = place.socket_folder()
    assert home not in taken.parents
    taken.mkdir()
    try:
        postgres.start(home)
        assert place.socket_folder() != taken
        assert not list(taken.iterdir())
    finally:
        taken.rmdir()


def test_a_comma_in_the_path_is_not_taken_for_two_hosts(home: Path) -> None:
    assert "," in str(home)
    server = postgres.start(home)
    assert ask(server, "select 1") == 1
    assert home not in postgres.Place(home).socket_folder().parents


def test_a_short_home_holds_its_socket() -> None:
    home = Path(tempfile.mkdtemp(prefix="armillary-test-", dir="/tmp"))
    try:
        server = postgres.start(home)
        assert postgres.Place(home).socket().parent == home / "postgres" / "run"
        assert ask(server, "select 1") == 1
    finally:
        postgres.stop(home)
        shutil.rmtree(home)


def test_homes_are_independent(home: Path, tmp_path: Path) -> None:
    other_home = tmp_path / "other"
    first, second = postgres.start(home), postgres.start(other_home)
    try:
        tell(first, "create table here ()")
        assert ask(second, "select to_regclass('here')") is None
        os.kill(second.pid, signal.SIGKILL)
        assert ask(first, "select 1") == 1
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(first.dsn, passfile=str(postgres.Place(other_home).password))
    finally:
        postgres.stop(other_home)
        shutil.rmtree(other_home)


def test_nothing_listens_on_tcp_and_nobody_else_may_enter(home: Path) -> None:
    server = postgres.start(home)
    assert psutil.Process(server.pid).net_connections("inet") == []  # who listens is the first process
    place = postgres.Place(home)
    for folder in (place.root, place.data, place.log, place.socket_folder()):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    for file in (place.password, place.lock):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert ask(server, "select count(*)::int from pg_hba_file_rules where auth_method <> 'scram-sha-256'") == 0
    assert str(ask(server, "select rolpassword from pg_authid where rolname = 'armillary'")).startswith(
        "SCRAM-SHA-256$"
    )


def test_the_password_is_in_no_dsn_and_in_no_argument(home: Path) -> None:
    server = postgres.start(home)
    password = postgres._read_password(postgres.Place(home))
    assert password
    assert password not in server.dsn
    for process in psutil.process_iter(["cmdline"]):
        assert password not in " ".join(process.info["cmdline"] or [])
    for file in postgres.Place(home).log.iterdir():
        assert password not in file.read_text()


def test_a_lost_password_is_set_anew(home: Path) -> None:
    server = postgres.start(home)
    place = postgres.Place(home)
    place.password.write_text("*:*:*:armillary:wrong\n")
    with pytest.raises(Conflict, match="remove that file"):
        postgres.start(home)
    postgres.stop(server)
    place.password.unlink()
    assert ask(postgres.start(home), "select 1") == 1


def test_settings_are_ours_a_callers_or_the_homes(home: Path) -> None:
    place = postgres.Place(home)
    place.make()
    (place.root / "local.conf").write_text("work_mem = '3MB'\n")
    server = postgres.start(home, {"work_mem": "5MB", "max_connections": "33"})
    assert ask(server, "show work_mem") == "3MB"
    assert ask(server, "show max_connections") == "33"
    assert ask(server, "show fsync") == "on"
    assert ask(server, "show timezone") == "UTC"
    assert ask(server, "show data_checksums") == "on"


def test_a_data_folder_of_another_version_is_refused_by_name(home: Path) -> None:
    postgres.stop(postgres.start(home))
    version = postgres.Place(home).data / "PG_VERSION"
    version.write_text("15\n")
    with pytest.raises(Conflict, match="armillary database upgrade"):
        postgres.start(home)
    version.write_text("99\n")
    with pytest.raises(Conflict, match="newer Armillary"):
        postgres.start(home)


def test_a_folder_that_is_no_database_is_not_overwritten(home: Path) -> None:
    data = postgres.Place(home).data
    data.mkdir(parents=True)
    (data / "thesis.txt").write_text("years of work")
    with pytest.raises(Conflict, match="not a PostgreSQL data folder"):
        postgres.start(home)
    assert (data / "thesis.txt").read_text() == "years of work"


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    place = postgres.Place(home)
    place.make()
    (place.root / "local.conf").write_text("shared_buffers = 'plenty'\n")
    with pytest.raises(TransientError, match="configuration file"):
        postgres.start(home)


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Choose another home"):
        postgres.start(tmp_path / "file" / "home")


def test_stopping_politely_waits_for_the_clients(home: Path) -> None:
    server = postgres.start(home)
    client = psycopg.connect(server.dsn, autocommit=True)
    code = (
        "import sys, pathlib; from armillary.base import postgres; postgres.stop(pathlib.Path(sys.argv[1]), fast=False)"
    )
    stopper = run_python(code, home)
    with pytest.raises(subprocess.TimeoutExpired):
        stopper.wait(0.5)
    assert client.execute("select 1").fetchone() == (1,)
    client.close()
    assert stopper.communicate(timeout=20)[1] == ""
    assert postgres.is_running(home) is None


def test_a_moved_home_keeps_its_live_server(home: Path, tmp_path: Path) -> None:
    server = postgres.start(tmp_path / "before")
    after = tmp_path / "after"
    (tmp_path / "before").rename(after)
    try:
        assert postgres.is_running(after) == server.pid
    finally:
        postgres.stop(after)
    moved = postgres.start(after)
    assert ask(moved, "select 1") == 1
    postgres.stop(after)
    shutil.rmtree(after)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_root_without_user_namespaces_starts_it_as_an_unprivileged_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_owner, "_succeeds", lambda command: False)
    postgres_owner.owner.cache_clear()
    home = Path(tempfile.mkdtemp(prefix="armillary-test-", dir="/tmp"))
    try:
        with pytest.raises(UsageError, match="cannot enter"):
            postgres.start(home)
        home.chmod(0o755)
        server = postgres.start(home)
        assert psutil.Process(server.pid).uids().real == postgres_owner.owner().uid != 0
        tell(server, "create table kept as select 42 as answer")
        postgres.stop(server)
        monkeypatch.undo()
        postgres_owner.owner.cache_clear()
        assert ask(postgres.start(home), "select answer from kept") == 42  # the data became root's again
    finally:
        postgres.stop(home)
        postgres_owner.owner.cache_clear()
        shutil.rmtree(home)


def test_a_restart_does_not_take_longer_than_making_a_database_anew(home: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    postgres.stop(postgres.start(home))
    first = time.monotonic() - begin
    begin = time.monotonic()
    postgres.start(home)
    assert time.monotonic() - begin < first
