"""Metadata for the catalogue: what a measurement set, a processing set, a UVFITS file or an image cube covers.

Each reader takes a path and returns a partial STAC item in the frame of the sky. They need neither a gridder nor
xarray, so that a catalogue can use them without installing the imager.
"""

import hashlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from armillary_cube.errors import RefusalError

SPEED_OF_LIGHT_M_S = 299_792_458.0
CORNERS = 32
CASA_TIME_TO_UNIX_S = 3_506_716_800.0
CORRELATION_NAMES = {5: "RR", 6: "RL", 7: "LR", 8: "LL", 9: "XX", 10: "XY", 11: "YX", 12: "YY"}


def processing_set(path: Path) -> dict[str, Any]:
    """A measurement set v4 in Zarr; each partition's primary beam is one polygon."""
    import zarr

    from armillary_cube.visibilities import describe

    names = sorted(n for n, g in zarr.open_group(path, mode="r").groups() if g.attrs.get("type") == "visibility")
    if not names:
        raise RefusalError(f"{path.name} holds no partition of visibilities.", "import it again.", missing_input=True)
    every = [describe(path, (name,)) for name in names]
    first = every[0]
    return _item(
        pointings=[(d.ra_rad, d.dec_rad) for d in every],
        beam_rad=_beam(min(float(d.frequency_hz.min()) for d in every), first.dish_diameter_m),
        start_unix_s=min(_utc(d.start_unix_s, d.time_scale) for d in every),
        end_unix_s=max(_utc(d.end_unix_s, d.time_scale) for d in every),
        properties={
            **_coverage(np.concatenate([d.frequency_hz for d in every]), first.channel_width_hz),
            "radio:telescope": first.telescope,
            "radio:fields": list(dict.fromkeys(d.field_name for d in every)),
            "radio:channels": first.channels,
            "radio:rows": sum(d.rows for d in every),
            "radio:polarizations": list(first.polarizations),
            "radio:spectral_frame": first.spectral_frame,
            "radio:longest_baseline_m": round(max(d.longest_baseline_m for d in every), 1),
            "radio:identity": _identity(every),
            "radio:visibilities": sum(d.rows * d.channels * len(d.polarizations) for d in every),
        },
    )


def measurement_set(path: Path) -> dict[str, Any]:
    """A measurement set v2 (a folder of casacore tables)."""
    if not (path / "table.dat").is_file():
        raise RefusalError(
            f"{path.name} is not a measurement set: no table.dat.", "give its folder.", missing_input=True
        )
    column = _casacore_columns(path)
    # Only the windows and set-ups that data describe: tables may hold rows that nothing refers to.
    windows, setups = (np.unique(column("DATA_DESCRIPTION", f"{n}_ID")) for n in ("SPECTRAL_WINDOW", "POLARIZATION"))
    axes = [np.ravel(column("SPECTRAL_WINDOW", "CHAN_FREQ", int(i))) for i in windows]
    frequency = np.concatenate(axes)
    width = float(np.abs(np.ravel(column("SPECTRAL_WINDOW", "CHAN_WIDTH", int(windows[0])))[0]))
    times = np.asarray(column("", "TIME"), float) - CASA_TIME_TO_UNIX_S
    directions = [np.ravel(d)[:2] for d in column("FIELD", "PHASE_DIR")]
    used = sorted({int(i) for i in np.unique(column("", "FIELD_ID"))})
    fields = [str(n) for n in column("FIELD", "NAME")]
    codes = np.ravel(column("POLARIZATION", "CORR_TYPE", int(setups[0])))
    return _item(
        pointings=[(float(directions[i][0]), float(directions[i][1])) for i in used],
        beam_rad=_beam(float(frequency.min()), float(np.max(column("ANTENNA", "DISH_DIAMETER")))),
        start_unix_s=float(times.min()),
        end_unix_s=float(times.max()),
        properties={
            **_coverage(frequency, width),
            "radio:telescope": str(np.ravel(column("OBSERVATION", "TELESCOPE_NAME"))[0]),
            "radio:fields": [fields[i] for i in used],
            "radio:channels": len(axes[0]),
            "radio:rows": len(times),
            "radio:polarizations": [CORRELATION_NAMES.get(int(c), str(c)) for c in codes],
        },
    )


