"""A measurement set dropped into Armillary becomes a cube in the catalogue, by one job and by joined blocks, for real.

The locked environment is built from the files that `make -C algorithms/cube env` has left in uv's cache, without the network.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
CUBE = ROOT / ".venvs" / "cube"
PARAMETERS = {"cell_arcsec": 15.0, "size": [64, 64], "clean": "none", "weighting": "natural"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CUBE / ".ready").exists(), reason="the imager's environment: make -C algorithms/cube env"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The example, run once on a small measurement set; its home and what it said."""
    folder = tmp_path_factory.mktemp("radio")
    code = "import sys; from pathlib import Path; from observations import measurement_set; measurement_set(Path(sys.argv[1]))"
    subprocess.run(
        [str(CUBE / "bin" / "python"), "-c", code, str(folder / "point.ms")], check=True, capture_output=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT / "algorithms" / "cube" / "tests")},
    )  # fmt: skip
    home = folder / "home"
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "radio" / "radio.py"), "--home", str(home),
         "--observation", str(folder / "point.ms"), "--parameters", json.dumps(PARAMETERS)],
        env={**os.environ, "UV_OFFLINE": "1"}, capture_output=True, text=True, check=False, timeout=2400,
    )  # fmt: skip
    yield home, result
    armillary(home, "down")


def armillary(home: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("armillary")), "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout


def test_a_measurement_set_becomes_the_same_cube_by_one_job_and_by_joined_blocks(told):
    home, result = told
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the same bits by one job and by blocks" in result.stdout
    jobs = [json.loads(line) for line in armillary(home, "job", "list", "--json").splitlines()]
    assert sorted(job["algorithm"] for job in jobs) == ["cube", "cube-block", "cube-block", "cube-import", "cube-join"]
    assert {job["state"] for job in jobs} == {"succeeded"}
    [details] = [
        json.loads(armillary(home, "job", "show", job["id"], "--json")) for job in jobs if job["algorithm"] == "cube"
    ]
    assert details["attempts"][-1]["usage"]["environment"]["kind"] == "lock"


def test_the_measurement_set_and_the_cube_are_catalogued_in_the_sky(told):
    home, _ = told
    for collection in ("radio-measurement-set", "radio-cube"):
        [granule] = [json.loads(line) for line in armillary(home, "granule", "list", collection, "--json").splitlines()]
        properties = granule["properties"]
        assert properties["armillary:frame"] == "sky"
        assert properties["armillary:sky_geometry"]["type"] == "Polygon"
        assert properties["radio:channels"] == 16
        assert properties["radio:frequency_low_hz"] == pytest.approx(1.4e9 - 10_000)


def test_the_cubes_page_shows_pictures_film_and_footprint_without_script(told):
    home, result = told
    server = json.loads((home / "run" / "server.json").read_text())
    [page] = re.findall(r"the cube +(\S+)", result.stdout)
    with httpx2.Client(follow_redirects=True, base_url=server["url"]) as visitor:
        assert visitor.get(server["sign_in"]).status_code == 200
        answer = visitor.get(page)
        assert "img-src 'self'" in answer.headers["content-security-policy"]
        assert "<script" not in answer.text
        assert "footprint</figcaption>" in answer.text
        images = [source.replace("&amp;", "&") for source in re.findall(r'<img src="([^"]+)"', answer.text)]
        fetched = [visitor.get(source) for source in images]
    assert [one.headers["content-type"] for one in fetched] == ["image/png", "image/gif"]
    assert fetched[1].content.startswith(b"GIF89a")
    assert fetched[1].content.count(b"\x21\xf9\x04") == 16  # a frame for each channel
