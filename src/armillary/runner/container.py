"""Run a program in a container of podman or docker: pinned image, no network, nothing of the worker's in reach.

The engine's own command is the child that is watched. Its container has a name of our own, so that it can be killed and
removed whatever becomes of that child, or of the runner.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from armillary.algorithms.algorithm import ErrorClass
from armillary.runner import cgroup
from armillary.runner.environment import CALL, always_set, in_bundle
from armillary.runner.failure import AttemptError
from armillary.runner.family import Family, read_and_written_bytes
from armillary.runner.lease import Lease
from armillary.runner.runtime import MAX_PROCESSES, Command, End, Prepared, Program, Usage, Why

JOB, BUNDLE = Path("/job"), Path("/algorithm")  # where the job's folder and the algorithm's own files are inside
PULL_SECONDS = 3600.0
ENGINE_SECONDS = 120.0
LABEL = "armillary.work"
ENGINE_FAILED = 125  # the engine's own exit code, where not the program failed but it; 126: it cannot start the program
MAX_FILES, MAX_USER_PROCESSES = 65_536, 16_384
ENGINES = ("podman", "docker")
INITS = ("/usr/libexec/podman/catatonit", "/usr/bin/catatonit")


@dataclass(frozen=True)
class Engine:
    """A program that runs containers, and what is particular to it."""

    name: str
    program: str
    user: tuple[int, int]  # the runner's
    has_init: bool  # whether it has a first process that hands signals on and collects children
    limits: Mapping[str, int] = field(default_factory=dict)  # the runner's own, which engines' defaults may exceed


def find_engine(wanted: str = "auto", path: str | None = None) -> Engine | None:
    """The engine to use: the one that is named, or the first that is installed. None if there is none."""
    for name in ENGINES if wanted == "auto" else [wanted]:
        if program := shutil.which(name, path=path):
            has_init = name == "docker" or any(Path(init).exists() for init in INITS)
            return Engine(name, program, (os.getuid(), os.getgid()), has_init, _own_limits())
    return None


def _own_limits() -> dict[str, int]:
    """What a container may open and start: no more than the runner, as not every engine may raise that."""
    files, processes = (resource.getrlimit(one)[1] for one in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
    wanted = {"nofile": (files, MAX_FILES), "nproc": (processes, MAX_USER_PROCESSES)}
    return {name: most if hard == resource.RLIM_INFINITY else min(hard, most) for name, (hard, most) in wanted.items()}


class ContainerRuntime:
    """Programs in containers of one engine."""

    def __init__(self, engine: Engine, family: Family) -> None:
        self._engine = engine
        self._family = family

    def command(self, lease: Lease, prepared: Prepared, folder: Path, grace_seconds: float) -> Command:
        """Its words and variables as they are inside."""
        return Command(
            words(lease.spec["run"], prepared.bundle),
            folder,
            variables(lease, prepared.bundle, folder),
            lease.limits,
            grace_seconds,
            prepared.bundle,
            lease.environment,
        )

    def start(self, command: Command, output: int) -> Program:
        """Start it; the job's folder is its working directory."""
        name = container_name(command.folder)
        arguments = run_arguments(self._engine, command, name)
        process = self._family.start(arguments, command.folder, os.environ, output)
        return _Container(command, name, process, process.pid, self._call, self._family)

    def prepare(self, image: str) -> dict[str, Any]:
        """Fetch an image if it is not here; what is recorded of it. `AttemptError` if it cannot be had."""
        code, _ = self._call("image", "inspect", image)
        if code:
            code, said = self._call("pull", "--quiet", image, seconds=PULL_SECONDS)
            if code:
                raise AttemptError(
                    ErrorClass.INFRASTRUCTURE,
                    f"The image {image} cannot be fetched: {' '.join(said.split())[-500:]}",
                    f"Try `{self._engine.name} pull {image}` on the worker.",
                )
        return {"kind": "image", "image": image, "engine": self._version()}

    def sweep(self, work: Path) -> int:
        """Remove the containers that a dead runner left; how many."""
        code, said = self._call("ps", "--all", "--quiet", "--filter", f"label={LABEL}={work}")
        left = said.split() if code == 0 else []
        if left:
            self._call("rm", "--force", *left)
        return len(left)

    def _version(self) -> str:
        code, said = self._call("version", "--format", "{{.Client.Version}}")
        return f"{self._engine.name} {said.strip()}" if code == 0 else self._engine.name

    def _call(self, *words: str, seconds: float = ENGINE_SECONDS) -> tuple[int, str]:
        try:
            return self._family.help([self._engine.program, *words], os.environ, seconds)
        except (OSError, subprocess.TimeoutExpired) as error:
            return ENGINE_FAILED, str(error)


