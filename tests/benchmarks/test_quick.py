"""Benchmarks work: with tiny sizes, which measure nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"
OURS = ("chain", "job_queue", "metrics")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(RUN), *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", OURS)
def test_a_benchmark_runs_and_ends_with_its_figures_as_json(name: str) -> None:
    done = run(name, "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(json.loads(done.stdout.splitlines()[-1])) > 2, done.stdout


def test_the_list_names_benchmarks_with_what_it_measures() -> None:
    listed = run("--list").stdout
    for name in (*OURS, "ingest", "search", "startup", "trigger"):
        assert f"\n  {name} " in listed


def test_an_unknown_name_is_refused_with_the_list() -> None:
    done = run("speed")
    assert done.returncode == 2
    assert "no benchmark 'speed'" in done.stderr
    assert "  chain " in done.stderr


def numbers(figures: object) -> int:
    if isinstance(figures, dict):
        return sum(map(numbers, figures.values()))
    return int(isinstance(figures, int | float))
