"""Sentinel-1 auxiliary calibration (AUX_CAL), as a folder or a zip: from when it is valid, for which satellite."""

import re
from pathlib import Path
from typing import Any

from armillary_formats import archive, markup, times
from armillary_formats.refusal import Refused

NAMED = re.compile(r"S1([A-Z])_AUX_CAL_V(\d{8}T\d{6})_G(\d{8}T\d{6})")
MEMBER = re.compile(r"(?:.*/)?data/s1[a-z]-aux-cal\.xml")
MOST_BYTES = 64 * 1024**2


def read(path: Path) -> dict[str, Any]:
    """The STAC item of a calibration: no footprint; valid from `start_datetime` until a newer one replaces it."""
    named = NAMED.match(path.name)
    if named is None:
        raise Refused(f"{path.name} is not named as an AUX_CAL product; its name says from when it is valid.")
    with archive.open_tree(path) as tree:
        found = sorted(name for name in tree.sizes if MEMBER.fullmatch(name))
        if len(found) != 1:
            raise Refused(f"{path.name} holds {len(found)} files data/s1?-aux-cal.xml; one is expected.")
        calibration = markup.tree(archive.read_bytes(tree, found[0], MOST_BYTES), found[0])
    satellite, valid, made = named.groups()
    return {
        "id": path.name.removesuffix(".zip").removesuffix(".SAFE"),
        "geometry": None,
        "frame": "none",
        "properties": {
            "datetime": times.utc(valid, f"the time after V in {path.name}"),
            "created": times.utc(made, f"the time after G in {path.name}"),
            "platform": f"sentinel-1{satellite.lower()}",
            "constellation": "sentinel-1",
            "s1:swaths": sorted({text for node in calibration.iter("swath") if (text := (node.text or "").strip())}),
        },
    }
