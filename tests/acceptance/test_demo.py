"""The demo is the acceptance test: its whole story through command line and HTTP alone, from wheels; again; and its page."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import httpx2
import numpy as np
import pytest
import rasterio

from armillary.testing.wheels import UV, build, environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The programs of an environment that was made from the wheels alone."""
    wheels = build(ROOT, tmp_path_factory.mktemp("wheels"))
    return environment(ROOT, wheels, tmp_path_factory.mktemp("programs") / "env", "armillary[server]", "uv")


@pytest.fixture(scope="module")
def told(programs, tmp_path_factory):
    """The demo, run once; its home and what it said."""
    home = tmp_path_factory.mktemp("demo")
    subprocess.run(["make", "-C", str(ROOT / "algorithms" / "insar"), "env", f"UV={UV}"], check=True, timeout=1200)
    yield home, run(programs, home)
    command = [str(programs / "armillary"), "--home", str(home), "down"]
    subprocess.run(command, check=False, capture_output=True, timeout=120)
    archive = json.loads((home / "run" / "archive.json").read_text())
    os.kill(archive["pid"], signal.SIGTERM)


def run(programs: Path, home: Path) -> str:
    result = subprocess.run(
        [str(programs / "python"), str(ROOT / "examples" / "demo" / "demo.py")],
        env={**os.environ, "ARMILLARY_DEMO_HOME": str(home)}, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_worker_dies_and_the_product_is_made_from_its_checkpoint_once_and_acknowledged(told):
    home, text = told
    assert re.search(r"^ +1 +lost ", text, re.MULTILINE), text
    assert re.search(r"^ +2 +succeeded ", text, re.MULTILINE)
    assert "from the checkpoint" in text
    assert len(re.findall(r"delivery to archive: acknowledged", text)) == 1
    assert "All is well." in text
    received = [json.loads(line) for line in (home / "archive" / "received.jsonl").read_text().splitlines()]
    assert {one["answer"]["response"]["status"] for one in received} == {"SUCCESS"}
    assert len({one["message"]["product"]["name"] for one in received}) == 1


def test_what_the_archive_holds_shows_the_volcano_rising(told):
    """Some ten centimetres toward the satellite where the simulator put them, and none at the rim."""
    home, _ = told
    [path] = (home / "archive").rglob("los_displacement.tif")
    with rasterio.open(path) as file:
        moved = file.read(1)
        row, column = np.unravel_index(np.nanargmax(moved), moved.shape)
        longitude, latitude = file.xy(row, column)
    assert 0.07 < np.nanmax(moved) < 0.13
    assert abs(np.nanpercentile(moved, 10)) < 0.01
    with np.load(home / "truth" / "truth.npz") as truth:
        up = truth["enu_m"][2]
        i, j = np.unravel_index(np.argmax(up), up.shape)
        source = truth["enu_longitude_deg"][j], truth["enu_latitude_deg"][i]
    # The radar sees uplift and motion toward it: the largest sum lies up to the source's depth from the middle.
    assert np.hypot((longitude - source[0]) * np.cos(np.radians(latitude)), latitude - source[1]) < 3.2 / 111


def test_the_product_has_its_page_without_script(told):
    home, text = told
    server = json.loads((home / "run" / "server.json").read_text())
    [page] = re.findall(r"the product {2,}(\S+)", text)
    with httpx2.Client(follow_redirects=True) as visitor:
        assert visitor.get(page).status_code == 401
        assert visitor.get(server["sign_in"]).status_code == 200
        answer = visitor.get(page)
    assert answer.status_code == 200, answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    for part in ("browse.png", "<svg", "SHA-256", "acknowledged", "sentinel-1-slc/", "lost", "los_displacement.tif"):
        assert part in answer.text, part


def test_a_second_run_takes_up_what_is_there(programs, told):
    home, _ = told
    again = run(programs, home)
    assert "nothing to kill" in again
    assert "what was there was taken up" in again
