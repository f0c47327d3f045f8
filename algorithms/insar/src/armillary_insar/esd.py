"""Azimuth misregistration from burst overlaps: enhanced spectral diversity, one constant per pair.

Where bursts overlap the same ground is seen at two Doppler frequencies; a timing error δt turns their interferograms
against each other by 2π Δf δt (Prats-Iraola et al. 2012; Yague-Martinez et al. 2016, doi 10.1109/TGRS.2015.2497902).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from armillary_insar.interferogram import Tile
from armillary_insar.pairing import BurstPair

MIN_CELLS = 20


@dataclass(frozen=True)
class Overlap:
    """What two tiles say about the cells that both fill."""

    first: str
    second: str
    along_track: bool
    phase_rad: float  # of the double difference
    sigma_rad: float  # its standard error, from the scatter of the cells
    doppler_difference_hz: float
    cells: int
    weight: float


@dataclass(frozen=True)
class Misregistration:
    shift_s: float
    sigma_s: float
    overlaps: tuple[Overlap, ...]


def overlap(one: Tile, two: Tile, names: tuple[str, str], along_track: bool, looks: int) -> Overlap | None:
    """The double difference over cells that are full in both tiles; None where there are too few."""
    first = (max(one.first_row, two.first_row), max(one.first_column, two.first_column))
    last = (
        min(one.first_row + one.cross.shape[0], two.first_row + two.cross.shape[0]),
        min(one.first_column + one.cross.shape[1], two.first_column + two.cross.shape[1]),
    )
    if last[0] <= first[0] or last[1] <= first[1]:
        return None

    def cut(tile: Tile, name: str) -> "np.ndarray[Any, Any]":
        rows = slice(first[0] - tile.first_row, last[0] - tile.first_row)
        columns = slice(first[1] - tile.first_column, last[1] - tile.first_column)
        return np.asarray(getattr(tile, name)[rows, columns])

    full = (cut(one, "count") == looks) & (cut(two, "count") == looks)
    if np.count_nonzero(full) < MIN_CELLS:
        return None
    terms = []
    for tile in (one, two):
        power = np.sqrt(cut(tile, "power1")[full].astype(float) * cut(tile, "power2")[full])
        terms.append(cut(tile, "cross")[full] / np.maximum(power, 1e-30))
    products = terms[0] * np.conj(terms[1])
    total = products.sum()
    scatter = np.imag(products * np.exp(-1j * np.angle(total)))
    doppler = float(np.mean(cut(one, "doppler_hz")[full] - cut(two, "doppler_hz")[full]))
    return Overlap(
        *names,
        along_track,
        float(np.angle(total)),
        float(np.sqrt(np.sum(scatter**2)) / max(abs(total), 1e-30)),
        doppler,
        int(full.sum()),
        float(abs(total)),
    )


def all_overlaps(pairs: tuple[BurstPair, ...], tiles: dict[str, Tile], looks: int) -> list[Overlap]:
    """Every two bursts that share cells: neighbours in time, and neighbours in range."""
    found = []
    for k, one in enumerate(pairs):
        for two in pairs[k + 1 :]:
            same = one.swath.name == two.swath.name
            seen = overlap(tiles[one.name], tiles[two.name], (one.name, two.name), same, looks)
            if seen:
                found.append(seen)
    return found


def estimate(overlaps: list[Overlap]) -> Misregistration | None:
    """The timing error that explains the overlaps along the track, weighted by their precision."""
    used = [o for o in overlaps if o.along_track and abs(o.doppler_difference_hz) > 100 and o.sigma_rad > 0]
    if not used:
        return None
    per_second = np.array([2 * np.pi * o.doppler_difference_hz for o in used])
    weights = (per_second / np.array([o.sigma_rad for o in used])) ** 2
    shifts = np.array([o.phase_rad for o in used]) / per_second
    return Misregistration(float(np.sum(weights * shifts) / weights.sum()), float(weights.sum() ** -0.5), tuple(used))


def corrected(tile: Tile, shift_s: float) -> Tile:
    """The tile without the phase 2π f_DC δt of a timing error of up to some hundredths of a line."""
    turn = np.exp(-2j * np.pi * tile.doppler_hz.astype(float) * shift_s)
    return replace(tile, cross=(tile.cross * turn).astype(np.complex64))
