"""The ISCE2 engine as far as it goes without ISCE2: its command, its input files, and reading files laid out as it leaves them.

The results read here were written by this test in topsApp's layout; none was recorded from a run.
"""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from conftest import write_job

from armillary_insar import isce2
from armillary_insar.errors import Refusal
from armillary_insar.job import Job, read_job
from armillary_insar.process import Prepared, prepare
from armillary_insar.simulator.pair import MadePair

TOPS_PROC = """<productmanager_name><baseline>
<IW-1_Bpar_at_midrange_for_first_common_burst>-84.25</IW-1_Bpar_at_midrange_for_first_common_burst>
<IW-1_Bperp_at_midrange_for_first_common_burst>115.5</IW-1_Bperp_at_midrange_for_first_common_burst>
<IW-2_Bpar_at_midrange_for_first_common_burst>-94.0</IW-2_Bpar_at_midrange_for_first_common_burst>
<IW-2_Bperp_at_midrange_for_first_common_burst>121.0</IW-2_Bperp_at_midrange_for_first_common_burst>
</baseline></productmanager_name>"""


def test_command_mounts_the_job_and_needs_no_network(tmp_path: Path) -> None:
    argv = isce2.command("podman", "image:1", tmp_path, tmp_path / "scratch")
    assert argv[:3] == ["podman", "run", "--rm"]
    assert f"{tmp_path}:{tmp_path}" in argv
    assert "--network=none" in argv
    assert argv[-3:] == ["image:1", "topsApp.xml", "--end=geocode"]
    assert "docker://image:1" in isce2.command("apptainer", "image:1", tmp_path, tmp_path)


def test_input_files_name_both_scenes_and_the_ellipsoidal_elevation(volcano: MadePair, tmp_path: Path) -> None:
    job = read_job(write_job(tmp_path, volcano))
    prepared = prepare(job)
    isce2.write_inputs(tmp_path / "work", job, prepared)
    root = ElementTree.parse(tmp_path / "work" / "topsApp.xml").getroot()
    properties = {p.get("name"): p.text for p in root.iter("property")}
    assert json.loads(properties["swaths"] or "") == [1, 2]
    assert properties["range looks"] == "19"
    scenes = [p.text or "" for p in root.iter("property") if p.get("name") == "safe"]
    assert volcano.reference.name in scenes[0]
    assert volcano.secondary.name in scenes[1]
    with rasterio.open(tmp_path / "work" / "dem.wgs84.vrt") as file:
        assert np.array_equal(file.read(1), np.nan_to_num(prepared.elevation.heights_m))
        assert file.transform.f + file.transform.e / 2 == pytest.approx(prepared.elevation.latitude0_deg)
    assert ElementTree.parse(tmp_path / "work" / "dem.wgs84.xml").getroot().tag == "imageFile"


def test_baselines_are_read_and_missed() -> None:
    assert isce2.read_baselines(TOPS_PROC) == [
        isce2.Baseline("IW1", 115.5, -84.25),
        isce2.Baseline("IW2", 121.0, -94.0),
    ]
    with pytest.raises(Refusal, match="no baseline"):
        isce2.read_baselines("<a/>")


def test_results_become_the_same_product(
    volcano: MadePair, tmp_path: Path, volcano_prepared: tuple[Job, Prepared]
) -> None:
    job = read_job(write_job(tmp_path, volcano))
    merged = tmp_path / "work" / "merged"
    merged.mkdir(parents=True)
    (tmp_path / "work" / "topsProc.xml").write_text(TOPS_PROC)
    shape = (60, 80)
    phase = np.linspace(-9, 9, shape[1], dtype=np.float32) * np.ones(shape, np.float32)
    amplitude = np.full(shape, 50, np.float32)
    amplitude[:5] = 0
    rasters = {
        "filt_topophase.unw.geo": np.stack([amplitude, phase]),
        "phsig.cor.geo": np.full((1, *shape), 0.8, np.float32),
        "filt_topophase.flat.geo": np.exp(1j * phase)[None].astype(np.complex64),
        "filt_topophase.unw.conncomp.geo": np.ones((1, *shape), np.uint8),
    }
    transform = rasterio.Affine(0.002, 0, -8.5, 0, -0.002, 31.1)
    for name, data in rasters.items():
        # A GeoTIFF under the name of topsApp's VRT: rasterio looks at the content.
        with rasterio.open(
            merged / f"{name}.vrt",
            "w",
            driver="GTiff",
            count=len(data),
            height=60,
            width=80,
            dtype=data.dtype.name,
            crs="EPSG:4326",
            transform=transform,
        ) as file:
            file.write(data)
    folder = isce2.publish(job, volcano_prepared[1], tmp_path / "work")
    assert folder.name.endswith("-isce2")
    with rasterio.open(folder / "unwrapped_phase.tif") as file:
        seen = file.read(1)
    assert np.isnan(seen[:5]).all()
    assert np.array_equal(seen[5:], phase[5:])
    item = json.loads((folder / "granule.json").read_text())
    assert item["properties"]["insar:perpendicular_baseline_m"] == 115.5
    assert set(item["assets"]) <= {p.name for p in folder.iterdir()}


def test_without_a_runtime_the_engine_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isce2.shutil, "which", lambda _: None)
    with pytest.raises(Refusal, match="No container runtime"):
        isce2.find_runtime()
