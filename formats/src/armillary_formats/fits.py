"""FITS images, cubes and visibilities: footprint on the sky, time and spectral range, from the headers alone.

Keywords are those of the FITS standard 4.0 (doi:10.1051/0004-6361/201015362 for the world coordinates of time).
"""

import gzip
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

from armillary_formats import footprint, times
from armillary_formats.refusal import Refused, brief

STEPS = 16
MOST_HDUS = 500
LIGHT_M_S = 299_792_458.0
TEXTS = {"OBJECT": "fits:object", "TELESCOP": "platform", "INSTRUME": "instruments", "OBSERVER": "fits:observer"}


def read(path: Path) -> dict[str, Any]:
    """The STAC item of a FITS file; its geometry is on the sky, in ICRS degrees with longitudes from -180 to 180."""
    from astropy.io.fits import VerifyError

    _check_start(path)
    try:
        return _item(path, _headers(path))
    except Refused:
        raise
    except (VerifyError, KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        # A header is text, and astropy trusts it where it looks up or converts a keyword.
        raise Refused(f"The header of {path.name} is malformed: {brief(error)}.") from error


def _item(path: Path, headers: list[Any]) -> dict[str, Any]:
    image = next((header for header in headers if _is_image(header)), None)
    geometry = _footprint(image, path.name) if image is not None else None
    merged = {**headers[0], **(image or {})}
    return {
        "geometry": geometry,
        **({"bbox": footprint.bbox(geometry)} if geometry else {}),
        "frame": "sky" if geometry else "none",
        "properties": {
            **_time(merged, path.name),
            **_texts(merged),
            **_spectral(image),
            **_pointing(merged),
            "fits:hdus": [_described(header) for header in headers],
        },
        "assets": {path.name: {"roles": ["data"], "type": "application/fits"}},
    }


def _check_start(path: Path) -> None:
    """FITS or gzipped FITS: astropy would also unpack other archives, into files without a limit."""
    try:
        with path.open("rb") as raw:
            start = raw.read(9)
        if start.startswith(b"\x1f\x8b"):
            with gzip.open(path) as unpacked:
                start = unpacked.read(9)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Refused(f"{path.name} is damaged: {brief(error)}.") from error
    if start != b"SIMPLE  =":
        raise Refused(f"{path.name} is not a FITS file." if start else f"{path.name} is empty.")


def _headers(path: Path) -> list[Any]:
    """The header of every unit; the end of the last unit's data is checked against the file's."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    # astropy opens a truncated file with a warning and fails later at the data: here it is a refusal. That a
    # keyword is spelt unusually is none.
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstropyUserWarning)
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        try:
            with fits.open(path, mode="readonly", memmap=True, lazy_load_hdus=True) as units:
                headers = []
                for unit in units:
                    headers.append(unit.header)
                    if len(headers) > MOST_HDUS:
                        raise Refused(f"{path.name} has more than {MOST_HDUS} units.")
                end_bytes = max(unit.fileinfo()["datLoc"] + unit.fileinfo()["datSpan"] for unit in units)
        except Refused:
            raise
        except (AstropyUserWarning, OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise Refused(f"{path.name} is not a whole FITS file: {brief(error)}.") from error
    if path.suffix.lower() != ".gz" and end_bytes > path.stat().st_size:
        size_bytes = path.stat().st_size
        raise Refused(f"{path.name} is cut short: it announces {end_bytes} bytes and has {size_bytes}.")
    return headers


def _is_image(header: Any) -> bool:
    axes = header.get("ZNAXIS", header.get("NAXIS", 0))
    return bool(axes >= 2 and not header.get("GROUPS", False) and header.get("XTENSION", "IMAGE") != "TABLE") and any(
        str(header.get(f"CTYPE{i}", "")).startswith(("RA--", "DEC-", "GLON", "GLAT", "ELON", "ELAT"))
        for i in range(1, axes + 1)
    )


def _footprint(header: Any, name: str) -> footprint.Geometry | None:
    import numpy as np
    from astropy.wcs import WCS, FITSFixedWarning
    from astropy.wcs.wcs import InvalidCoordinateError, NoConvergence, SingularMatrixError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            system = WCS(header).celestial
            width, height = (int(n) for n in system.pixel_shape)
            x, y = _edge(width, height)
            sky = system.pixel_to_world(x, y).icrs
        except (InvalidCoordinateError, NoConvergence, SingularMatrixError, ValueError, TypeError, KeyError) as error:
            raise Refused(f"The sky coordinates of {name} cannot be used: {brief(error)}.") from error
    longitudes, latitudes = sky.ra.wrap_at("180d").degree, sky.dec.degree
    if not (np.isfinite(longitudes).all() and np.isfinite(latitudes).all()):
        # The picture reaches beyond the edge of its projection, as maps of the whole sky do.
        return footprint.box(-180, -90, 180, 90)
    corners = [(float(x), float(y)) for x, y in zip(longitudes, latitudes, strict=True)]
    return footprint.polygon(corners, f"The footprint of {name}")


def _edge(width: int, height: int) -> tuple[list[float], list[float]]:
    """Pixel coordinates around the outer edge of the outermost pixels, whose centres are whole numbers."""
    corners = [(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)]
    points = [
        (a[0] + (b[0] - a[0]) * i / STEPS, a[1] + (b[1] - a[1]) * i / STEPS)
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
        for i in range(STEPS)
    ]
    return [x for x, _ in points], [y for _, y in points]


def _time(header: Any, name: str) -> dict[str, Any]:
    start, end = (_moment(header, keyword, name) for keyword in ("DATE-BEG", "DATE-END"))
    observed = _moment(header, "DATE-OBS", name) or _moment(header, "DATE-AVG", name)
    if start and end:
        times.check_order(start, end, f"The observation in {name}")
        return {"datetime": start, "start_datetime": start, "end_datetime": end}
    return {"datetime": observed or start}


def _moment(header: Any, keyword: str, name: str) -> str | None:
    text = str(header.get(keyword, "")).strip()
    if not text:
        return None
    # Before 1999 the standard wrote day/month/year with two digits of a year of the 1900s.
    if match := re.fullmatch(r"(\d\d)/(\d\d)/(\d\d)", text):
        text = f"19{match[3]}-{match[2]}-{match[1]}"
    return times.utc(text, f"{keyword} of {name}")


def _texts(header: Any) -> dict[str, Any]:
    found = {field: str(header[keyword]).strip() for keyword, field in TEXTS.items() if header.get(keyword)}
    if "instruments" in found:
        return {**found, "instruments": [found["instruments"]]}
    return dict(found)


def _spectral(header: Any) -> dict[str, Any]:
    """The range of frequencies in hertz over the outer edges of the channels, where the axis gives it."""
    if header is None:
        return {}
    from astropy.wcs import WCS, FITSFixedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        axis = WCS(header).spectral
        if axis.naxis != 1 or axis.pixel_shape is None:
            return {}
        ends = axis.wcs_pix2world([[-0.5], [axis.pixel_shape[0] - 0.5]], 0)[:, 0]
    kind = axis.wcs.ctype[0][:4].strip()
    if kind == "WAVE" and min(ends) > 0:
        ends = LIGHT_M_S / ends
    elif kind != "FREQ":
        return {"fits:spectral_type": kind}
    return {"fits:spectral_type": kind, "fits:frequency_range": [float(min(ends)), float(max(ends))]}


def _pointing(header: Any) -> dict[str, Any]:
    """Where the telescope pointed, in the header's own equinox: all that visibilities know of their field."""
    longitude, latitude = header.get("OBSRA"), header.get("OBSDEC")
    if not isinstance(longitude, int | float) or not isinstance(latitude, int | float):
        return {}
    equinox = header.get("EQUINOX", header.get("EPOCH"))
    place = {"fits:pointing": [float(longitude), float(latitude)]}
    return {**place, "fits:equinox": float(equinox)} if isinstance(equinox, int | float) else {**place}


def _described(header: Any) -> dict[str, Any]:
    axes = [header[f"NAXIS{i}"] for i in range(header.get("NAXIS", 0), 0, -1)]
    kind = str(header.get("XTENSION", "GROUPS" if header.get("GROUPS") else "IMAGE")).strip()
    name = str(header.get("EXTNAME", "")).strip()
    return {**({"name": name} if name else {}), "type": kind, "shape": axes, "bitpix": header.get("BITPIX")}
