"""The tutorial's own algorithm, taken from its page, finds what the page says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PAGE = Path(__file__).parents[3] / "docs" / "tutorial" / "first-algorithm.md"
ORBIT = """<F><OSV><X>0</X><Y>7071000</Y><Z>0</Z></OSV><OSV><X>7071000</X><Y>0</Y><Z>0</Z></OSV></F>"""


@pytest.fixture(scope="module")
def blocks() -> dict[str, list[str]]:
    """The code on the page by its language."""
    if not PAGE.exists():
        pytest.skip("docs/tutorial is not beside this distribution")
    found: dict[str, list[str]] = {}
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        found.setdefault(language, []).append(code)
    return found


def test_the_program_on_the_page_finds_the_height(blocks, tmp_path) -> None:
    (tmp_path / "heights.py").write_text(blocks["python"][0])
    algorithm = yaml.safe_load(blocks["yaml"][0])
    folder = tmp_path / "inputs" / "orbit" / "first"
    folder.mkdir(parents=True)
    (folder / "a.EOF").write_text(ORBIT)
    times = {"start_datetime": "2026-01-05T04:10:00Z", "end_datetime": "2026-01-05T08:10:59Z"}
    given = {"id": "first", "path": "inputs/orbit/first", "item": {"properties": times}}
    parameters = {name: schema["default"] for name, schema in algorithm["parameters"].items()}
    (tmp_path / "job.json").write_text(json.dumps({"parameters": parameters, "inputs": {"orbit": [given]}}))
    program, *arguments = algorithm["run"]["command"]
    assert program == "python"
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "a.EOF holds 2 state vectors\n"
    product = tmp_path / "outputs" / "summary" / "first-heights"
    assert json.loads((product / "heights.json").read_text()) == {"low": 700.0, "high": 700.0}
    assert json.loads((product / "granule.json").read_text())["properties"]["end_datetime"] == times["end_datetime"]


def test_the_documents_on_the_page_fit_together(blocks) -> None:
    documents = [document for block in blocks["yaml"] for document in yaml.safe_load_all(block)]
    by_kind: dict[str, list[dict]] = {}
    for document in documents:
        by_kind.setdefault(document["kind"], []).append(document)
    (algorithm,), (rule,) = by_kind["algorithm"], by_kind["rule"]
    collections = {document["id"] for document in by_kind["collection"]}
    assert {
        part["collection"] for part in [*algorithm["inputs"].values(), *algorithm["outputs"].values()]
    } == collections
    assert rule["then"]["run"] == algorithm["id"]
    assert rule["when"].keys() == algorithm["inputs"].keys()
