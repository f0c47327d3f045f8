"""Where an algorithm's program and its libraries are: its bundle unpacked once, its locked environment built once."""

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from armillary.algorithms.algorithm import ErrorClass
from armillary.base.crash import crash_point
from armillary.base.errors import ArmillaryError
from armillary.runner.cache import Cache
from armillary.runner.failure import AttemptError, from_error, from_os_error
from armillary.runner.family import MARK, Family
from armillary.runner.lease import Lease, Limits, Object
from armillary.runner.runtime import Prepared

Say = Callable[[str], object]

BUILD_SECONDS = 3600
DONE = ".complete"
Record = Mapping[str, Any]
BUILT_IN = ("armillary-deliver",)
# Reads the job as the command line would have, so that a function can be an algorithm.
CALL = (
    "import importlib, json, sys; module, name = sys.argv[1].split(':'); "
    "sys.exit(getattr(importlib.import_module(module), name)(json.load(open('job.json'))))"
)
LAUNCHER = """#!/bin/sh
'''exec' '{python}' "$0" "$@"
' '''
import sys
from {module} import {function}
sys.exit({call}())
"""


class Environments:
    """Bundles and environments in one folder, shared by all runners of a host."""

    def __init__(
        self,
        folder: Path,
        cache: Cache,
        family: Family,
        *,
        python: Path | None = None,
        fetch_image: Callable[[str], Record] | None = None,
    ) -> None:
        """`fetch_image` has an image at hand and says what is recorded of it."""
        self._folder = folder
        self._fetch_image = fetch_image
        self._family = family
        self._cache = cache
        self._python = python or Path(sys.executable)
        self._known: dict[tuple[str, str], Prepared] = {}
        for name in ("bundles", "environments", "programs", "making"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def known(self, lease: Lease) -> Prepared | None:
        """What was prepared before, without waiting for anything."""
        needs_nothing = lease.bundle is None and "image" not in lease.environment
        return self._without_bundle(lease) if needs_nothing else self._known.get(_key(lease))

    def prepare(self, lease: Lease, say: Say = str) -> Prepared:
        """What the lease's algorithm runs in; made if this host has none yet, and `say` hears when that takes long."""
        bundle = self._unpacked(lease.bundle) if lease.bundle else None
        if "image" in lease.environment:
            prepared = self._with_image(lease.environment["image"], bundle)
        elif lease.bundle is None or bundle is None:
            return self._without_bundle(lease)
        else:
            prepared = self._around(bundle, lease.bundle.sha256, lease.environment, say)
        self._known[_key(lease)] = prepared
        return prepared

    def prepare_folder(self, folder: Path, environment: Mapping[str, Any], say: Say = str) -> Prepared:
        """The same for a folder that is unpacked already."""
        if "image" in environment:
            return self._with_image(environment["image"], folder)
        return self._around(folder, hashlib.sha256(os.fsencode(folder)).hexdigest(), environment, say)

    def _without_bundle(self, lease: Lease) -> Prepared:
        is_built_in = lease.spec["run"].get("command", [""])[0] in BUILT_IN
        record = {"kind": "built-in"} if is_built_in else {"kind": "site"} | self._site
        return Prepared(self._python, (self._python.parent,), (), is_built_in, record)

    def _with_image(self, image: str, bundle: Path | None) -> Prepared:
        assert self._fetch_image is not None  # a runtime for it was chosen before
        return Prepared(self._python, (), (), False, self._fetch_image(image), bundle)

    def _around(self, bundle: Path, name: str, environment: Mapping[str, Any], say: Say) -> Prepared:
        lock = environment.get("lock")
        python = self._built(bundle / lock, say) if lock else self._python
        programs = self._programs(bundle, name, python)
        source = bundle / "src" if (bundle / "src").is_dir() else bundle
        record = {"kind": "lock", "sha256": _sha256(bundle / lock)} if lock else {"kind": "site"} | self._site
        return Prepared(python, (programs, python.parent), (source,), False, record, bundle)

    # The bundle ------------------------------------------------------------------------------------------------

    def _unpacked(self, bundle: Object) -> Path:
        """The algorithm's folder, read only; moved into place whole."""
        place = self._folder / "bundles" / bundle.sha256
        if place.is_dir():
            return place
        with self._locked(bundle.sha256):
            if not place.is_dir():
                try:
                    self._unpack(bundle, place)
                except OSError as error:
                    raise from_os_error(error, "Unpacking the algorithm") from error
                except ArmillaryError as error:
                    raise from_error(error, "Fetching the algorithm") from error
        return place

    def _unpack(self, bundle: Object, place: Path) -> None:
        making = place.with_name(f"{place.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        archive = making / "bundle.tar.gz"
        self._cache.take(bundle, archive)
        folder = making / "folder"
        folder.mkdir()  # a bundle may be empty: an algorithm that is its document alone
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped) as members:
            members.extractall(folder, filter="data")
        archive.unlink()
        self._compile(self._python, folder)
        _make_read_only(folder)
        crash_point("environment.before-bundle-rename")
        folder.rename(place)
        shutil.rmtree(making)

    def _programs(self, bundle: Path, name: str, python: Path) -> Path:
        """A folder with the programs that the bundle's pyproject.toml declares; nothing needs to be built for them."""
        key = hashlib.sha256(f"{name}\n{python}".encode()).hexdigest()
        place = self._folder / "programs" / key
        if place.is_dir():
            return place
        with self._locked(key):
            making = place.with_name(f"{key}.making")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            for program, target in _scripts(bundle).items():
                (making / program).write_text(launcher(python, target))
                (making / program).chmod(0o755)
            if not place.is_dir():
                making.rename(place)
        return place

    # The environment -------------------------------------------------------------------------------------------

    def _built(self, lock: Path, say: Say) -> Path:
        """The Python of the environment that a lock file describes."""
        key = hashlib.sha256(f"{_sha256(lock)}\n{self._python_name}".encode()).hexdigest()[:32]
        place = self._folder / "environments" / key
        python = place / "bin" / "python"
        if (place / DONE).exists():
            return python
        with self._locked(key):
            # Scripts in an environment name its folder, so it is made in place, and is whole once it says so.
            if not (place / DONE).exists():
                shutil.rmtree(place, ignore_errors=True)
                self._build(lock, place, say)
                crash_point("environment.before-complete")
                (place / DONE).touch()
        return python

    def _build(self, lock: Path, place: Path, say: Say) -> None:
        python = place / "bin" / "python"
        begun, packages = time.monotonic(), _packages(lock)
        # A runner that is started by its full path has the uv of its own environment.
        if uv := shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent)):
            make = [uv, "venv", "--quiet", "--python", str(self._python), str(place)]
            fill = [uv, "pip", "install", "--quiet", "--python", str(python)]
        else:
            make = [str(self._python), "-m", "venv", str(place)]
            fill = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        self._run(make, "Making the environment")
        if packages:
            say(f"building the environment: {packages} packages of {lock.name}, once on this machine")
            # Python compiles what a program loads when it loads it; a large environment holds far more than that.
            self._run([*fill, "--no-deps", "--require-hashes", "-r", str(lock)], "Installing what the lock names")
            say(f"the environment is built, in {time.monotonic() - begun:.0f} s")

    def _run(self, command: list[str], doing: str) -> None:
        environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
        try:
            code, printed = self._family.help(command, environment, BUILD_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AttemptError(ErrorClass.INFRASTRUCTURE, f"{doing} failed: {error}.") from error
        if code:
            raise AttemptError(
                ErrorClass.INFRASTRUCTURE,
                f"{doing} failed: {' '.join(printed.split())[-500:]}",
                "Check the lock file, and that this worker reaches the package index.",
            )

    def _compile(self, python: Path, folder: Path) -> None:
        # By the hash of its source: what is read only cannot be compiled later. What does not compile fails when it runs.
        mode = ["--invalidation-mode", "unchecked-hash"]
        with contextlib.suppress(AttemptError):
            self._run([str(python), "-m", "compileall", "-q", *mode, str(folder)], "Compiling")

    @cached_property
    def _python_name(self) -> str:
        return f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"

    @cached_property
    def _site(self) -> dict[str, Any]:
        """What is installed where the runner is: such a run cannot be repeated exactly, but one can see with what it was."""
        found = sorted({f"{one.metadata['Name']}=={one.version}" for one in metadata.distributions()})
        return {"python": sys.version.split()[0], "distributions": found}

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self._folder / "making" / name).open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _key(lease: Lease) -> tuple[str, str]:
    return lease.bundle.sha256 if lease.bundle else "", json.dumps(dict(lease.environment), sort_keys=True)


