"""Writing a processing set: one measurement set v4 per partition, filled block by block of channels.

Schema: xradio's measurement set v4.0.1. Chunks hold all times, all baselines, all hands and as many channels as
make about 128 MB of visibilities, so that one task reads whole chunks and nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from armillary_cube import __version__
from armillary_cube.gridder import Complexes, Floats
from armillary_cube.visibilities import EVERY_CHUNK_WRITTEN

SCHEMA_VERSION = "4.0.1"
CHUNK_BYTES = 128 * 1024 * 1024
LEAST_CHUNKS = 8  # so that a small set can still be imaged by several workers without decoding anything twice
ITEM_BYTES = 8  # complex64


def chunk_channels(rows: int, hands: int, channels: int) -> int:
    """As many channels as keep a chunk of visibilities near 128 MB, but no more than an eighth of them, and at least 1."""
    return int(max(1, min(-(-channels // LEAST_CHUNKS), CHUNK_BYTES // (rows * hands * ITEM_BYTES))))


@dataclass(frozen=True)
class Header:
    """Everything a partition says about itself besides the samples."""

    name: str
    telescope: str
    field_name: str
    ra_rad: float
    dec_rad: float
    frequency_hz: NDArray[np.float64] = field(repr=False)
    channel_width_hz: float
    polarizations: tuple[str, ...]
    times_unix_s: NDArray[np.float64] = field(repr=False)
    integration_s: float
    uvw_m: NDArray[np.float64] = field(repr=False)  # (time, baseline, 3), antenna 1 minus antenna 2
    antenna_names: tuple[str, ...]
    antenna_positions_m: NDArray[np.float64] = field(repr=False)  # geocentric, ITRS
    antenna1: NDArray[np.int64] = field(repr=False)
    antenna2: NDArray[np.int64] = field(repr=False)
    dish_diameter_m: float
    sky_frame: str = "fk5"
    spectral_frame: str = "lsrk"
    rest_frequency_hz: float | None = None
    spectral_window: str = "spw_0"
    observer: str = "unknown"


class Writer:
    """One partition being written; `write` fills channels [first, first + n)."""

    def __init__(self, root: Path, header: Header, channels_per_chunk: int = 0) -> None:
        times, baselines = header.uvw_m.shape[:2]
        channels, hands = len(header.frequency_hz), len(header.polarizations)
        shape = (times, baselines, channels, hands)
        self.path = root / header.name
        self.channels_per_chunk = channels_per_chunk or chunk_channels(times * baselines, hands, channels)
        if not (root / "zarr.json").exists():
            zarr.create_group(root, attributes={"type": "processing_set"})
        _tree(header).to_zarr(self.path, mode="w-", consolidated=False, zarr_format=3)
        group = zarr.open_group(self.path, mode="r+")
        chunks = (times, baselines, self.channels_per_chunk, hands)
        names = ("time", "baseline_id", "frequency", "polarization")
        rows = "baseline_antenna1_name baseline_antenna2_name field_name scan_name"
        self._arrays = {
            name: group.create_array(
                name, shape=shape, chunks=chunks, dtype=kind, fill_value=fill, dimension_names=names,
                compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
                attributes={**attributes, "coordinates": rows}, config={"write_empty_chunks": True},
            )
            for name, kind, fill, attributes in (
                ("VISIBILITY", "complex64", 0, {"type": "quanta", "units": "Jy"}),
                ("FLAG", "bool", False, {}),
                ("WEIGHT", "float32", np.nan, {}),
            )
        }  # fmt: skip

    def write(self, first: int, visibilities: Complexes, flags: NDArray[np.bool_], weights: Floats) -> None:
        """Write whole chunks of channels: arrays are (time, baseline, channel, hand)."""
        stop = first + visibilities.shape[2]
        for name, values in (("VISIBILITY", visibilities), ("FLAG", flags), ("WEIGHT", weights)):
            self._arrays[name][:, :, first:stop] = values


def finish(root: Path) -> None:
    """Say that nothing was left out, and gather the metadata of all partitions in one file."""
    zarr.open_group(root, mode="r+", use_consolidated=False).attrs[EVERY_CHUNK_WRITTEN] = True
    zarr.consolidate_metadata(root)


def _tree(header: Header) -> xr.DataTree:
    coords = _coordinates(header)
    main = xr.Dataset(
        {
            "UVW": (
                ("time", "baseline_id", "uvw_label"), header.uvw_m,
                {"type": "uvw", "units": "m", "frame": header.sky_frame},
            )
        },
        coords=coords,
        attrs=_main_attributes(header),
    )  # fmt: skip
    return xr.DataTree.from_dict(
        {"/": main, "/antenna_xds": _antennas(header), "/field_and_source_base_xds": _field_and_source(header)}
    )


def _coordinates(header: Header) -> dict[str, Any]:
    times, baselines = header.uvw_m.shape[:2]
    names = np.array(header.antenna_names)
    spectral = {
        "type": "spectral_coord",
        "units": "Hz",
        "observer": header.spectral_frame,
        "spectral_window_name": header.spectral_window,
        "spectral_window_intents": ["UNSPECIFIED"],
        "reference_frequency": {
            "attrs": {"type": "spectral_coord", "units": "Hz", "observer": header.spectral_frame},
            "dims": [],
            "data": float(header.frequency_hz[len(header.frequency_hz) // 2]),
        },
        "channel_width": _quantity(header.channel_width_hz, "Hz"),
    }
    clock = {"type": "time", "units": "s", "scale": "utc", "format": "unix",
             "integration_time": _quantity(header.integration_s, "s")}  # fmt: skip
    return {
        "time": ("time", header.times_unix_s, clock),
        "baseline_id": ("baseline_id", np.arange(baselines)),
        "frequency": ("frequency", np.asarray(header.frequency_hz, float), spectral),
        "polarization": ("polarization", np.array(header.polarizations)),
        "uvw_label": ("uvw_label", np.array(["u", "v", "w"])),
        "baseline_antenna1_name": ("baseline_id", names[header.antenna1]),
        "baseline_antenna2_name": ("baseline_id", names[header.antenna2]),
        "field_name": ("time", np.full(times, header.field_name)),
        "scan_name": ("time", np.full(times, "1"), {"scan_intents": ["None"]}),
    }


def _main_attributes(header: Header) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {
        "schema_version": SCHEMA_VERSION,
        "creator": {"software_name": "armillary-cube", "version": __version__},
        "creation_date": now,
        "type": "visibility",
        "data_groups": {
            "base": {
                "correlated_data": "VISIBILITY", "flag": "FLAG", "weight": "WEIGHT", "uvw": "UVW",
                "field_and_source": "field_and_source_base_xds",
                "description": "Calibrated visibilities", "date": now,
            }
        },
        "observation_info": {"observer": [header.observer], "release_date": now, "project_UID": ""},
        "processor_info": {"type": "CORRELATOR", "sub_type": ""},
    }  # fmt: skip


def _antennas(header: Header) -> xr.Dataset:
    count = len(header.antenna_names)
    linear = header.polarizations[0][0] in "XY"
    receptors = np.tile(np.array(["X", "Y"] if linear else ["R", "L"]), (count, 1))
    by_receptor = ("antenna_name", "receptor_label")
    return xr.Dataset(
        {
            "ANTENNA_POSITION": (
                ("antenna_name", "cartesian_pos_label"), header.antenna_positions_m,
                {"type": "location", "units": "m", "frame": "ITRS", "coordinate_system": "geocentric",
                 "origin_object_name": "earth"},
            ),
            "ANTENNA_DISH_DIAMETER": (
                "antenna_name", np.full(count, header.dish_diameter_m), {"type": "quantity", "units": "m"}
            ),
            "ANTENNA_RECEPTOR_ANGLE": (by_receptor, np.zeros((count, 2)), {"type": "quantity", "units": "rad"}),
        },
        coords={
            "antenna_name": ("antenna_name", np.array(header.antenna_names)),
            "station_name": ("antenna_name", np.array(header.antenna_names)),
            "mount": ("antenna_name", np.full(count, "ALT-AZ")),
            "telescope_name": ("antenna_name", np.full(count, header.telescope)),
            "receptor_label": ("receptor_label", np.array(["pol_0", "pol_1"])),
            "polarization_type": (by_receptor, receptors),
            "cartesian_pos_label": ("cartesian_pos_label", np.array(["x", "y", "z"])),
        },
        attrs={"type": "antenna", "overall_telescope_name": header.telescope, "relocatable_antennas": True},
    )  # fmt: skip


def _field_and_source(header: Header) -> xr.Dataset:
    direction = np.array([[header.ra_rad, header.dec_rad]])
    sky = {"type": "sky_coord", "units": "rad", "frame": header.sky_frame}
    spectral = {"type": "spectral_coord", "units": "Hz", "observer": header.spectral_frame}
    variables: dict[str, Any] = {
        "FIELD_PHASE_CENTER_DIRECTION": (("field_name", "sky_dir_label"), direction, sky),
        "SOURCE_DIRECTION": (("field_name", "sky_dir_label"), direction, sky),
    }
    coords: dict[str, Any] = {
        "field_name": ("field_name", np.array([header.field_name])),
        "source_name": ("field_name", np.array([header.field_name])),
        "sky_dir_label": ("sky_dir_label", np.array(["ra", "dec"])),
    }
    if header.rest_frequency_hz:
        rest = np.array([[header.rest_frequency_hz]])
        variables["LINE_REST_FREQUENCY"] = (("field_name", "line_label"), rest, spectral)
        coords["line_label"] = ("line_label", np.array(["0"]))
        coords["line_name"] = (("field_name", "line_label"), np.array([["line"]]))
    return xr.Dataset(variables, coords=coords, attrs={"type": "field_and_source"})


def _quantity(value: float, units: str) -> dict[str, Any]:
    return {"data": float(value), "dims": [], "attrs": {"type": "quantity", "units": units}}


def baselines(antennas: int, *, autos: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of antennas once, the first with the lower number."""
    pairs = [(i, j) for i in range(antennas) for j in range(i if autos else i + 1, antennas)]
    first, second = np.array(pairs, dtype=np.int64).T
    return first, second


def uniform_width(frequency_hz: Sequence[float] | NDArray[np.float64]) -> float:
    """The step of an even frequency axis, positive whichever way it runs."""
    return abs(float(np.mean(np.diff(frequency_hz))))
