"""The observations that the tests share, and the way to image them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from armillary_cube import simulate, store
from armillary_cube.plan import Plan, Request, make_plan
from armillary_cube.run import Executor, Outcome, run

OFF_CENTRE = simulate.Source(east_arcsec=-330, north_arcsec=210, flux_jy=1.0)
LINE_CHANNEL = 9


def small(**changes: Any) -> simulate.Observation:
    """Fourteen antennas, sixteen channels, a source away from the centre and one that shines in one line only."""
    width = 24_414.0625
    line = simulate.Source(
        420, 150, line_jy=0.8, line_centre_hz=1.4126e9 + LINE_CHANNEL * width, line_fwhm_hz=width * 0.35
    )
    standard = simulate.Observation(
        sources=(OFF_CENTRE, line),
        antennas_enu_m=simulate.y_shaped(590.0, per_arm=5)[:14],
        hours=6.0,
        integration_s=600.0,
        channels=16,
        channel_width_hz=width,
    )
    return replace(standard, **changes)


REQUEST = Request(cell_arcsec=15.0, size=(128, 128), w_term="on", task_channels=4)


@dataclass(frozen=True)
class Imaged:
    """A finished run with its planes at hand, (channel, x, y)."""

    plan: Plan
    cube: store.Cube
    outcome: Outcome

    @property
    def sky(self) -> Any:
        return self.planes(store.SKY)

    def planes(self, name: str) -> Any:
        return np.array([self.cube.plane(c, 0, name) for c in range(self.plan.channels)])


def image(path: Path, out: Path, request: Request = REQUEST, executor: Executor | None = None) -> Imaged:
    plan = make_plan(path, request)
    outcome = run(plan, path, out, executor)
    return Imaged(outcome.plan, store.Cube(outcome.places.cube), outcome)
