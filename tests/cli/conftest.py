"""One server for the commands that need one, started by the command line itself."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LIMIT_SECONDS = 180

ALGORITHM = """\
kind: algorithm
id: count
version: 1.0.0
title: Count the bytes of a file
inputs: {one: {collection: raw}}
outputs: {counted: {collection: counted}}
parameters: {fail: {type: boolean, default: false, description: "End with an error."}}
run: {command: [python, run.py]}
environment: {site: true}
resources: {cpu: 0.1, memory: 64MiB, disk: 10MiB, time: 5min}
retry: {attempts: 1}
"""
RUN = """\
import json, pathlib, sys
job = json.loads(pathlib.Path("job.json").read_text())
one = job["inputs"]["one"][0]
if job["parameters"]["fail"]:
    pathlib.Path("error.json").write_text(json.dumps({"class": "science error", "message": "It was asked to fail."}))
    sys.exit(11)
file = next(path for path in pathlib.Path(one["path"]).rglob("*") if path.is_file())
out = pathlib.Path("outputs/counted") / (one["id"] + "-counted")
out.mkdir(parents=True)
(out / "count.json").write_text(json.dumps({"bytes": len(file.read_bytes())}))
print("counted", one["id"])
"""
DEFINITIONS = """\
kind: collection
id: raw
title: Raw files
recognise: {name: "\\\\.raw$"}
on_change: revise
---
kind: collection
id: counted
---
kind: rule
id: count-all
when: {one: {collection: raw}}
then: {run: count}
"""


@dataclass
class Shell:
    """What a person types, on one home."""

    home: Path
    folder: Path

    def run(self, *words: str, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command; its exit code is as expected, None for any."""
        done = subprocess.run(
            [sys.executable, "-m", "armillary.cli.main", *words],
            cwd=self.folder, text=True, capture_output=True, check=False, timeout=LIMIT_SECONDS,
            stdin=subprocess.DEVNULL, env=self.environment() | environment,
        )  # fmt: skip
        assert code is None or done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def __call__(self, *words: str, **environment: str) -> str:
        """What a command that succeeds prints."""
        return self.run(*words, **environment).stdout

    def json(self, *words: str) -> Any:
        """The one document that a command prints with --json."""
        return json.loads(self(*words, "--json"))

    def lines(self, *words: str) -> list[Any]:
        """The documents, one a line, that a command prints with --json."""
        return [json.loads(line) for line in self(*words, "--json").splitlines()]

    def environment(self) -> dict[str, str]:
        """This home, and no other server."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ARMILLARY_")}
        return kept | {"ARMILLARY_HOME": str(self.home)}

    def write_definitions(self) -> Path:
        """A folder with an algorithm, collections and a rule."""
        folder = self.folder / "count"
        folder.mkdir(exist_ok=True)
        for name, content in (("algorithm.yaml", ALGORITHM), ("run.py", RUN), ("definitions.yaml", DEFINITIONS)):
            (folder / name).write_text(content)
        return folder


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A running server with definitions and two granules whose jobs have succeeded."""
    folder = tmp_path_factory.mktemp("shell")
    shell = Shell(tmp_path_factory.mktemp("h") / "home", folder)
    shell("up", "--port", "0", "--detach")
    try:
        shell("apply", str(shell.write_definitions()))
        for name in ("a", "b"):
            (folder / f"{name}.raw").write_text(name * 100)
        shell("ingest", "a.raw", "b.raw")
        for name in ("a", "b"):
            shell("run", "count", "--input", f"one=raw/{name}", "--wait")
        yield shell
    finally:
        shell.run("down", code=None)
