"""Bytes changed at random: each reader answers with metadata or with a refusal of its own, and never hangs.

A library may crash on a file like this, or never come back (HDF5's does both, now and then): that is what the worker
process and its time limit are for.
"""

import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import example, given, settings
from hypothesis import strategies as st

from armillary_formats.pool import ReadError, Readers

QUICKLOOK = "armillary_formats.browse:quicklook"
edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), min_size=1, max_size=6
)
READERS = ["sentinel-1-safe", "sentinel-1-orbit", "geotiff", "fits", "netcdf"]


# Libraries in C that damage can send anywhere: what ends them is the process that they run in.
UNSAFE = {"netcdf": {"crashed", "timeout"}}
HDF5_LOOPS = [(0.7330195484968272, b"\0\0")]  # HDF5 2.0 walks the heap of an attribute's text in a circle


@pytest.fixture(scope="module")
def readers() -> Any:
    with Readers(timeout=timedelta(seconds=60), memory_bytes=4 * 1024**3) as pool:
        yield pool


@pytest.fixture(scope="module")
def hasty_readers() -> Any:
    with Readers(timeout=timedelta(seconds=5), memory_bytes=4 * 1024**3) as pool:
        yield pool


@pytest.fixture(scope="module")
def whole(samples, tmp_path_factory) -> dict[str, tuple[str, bytes]]:
    """A small whole file for each reader."""
    folder = tmp_path_factory.mktemp("whole")
    orbit = next(path for path in samples if path.suffix == ".EOF").read_bytes()
    shortened = b"</OSV>".join(orbit.split(b"</OSV>")[:3]) + b"</OSV></List_of_OSVs></Data_Block></Earth_Explorer_File>"
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(samples[0].rglob("*")):
            archive.write(file, file.relative_to(samples[0].parent))
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "FREQ", "CRVAL3": 1e9, "CDELT1": -0.1})
    fits.PrimaryHDU(np.ones((2, 9, 9), np.float32), header).writeto(folder / "a.fits")
    with h5py.File(folder / "a.nc", "w") as file:
        for name, units in (("lat", "degrees_north"), ("lon", "degrees_east"), ("t", "days since 2000-01-01")):
            file[name] = np.arange(3.0)
            file[name].attrs["units"] = units
        file["v"] = np.ones((3, 3))
    paths = {"sentinel-1-safe": "a.zip", "fits": "a.fits", "netcdf": "a.nc"}
    return {
        **{reader: (name, (folder / name).read_bytes()) for reader, name in paths.items()},
        "sentinel-1-orbit": ("a.EOF", shortened),
        "geotiff": ("a.tif", samples[-1].read_bytes()),
    }


def damaged(data: bytes, changes: list[tuple[float, bytes]], reach: int) -> bytes:
    changed = bytearray(data)
    for place, content in changes:
        at = int(place * min(reach, len(data)))
        changed[at : at + len(content)] = content
    return bytes(changed)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=60)
@given(changes=edits)
@example(changes=[(0.0, b"\0")])
def test_a_damaged_file_is_read_or_refused(reader, changes, readers, hasty_readers, whole, tmp_path_factory) -> None:
    name, data = whole[reader]
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    # Headers are where damage has consequences; of a zip any byte may have.
    path.write_bytes(damaged(data, changes, len(data) if reader == "sentinel-1-safe" else 3000))
    out = Path(tmp_path_factory.getbasetemp(), "damaged.png")
    pool = hasty_readers if reader in UNSAFE else readers
    calls = [lambda: pool.read(reader, path)]
    if reader != "sentinel-1-orbit":
        calls.append(lambda: pool.browse(QUICKLOOK, path, out))
    for error in filter(None, map(failure_of, calls)):
        if error.kind in UNSAFE.get(reader, ()):
            continue
        assert error.kind == "refused", f"{error} {error.detail}"
        assert "armillary_formats.refusal.Refused" in error.detail, f"not a sentence of ours: {error}"
        assert "\n" not in error.message
        assert len(error.message) < 600


def test_a_library_that_never_comes_back_is_stopped(hasty_readers, whole, tmp_path) -> None:
    name, data = whole["netcdf"]
    path = tmp_path / name
    path.write_bytes(damaged(data, HDF5_LOOPS, 3000))
    error = failure_of(lambda: hasty_readers.read("netcdf", path))
    assert error is None or error.kind in {"refused", "timeout"}
    path.write_bytes(data)
    assert hasty_readers.read("netcdf", path)["properties"]


def failure_of(call: Callable[[], Any]) -> ReadError | None:
    try:
        call()
    except ReadError as error:
        return error
    return None


@pytest.mark.parametrize("reader", READERS)
def test_the_whole_files_are_read(reader, readers, whole, tmp_path) -> None:
    name, data = whole[reader]
    (tmp_path / name).write_bytes(data)
    assert readers.read(reader, tmp_path / name)["properties"]
