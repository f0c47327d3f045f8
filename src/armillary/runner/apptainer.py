"""Run a program in a container of Apptainer, as on most supercomputers: an image file, and a process of our own in it.

No server of containers stands between, so that the program is a child of the runner: it is measured, limited, stopped and
ended as any process is.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from armillary.algorithms.algorithm import ErrorClass
from armillary.runner.cgroup import Enforcement
from armillary.runner.container import BUNDLE, JOB, Engine, variables, words
from armillary.runner.failure import AttemptError
from armillary.runner.family import Family
from armillary.runner.lease import Lease
from armillary.runner.process import ProcessRuntime
from armillary.runner.runtime import Command, Prepared, Program

PROGRAMS = ("apptainer", "singularity")
PULL_SECONDS = 3600.0


def find_engine() -> Engine | None:
    """Apptainer, or Singularity, of which it is the successor; None where there is neither."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    return Engine("apptainer", program, (os.getuid(), os.getgid()), has_init=False) if program else None


class ApptainerRuntime:
    """Programs in image files, which are made once from their registry's image."""

    def __init__(self, engine: Engine, family: Family, enforcement: Enforcement, images: Path) -> None:
        self._engine = engine
        self._family = family
        self._processes = ProcessRuntime(family, enforcement)
        self._images = images

    def command(self, lease: Lease, prepared: Prepared, folder: Path, grace_seconds: float) -> Command:
        """Apptainer's command line; variables are inside it, as `--cleanenv` keeps all others out."""
        inner = Command(
            words(lease.spec["run"], prepared.bundle),
            folder,
            variables(lease, prepared.bundle, folder),
            lease.limits,
            grace_seconds,
            prepared.bundle,
            lease.environment,
        )
        arguments = exec_arguments(self._engine, inner, self._file(lease.environment["image"]))
        # The mark makes its processes known as the job's; PATH is for Apptainer's own helpers.
        outer = {name: inner.environment[name] for name in ("ARMILLARY_JOB_FOLDER",)} | {"PATH": os.environ["PATH"]}
        return Command(arguments, folder, outer, lease.limits, grace_seconds)

    def start(self, command: Command, output: int) -> Program:
        """Start it like any process."""
        return self._processes.start(command, output)

    def prepare(self, image: str) -> dict[str, Any]:
        """Make the image file if there is none; what is recorded of it. `AttemptError` if it cannot be made."""
        file = self._file(image)
        if not file.exists():
            self._images.mkdir(parents=True, exist_ok=True)
            making = file.with_suffix(f".{os.getpid()}.making")
            self._pull(image, making)
            making.rename(file)
        return {"kind": "image", "image": image, "engine": "apptainer"}

    def _pull(self, image: str, file: Path) -> None:
        words = [self._engine.program, "pull", "--force", str(file), f"docker://{image}"]
        try:
            code, said = self._family.help(words, os.environ, PULL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            code, said = 1, str(error)
        if code:
            raise AttemptError(
                ErrorClass.INFRASTRUCTURE,
                f"The image {image} cannot be fetched: {' '.join(said.split())[-500:]}",
                f"Try `{Path(self._engine.program).name} pull docker://{image}` on the worker.",
            )

    def _file(self, image: str) -> Path:
        return self._images / f"{image.rpartition(':')[2]}.sif"


def exec_arguments(engine: Engine, command: Command, image: Path) -> list[str]:
    """What runs a command in an image file: nothing of the home, the environment or the network of the worker."""
    folder = command.folder
    arguments = [engine.program, "--quiet", "exec", "--containall", "--cleanenv", "--no-home", "--no-privs"]
    if not command.image.get("network"):
        arguments += ["--net", "--network", "none"]
    arguments += ["--bind", f"{folder}:{JOB}:rw", "--bind", f"{folder / 'inputs'}:{JOB / 'inputs'}:ro"]
    if command.bundle is not None:
        arguments += ["--bind", f"{command.bundle}:{BUNDLE}:ro"]
    arguments += ["--pwd", str(JOB)]
    for variable, value in command.environment.items():
        arguments += ["--env", f"{variable}={value}"]
    return [*arguments, str(image), *command.arguments]