def arguments(lease: Lease, prepared: Prepared) -> list[str]:
    """The words that start the algorithm. A word that names a file of the bundle means that file, wherever it lies here."""
    run = lease.spec["run"]
    if "python" in run:
        return [str(prepared.python), "-c", CALL, run["python"]]
    return in_bundle(run["command"], prepared.bundle)


def in_bundle(words: Sequence[str], bundle: Path | None, place: Path | None = None) -> list[str]:
    """Words that name a file of the bundle as the file's path, where the program sees the bundle at `place`."""

    def path(word: str) -> str:
        # job.json is the job's, even if samples of one lie in the algorithm's folder.
        if bundle is None or word in ("", "job.json") or word.startswith("-") or ".." in word.split("/"):
            return word
        return str((place or bundle) / word) if (bundle / word).is_file() else word

    return [path(word) for word in words]


def variables(lease: Lease, prepared: Prepared, folder: Path, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The algorithm's environment, made anew: nothing of the runner's leaks into it, tokens least of all.

    Only the built-in algorithms, which are part of Armillary, see the runner's variables: a destination's credential may
    be one of them. Of Armillary's own they see none.
    """
    path = os.pathsep.join([*map(str, prepared.path), "/usr/local/bin", "/usr/bin", "/bin"])
    passed = _passed_on(own) if prepared.is_built_in else {}
    kept = {name: own[name] for name in ("TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE") if name in own}
    set_here = always_set(lease.limits, folder, mark=folder) | {"PATH": path, "PYTHONNOUSERSITE": "1"}
    if prepared.python_path:
        set_here["PYTHONPATH"] = os.pathsep.join(map(str, prepared.python_path))
    return passed | kept | set_here


def _passed_on(own: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in own.items()
        if not name.startswith("ARMILLARY_") or name.startswith("ARMILLARY_CRASH")
    }


def always_set(limits: Limits, folder: Path, mark: Path) -> dict[str, str]:
    """What every program finds, in whatever it runs; `folder` is the job's as the program sees it."""
    threads = str(max(1, int(limits.cpu)))
    return {
        "HOME": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # so that a log is live
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "NUMBA_NUM_THREADS": threads,
        MARK: str(mark),
    }


def launcher(python: Path, target: str) -> str:
    """A program that calls `module:function`; the shell line bears a path of any length and with spaces."""
    module, _, function = target.partition(":")
    return LAUNCHER.format(python=python, module=module, function=function.partition(".")[0], call=function)


def _scripts(bundle: Path) -> dict[str, str]:
    try:
        project = tomllib.loads((bundle / "pyproject.toml").read_text()).get("project", {})
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return {}
    scripts = project.get("scripts", {})
    return {name: target for name, target in scripts.items() if "/" not in name and isinstance(target, str)}


def _packages(lock: Path) -> int:
    """How many requirements a lock file names; their hashes are on indented lines."""
    return sum(line[:1].strip() not in ("", "#") for line in lock.read_text().splitlines())


def _make_read_only(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise AttemptError(
            ErrorClass.SCIENCE_ERROR, f"The algorithm's folder holds no {path.name}.", "Make its lock file."
        ) from error


def remove_read_only(folder: Path) -> None:
    """Remove a folder even if its folders were made read only."""
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
