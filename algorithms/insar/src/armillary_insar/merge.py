"""Tiles to one mosaic: cut in the middle of overlaps, integer placement, no resampling."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armillary_insar.interferogram import Tile
from armillary_insar.pairing import BurstPair, Mosaic


@dataclass(frozen=True)
class Merged:
    """The mosaic in multilook cells; cells without data hold zero."""

    cross: npt.NDArray[np.complex64]
    power1: npt.NDArray[np.float32]
    power2: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]

    @property
    def coherence(self) -> npt.NDArray[np.float32]:
        power = np.sqrt(self.power1 * self.power2)
        return np.where(power > 0, np.abs(self.cross) / np.where(power > 0, power, 1), 0).astype(np.float32)

    @property
    def normalised(self) -> npt.NDArray[np.complex64]:
        """Unit power: magnitude is the coherence."""
        power = np.sqrt(self.power1 * self.power2)
        return (self.cross / np.where(power > 0, power, 1)).astype(np.complex64)


def merge(pairs: tuple[BurstPair, ...], tiles: dict[str, Tile], mosaic: Mosaic) -> Merged:
    """Each cell comes from one tile: within the cuts first, then wherever another tile left a gap."""
    shape = mosaic.shape
    result = Merged(
        np.zeros(shape, np.complex64), np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, bool)
    )
    enough = mosaic.looks[0] * mosaic.looks[1] / 2
    row_cuts, column_cuts = _row_cuts(pairs, tiles, enough), _column_cuts(pairs, tiles, enough)
    for within_cuts in (True, False):
        for pair in pairs:
            tile = tiles[pair.name]
            rows = slice(tile.first_row, tile.first_row + tile.cross.shape[0])
            columns = slice(tile.first_column, tile.first_column + tile.cross.shape[1])
            take = (tile.count >= enough) & ~result.valid[rows, columns]
            if within_cuts:
                r = np.arange(rows.start, rows.stop)[:, None]
                c = np.arange(columns.start, columns.stop)[None, :]
                (top, bottom), (left, right) = row_cuts[pair.name], column_cuts[pair.swath.name]
                take &= (r >= top) & (r < bottom) & (c >= left) & (c < right)
            for name in ("cross", "power1", "power2"):
                getattr(result, name)[rows, columns][take] = getattr(tile, name)[take]
            result.valid[rows, columns] |= take
    return result


def _row_cuts(pairs: tuple[BurstPair, ...], tiles: dict[str, Tile], enough: float) -> dict[str, tuple[int, int]]:
    cuts = {}
    for pair in pairs:
        near = [p for p in pairs if p.swath.name == pair.swath.name]
        mine = _rows(tiles[pair.name], enough)
        before = [_rows(tiles[p.name], enough) for p in near if p.first_line < pair.first_line]
        after = [_rows(tiles[p.name], enough) for p in near if p.first_line > pair.first_line]
        top = (max(b[1] for b in before) + mine[0]) // 2 if before else 0
        bottom = (min(a[0] for a in after) + mine[1]) // 2 if after else mine[1]
        cuts[pair.name] = (top, bottom)
    return cuts


def _column_cuts(pairs: tuple[BurstPair, ...], tiles: dict[str, Tile], enough: float) -> dict[str, tuple[int, int]]:
    spans: dict[str, tuple[int, int]] = {}
    for pair in pairs:
        tile = tiles[pair.name]
        filled = np.flatnonzero((tile.count >= enough).any(axis=0)) + tile.first_column
        if filled.size:
            spans[pair.swath.name] = (int(filled[0]), int(filled[-1]) + 1)
    names = sorted(spans, key=lambda n: spans[n])
    cuts = {}
    for k, name in enumerate(names):
        left = (spans[names[k - 1]][1] + spans[name][0]) // 2 if k else 0
        right = (spans[name][1] + spans[names[k + 1]][0]) // 2 if k + 1 < len(names) else spans[name][1]
        cuts[name] = (left, right)
    return cuts | {p.swath.name: (0, 0) for p in pairs if p.swath.name not in cuts}


def _rows(tile: Tile, enough: float) -> tuple[int, int]:
    filled = np.flatnonzero((tile.count >= enough).any(axis=1)) + tile.first_row
    return (int(filled[0]), int(filled[-1]) + 1) if filled.size else (tile.first_row, tile.first_row)
