"""What kind of file a name promises: its media type and its role in a granule."""

import mimetypes
from pathlib import PurePath

# What science writes and the standard table does not know (or knows otherwise).
_TYPES = {
    ".tif": "image/tiff; application=geotiff",
    ".tiff": "image/tiff; application=geotiff",
    ".nc": "application/x-netcdf",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".fits": "application/fits",
    ".fit": "application/fits",
    ".geojson": "application/geo+json",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".eof": "application/xml",
    ".md": "text/markdown",
    ".zip": "application/zip",
    ".zarr": "application/vnd.zarr",
    ".ms": "application/x-measurement-set",
    ".safe": "application/x-safe",
}
UNKNOWN = "application/octet-stream"
UNKNOWN_TREE = "application/x-directory"
PICTURES = ("image/png", "image/jpeg")


def media_type(name: str, *, is_tree: bool = False) -> str:
    """The media type of a file or tree of this name."""
    known = _TYPES.get(PurePath(name).suffix.lower())
    if known or is_tree:
        return known or UNKNOWN_TREE
    return mimetypes.guess_type(name)[0] or UNKNOWN


def roles(name: str) -> tuple[str, ...]:
    """A picture named `browse.*` shows the granule; anything else is data."""
    return ("overview",) if PurePath(name).stem == "browse" and media_type(name) in PICTURES else ("data",)
