"""The catalogue's view: footprints on the sky, coverage in frequency and time, and no heavy library loaded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from observations import small

from armillary_cube import metadata, simulate
from armillary_cube.errors import RefusalError


def test_a_processing_sets_footprint_is_its_primary_beam(noiseless: Path) -> None:
    item = metadata.processing_set(noiseless)
    ring = np.array(item["geometry"]["coordinates"][0])
    assert item["frame"] == "sky"
    assert np.array_equal(ring[0], ring[-1])
    assert ring[:, 0].mean() == pytest.approx(230.5, abs=0.05)
    assert np.ptp(ring[:, 1]) == pytest.approx(np.degrees(1.1 * 0.2122 / 25), rel=0.01)
    properties = item["properties"]
    assert properties["radio:channels"] == 16
    assert properties["radio:frequency_low_hz"] < 1.4126e9 < properties["radio:frequency_high_hz"]
    assert properties["start_datetime"] < properties["end_datetime"]


def test_several_fields_give_several_polygons(tmp_path: Path) -> None:
    path = tmp_path / "two.ps.zarr"
    simulate.simulate(small(channels=2, name="north"), path)
    simulate.simulate(small(channels=2, name="south", dec_deg=-5.0), path)
    item = metadata.processing_set(path)
    assert item["geometry"]["type"] == "MultiPolygon"
    assert item["properties"]["radio:fields"] == ["north", "south"]


@given(ra=st.floats(0, 6.28), dec=st.floats(-1.4, 1.4), radius=st.floats(1e-4, 0.05))
def test_every_point_of_a_circle_is_at_its_radius(ra: float, dec: float, radius: float) -> None:
    for right, declination in metadata._circle(ra, dec, radius):
        a, d = np.radians([right, declination])
        haversine = np.sin((d - dec) / 2) ** 2 + np.cos(d) * np.cos(dec) * np.sin((a - ra) / 2) ** 2
        assert 2 * np.arcsin(np.sqrt(haversine)) == pytest.approx(radius, abs=1e-8)
        assert 0 <= right < 360 + 1e-9


def test_a_box_across_zero_hours_says_so() -> None:
    ring = metadata._circle(0.001, 0.0, 0.01)
    box = metadata._box({"type": "Polygon", "coordinates": [ring]})
    assert box[0] > 359
    assert box[2] < 1


def test_readers_need_no_gridder(noiseless: Path) -> None:
    script = (
        "import sys, pathlib; from armillary_cube import metadata; "
        f"metadata.processing_set(pathlib.Path({str(noiseless)!r})); "
        "print([m for m in ('ducc0', 'radler', 'xarray', 'xradio', 'dask', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    for reader in (metadata.measurement_set, metadata.image_cube):
        with pytest.raises(RefusalError):
            reader(tmp_path)


@pytest.mark.real_data
def test_real_sets_are_where_the_sky_has_them(radio_data: Path) -> None:
    galaxy = metadata.processing_set(radio_data / "ngc5921_vla_hi.ps.zarr")
    ring = np.array(galaxy["geometry"]["coordinates"][0])
    assert ring.mean(axis=0) == pytest.approx([230.5, 5.067], abs=0.02)
    assert galaxy["properties"]["start_datetime"].startswith("1995-04-13T09:32:31")
    quasar = metadata.uvfits(radio_data / "3C273XC1.fits")
    assert np.array(quasar["geometry"]["coordinates"][0])[:-1].mean(axis=0) == pytest.approx([187.278, 2.052], abs=0.01)
    assert quasar["properties"]["radio:polarizations"] == ["RR", "LL", "RL", "LR"]