@dataclass
class _Container:
    command: Command
    name: str
    process: "subprocess.Popen[bytes]"
    pid: int  # of the engine's command, which ends when the container has
    call: Callable[..., tuple[int, str]]
    family: Family
    first: int = 0
    group: cgroup.Reading | None = None

    def ending(self) -> int:
        return os.pidfd_open(self.pid)

    def measure(self, usage: Usage) -> Why | None:
        """By its control group; the engine keeps the limits, so that nothing is judged here."""
        if self.group is None and (first := self._state().get("Pid")):
            self.first, self.group = first, cgroup.of_process(first)
        if self.group is not None:
            self.group.read(usage)
            usage.raise_to(0.0, *read_and_written_bytes(self.first))
        return None

    def signal(self, number: signal.Signals) -> None:
        # The engine hands signals on to the program, but to kill the engine's command would leave the container alone.
        if number is signal.SIGKILL:
            self.call("kill", "--signal", "KILL", self.name)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, usage: Usage) -> End:
        """What the engine says of it; then it is removed with all that runs in it."""
        state = self._state()
        self.call("rm", "--force", self.name)
        code, _ = self.family.reap(self.process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        end = ending(code, state, self.command.arguments[0])
        if end.passed == "memory":  # between two samples, so that none has seen it
            usage.peak_memory_bytes = max(usage.peak_memory_bytes, self.command.limits.memory_bytes)
        return end

    def _state(self) -> Mapping[str, Any]:
        code, said = self.call("inspect", "--type", "container", "--format", "{{json .State}}", self.name)
        with contextlib.suppress(ValueError):
            state = json.loads(said) if code == 0 else {}
            return state if isinstance(state, dict) else {}
        return {}


# Decided without doing anything ------------------------------------------------------------------------------------


def words(run: Mapping[str, Any], bundle: Path | None) -> list[str]:
    """What starts the algorithm inside; a word that names a file of its folder means that file."""
    if "python" in run:
        return ["python3", "-c", CALL, run["python"]]
    given = run["container"]["command"] if "container" in run else run["command"]
    return in_bundle(given, bundle, BUNDLE)


def variables(lease: Lease, bundle: Path | None, folder: Path) -> dict[str, str]:
    """Its environment beside the image's own: nothing of the runner's."""
    found = always_set(lease.limits, JOB, mark=folder)
    if bundle is not None:
        found["PYTHONPATH"] = str(BUNDLE / "src" if (bundle / "src").is_dir() else BUNDLE)
    return found


def run_arguments(engine: Engine, command: Command, name: str) -> list[str]:
    """The command line of podman or docker; they share it."""
    limits, folder = command.limits, command.folder
    memory = str(limits.memory_bytes)
    arguments = [engine.program, "run", "--name", name, "--label", f"{LABEL}={folder.parent}", "--pull", "missing"]
    arguments += ["--log-driver", "none", "--read-only", "--tmpfs", "/tmp:rw,mode=1777"]  # noqa: S108 - its own
    arguments += ["--cap-drop", "all", "--security-opt", "no-new-privileges", "--security-opt", "label=disable"]
    arguments += ["--memory", memory, "--memory-swap", memory, "--cpus", f"{limits.cpu:g}"]
    arguments += ["--pids-limit", str(MAX_PROCESSES)]
    for kind, hard in {**engine.limits, "core": 0, "fsize": limits.disk_bytes}.items():
        arguments += ["--ulimit", f"{kind}={hard}:{hard}"]
    arguments += ["--user", f"{engine.user[0]}:{engine.user[1]}"]
    if engine.name == "podman" and engine.user[0] != 0:
        arguments += [
            "--userns",
            "keep-id",
        ]  # without root's help, so that files made inside belong to the runner's user
    if not command.image.get("network"):
        arguments += ["--network", "none"]
    if engine.has_init:
        arguments += ["--init"]
    arguments += _mount(folder, JOB) + _mount(folder / "inputs", JOB / "inputs", "readonly")
    if command.bundle is not None:
        arguments += _mount(command.bundle, BUNDLE, "readonly")
    arguments += ["--workdir", str(JOB)]
    for variable, value in command.environment.items():
        arguments += ["--env", f"{variable}={value}"]
    first, *rest = command.arguments
    return [*arguments, "--entrypoint", first, str(command.image["image"]), *rest]


def _mount(source: Path, target: Path, *options: str) -> list[str]:
    return ["--mount", ",".join(["type=bind", f"source={source}", f"target={target}", *options])]


def container_name(folder: Path) -> str:
    """One name for each attempt on each runner."""
    return f"armillary-{folder.parent.name}-{folder.name}"


def ending(code: int, state: Mapping[str, Any], word: str) -> End:
    """What the engine's exit code and the container's state mean."""
    has_run = not str(state.get("StartedAt", "0001")).startswith("0001")
    if code == 127 and not has_run:
        said = AttemptError(ErrorClass.SCIENCE_ERROR, f"The image holds no program {word!r} that can be started.",
                            "Check run.container.command and the image.")  # fmt: skip
        return End(code, problem=said)
    if code in (ENGINE_FAILED, 126) and not has_run:
        said = AttemptError(ErrorClass.INFRASTRUCTURE, "The container could not be started; its log says why.",
                            "Look at the engine on the worker: `armillary-runner --check`.")  # fmt: skip
        return End(code, problem=said)
    if code != 0 and state.get("OOMKilled") is True:
        return End(-signal.SIGKILL, passed="memory")
    # A first process that was ended by a signal.
    return End(128 - code) if 128 < code <= 192 else End(code)
