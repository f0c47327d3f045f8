"""A bundle is unpacked once, a locked environment built once, and nothing of the runner reaches the algorithm."""

import os
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from armillary.runner.environment import LAUNCHER, launcher, variables
from armillary.runner.lease import read_lease
from armillary.runner.runtime import Prepared

PYPROJECT = '[project]\nname = "x"\nversion = "1"\nscripts = {do-it = "package.main:main"}\n'
MAIN = "import sys\ndef main():\n    print('did it', sys.argv[1:])\n"


def test_declared_programs_run_from_the_bundle(bench: Any, jobs: Any) -> None:
    files = {"pyproject.toml": PYPROJECT, "src/package/__init__.py": "", "src/package/main.py": MAIN}
    for _ in range(2):
        report = bench.run(jobs.lease(["do-it", "job.json"], files=files))
        assert report["outcome"] == "succeeded", report
        assert bench.log() == b"did it ['job.json']\n"
    unpacked = list((bench.cache.folder / "bundles").iterdir())
    assert len(unpacked) == 1
    assert all(path.stat().st_mode & 0o222 == 0 for path in unpacked[0].rglob("*") if path.is_file())


def test_a_function_can_be_an_algorithm(bench: Any, jobs: Any) -> None:
    files = {"package.py": "def process(job):\n    print(job['parameters'])\n"}
    report = bench.run(jobs.lease([], files=files, run={"python": "package:process"}))
    assert (report["outcome"], bench.log()) == ("succeeded", b"{'looks': 4}\n")


def _wheel(folder: Path) -> tuple[Path, str]:
    """A distribution made by hand, so that no index is needed."""
    wheel = folder / "tiny_thing-1.0-py3-none-any.whl"
    info = "tiny_thing-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_thing.py", "SAYS = 'from the lock'\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel, sha256(wheel.read_bytes()).hexdigest()


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_a_locked_environment_is_built_once_and_used_offline(
    bench: Any, jobs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    # A runner that is started by its full path finds the uv beside its Python all the same.
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if tool == "uv" and not Path(sys.executable).with_name("uv").exists():
        pytest.skip("uv is not installed")
    if tool == "pip":
        monkeypatch.setattr("armillary.runner.environment.shutil.which", lambda *_, **__: None)
    wheel, digest = _wheel(tmp_path)
    lock = f"tiny-thing @ file://{wheel} --hash=sha256:{digest}\n"
    code = "import tiny_thing, sys\nprint(tiny_thing.SAYS, sys.prefix != sys.base_prefix)\n"
    lease = jobs.lease(
        ["python", "main.py"],
        files={"main.py": code, "requirements.lock": lock},
        environment={"lock": "requirements.lock"},
    )
    assert bench.run(lease)["outcome"] == "succeeded"
    building, built, printed = bench.log().decode().splitlines()
    assert building == "[armillary] building the environment: 1 packages of requirements.lock, once on this machine"
    assert "the environment is built" in built
    assert printed == "from the lock True"
    wheel.unlink()
    bench.workplace.environments._known.clear()
    report = bench.run(lease)
    assert (report["outcome"], report["usage"]["environment"]["kind"]) == ("succeeded", "lock")


def test_a_lock_that_cannot_be_installed_says_why(bench: Any, jobs: Any, tmp_path: Path) -> None:
    wheel, _ = _wheel(tmp_path)
    lock = f"tiny-thing @ file://{wheel} --hash=sha256:{'0' * 64}\n"
    lease = jobs.lease(["true"], files={"requirements.lock": lock}, environment={"lock": "requirements.lock"})
    report = bench.run(lease)
    assert report["error_class"] == "infrastructure"
    assert "hash" in report["reason"].lower()


def test_a_lock_that_is_missing_is_the_algorithms_fault(bench: Any, jobs: Any) -> None:
    lease = jobs.lease(["true"], files={"a": ""}, environment={"lock": "requirements.lock"})
    report = bench.run(lease)
    assert (report["error_class"], "requirements.lock" in report["reason"]) == ("science error", True)


BUILD = """
import sys
from pathlib import Path
from armillary.runner.cache import Cache
from armillary.runner.environment import Environments
from armillary.runner.family import Family
folder = Path(sys.argv[1])
environments = Environments(folder / "cache", Cache(folder / "cache", 1 << 30, None), Family())
print(environments.prepare_folder(folder / "algorithm", {"lock": "requirements.lock"}).python)
"""


def test_a_build_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "algorithm").mkdir()
    wheel, digest = _wheel(tmp_path)
    (tmp_path / "algorithm" / "requirements.lock").write_text(f"tiny-thing @ file://{wheel} --hash=sha256:{digest}\n")
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    killed = subprocess.run(command, env=os.environ | {"ARMILLARY_CRASH": "environment.before-complete"})
    assert killed.returncode == -9
    built = subprocess.run(command, capture_output=True, text=True)
    python = built.stdout.strip()
    said = subprocess.run([python, "-c", "import tiny_thing; print(tiny_thing.SAYS)"], capture_output=True, text=True)
    assert said.stdout == "from the lock\n"


