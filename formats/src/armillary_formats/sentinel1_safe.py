"""Sentinel-1 products in the SAFE format, as a folder or as a zip that is read without unpacking it.

Fields follow the Sentinel-1 product specification (S1-RS-MDA-52-7441): the footprint, times, orbit and
processor come from `manifest.safe`, the radar's parameters from the annotations.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any
from xml.etree.ElementTree import Element

from armillary_formats import archive, footprint, markup, sentinel1_bursts, tiff, times
from armillary_formats.refusal import Refused

PRODUCT_ID = re.compile(r"S1[A-Z]_\w{2}_[A-Z]{3}[FHM_]_[0-2_][SA][A-Z]{2}_\d{8}T\d{6}_\d{8}T\d{6}_\w{6}_\w{6}_\w{4}")
ANNOTATION = re.compile(r"annotation/(s1[a-z]-[^/]+)\.xml", re.IGNORECASE)
MEASUREMENT = re.compile(r"measurement/(s1[a-z]-[^/]+)\.tiff?", re.IGNORECASE)
MOST_MANIFEST_BYTES = 16 * 1024**2
MOST_ANNOTATION_BYTES = 256 * 1024**2
MOST_TREE_BYTES = 64 * 1024**2
MOST_MISSING_NAMED = 50

SAFE = "{http://www.esa.int/safe/sentinel-1.0}"
S1 = "{http://www.esa.int/safe/sentinel-1.0/sentinel-1}"
S1SARL1 = "{http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1}"
GML = "{http://www.opengis.net/gml}"

INFORMATION = "product/generalAnnotation/productInformation"
IMAGE = "product/imageAnnotation/imageInformation"
ANNOTATED = {
    "product_type": "product/adsHeader/productType",
    "mode": "product/adsHeader/mode",
    "swath": "product/adsHeader/swath",
    "polarisation": "product/adsHeader/polarisation",
    "frequency_hertz": f"{INFORMATION}/radarFrequency",
    "range_spacing": f"{IMAGE}/rangePixelSpacing",
    "azimuth_spacing": f"{IMAGE}/azimuthPixelSpacing",
    "incidence_angle": f"{IMAGE}/incidenceAngleMidSwath",
    "bursts": "product/swathTiming/burstList@count",
}


def read(path: Path) -> dict[str, Any]:
    """The STAC item of a product: its footprint, times, orbit, radar parameters and files."""
    with archive.open_tree(path) as tree:
        root = _root(tree)
        manifest_bytes = archive.read_bytes(tree, f"{root}manifest.safe", MOST_MANIFEST_BYTES)
        manifest = markup.tree(manifest_bytes, "manifest.safe")
        files = {name.removeprefix(root): size for name, size in tree.sizes.items() if name.startswith(root)}
        _check_files(tree, root, files)
        annotations = [_annotation(tree, root + name) for name in sorted(files) if ANNOTATION.fullmatch(name)]
        geometry = footprint.polygon(_corners(manifest), "The footprint in manifest.safe")
        properties = _properties(manifest, annotations) | _missing(manifest, files)
        properties |= _bursts(tree, root, files, properties)
    return {
        **_identity(path, root),
        "geometry": geometry,
        "bbox": footprint.bbox(geometry),
        "frame": "earth",
        "properties": properties,
        "assets": {root + name: asset for name in files if (asset := _asset(name))},
    }


def _root(tree: archive.Tree) -> str:
    """The folder of the manifest within the tree, with its slash."""
    found = [name for name in tree.sizes if PurePosixPath(name).name == "manifest.safe" and name.count("/") <= 1]
    if len(found) != 1:
        raise Refused(f"{tree.name} is not a SAFE product: it holds {len(found)} files manifest.safe, not one.")
    return found[0].removesuffix("manifest.safe")


def _check_files(tree: archive.Tree, root: str, files: dict[str, int]) -> None:
    """Annotations and measurements come in pairs, and every measurement is whole."""
    annotations = {match[1]: name for name in files if (match := ANNOTATION.fullmatch(name))}
    measurements = {match[1]: name for name in files if (match := MEASUREMENT.fullmatch(name))}
    if not annotations:
        raise Refused(f"{tree.name} is incomplete: it holds no annotation.")
    if alone := sorted(annotations.keys() - measurements.keys()):
        raise Refused(f"{tree.name} is incomplete: the measurement of {annotations[alone[0]]} is missing.")
    if alone := sorted(measurements.keys() - annotations.keys()):
        raise Refused(f"{tree.name} is incomplete: the annotation of {measurements[alone[0]]} is missing.")
    for name in sorted(measurements.values()):
        with tree.open(root + name) as stream:
            tiff.check(stream, files[name], f"{name} in {tree.name}")


def _annotation(tree: archive.Tree, name: str) -> dict[str, str]:
    if tree.sizes[name] > MOST_ANNOTATION_BYTES:
        sizes = f"{tree.sizes[name]} bytes; at most {MOST_ANNOTATION_BYTES} are read"
        raise Refused(f"{name} in {tree.name} has {sizes}.")
    with tree.open(name) as stream:
        texts = markup.first_texts(_chunks(stream), ANNOTATED.values(), name)
    return {field: texts[element] for field, element in ANNOTATED.items() if element in texts}


def _bursts(tree: archive.Tree, root: str, files: dict[str, int], properties: dict[str, Any]) -> dict[str, Any]:
    """Which bursts an IW SLC product holds, and where; polarisations share them, so one is read."""
    if (properties["sar:instrument_mode"], properties["sar:product_type"]) != ("IW", "SLC"):
        return {}
    first = {match[1][:10]: name for name in sorted(files, reverse=True) if (match := ANNOTATION.fullmatch(name))}
    bursts = []
    for name in sorted(first.values()):
        annotation = markup.tree(archive.read_bytes(tree, root + name, MOST_TREE_BYTES), name)
        bursts += sentinel1_bursts.read(annotation, properties["sat:relative_orbit"], name)
    return sentinel1_bursts.told(bursts)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(256 * 1024):
        yield chunk


def _identity(path: Path, root: str) -> dict[str, str]:
    for name in (root.rstrip("/"), path.name):
        if match := PRODUCT_ID.match(name):
            return {"id": match[0]}
    return {}


def _corners(manifest: Element) -> list[footprint.Point]:
    text = _text(manifest, f".//{SAFE}frameSet/{SAFE}frame/{SAFE}footPrint/{GML}coordinates")
    try:
        pairs = [pair.split(",") for pair in text.split()]
        return [(float(longitude), float(latitude)) for latitude, longitude in pairs]
    except ValueError as error:
        shown = f"{text[:80]!a}, not pairs of latitude and longitude"
        raise Refused(f"The footprint in manifest.safe is {shown}.") from error


def _properties(manifest: Element, annotations: list[dict[str, str]]) -> dict[str, Any]:
    period = f".//{SAFE}acquisitionPeriod"
    start = times.utc(_text(manifest, f"{period}/{SAFE}startTime"), "startTime in manifest.safe")
    end = times.utc(_text(manifest, f"{period}/{SAFE}stopTime"), "stopTime in manifest.safe")
    times.check_order(start, end, "The acquisition in manifest.safe")
    return {
        "datetime": start,
        "start_datetime": start,
        "end_datetime": end,
        **_platform(manifest),
        **_orbit(manifest),
        **_processing(manifest),
        **_product(manifest),
        **_radar(annotations),
    }


def _platform(manifest: Element) -> dict[str, Any]:
    number = _text(manifest, f".//{SAFE}platform/{SAFE}number").lower()
    designator = manifest.findtext(f".//{SAFE}platform/{SAFE}nssdcIdentifier")
    return {
        "platform": f"sentinel-1{number}",
        "constellation": "sentinel-1",
        "instruments": ["c-sar"],
        **({"sat:platform_international_designator": designator.strip()} if designator else {}),
    }


def _orbit(manifest: Element) -> dict[str, Any]:
    reference = f".//{SAFE}orbitReference"
    state = _text(manifest, f"{reference}//{S1}pass").lower()
    if state not in {"ascending", "descending"}:
        raise Refused(f"The pass in manifest.safe is {state[:40]!a}, neither ascending nor descending.")
    return {
        "sat:orbit_state": state,
        "sat:absolute_orbit": _whole(manifest, f"{reference}/{SAFE}orbitNumber[@type='start']"),
        "sat:relative_orbit": _whole(manifest, f"{reference}/{SAFE}relativeOrbitNumber[@type='start']"),
        "sat:anx_datetime": times.utc(_text(manifest, f"{reference}//{S1}ascendingNodeTime"), "the node's time"),
    }


def _processing(manifest: Element) -> dict[str, Any]:
    processing = manifest.find(f".//{SAFE}processing")
    software = None if processing is None else processing.find(f"{SAFE}facility/{SAFE}software")
    if processing is None or software is None:
        raise Refused("manifest.safe does not say what processed the product.")
    stop = processing.get("stop")
    return {
        "processing:software": {software.get("name", ""): software.get("version", "")},
        "processing:level": "L1",
        **({"processing:datetime": times.utc(stop, "processing stop in manifest.safe")} if stop else {}),
    }


def _product(manifest: Element) -> dict[str, Any]:
    """What the product says of its place in the data take; each field only where it is given."""
    texts = {
        "s1:product_timeliness": manifest.findtext(f".//{S1SARL1}productTimelinessCategory"),
        "s1:product_composition": manifest.findtext(f".//{S1SARL1}productComposition"),
    }
    numbers = {
        "s1:datatake_id": manifest.findtext(f".//{S1SARL1}missionDataTakeID"),
        "s1:slice_number": manifest.findtext(f".//{S1SARL1}sliceNumber"),
        "s1:total_slices": manifest.findtext(f".//{S1SARL1}totalSlices"),
    }
    return {name: text.strip() for name, text in texts.items() if text} | {
        name: int(text) for name, text in numbers.items() if text and text.strip().isdecimal()
    }


def _radar(annotations: list[dict[str, str]]) -> dict[str, Any]:
    first = annotations[0]
    for number, annotation in enumerate(annotations, 1):
        if lacking := sorted(ANNOTATED.keys() - annotation.keys() - {"bursts"}):
            raise Refused(f"Annotation {number} of {len(annotations)} lacks {ANNOTATED[lacking[0]]}.")
    bursts = {f"{a['swath']}-{a['polarisation']}": _count(a["bursts"]) for a in annotations if "bursts" in a}
    return {
        "sar:product_type": first["product_type"],
        "sar:instrument_mode": first["mode"],
        "sar:frequency_band": "C",
        "sar:center_frequency": round(_number(first["frequency_hertz"], "radarFrequency") / 1e9, 9),
        # Co-polarised first, as the product's name and its users have it.
        "sar:polarizations": sorted({a["polarisation"] for a in annotations}, key=lambda p: (p[:1] != p[1:], p)),
        "sar:pixel_spacing_range": _number(first["range_spacing"], "rangePixelSpacing"),
        "sar:pixel_spacing_azimuth": _number(first["azimuth_spacing"], "azimuthPixelSpacing"),
        "sar:observation_direction": "right",
        "view:incidence_angle": _number(first["incidence_angle"], "incidenceAngleMidSwath"),
        "s1:swaths": sorted({each["swath"] for each in annotations}),
        **({"s1:bursts": bursts} if any(bursts.values()) else {}),
    }


def _count(text: str) -> int:
    if not text.isdecimal():
        raise Refused(f"The number of bursts in the annotation is {text[:40]!a}.")
    return int(text)


def _missing(manifest: Element, files: dict[str, int]) -> dict[str, Any]:
    """Files that the manifest lists and that are not there: a trimmed product is still of use."""
    locations = manifest.iterfind(".//dataObject/byteStream/fileLocation")
    listed = {location.get("href", "").removeprefix("./") for location in locations}
    missing = sorted(listed - files.keys())
    return {"s1:missing_files": missing[:MOST_MISSING_NAMED]} if missing else {}


def _asset(name: str) -> dict[str, Any] | None:
    if match := MEASUREMENT.fullmatch(name):
        return {"roles": ["data"], "title": match[1], "type": "image/tiff; application=geotiff"}
    if match := ANNOTATION.fullmatch(name):
        return {"roles": ["metadata"], "title": match[1], "type": "application/xml"}
    if name == "manifest.safe":
        return {"roles": ["metadata"], "title": "Manifest", "type": "application/xml"}
    if name == "preview/quick-look.png":
        return {"roles": ["overview"], "title": "Quick look", "type": "image/png"}
    return None


def _text(manifest: Element, element: str) -> str:
    text = (manifest.findtext(element) or "").strip()
    if not text:
        short = re.sub(r"\{[^}]*\}", "", element).lstrip("./")
        raise Refused(f"manifest.safe lacks {short}.")
    return text


def _whole(manifest: Element, element: str) -> int:
    text = _text(manifest, element)
    if not text.isdecimal():
        raise Refused(f"manifest.safe has {text[:40]!a} where a whole number is expected.")
    return int(text)


def _number(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise Refused(f"{field} in the annotation is {text[:40]!a}, not a number.") from error
