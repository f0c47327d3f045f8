"""The algorithm `browse` through rules, jobs and products: the folder's own rule over three roles, and one on a GeoTIFF.

Its locked environment is replaced by the worker's own, which has the same libraries: what is shown here is the road, not
the building of an environment.
"""

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from armillary_formats.samples.write import write

ROOT = Path(__file__).parents[2]
LOCKED, SITE = "environment: {lock: requirements.lock}", "environment: {site: true}"
RULE = """\
kind: rule
id: browse-rasters
when: {raster: {collection: raster}}
then: {run: browse, version: "1"}
"""
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def browsing(new_instance, tmp_path):
    """An instance that has the collections, the algorithm and the rule of `algorithms/browse`, and a rule for GeoTIFFs."""
    folder = tmp_path / "browse"
    shutil.copytree(ROOT / "algorithms" / "browse", folder, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    algorithm = folder / "algorithm.yaml"
    assert LOCKED in algorithm.read_text()
    algorithm.write_text(algorithm.read_text().replace(LOCKED, SITE))
    (tmp_path / "rule.yaml").write_text(RULE)
    instance = new_instance()
    instance.armillary("apply", folder, tmp_path / "rule.yaml")
    return instance


def made_by(instance, rule: str, count: int):
    """The products of so many jobs of a rule, by the raster's name, each as its STAC item."""
    jobs = instance.wait(
        lambda: (found := instance.get("/api/jobs", rule=rule)["jobs"]) and len(found) == count and found, "the jobs"
    )
    ended = [instance.ended(job["id"]) for job in jobs]
    assert {job["state"] for job in ended} == {"succeeded"}, ended
    rasters = {one["id"]: job for job in ended for one in job["inputs"] if one["role"] == "raster"}
    return {name: (job, instance.get(f"/stac/collections/browse/items/{name}-browse")) for name, job in rasters.items()}


def content(instance, product, asset: str) -> bytes:
    """A file of a product."""
    taken = BytesIO()
    with instance.client as client:
        client.download(product["assets"][asset]["href"], taken)
    return taken.getvalue()


def test_a_geotiff_becomes_a_picture_with_exact_statistics(browsing, tmp_path):
    heights = np.arange(600, dtype=np.float32).reshape(20, 30)
    grid = {"crs": "EPSG:4326", "transform": from_origin(10, 40.2, 0.01, 0.01)}
    with rasterio.open(
        tmp_path / "relief.tif", "w", driver="GTiff", width=30, height=20, count=1, dtype="float32", **grid
    ) as file:
        file.write(heights, 1)
    browsing.armillary("ingest", tmp_path / "relief.tif", "--collection", "raster")
    [(job, product)] = made_by(browsing, "browse-rasters", 1).values()
    [band] = json.loads(content(browsing, product, "statistics.json"))["bands"]
    assert (band["min"], band["max"], band["mean"]) == (0, 599, 299.5)
    assert content(browsing, product, "browse.png").startswith(PNG)
    assert product["geometry"]["type"] == "Polygon"
    assert job["attempts"][-1]["outcome"] == "succeeded"


def test_the_rule_waits_for_three_roles_and_fires_once_a_scene(browsing, tmp_path):
    write(tmp_path / "data", pairs=1, width=32, height=12)
    scenes, orbits, tiles = (sorted((tmp_path / "data").glob(f"*.{kind}")) for kind in ("SAFE", "EOF", "tif"))
    browsing.armillary("ingest", *scenes, *orbits)
    assert browsing.get("/api/jobs", rule="browse-scenes")["jobs"] == []
    browsing.armillary("ingest", *tiles)
    products = made_by(browsing, "browse-scenes", len(scenes))
    assert {f"{name}.SAFE" for name in products} == {path.name for path in scenes}
    for job, product in products.values():
        assert sorted(one["role"] for one in job["inputs"]) == ["elevation", "orbits", "raster"]
        statistics = json.loads(content(browsing, product, "statistics.json"))
        assert (len(statistics["elevation"]), len(statistics["orbits"])) == (1, 1)
        assert content(browsing, product, "browse.png").startswith(PNG)
    assert browsing.doctor() == []
