"""The work of one job: the statistics of every band of the raster, a picture, and what is known of its surroundings."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from armillary_browse import orbits, picture, raster
from armillary_browse.failure import Failure
from armillary_browse.progress import Progress
from armillary_browse.raster import Band
from armillary_browse.statistics import Histogram, Moments

MOST_ID_BYTES = 200
TIMES = ("datetime", "start_datetime", "end_datetime")


def process(job: Mapping[str, Any], folder: Path) -> None:
    """Read the raster twice, write statistics.json, browse.png and granule.json."""
    parameters = job["parameters"]
    stretch = _stretch(parameters)
    source = _single(job, "raster")
    found = raster.bands(folder / source["path"], source["id"])
    elevation = [band for each in job["inputs"].get("elevation", []) for band in _bands(folder, each)]
    # Two passes over each block, and the picture.
    steps = 2 * sum(len(band.windows) for band in [*found, *elevation]) + 1
    progress = Progress(folder, steps, parameters.get("pace_seconds", 0))
    bands = [_statistics(band, parameters, progress) for band in found]
    statistics = {
        "raster": {"collection": source["collection"], "id": source["id"]},
        "bands": bands,
        "elevation": [_statistics(band, parameters, progress) for band in elevation],
        "orbits": _orbits(job, folder, source),
    }
    granule = f"{_shortened(source['id'])}-browse"
    out = folder / "outputs" / "picture" / granule
    out.mkdir(parents=True, exist_ok=True)
    (out / "statistics.json").write_text(json.dumps(statistics, indent=1, allow_nan=False))
    picture.draw(found, out / "browse.png", parameters["max_size"], stretch)
    progress.step("picture", "browse.png")
    (out / "granule.json").write_text(json.dumps(_item(source["item"], bands), allow_nan=False))
    (folder / "result.json").write_text(json.dumps({"granule": granule, "bands": len(found)}))


def _stretch(parameters: Mapping[str, Any]) -> Sequence[float]:
    low, high = parameters["stretch"]
    if not 0 <= low < high <= 100:
        message = f"The parameter stretch is [{low}, {high}], and its first percentile is not below its second."
        raise Failure("science error", message, "Write it as [2, 98].")
    return [low, high]


def _single(job: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    given: Sequence[Mapping[str, Any]] = job["inputs"].get(role, [])
    if len(given) != 1:
        raise Failure("input missing", f"The role {role} has {len(given)} granules.", "Give it exactly one.")
    return given[0]


def _bands(folder: Path, granule: Mapping[str, Any]) -> list[Band]:
    return raster.bands(folder / granule["path"], granule["id"])


def _statistics(band: Band, parameters: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """One pass for the moments and extremes, a second for the histogram between the extremes."""
    samples = band.width * band.height
    described = {"file": band.path.name, "band": band.name, "data_type": band.dtype, "samples": samples}
    moments = Moments()
    with raster.opened(band.path) as opened:
        for i, window in enumerate(band.windows):
            moments = moments.merged(Moments.of(raster.valid_values(opened, band, window)))
            progress.step("moments", f"{band.path.name}, block {i + 1} of {len(band.windows)}")
        histogram = Histogram(moments.low, moments.high)
        for i, window in enumerate(band.windows):
            if moments.count:
                histogram.add(raster.valid_values(opened, band, window))
            progress.step("histogram", f"{band.path.name}, block {i + 1} of {len(band.windows)}")
    if not moments.count:
        return {**described, "count": 0}
    return {
        **described,
        "is_amplitude": band.dtype.startswith("complex"),
        "count": moments.count,
        "min": moments.low,
        "max": moments.high,
        "mean": _finite(moments.mean),
        "std": _finite(moments.std),
        "percentiles": {f"{percent:g}": histogram.percentile(percent) for percent in parameters["percentiles"]},
        "percentile_tolerance": histogram.tolerance,
        "histogram": histogram.shown(),
    }


def _finite(number: float) -> float | None:
    """Sums of numbers near the largest double overflow, and JSON has no infinity."""
    return number if isfinite(number) else None


def _orbits(job: Mapping[str, Any], folder: Path, source: Mapping[str, Any]) -> list[dict[str, Any]]:
    properties = source["item"].get("properties", {})
    start = properties.get("start_datetime") or properties.get("datetime")
    end = properties.get("end_datetime") or properties.get("datetime")
    folders = [folder / granule["path"] for granule in job["inputs"].get("orbits", [])]
    files = [path for each in folders for path in sorted(each.rglob("*")) if ".EOF" in path.name.upper()]
    return [orbits.described(path, start, end) for path in files if path.is_file()]


def _item(source: Mapping[str, Any], statistics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The product's partial STAC item: where and when its raster was, and the first band in short."""
    properties = {key: source["properties"][key] for key in TIMES if key in source.get("properties", {})}
    first = statistics[0]
    short = {f"browse:{key}": first[key] for key in ("count", "min", "max", "mean", "std") if key in first}
    return {
        "geometry": source.get("geometry"),
        **({"frame": source["frame"]} if "frame" in source else {}),
        "properties": {**properties, **short},
        "assets": {
            "browse.png": {"roles": ["overview"], "title": "Picture", "type": "image/png"},
            "statistics.json": {"roles": ["metadata"], "title": "Statistics", "type": "application/json"},
        },
    }


def _shortened(name: str) -> str:
    """The id's beginning, so that it still fits with the product's ending."""
    room = MOST_ID_BYTES - len("-browse")
    return name.encode()[:room].decode("utf-8", "ignore")
