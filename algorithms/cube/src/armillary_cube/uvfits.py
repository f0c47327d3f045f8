"""UVFITS (random groups) in and out: the classic exchange format of visibilities.

Source: Greisen, AIPS Memo 117 (2020). The file holds (u, v, w) in seconds of light, in the same sense as a measurement
set does in metres (checked on a real observation, whose jet must point the right way). Directions of equinox B1950 are
precessed to FK5 J2000, and the uv-plane is turned with north.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from armillary_cube.errors import RefusalError

SPEED_OF_LIGHT_M_S = 299_792_458.0
STOKES_CODES = {-1: "RR", -2: "LL", -3: "RL", -4: "LR", -5: "XX", -6: "YY", -7: "XY", -8: "YX"}
SPECTRAL_FRAMES = {1: "lsrk", 2: "BARY", 3: "TOPO"}
DISH_DIAMETER_M = {"VLA": 25.0, "EVLA": 25.0, "ATCA": 22.0, "WSRT": 25.0, "GMRT": 45.0, "ALMA": 12.0}


@dataclass(frozen=True)
class UvfitsHeader:
    """What the file says about itself, without its samples."""

    telescope: str
    object_name: str
    ra_rad: float
    dec_rad: float
    north_turn_rad: float  # by how much J2000 north is turned from the file's, counted from north through east
    frequency_hz: NDArray[np.float64]
    channel_width_hz: float
    polarizations: tuple[str, ...]
    spectral_frame: str
    rest_frequency_hz: float | None
    groups: int
    start: Time
    end: Time


def read_header(path: Path) -> UvfitsHeader:
    """The description of a single-source, single-window UVFITS file."""
    with _open(path) as hdus:
        return _header(path, hdus)


def _open(path: Path) -> fits.HDUList:
    try:
        hdus = fits.open(path, memmap=True)
        groups = isinstance(hdus[0], fits.GroupsHDU)
        if groups:
            hdus[0].data.par(0)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RefusalError(
            f"{path.name} cannot be read as FITS: {error}", "copy it again.", missing_input=True
        ) from error
    if not groups:
        raise RefusalError(f"{path.name} is FITS but not UVFITS (random groups).", "give visibilities, not an image.")
    return hdus


def _axes(header: Any) -> dict[str, int]:
    return {str(header.get(f"CTYPE{i}", "")).strip(): i for i in range(2, header["NAXIS"] + 1)}


def _header(path: Path, hdus: fits.HDUList) -> UvfitsHeader:
    header = hdus[0].header
    axes = _axes(header)
    _refuse_unsupported(path, hdus, axes)
    stokes, spectral = axes["STOKES"], axes["FREQ"]
    codes = header[f"CRVAL{stokes}"] + header[f"CDELT{stokes}"] * np.arange(header[f"NAXIS{stokes}"])
    count, step = header[f"NAXIS{spectral}"], float(header[f"CDELT{spectral}"])
    frequency = float(header[f"CRVAL{spectral}"]) + step * (np.arange(count) + 1 - header[f"CRPIX{spectral}"])
    ra, dec, turn = _direction(header, axes)
    times = _times(hdus[0].data)
    return UvfitsHeader(
        telescope=str(header.get("TELESCOP", "")).strip(),
        object_name=str(header.get("OBJECT", "")).strip() or path.stem,
        ra_rad=ra,
        dec_rad=dec,
        north_turn_rad=turn,
        frequency_hz=frequency,
        channel_width_hz=step,
        polarizations=tuple(STOKES_CODES[round(c)] for c in codes),
        spectral_frame=SPECTRAL_FRAMES.get(int(header.get("VELREF", 3)) % 256, "TOPO"),
        rest_frequency_hz=float(header["RESTFREQ"]) if header.get("RESTFREQ") else None,
        groups=int(header["GCOUNT"]),
        start=times.min(),
        end=times.max(),
    )


def _refuse_unsupported(path: Path, hdus: fits.HDUList, axes: dict[str, int]) -> None:
    header = hdus[0].header
    missing = [name for name in ("STOKES", "FREQ", "RA", "DEC") if name not in axes]
    if missing:
        raise RefusalError(f"{path.name} has no axis {', '.join(missing)}.", "export it again.", missing_input=True)
    if header.get(f"NAXIS{axes.get('IF', 0)}", 1) > 1:
        raise RefusalError(f"{path.name} has several IFs.", "split it into one file per IF (spectral window).")
    names = [str(n).strip() for n in hdus[0].data.parnames]
    if "SOURCE" in names and len(np.unique(hdus[0].data.par("SOURCE"))) > 1:
        raise RefusalError(f"{path.name} holds several sources.", "split it into one file per source.")
    codes = header[f"CRVAL{axes['STOKES']}"]
    if round(codes) not in STOKES_CODES:
        raise RefusalError(f"{path.name} holds Stokes code {codes}, not correlations.", "export correlations.")


def _direction(header: Any, axes: dict[str, int]) -> tuple[float, float, float]:
    ra, dec = (float(header[f"CRVAL{axes[name]}"]) for name in ("RA", "DEC"))
    equinox = float(header.get("EQUINOX", header.get("EPOCH", 2000.0)) or 2000.0)
    if equinox == 2000.0:
        return math.radians(ra), math.radians(dec), 0.0
    if equinox != 1950.0:
        raise RefusalError(f"equinox {equinox} is unknown here.", "precess the file to J2000 or B1950.")
    frame = FK4(equinox="B1950", obstime=Time("B1950"))
    centre = SkyCoord(ra, dec, unit="deg", frame=frame)
    north = SkyCoord(ra, dec + 0.1, unit="deg", frame=frame)
    here, up = centre.transform_to(FK5(equinox="J2000")), north.transform_to(FK5(equinox="J2000"))
    return float(here.ra.rad), float(here.dec.rad), float(here.position_angle(up).wrap_at(180 * units.deg).rad)


def _times(data: Any) -> Time:
    names = [i for i, n in enumerate(data.parnames) if str(n).strip() in ("DATE", "_DATE")]
    columns = [np.asarray(data.par(i), float) for i in names] if names else [np.asarray(data.par("DATE"), float)]
    # astropy adds up parameters of one name when it is asked by name, and not when it is asked by number.
    return Time(columns[0], columns[1] if len(columns) > 1 else 0.0, format="jd", scale="utc")


def read(path: Path) -> tuple[UvfitsHeader, dict[str, Any]]:
    """The header, and the samples on a full grid of (time, baseline): uvw, visibilities, flags, weights, antennas."""
    with _open(path) as hdus:
        header = _header(path, hdus)
        data = hdus[0].data
        antenna1, antenna2 = _antennas_of_groups(data)
        uvw = np.stack([_parameter(data, name) for name in ("UU", "VV", "WW")], axis=1) * SPEED_OF_LIGHT_M_S
        samples = np.asarray(data.data, np.float32)
        samples = (
            samples.reshape(len(samples), -1, len(header.polarizations), 3)
            if samples.shape[1:3] == (1, 1)
            else (samples.reshape(len(samples), len(header.frequency_hz), len(header.polarizations), 3))
        )
        stamps = np.round(_times(data).unix, 3)
        names, positions = _antennas(hdus, int(max(antenna1.max(), antenna2.max())) + 1)
    uvw = _turn(uvw, header.north_turn_rad)
    times, at = np.unique(stamps, return_inverse=True)
    pairs, which = np.unique(np.stack([antenna1, antenna2], 1), axis=0, return_inverse=True)
    place = at.ravel() * len(pairs) + which.ravel()

    def spread(values: NDArray[Any], empty: Any) -> NDArray[Any]:
        full = np.full((len(times) * len(pairs), *values.shape[1:]), empty, values.dtype)
        full[place] = values
        return full.reshape(len(times), len(pairs), *values.shape[1:])

    visibilities = (samples[..., 0] + 1j * samples[..., 1]).astype(np.complex64)
    weights = samples[..., 2]
    gridded = {
        "times": times,
        "antenna1": pairs[:, 0],
        "antenna2": pairs[:, 1],
        "antenna_names": names,
        "antenna_positions_m": positions,
        "uvw": spread(uvw, np.nan),
        "visibilities": spread(visibilities, 0),
        "flags": spread(~(weights > 0), True),
        "weights": spread(np.abs(weights).astype(np.float32), 0),
    }
    return header, gridded


def _turn(uvw: NDArray[np.float64], angle_rad: float) -> NDArray[np.float64]:
    """The same baselines on axes whose north is turned back by the angle (from north through east)."""
    sin, cos = math.sin(angle_rad), math.cos(angle_rad)
    u, v, w = uvw.T
    return np.stack([u * cos + v * sin, -u * sin + v * cos, w], axis=1)


def _parameter(data: Any, start: str) -> NDArray[np.float64]:
    index = next((i for i, name in enumerate(data.parnames) if str(name).strip().startswith(start)), None)
    if index is None:
        raise RefusalError(f"The file has no parameter {start}.", "export it again with uvw.", missing_input=True)
    return np.asarray(data.par(index), np.float64)


def _antennas_of_groups(data: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Antenna numbers, from 0, of each group: 256·first + second, or two columns where there are many antennas."""
    names = [str(n).strip() for n in data.parnames]
    if "BASELINE" in names:
        code = np.floor(np.asarray(data.par(names.index("BASELINE")), np.float64)).astype(np.int64)
        return code // 256 - 1, code % 256 - 1
    return tuple(np.asarray(data.par(names.index(f"ANTENNA{i}")), np.int64) - 1 for i in (1, 2))  # type: ignore[return-value]


