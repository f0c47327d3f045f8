"""What is dropped into Armillary becomes a cube in the catalogue, by one job and by joined blocks, for real.

A simulated measurement set always; the galaxy NGC 5921 and the quasar 3C 273 where ARMILLARY_TEST_DATA holds them. The locked
environment is built from the files that `make -C algorithms/cube env` has left in uv's cache, without the network.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
CUBE = ROOT / ".venvs" / "cube"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CUBE / ".ready").exists(), reason="the imager's environment: make -C algorithms/cube env"),
]


@dataclass(frozen=True)
class Observation:
    """What is dropped, how it is imaged, and what is true of it."""

    file: str
    collection: str
    parameters: dict[str, Any]
    channels: int
    imaged: int
    low_hz: float
    centre_deg: tuple[float, float]
    peak_jy: float
    is_imported: bool = False


SIMULATED = Observation(
    "point.ms", "radio-measurement-set", {"cell_arcsec": 15.0, "size": [64, 64], "clean": "none", "weighting": "natural"},
    channels=16, imaged=16, low_hz=1.4e9 - 10_000, centre_deg=(30.0, 45.0), peak_jy=1.0, is_imported=True,
)  # fmt: skip
# As the example images it when nothing is named.
NGC_5921 = Observation(
    "radio/ngc5921_vla_hi.ps.zarr", "radio-visibilities", {},
    channels=63, imaged=46, low_hz=1_412_652_867, centre_deg=(230.5, 5.0667), peak_jy=0.055,
)  # fmt: skip
QUASAR_3C_273 = Observation(
    "radio/3C273XC1.fits", "radio-uvfits", {"cell_arcsec": 0.3, "size": [512, 512], "robust": 0.0},
    channels=1, imaged=1, low_hz=8_060_000_000, centre_deg=(187.2779, 2.0523), peak_jy=29.9, is_imported=True,
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """The example, run once: with what, where, and what it said."""

    observation: Observation
    home: Path
    result: "subprocess.CompletedProcess[str]"

    def armillary(self, *arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("armillary")), "--home", str(self.home), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.armillary(*arguments, "--json").splitlines()]


@pytest.fixture(scope="module", params=[SIMULATED, NGC_5921, QUASAR_3C_273], ids=lambda one: Path(one.file).stem)
def told(request, tmp_path_factory):
    observation, folder = request.param, tmp_path_factory.mktemp("radio")
    told = Told(observation, folder / "home", tell(observation, folder))
    yield told
    told.armillary("down")


def tell(observation: Observation, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the example on the observation, in a home in the folder."""
    command = [sys.executable, str(ROOT / "examples" / "radio" / "radio.py"), "--home", str(folder / "home")]
    if observation is not NGC_5921:
        command += [
            "--observation",
            str(found(observation, folder)),
            "--parameters",
            json.dumps(observation.parameters),
        ]
    else:
        found(observation, folder)
    return subprocess.run(
        command, env={**os.environ, "UV_OFFLINE": "1"}, capture_output=True, text=True, check=False, timeout=2400
    )


def found(observation: Observation, folder: Path) -> Path:
    """The observation's place; the simulated one is made, and a UVFITS file is named as the collection knows it."""
    if observation is SIMULATED:
        code = "import sys; from pathlib import Path; from observations import measurement_set; measurement_set(Path(sys.argv[1]))"
        subprocess.run(
            [str(CUBE / "bin" / "python"), "-c", code, str(folder / observation.file)], check=True, capture_output=True,
            timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT / "algorithms" / "cube" / "tests")},
        )  # fmt: skip
        return folder / observation.file
    data = Path(os.environ.get("ARMILLARY_TEST_DATA", "/nowhere"))
    if not (data / observation.file).exists():
        pytest.skip("ARMILLARY_TEST_DATA names no folder with radio data")
    if observation.collection != "radio-uvfits":
        return data / observation.file
    return Path(shutil.copy(data / observation.file, folder / "observation.uvfits"))


def test_an_observation_becomes_the_same_cube_by_one_job_and_by_joined_blocks(told):
    assert told.result.returncode == 0, told.result.stdout + told.result.stderr
    assert "the same bits by one job and by blocks" in told.result.stdout
    jobs = told.listed("job", "list")
    imports = ["cube-import"] if told.observation.is_imported else []
    assert sorted(job["algorithm"] for job in jobs) == ["cube", "cube-block", "cube-block", *imports, "cube-join"]
    assert {job["state"] for job in jobs} == {"succeeded"}
    [details] = [
        json.loads(told.armillary("job", "show", job["id"], "--json")) for job in jobs if job["algorithm"] == "cube"
    ]
    assert details["attempts"][-1]["usage"]["environment"]["kind"] == "lock"


def test_the_observation_and_the_cube_are_catalogued_in_the_sky(told):
    observed, imaged = (
        told.listed("granule", "list", collection) for collection in (told.observation.collection, "radio-cube")
    )
    [properties], [of_cube] = ([granule["properties"] for granule in granules] for granules in (observed, imaged))
    for one in (properties, of_cube):
        assert one["armillary:frame"] == "sky"
        assert covers(one["armillary:sky_geometry"], *told.observation.centre_deg)
    assert properties["radio:channels"] == told.observation.channels
    assert properties["radio:frequency_low_hz"] == pytest.approx(told.observation.low_hz, abs=100)
    assert of_cube["radio:channels"] == told.observation.imaged
    assert of_cube["cube:peak_jy_per_beam"] == pytest.approx(told.observation.peak_jy, rel=0.03)


def covers(geometry: dict[str, Any], ra_deg: float, dec_deg: float) -> bool:
    """Whether a small polygon surrounds a place: it lies on both sides of it in both coordinates."""
    [ring] = geometry["coordinates"]
    east = [(ra - ra_deg + 180) % 360 - 180 for ra, _ in ring]
    return min(east) < 0 < max(east) and min(dec for _, dec in ring) < dec_deg < max(dec for _, dec in ring)


def test_the_cubes_page_shows_pictures_film_and_footprint_without_script(told):
    server = json.loads((told.home / "run" / "server.json").read_text())
    [page] = re.findall(r"the cube +(\S+)", told.result.stdout)
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
    assert fetched[1].content.count(b"\x21\xf9\x04") == told.observation.imaged  # a frame for each channel
