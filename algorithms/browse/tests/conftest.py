"""What the tests share: a job's directory to fill and run, and the real data where they are."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

# Other work may run beside the tests: how long an example takes says nothing.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ALGORITHM = yaml.safe_load((Path(__file__).parent.parent / "algorithm.yaml").read_text())
DEFAULTS = {name: schema["default"] for name, schema in ALGORITHM["parameters"].items()}


@dataclass(frozen=True)
class JobFolder:
    """The directory that a runner would prepare."""

    path: Path

    def give(self, role: str, granule: str, **item: Any) -> Path:
        """The folder of an input granule, for its files to be put into."""
        folder = self.path / "inputs" / role / granule
        folder.mkdir(parents=True)
        (folder.parent / f"{granule}.json").write_text(json.dumps({"geometry": None, "properties": {}} | item))
        return folder

    def start(self, parameters: Mapping[str, Any] | None = None) -> "subprocess.Popen[str]":
        """Write job.json and start the algorithm as algorithm.yaml has it."""
        inputs = {
            role.name: [
                {
                    "collection": f"{role.name}s",
                    "id": folder.name,
                    "revision": 1,
                    "path": str(folder.relative_to(self.path)),
                    "item": json.loads((role / f"{folder.name}.json").read_text()),
                }
                for folder in sorted(role.iterdir())
                if folder.is_dir()
            ]
            for role in (self.path / "inputs").glob("*")
        }
        job = {"job": "test", "attempt": 1, "parameters": DEFAULTS | dict(parameters or {}), "inputs": inputs}
        (self.path / "job.json").write_text(json.dumps(job))
        _, *arguments = ALGORITHM["run"]["command"]
        return subprocess.Popen([sys.executable, *arguments], cwd=self.path, stderr=subprocess.PIPE, text=True)

    def run(self, parameters: Mapping[str, Any] | None = None) -> int:
        """Run it to its end."""
        process = self.start(parameters)
        _, errors = process.communicate(timeout=120)
        assert process.returncode in range(17), errors
        assert "Traceback" not in errors, errors
        return process.returncode

    @property
    def product(self) -> Path:
        (folder,) = (self.path / "outputs" / "picture").iterdir()
        return folder

    def read(self, name: str) -> Any:
        return json.loads((self.product / name).read_text())

    @property
    def error(self) -> Any:
        return json.loads((self.path / "error.json").read_text())


@pytest.fixture
def new_job(tmp_path: Path) -> Callable[[str], JobFolder]:
    """Make a job's directory."""

    def make(name: str = "job") -> JobFolder:
        (tmp_path / name / "inputs").mkdir(parents=True)
        return JobFolder(tmp_path / name)

    return make


@pytest.fixture
def job(new_job: Callable[[str], JobFolder]) -> JobFolder:
    return new_job("job")


@pytest.fixture(scope="session")
def insar_data() -> Path:
    """The folder of real radar data, or a skip that says what is not set."""
    folder = os.environ.get("ARMILLARY_TEST_DATA")
    if not folder:
        pytest.skip("ARMILLARY_TEST_DATA is not set: no real data to read")
    return Path(folder) / "insar"
