"""Image the observation again as two shares, join them, and compare every bit with the whole run."""

import sys
from pathlib import Path

import numpy as np

from armillary_cube.run import join, run
from armillary_cube.store import Cube

output = Path(sys.argv[1])
whole = Cube(output / "whole" / "cube.img.zarr")
for number in (1, 2):
    run(whole.plan, output / "observation.ps.zarr", output / f"share{number}", share=(number, 2))
join([output / "share1", output / "share2"], output / "joined")
joined = Cube(output / "joined" / "cube.img.zarr")
for channel in range(whole.plan.channels):
    assert np.array_equal(whole.plane(channel), joined.plane(channel), equal_nan=True), channel
print(f"{whole.plan.channels} channels, the same bits in one run and in two shares joined")
