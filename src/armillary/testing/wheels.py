"""What users install: the wheels of this workspace, and environments made from them alone."""

import os
import subprocess
import sys
from pathlib import Path

UV = Path(sys.executable).with_name("uv")


def build(root: Path, folder: Path) -> Path:
    """Build every package of the workspace at `root` into a folder."""
    run(UV, "build", "--quiet", "--wheel", "--all-packages", "--out-dir", folder, cwd=root)
    return folder


def environment(root: Path, wheels: Path, folder: Path, *what: str) -> Path:
    """A new environment with these requirements, our own from the wheels, all else as locked; the folder of its programs."""
    python = folder / "bin" / "python"
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    run(
        UV, "pip", "install", "--quiet", "--python", python, "--find-links", wheels,
        "--constraints", root / "requirements.lock", *what,
    )  # fmt: skip
    return folder / "bin"


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command outside the environment of the tests; what it printed."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    variables["UV_PYTHON_DOWNLOADS"] = "never"
    words = [str(word) for word in command]
    result = subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
    return result.stdout