def uvfits(path: Path) -> dict[str, Any]:
    """A UVFITS file of one source."""
    from armillary_cube import uvfits as reader

    about = reader.read_header(path)
    dish = reader.DISH_DIAMETER_M.get(about.telescope.upper(), 25.0)
    return _item(
        pointings=[(about.ra_rad, about.dec_rad)],
        beam_rad=_beam(float(about.frequency_hz.min()), dish),
        start_unix_s=float(about.start.unix),
        end_unix_s=float(about.end.unix),
        properties={
            **_coverage(about.frequency_hz, about.channel_width_hz),
            "radio:telescope": about.telescope,
            "radio:fields": [about.object_name],
            "radio:channels": len(about.frequency_hz),
            "radio:rows": about.groups,
            "radio:polarizations": list(about.polarizations),
            "radio:spectral_frame": about.spectral_frame.lower(),
        },
    )


def image_cube(path: Path) -> dict[str, Any]:
    """An image cube: this program's Zarr, a folder that holds one, or a FITS cube; the footprint is its outline."""
    if path.is_dir() and not (path / "zarr.json").is_file():
        inside = sorted(path.glob("*.img.zarr")) or sorted(path.glob("*.fits"))
        if not inside:
            raise RefusalError(
                f"{path.name} holds no image cube.", "look for *.img.zarr or *.fits.", missing_input=True
            )
        return image_cube(inside[0])
    return _zarr_cube(path) if path.is_dir() else _fits_cube(path)


def footprint_of_plan(plan: Any) -> dict[str, Any]:
    """The outline of a cube that was made with this plan."""
    half = plan.grid.width / 2 * plan.grid.cell_rad, plan.grid.height / 2 * plan.grid.cell_rad
    return _outline(plan.ra_rad, plan.dec_rad, *half)


def _zarr_cube(path: Path) -> dict[str, Any]:
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    if attributes.get("type") != "image_dataset" or "plan" not in attributes:
        raise RefusalError(f"{path.name} is Zarr but no cube of this program.", "give the *.img.zarr folder.")
    from types import SimpleNamespace

    plan = dict(attributes["plan"])
    plan["grid"] = SimpleNamespace(**plan["grid"])
    record = SimpleNamespace(**plan)
    frequency = record.first_frequency_hz + record.channel_width_hz * np.arange(record.channels)
    geometry = footprint_of_plan(record)
    when = datetime.fromtimestamp((record.observed_mjd - 40_587.0) * 86_400, UTC).isoformat()
    return {
        "geometry": geometry,
        "bbox": _box(geometry),
        "frame": "sky",
        "properties": {
            "datetime": when,
            **_coverage(frequency, record.channel_width_hz),
            "radio:telescope": record.telescope,
            "radio:fields": [record.field_name],
            "radio:channels": record.channels,
            "radio:stokes": list(record.stokes),
            "radio:cell_arcsec": round(math.degrees(record.grid.cell_rad) * 3600, 6),
            "radio:shape": [record.channels, record.grid.height, record.grid.width],
        },
    }


def _fits_cube(path: Path) -> dict[str, Any]:
    from astropy.io import fits

    try:
        header = fits.getheader(path)
    except OSError as error:
        raise RefusalError(
            f"{path.name} cannot be read as FITS: {error}", "copy it again.", missing_input=True
        ) from error
    if not str(header.get("CTYPE1", "")).startswith("RA") or header.get("NAXIS", 0) < 3:
        raise RefusalError(f"{path.name} is no cube on the sky.", "its first axes must be RA, DEC and FREQ.")
    spectral = next((i for i in range(3, header["NAXIS"] + 1) if str(header[f"CTYPE{i}"]).startswith("FREQ")), None)
    if spectral is None:
        raise RefusalError(f"{path.name} has no FREQ axis.", "convert its velocity axis to frequency.")
    count, step = header[f"NAXIS{spectral}"], float(header[f"CDELT{spectral}"])
    frequency = float(header[f"CRVAL{spectral}"]) + step * (np.arange(count) + 1 - header[f"CRPIX{spectral}"])
    half = [abs(math.radians(header[f"CDELT{i}"])) * header[f"NAXIS{i}"] / 2 for i in (1, 2)]
    geometry = _outline(math.radians(header["CRVAL1"]), math.radians(header["CRVAL2"]), *half)
    return {
        "geometry": geometry,
        "bbox": _box(geometry),
        "frame": "sky",
        "properties": {
            "datetime": f"{header.get('DATE-OBS', '1970-01-01T00:00:00')}Z".replace("ZZ", "Z"),
            **_coverage(frequency, step),
            "radio:telescope": str(header.get("TELESCOP", "")),
            "radio:fields": [str(header.get("OBJECT", ""))],
            "radio:channels": count,
            "radio:shape": [count, header["NAXIS2"], header["NAXIS1"]],
        },
    }