def test_nothing_of_the_runner_reaches_an_algorithm(jobs: Any, tmp_path: Path) -> None:
    lease = read_lease(jobs.shell("true", cpu=2))
    own = {"ARMILLARY_TOKEN": "secret", "AWS_SECRET": "secret", "LD_LIBRARY_PATH": "/opt/lib", "PATH": "/evil"}
    prepared = Prepared(Path("/env/bin/python"), (Path("/env/bin"),), (), is_built_in=False, record={})
    made = variables(lease, prepared, tmp_path, own)
    assert "secret" not in made.values()
    assert made["PATH"].startswith("/env/bin:") and "/evil" not in made["PATH"]
    assert (made["HOME"], made["OMP_NUM_THREADS"]) == (f"{tmp_path}/tmp", "2")
    assert made["LD_LIBRARY_PATH"] == "/opt/lib"


def test_the_built_in_sender_sees_credentials_but_no_token_of_armillary(jobs: Any, tmp_path: Path) -> None:
    lease = read_lease(jobs.shell("true"))
    own = {"ARMILLARY_TOKEN": "secret", "ARCHIVE_KEY": "key", "ARMILLARY_CRASH": "deliver.after-notify"}
    prepared = Prepared(Path("/env/bin/python"), (Path("/env/bin"),), (), is_built_in=True, record={})
    made = variables(lease, prepared, tmp_path, own)
    assert (made["ARCHIVE_KEY"], made["ARMILLARY_CRASH"]) == ("key", "deliver.after-notify")
    assert "ARMILLARY_TOKEN" not in made


def test_only_the_built_in_programs_are_trusted(bench: Any, jobs: Any) -> None:
    environments = bench.workplace.environments
    assert environments.prepare(read_lease(jobs.shell("env"))).is_built_in is False
    assert environments.prepare(read_lease(jobs.lease(["armillary-deliver", "job.json"]))).is_built_in is True


def test_a_launcher_bears_folders_with_spaces_and_quotes_of_any_length(tmp_path: Path) -> None:
    folder = tmp_path / ("with spaces " + "x" * 180)
    folder.mkdir()
    python = folder / "python"
    python.symlink_to(sys.executable)
    (folder / "package.py").write_text("class A:\n    @staticmethod\n    def run():\n        print('ran')\n")
    program = folder / "program"
    program.write_text(launcher(python, "package:A.run"))
    program.chmod(0o755)
    done = subprocess.run([program], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(folder)})
    assert done.stdout == "ran\n", done.stderr
    assert LAUNCHER.startswith("#!/bin/sh\n")


def test_a_program_of_the_bundle_is_found_by_its_name(bench: Any, jobs: Any) -> None:
    files = {"bin/tool": "#!/bin/sh\necho tool $1\n", "job.json": "{}"}
    report = bench.run(jobs.lease(["bin/tool", "job.json"], files=files))
    assert (report["outcome"], bench.log()) == ("succeeded", b"tool job.json\n"), report


def test_an_algorithm_may_be_its_document_alone(jobs, bench) -> None:
    lease = jobs.lease(["true"])
    lease["bundle"] = jobs._bundle({})
    assert bench.run(lease)["outcome"] == "succeeded"
