"""Blocks: each sample once, none too large."""

from hypothesis import given
from hypothesis import strategies as st

from armillary_browse import raster

sides = st.integers(1, 300)


@given(sides, sides, st.integers(1, 64), st.integers(1, 64))
def test_blocks_cover_every_sample_once_within_the_bound(width, height, tile_height, tile_width) -> None:
    bound, raster.BLOCK_SAMPLES = raster.BLOCK_SAMPLES, 1000
    try:
        windows = list(raster.blocks(width, height, tile_height, tile_width))
    finally:
        raster.BLOCK_SAMPLES = bound
    cells = [
        (row, column)
        for window in windows
        for row in range(window.row_off, window.row_off + window.height)
        for column in range(window.col_off, window.col_off + window.width)
    ]
    assert len(cells) == len(set(cells)) == width * height
    # A single row of tiles may exceed it where the tiles themselves do.
    assert all(window.width * window.height <= max(1000, tile_height * tile_width) for window in windows)