def _item(
    *, pointings: list[tuple[float, float]], beam_rad: float, start_unix_s: float, end_unix_s: float,
    properties: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    polygons = [_circle(ra, dec, beam_rad / 2) for ra, dec in dict.fromkeys(pointings)]
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": [polygons[0]]}
        if len(polygons) == 1
        else {"type": "MultiPolygon", "coordinates": [[p] for p in polygons]}
    )
    start, end = (datetime.fromtimestamp(t, UTC).isoformat() for t in (start_unix_s, end_unix_s))
    return {
        "geometry": geometry,
        "bbox": _box(geometry),
        "frame": "sky",
        "properties": {"datetime": start, "start_datetime": start, "end_datetime": end, **properties},
    }


def _identity(every: list[Any]) -> str:
    """The same text for a set and for whatever is made from it: a rule joins them by it."""
    facts = [(d.telescope, d.field_name, d.start_unix_s, d.rows, d.channels, float(d.frequency_hz[0])) for d in every]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _coverage(frequency_hz: Any, width_hz: float) -> dict[str, float]:
    half = abs(width_hz) / 2
    return {
        "radio:frequency_low_hz": float(np.min(frequency_hz)) - half,
        "radio:frequency_high_hz": float(np.max(frequency_hz)) + half,
        "radio:channel_width_hz": abs(float(width_hz)),
    }


def _beam(frequency_hz: float, dish_diameter_m: float) -> float:
    """Full width at half maximum of the primary beam of a dish with a tapered feed: about 1.1 λ/D."""
    return 1.1 * SPEED_OF_LIGHT_M_S / frequency_hz / dish_diameter_m


def _circle(ra: float, dec: float, radius: float) -> list[list[float]]:
    """A closed ring of right ascension and declination in degrees, counter-clockwise on the map."""
    angles = [2 * math.pi * i / CORNERS for i in range(CORNERS)]
    ring = [_offset(ra, dec, math.sin(radius) * math.cos(a), math.sin(radius) * math.sin(a)) for a in angles]
    return [*ring, ring[0]]


def _outline(ra: float, dec: float, half_width: float, half_height: float) -> dict[str, Any]:
    """The border of an image, with points along its sides because they are curved on the sky."""
    steps = np.linspace(-1, 1, 5)[:-1]
    border = [(s, -1) for s in steps] + [(1, s) for s in steps] + [(-s, 1) for s in steps] + [(-1, -s) for s in steps]
    ring = [_offset(ra, dec, float(x) * half_width, float(y) * half_height) for x, y in border]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def _offset(ra: float, dec: float, l: float, m: float) -> list[float]:  # noqa: E741
    """From direction cosines about a centre to degrees (orthographic: AIPS Memo 27)."""
    n = math.sqrt(max(0.0, 1 - l * l - m * m))
    sin_dec = m * math.cos(dec) + n * math.sin(dec)
    right = ra + math.atan2(l, n * math.cos(dec) - m * math.sin(dec))
    degrees = math.degrees(right) % 360
    return [round(degrees, 7), round(math.degrees(math.asin(max(-1.0, min(1.0, sin_dec)))), 7)]


def _box(geometry: dict[str, Any]) -> list[float]:
    rings = (
        geometry["coordinates"] if geometry["type"] == "Polygon" else [r for p in geometry["coordinates"] for r in p]
    )
    points = np.array([point for ring in rings for point in ring])
    west, east = float(points[:, 0].min()), float(points[:, 0].max())
    if east - west > 180:  # the ring crosses 0h: west of the box is then larger than east
        west, east = float(points[:, 0][points[:, 0] > 180].min()), float(points[:, 0][points[:, 0] <= 180].max())
    return [west, float(points[:, 1].min()), east, float(points[:, 1].max())]


def _utc(unix_s: float, scale: str) -> float:
    if scale.lower() != "tai":
        return unix_s
    from astropy.time import Time

    return float((Time(40_587.0, unix_s / 86_400.0, format="mjd", scale="tai")).utc.unix)


def _casacore_columns(path: Path) -> Any:
    try:
        from arcae.lib.arrow_tables import Table
    except ImportError as error:
        raise RefusalError(
            "Measurement sets cannot be read here: arcae is not installed.",
            "install armillary-cube[measurement-set] beside the catalogue.",
        ) from error

    def column(table: str, name: str, row: int | None = None) -> Any:
        found = Table.from_filename(str(path / table) if table else str(path))
        return found.getcol(name) if row is None else found.getcol(name, (np.array([row]),))

    return column
