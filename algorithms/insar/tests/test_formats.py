"""Products and metadata as others read them: xarray-sentinel, rasterio, the real files' own numbers."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from armillary_insar.measurement import Measurement
from armillary_insar.safe import burst_identifier, read_product
from armillary_insar.simulator import tiff
from armillary_insar.simulator.pair import MadePair


def test_simulated_product_opens_in_xarray_sentinel(volcano: MadePair) -> None:
    sentinel1 = pytest.importorskip("xarray_sentinel")
    swath = sentinel1.open_sentinel1_dataset(str(volcano.reference), group="IW1/VV", check_files_exist=True)
    assert swath.attrs["number_of_bursts"] == 2
    orbit = sentinel1.open_sentinel1_dataset(str(volcano.reference), group="IW1/VV/orbit")
    assert orbit.sizes["azimuth_time"] >= 12
    burst = sentinel1.crop_burst_dataset(swath, burst_index=1)
    assert burst.sizes == {"azimuth_time": 640, "slant_range_time": 3600} or set(burst.sizes.values()) == {640, 3600}
    product = read_product(volcano.reference)
    ours = Measurement(product, product.swaths["IW1"]).lines(640 + 300, 1)[0]
    assert np.array_equal(burst.measurement.values[300] if hasattr(burst, "measurement") else burst.values[300], ours)


def test_measurement_opens_in_rasterio_and_maps_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    written = rng.integers(-900, 900, (37, 53, 2)).astype(np.int16)
    file = tiff.create(tmp_path / "m.tiff", 37, 53, "test")
    file[:] = written
    file.flush()
    with rasterio.open(tmp_path / "m.tiff") as opened:
        assert opened.dtypes == ("complex_int16",)
        seen = opened.read(1)
    assert np.array_equal(seen, written[..., 0] + 1j * written[..., 1].astype(np.float32))


def test_real_annotation_is_read(real_data: Path) -> None:
    product = read_product(sorted((real_data / "safe_pair_morocco_eo_tools").glob("*.zip"))[0])
    assert product.relative_orbit == 52
    assert not product.ascending
    assert product.ipf_version == "003.61"
    swath = product.swaths["IW1"]
    assert (swath.lines_per_burst, swath.samples_per_burst, len(swath.bursts)) == (1507, 23055, 9)
    assert swath.bursts[0].valid_lines == (21, 1488)


def test_burst_numbers_follow_from_time_and_track(real_data: Path) -> None:
    """For products older than the burst identifier: its formula gives the numbers of a product that has them."""
    for path in sorted((real_data / "safe_pair_morocco_eo_tools").glob("*.zip")):
        product = read_product(path)
        for swath in product.swaths.values():
            half = swath.lines_per_burst / 2 * swath.line_interval_s
            for burst in swath.bursts:
                assert burst_identifier(burst.anx_time_s + half, product.relative_orbit) == burst.identifier


def test_annotation_of_an_older_processor_is_read(real_data: Path) -> None:
    for path in sorted((real_data / "safe_annotations_other").glob("*.zip")):
        product = read_product(path)
        assert "IW1" in product.swaths
        assert product.mission in ("S1A", "S1B")
        numbers = [b.identifier for b in product.swaths["IW1"].bursts]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
