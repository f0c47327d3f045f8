"""The product's picture: fringes and displacement side by side, with scale bar, legends, dates and sign."""

import colorsys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from armillary_insar.geocode import MapGrid
from armillary_insar.products import Identity, Layers

PANEL = 620
MARGIN = 16
INK, PAPER = (28, 32, 38), (250, 250, 248)
Rgb = npt.NDArray[np.uint8]


def write_browse(path: Path, grid: MapGrid, layers: Layers, identity: Identity) -> None:
    """Left: wrapped phase over amplitude. Right: displacement toward the satellite."""
    step = max(1, max(grid.rows, grid.columns) // (PANEL * 2))
    cut = (slice(None, None, step), slice(None, None, step))
    shade = _shade(layers.amplitude[cut], layers.coherence[cut])
    fringes = _panel(phase_colours(layers.wrapped_rad[cut]), shade, layers.wrapped_rad[cut], grid)
    limit = _limit(layers.displacement_m[cut])
    moved = _panel(diverging_colours(layers.displacement_m[cut] / limit), shade, layers.displacement_m[cut], grid)
    height = max(fringes.height, moved.height)
    canvas = Image.new("RGB", (2 * PANEL + 3 * MARGIN, height + 210), PAPER)
    draw = ImageDraw.Draw(canvas)
    big, small = ImageFont.load_default(22), ImageFont.load_default(15)
    title = (
        f"Sentinel-1 interferogram  {identity.reference_start:%Y-%m-%d} to {identity.secondary_start:%Y-%m-%d}   "
        f"track {identity.relative_orbit} {'ascending' if identity.ascending else 'descending'}"
        + ("   SIMULATED" if identity.simulated else "")
    )
    draw.text((MARGIN, 12), title, INK, big)
    top = 70
    for k, (image, heading) in enumerate(((fringes, "Wrapped phase"), (moved, "Displacement toward the satellite"))):
        left = MARGIN + k * (PANEL + MARGIN)
        draw.text((left, top - 24), heading, INK, small)
        canvas.paste(image, (left + (PANEL - image.width) // 2, top))
        _scale_bar(draw, left + (PANEL - image.width) // 2 + 12, top + image.height - 30, image.width, grid, small)
    below = top + height + 12
    half_wave_cm = identity.wavelength_m * 50
    _legend(
        canvas,
        MARGIN,
        below,
        phase_colours(np.linspace(-np.pi, np.pi, 240)[None, :]),
        ("-pi", f"one cycle = {half_wave_cm:.2f} cm of range", "+pi"),
        small,
    )
    _legend(
        canvas,
        2 * MARGIN + PANEL,
        below,
        diverging_colours(np.linspace(-1, 1, 240)[None, :]),
        (f"-{100 * limit:.1f} cm", "away  |  toward", f"+{100 * limit:.1f} cm"),
        small,
    )
    draw.text(
        (MARGIN, below + 50),
        "Sign: positive phase = farther from the radar at the secondary (later) date.   "
        "Looks " + f"{identity.looks[0]} x {identity.looks[1]}.   Reference: {identity.reference_start:%Y-%m-%d}.",
        INK,
        small,
    )
    draw.text(
        (MARGIN, below + 72),
        "Not corrected: ionosphere, troposphere, tides. Displacement is known up to one constant.",
        INK,
        small,
    )
    canvas.save(path, optimize=True)


def phase_colours(phase_rad: npt.NDArray[np.floating]) -> Rgb:
    """A cyclic palette of even brightness."""
    table = np.array([_cyclic(k / 256) for k in range(256)], np.uint8)
    index = np.nan_to_num((phase_rad / (2 * np.pi)) % 1) * 256
    return np.asarray(table[index.astype(int) % 256])


def _cyclic(x: float) -> tuple[int, int, int]:
    r, g, b = colorsys.hls_to_rgb(x, 0.58, 0.78)
    # Hues differ in brightness: bring each to the same luma.
    gain = 0.62 / (0.299 * r + 0.587 * g + 0.114 * b)
    return int(min(1, r * gain) * 255), int(min(1, g * gain) * 255), int(min(1, b * gain) * 255)


def diverging_colours(x: npt.NDArray[np.floating]) -> Rgb:
    """Blue for away, white for none, red for toward."""
    t = np.clip(np.nan_to_num(x), -1, 1)[..., None]
    red, blue, white = (np.array(c, float) for c in ((178, 24, 43), (33, 102, 172), (247, 247, 247)))
    return np.asarray(np.where(t >= 0, white + t * (red - white), white - t * (blue - white)), np.uint8)


def _limit(displacement_m: npt.NDArray[np.float32]) -> float:
    good = displacement_m[np.isfinite(displacement_m)]
    return max(float(np.percentile(np.abs(good), 99.7)), 0.005) if good.size else 0.01


def _shade(amplitude: npt.NDArray[np.float32], coherence: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Amplitude in decibels and coherence as a brightness between 0.45 and 1."""
    decibels = 20 * np.log10(np.maximum(np.nan_to_num(amplitude), 1e-3))
    good = np.isfinite(amplitude)
    low, high = np.percentile(decibels[good], [3, 97]) if good.any() else (0.0, 1.0)
    light = np.clip((decibels - low) / max(high - low, 1e-6), 0, 1)
    return np.asarray(0.45 + 0.3 * light + 0.25 * np.clip(np.nan_to_num(coherence) / 0.6, 0, 1))


def _panel(colours: Rgb, shade: npt.NDArray[np.float64], layer: npt.NDArray[np.floating], grid: MapGrid) -> Image.Image:
    """The layer over paper, in true proportions."""
    pixels = np.where(np.isfinite(layer)[..., None], colours * shade[..., None], PAPER).astype(np.uint8)
    aspect = grid.rows / (grid.columns * np.cos(np.radians(grid.latitudes().mean())))
    width = PANEL if aspect <= 1.3 else int(PANEL * 1.3 / aspect)
    return Image.fromarray(pixels).resize((width, max(1, int(width * aspect))), Image.Resampling.LANCZOS)


def _scale_bar(
    draw: ImageDraw.ImageDraw,
    x: int,
    y: int,
    width: int,
    grid: MapGrid,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    metres = grid.columns * grid.step_deg * 111_320 * np.cos(np.radians(grid.latitudes().mean()))
    length = max(v for v in (1e2, 2e2, 5e2, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5) if v <= max(metres / 3, 1e2))
    pixels = int(width * length / metres)
    label = f"{length / 1000:g} km"
    draw.rectangle((x - 6, y - 22, x + max(pixels, int(draw.textlength(label, font=font))) + 6, y + 10), fill=PAPER)
    draw.rectangle((x, y, x + pixels, y + 5), fill=INK)
    draw.text((x, y - 20), label, INK, font)


def _legend(
    canvas: Image.Image,
    x: int,
    y: int,
    colours: Rgb,
    labels: tuple[str, str, str],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    draw = ImageDraw.Draw(canvas)
    canvas.paste(Image.fromarray(colours).resize((360, 16)), (x, y))
    draw.rectangle((x, y, x + 359, y + 15), outline=INK)
    draw.text((x, y + 20), labels[0], INK, font)
    draw.text((x + 180 - draw.textlength(labels[1], font=font) / 2, y + 20), labels[1], INK, font)
    draw.text((x + 360 - draw.textlength(labels[2], font=font), y + 20), labels[2], INK, font)
