"""Elevation models say what their heights refer to, or are known not to."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from armillary_formats import elevation


def model(path, epsg=4326, **tags):
    with rasterio.open(
        path, "w", driver="GTiff", width=4, height=3, count=1, dtype="float32", crs=f"EPSG:{epsg}",
        transform=from_origin(10, 50, 0.1, 0.1),
    ) as file:  # fmt: skip
        file.write(np.ones((3, 4), np.float32), 1)
        file.update_tags(**tags)
    return path


@pytest.mark.parametrize(
    ("epsg", "tag", "expected"),
    [
        (4326, None, "unknown"),
        (4326, "EGM2008", "egm2008"),
        (4326, "EGM96 height", "egm96"),
        (4326, "WGS84 ellipsoid", "ellipsoid"),
        (4326, "mean sea level", "unknown"),
        (4979, None, "ellipsoid"),
        (4979, "EGM96", "egm96"),
        (9518, None, "egm2008"),  # WGS 84 + EGM2008 height
        (9707, None, "egm96"),  # WGS 84 + EGM96 height
    ],
)
def test_the_tag_goes_before_the_reference_system(tmp_path, epsg, tag, expected) -> None:
    path = model(tmp_path / "dem.tif", epsg, **({"VERTICAL_DATUM": tag} if tag else {}))
    item = elevation.read(path)
    assert item["properties"]["elevation:datum"] == expected
    assert item["bbox"] == pytest.approx([10, 49.7, 10.4, 50])


def test_made_samples_are_read(samples) -> None:
    assert elevation.read(samples[-1])["properties"]["elevation:datum"] in ("ellipsoid", "unknown")
