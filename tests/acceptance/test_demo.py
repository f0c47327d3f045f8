"""The demo is the acceptance test: its whole story through the command line, and again, and its product's page."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The demo, run once; its home and what it said."""
    home = tmp_path_factory.mktemp("demo")
    yield home, run(home)
    subprocess.run([armillary(), "--home", str(home), "down"], check=False, capture_output=True, timeout=120)
    archive = json.loads((home / "run" / "archive.json").read_text())
    os.kill(archive["pid"], signal.SIGTERM)


def armillary() -> str:
    return str(Path(sys.executable).with_name("armillary"))


def run(home: Path) -> str:
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo" / "demo.py")],
        env={**os.environ, "ARMILLARY_DEMO_HOME": str(home)}, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_worker_dies_and_each_product_is_published_once_and_acknowledged(told):
    home, text = told
    assert "1 lost, 2 succeeded" in text
    assert len(re.findall(r"delivery to archive: acknowledged", text)) == 2
    assert "All is well." in text
    received = [json.loads(line) for line in (home / "archive" / "received.jsonl").read_text().splitlines()]
    assert {one["answer"]["response"]["status"] for one in received} == {"SUCCESS"}
    assert len({one["message"]["product"]["name"] for one in received}) == 2


def test_the_product_has_its_page_without_script(told):
    home, text = told
    server = json.loads((home / "run" / "server.json").read_text())
    [page] = re.findall(r"a product +(\S+)", text)
    with httpx2.Client(follow_redirects=True) as visitor:
        assert visitor.get(page).status_code == 401
        assert visitor.get(server["sign_in"]).status_code == 200
        answer = visitor.get(page)
    assert answer.status_code == 200, answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    for part in ("browse.png", "<svg", "SHA-256", "acknowledged", "sentinel-1-slc/", "lost"):
        assert part in answer.text, part


def test_a_second_run_takes_up_what_is_there(told):
    home, _ = told
    again = run(home)
    assert "nothing to kill" in again
    assert "what was there was taken up" in again