def _antennas(hdus: fits.HDUList, count: int) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names and geocentric positions; metadata only, for uvw comes from the file."""
    names, positions = [f"ANT{i + 1:02d}" for i in range(count)], np.zeros((count, 3))
    if "AIPS AN" not in hdus:
        return tuple(names), positions
    table = hdus["AIPS AN"]
    centre = np.array([float(table.header.get(f"ARRAY{axis}", 0.0)) for axis in "XYZ"])
    local = table.header.get("FRAME", "").strip() != "ITRF"
    longitude = math.atan2(centre[1], centre[0]) if local and centre.any() else 0.0
    sin, cos = math.sin(longitude), math.cos(longitude)
    for row in table.data:
        index = int(row["NOSTA"]) - 1
        if 0 <= index < count:
            x, y, z = (float(value) for value in row["STABXYZ"])
            positions[index] = centre + np.array([x * cos - y * sin, x * sin + y * cos, z])
            names[index] = f"ANT{index + 1:02d}"
    return tuple(names), positions


def write(path: Path, header: Any, visibilities: Any, flags: Any, weights: Any) -> None:
    """Write one partition (an `msv4.Header` and its samples) as UVFITS; weights of flagged samples are negative."""
    times, baselines = header.uvw_m.shape[:2]
    rows, channels, hands = times * baselines, len(header.frequency_hz), len(header.polarizations)
    cube = np.zeros((rows, 1, 1, 1, channels, hands, 3), np.float32)
    flat = np.asarray(visibilities).reshape(rows, channels, hands)
    cube[:, 0, 0, 0, :, :, 0], cube[:, 0, 0, 0, :, :, 1] = flat.real, flat.imag
    signed = np.where(flags, -np.abs(weights), weights)
    cube[:, 0, 0, 0, :, :, 2] = np.nan_to_num(signed).reshape(rows, channels, hands)
    julian = Time(np.repeat(header.times_unix_s, baselines), format="unix").jd
    day = math.floor(julian.min() - 0.5) + 0.5
    seconds = np.nan_to_num(header.uvw_m).reshape(rows, 3) / SPEED_OF_LIGHT_M_S
    code = np.tile(256.0 * (header.antenna1 + 1) + header.antenna2 + 1, times)
    data = fits.GroupData(
        cube, bitpix=-32, parnames=["UU---SIN", "VV---SIN", "WW---SIN", "BASELINE", "DATE", "DATE"],
        pardata=[*seconds.T, code, np.full(rows, day), julian - day],
    )  # fmt: skip
    groups = fits.GroupsHDU(data)
    _describe(groups.header, header, day)
    fits.HDUList([groups, _frequency_table(header), _antenna_table(header, day)]).writeto(path, overwrite=True)


def _describe(cards: Any, header: Any, day: float) -> None:
    codes = {name: code for code, name in STOKES_CODES.items()}
    first = codes[header.polarizations[0]]
    step = codes[header.polarizations[1]] - first if len(header.polarizations) > 1 else -1
    axes = (
        ("COMPLEX", 1.0, 1.0), ("STOKES", float(first), float(step)),
        ("FREQ", float(header.frequency_hz[0]), header.channel_width_hz), ("IF", 1.0, 1.0),
        ("RA", math.degrees(header.ra_rad), 1.0), ("DEC", math.degrees(header.dec_rad), 1.0),
    )  # fmt: skip
    for number, (name, value, delta) in enumerate(axes, start=2):
        cards[f"CTYPE{number}"], cards[f"CRVAL{number}"] = name, value
        cards[f"CDELT{number}"], cards[f"CRPIX{number}"], cards[f"CROTA{number}"] = delta, 1.0, 0.0
    cards["OBJECT"], cards["TELESCOP"], cards["INSTRUME"] = header.field_name, header.telescope, header.telescope
    cards["DATE-OBS"] = Time(day, format="jd").isot[:10]
    cards["EPOCH"], cards["EQUINOX"], cards["BUNIT"], cards["BSCALE"], cards["BZERO"] = 2000.0, 2000.0, "JY", 1.0, 0.0
    cards["VELREF"] = next((k for k, v in SPECTRAL_FRAMES.items() if v.lower() == header.spectral_frame.lower()), 3)
    if header.rest_frequency_hz:
        cards["RESTFREQ"] = header.rest_frequency_hz


def _frequency_table(header: Any) -> fits.BinTableHDU:
    width = header.channel_width_hz
    columns = [
        fits.Column("FRQSEL", "1J", array=[1]), fits.Column("IF FREQ", "1D", array=[0.0], unit="HZ"),
        fits.Column("CH WIDTH", "1E", array=[width], unit="HZ"),
        fits.Column("TOTAL BANDWIDTH", "1E", array=[width * len(header.frequency_hz)], unit="HZ"),
        fits.Column("SIDEBAND", "1J", array=[1]),
    ]  # fmt: skip
    table = fits.BinTableHDU.from_columns(columns, name="AIPS FQ")
    table.header["NO_IF"] = 1
    return table


def _antenna_table(header: Any, day: float) -> fits.BinTableHDU:
    count = len(header.antenna_names)
    centre = np.asarray(header.antenna_positions_m).mean(axis=0)
    hands = ("X", "Y") if header.polarizations[0][0] in "XY" else ("R", "L")
    columns = [
        fits.Column("ANNAME", "8A", array=[f"ANT{i + 1:02d}" for i in range(count)]),
        fits.Column("STABXYZ", "3D", array=header.antenna_positions_m - centre, unit="METERS"),
        fits.Column("ORBPARM", "0D", array=np.zeros((count, 0))),
        fits.Column("NOSTA", "1J", array=np.arange(1, count + 1)),
        fits.Column("MNTSTA", "1J", array=np.zeros(count)), fits.Column("STAXOF", "1E", array=np.zeros(count)),
        fits.Column("POLTYA", "1A", array=[hands[0]] * count), fits.Column("POLAA", "1E", array=np.zeros(count)),
        fits.Column("POLCALA", "2E", array=np.zeros((count, 2))),
        fits.Column("POLTYB", "1A", array=[hands[1]] * count), fits.Column("POLAB", "1E", array=np.zeros(count)),
        fits.Column("POLCALB", "2E", array=np.zeros((count, 2))),
    ]  # fmt: skip
    table = fits.BinTableHDU.from_columns(columns, name="AIPS AN")
    date = Time(day, format="jd")
    cards = {
        "ARRAYX": centre[0], "ARRAYY": centre[1], "ARRAYZ": centre[2], "FRAME": "ITRF", "EXTVER": 1,
        "GSTIA0": float(date.sidereal_time("mean", "greenwich").deg), "DEGPDY": 360.98564497,
        "FREQ": float(header.frequency_hz[0]), "RDATE": date.isot[:10], "POLARX": 0.0, "POLARY": 0.0, "UT1UTC": 0.0,
        "DATUTC": 0.0, "TIMSYS": "UTC", "ARRNAM": header.telescope[:8], "NUMORB": 0, "NOPCAL": 2, "FREQID": 1,
        "IATUTC": 0.0, "POLTYPE": "APPROX", "P_REFANT": 1,
    }  # fmt: skip
    table.header.update(cards)
    return table
