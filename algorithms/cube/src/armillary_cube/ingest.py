"""Importing observations: a measurement set v2 or a UVFITS file becomes a processing set that can be imaged."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from armillary_cube.errors import RefusalError
from armillary_cube.visibilities import EVERY_CHUNK_WRITTEN


def import_set(source: Path, target: Path) -> Path:
    """Import whatever `source` is; `target` appears whole or not at all."""
    if target.exists():
        raise RefusalError(f"{target} exists already.", "choose another name or remove it.")
    # xradio insists on the ending, so the unfinished set has it too and differs in its beginning.
    building = target.with_name(f".building-{target.name.removesuffix('.ps.zarr')}.ps.zarr")
    shutil.rmtree(building, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = kind_of(source)
    if kind == "processing-set":
        shutil.copytree(source, building)
    elif kind == "measurement-set":
        _from_measurement_set(source, building)
    else:
        _from_uvfits(source, building)
    building.rename(target)
    return target


def kind_of(source: Path) -> str:
    """`measurement-set`, `processing-set` or `uvfits`, by what is there and not by its name."""
    if (source / "table.dat").is_file():
        return "measurement-set"
    if (source / "zarr.json").is_file():
        return "processing-set"
    if source.is_file() and source.open("rb").read(6) == b"SIMPLE":
        return "uvfits"
    raise RefusalError(
        f"{source} is neither a measurement set (table.dat), a processing set (zarr.json) nor UVFITS.",
        "give the folder of the set itself, or the file.",
        missing_input=True,
    )


def _from_uvfits(source: Path, target: Path) -> None:
    from armillary_cube import msv4, uvfits  # xarray and astropy are slow to load, and most jobs need neither

    about, data = uvfits.read(source)
    header = msv4.Header(
        name=f"{_plain(source.stem)}_0",
        telescope=about.telescope,
        field_name=about.object_name,
        ra_rad=about.ra_rad,
        dec_rad=about.dec_rad,
        frequency_hz=about.frequency_hz,
        channel_width_hz=about.channel_width_hz,
        polarizations=about.polarizations,
        times_unix_s=data["times"],
        integration_s=float(np.median(np.diff(data["times"]))) if len(data["times"]) > 1 else 1.0,
        uvw_m=data["uvw"],
        antenna_names=data["antenna_names"],
        antenna_positions_m=data["antenna_positions_m"],
        antenna1=data["antenna1"],
        antenna2=data["antenna2"],
        dish_diameter_m=uvfits.DISH_DIAMETER_M.get(about.telescope.upper(), 25.0),
        spectral_frame=about.spectral_frame,
        rest_frequency_hz=about.rest_frequency_hz,
    )
    writer = msv4.Writer(target, header)
    for first in range(0, len(about.frequency_hz), writer.channels_per_chunk):
        block = slice(first, first + writer.channels_per_chunk)
        writer.write(first, *(data[n][:, :, block] for n in ("visibilities", "flags", "weights")))
    msv4.finish(target)


def _from_measurement_set(source: Path, target: Path) -> None:
    from xradio.measurement_set import convert_msv2_to_processing_set
    from zarr.codecs import BloscCodec

    try:
        convert_msv2_to_processing_set(
            in_file=str(source),
            out_file=str(target),
            partition_scheme=["FIELD_ID"],
            main_chunksize={"frequency": _channels_per_chunk(source)},
            with_pointing=False,
            compressor=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
        )
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        raise RefusalError(
            f"{source.name} cannot be imported: {error}",
            "check the measurement set with CASA's listobs; its directions must be in J2000 or ICRS.",
            missing_input=True,
        ) from error
    _write_every_chunk(target)


def _channels_per_chunk(source: Path) -> int:
    from arcae.lib.arrow_tables import Table

    from armillary_cube import msv4

    def table(name: str = "") -> Any:
        return Table.from_filename(str(source / name) if name else str(source))

    rows, windows = table().nrow(), table("DATA_DESCRIPTION").nrow()
    channels = max(1, int(np.min(table("SPECTRAL_WINDOW").getcol("NUM_CHAN"))))
    hands = max(1, int(np.max(table("POLARIZATION").getcol("NUM_CORR"))))
    return msv4.chunk_channels(max(1, math.ceil(rows / max(1, windows))), hands, channels)


def _write_every_chunk(target: Path) -> None:
    """Write the chunks that were left out because they hold one value, so that a missing one means damage."""
    import zarr

    root = zarr.open_group(target, mode="r+", use_consolidated=False)
    for _, partition in root.groups():
        for name in ("VISIBILITY", "VISIBILITY_CORRECTED", "FLAG", "WEIGHT", "UVW"):
            if name in partition:
                _complete(partition[name])
    root.attrs[EVERY_CHUNK_WRITTEN] = True
    zarr.consolidate_metadata(target)


def _complete(array: Any) -> None:
    if array.nchunks_initialized == array.nchunks:
        return
    writable = array.with_config({"write_empty_chunks": True})
    step = array.chunks[2]
    for first in range(0, array.shape[2], step):
        block = (slice(None), slice(None), slice(first, first + step))
        writable[block] = array[block]


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name).lower() or "set"
