"""Pictures of a cube: a browse picture of its moments and spectrum, and a short film of its channels."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from astropy.wcs import WCS
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from armillary_cube.products import Moments, celestial_header, spectral_axis
from armillary_cube.store import Cube

FILM_FRAMES = 90
FILM_SIDE_PX = 384
FRAME_MS = 120
LABEL_HEIGHT_PX = 22


def browse(cube: Cube, found: Moments, path: Path) -> Path:
    """Intensity, velocity and spectrum side by side, north up and east to the left."""
    plan = cube.plan
    figure = Figure(figsize=(12, 4.2), dpi=100, layout="constrained")
    wcs, part = WCS(celestial_header(plan)), _interesting(found)
    maps: list[tuple[NDArray[Any], str, str]] = [(cube.plane(0), "inferno", "Jy/beam")]
    if plan.channels > 1:
        maps = [(found.intensity, "inferno", f"Intensity, Jy/beam {found.unit}"),
                (found.velocity, "RdBu_r", f"Mean {_quantity(found.unit)}, {found.unit}")]  # fmt: skip
    for number, (values, colours, label) in enumerate(maps, start=1):
        axes = figure.add_subplot(1, len(maps) + 1, number, projection=wcs[part[1], part[0]])
        shown = np.where(found.intensity > 0, values, np.nan) if number == 2 else values
        low, high = (np.nanpercentile(shown[part], q) if np.isfinite(shown[part]).any() else 0 for q in (1, 99.7))
        image = axes.imshow(shown[part].T, origin="lower", cmap=colours, vmin=low, vmax=high)
        figure.colorbar(image, ax=axes, label=label, shrink=0.8)
        axes.set_xlabel("Right ascension")
        axes.set_ylabel("Declination" if number == 1 else " ")
    _draw_spectrum(figure, cube, found, len(maps) + 1)
    figure.suptitle(f"{plan.field_name} · {plan.telescope} · {plan.channels} channels")
    figure.savefig(path)
    return path


def _draw_spectrum(figure: Figure, cube: Cube, found: Moments, columns: int) -> None:
    axis, _, unit = spectral_axis(cube.plan)
    axes = figure.add_subplot(1, columns, columns)
    axes.step(axis, found.flux_jy, where="mid", color="black", linewidth=1.2)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set_xlabel(f"{_quantity(unit).capitalize()}, {unit}")
    axes.set_ylabel(f"Flux above {found.clip_sigma:g} σ, Jy")
    axes.set_title(f"{found.total:.3g} Jy {unit}", fontsize=10)


def _quantity(unit: str) -> str:
    return "velocity" if unit == "km/s" else "frequency"


def _interesting(found: Moments) -> tuple[slice, slice]:
    """The window that holds nine tenths of the intensity, generously, so that a small source fills its picture."""
    power = np.maximum(found.intensity, 0)
    if power.sum() <= 0:
        return slice(None), slice(None)
    window: list[slice] = []
    for axis in (1, 0):
        share = np.cumsum(power.sum(axis=axis)) / power.sum()
        low, high = (int(np.searchsorted(share, q)) for q in (0.05, 0.95))
        middle, reach = (low + high) // 2, max(24, int(0.8 * (high - low)))
        window.append(slice(max(0, middle - reach), min(power.shape[len(window)], middle + reach)))
    return window[0], window[1]


def film(cube: Cube, path: Path) -> Path:
    """An animated picture of the channels on one brightness scale, from low to high frequency."""
    plan = cube.plan
    step = -(-plan.channels // FILM_FRAMES)
    shown = [c for c in range(0, plan.channels, step) if np.isfinite(cube.plane(c)).all()]
    peak = max((float(cube.plane(c).max()) for c in shown), default=1.0)
    floor = -0.1 * peak
    axis, _, unit = spectral_axis(plan)
    palette = _palette()
    frames = [_frame(cube.plane(c), floor, peak, f"{axis[c]:.1f} {unit}", palette) for c in shown]
    frames = frames or [_frame(np.zeros((64, 64), np.float32), 0, 1, "no data", palette)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, optimize=False)
    return path


def _palette() -> list[int]:
    """254 colours for brightness, then black and white for the label."""
    ramp = (mpl.colormaps["inferno"](np.linspace(0, 1, 254))[:, :3] * 255).astype(int)
    return [*ramp.ravel().tolist(), 0, 0, 0, 255, 255, 255]


def _frame(plane: NDArray[np.float32], floor: float, peak: float, label: str, palette: list[int]) -> Image.Image:
    scaled = np.clip((plane - floor) / (peak - floor), 0, 1) * 253
    picture = Image.fromarray(np.ascontiguousarray(scaled.T[::-1]).astype(np.uint8), mode="P")
    scale = FILM_SIDE_PX / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    frame = Image.new("P", (picture.width, picture.height + LABEL_HEIGHT_PX), 254)
    frame.putpalette(palette)
    frame.paste(picture, (0, LABEL_HEIGHT_PX))
    ImageDraw.Draw(frame).text((6, 4), label, fill=255)
    return frame
