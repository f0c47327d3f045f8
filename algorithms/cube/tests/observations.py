"""The observations that the tests share, and the way to image them."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from armillary_cube import simulate, store
from armillary_cube.gridder import SPEED_OF_LIGHT_M_S
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


def measurement_set(path: Path) -> Path:
    """A measurement set made by xradio's own generator, with a point source's visibilities put into it."""
    from arcae.lib.arrow_tables import Table
    from xradio.testing.measurement_set.msv2_io import gen_test_ms

    one = {"0": 0}
    state = {"0": {"id": 0, "intent": "OBSERVE_TARGET#ON_SOURCE"}}
    described: dict[str, Any] = {
        "nrows_per_ddi": 300, "nchans": 16, "npols": 2, "data_cols": ["DATA"], "SPECTRAL_WINDOW": one,
        "POLARIZATION": one, "ANTENNA": {str(i): i for i in range(5)}, "FIELD": one, "EPHEMERIDES": {},
        "SCAN": {"1": {"0": {"intent": "OBSERVE_TARGET#ON_SOURCE"}}}, "STATE": state, "OBSERVATION": one,
        "FEED": one, "POINTING": {}, "PROCESSOR": one, "SOURCE": one,
    }  # fmt: skip
    gen_test_ms(str(path), descr=described, opt_tables=False, vlbi_tables=False)
    frequency = 1.4e9 + np.arange(16) * 20_000.0
    uvw = np.random.default_rng(2).normal(size=(300, 3)) * np.array([250, 250, 100])
    l, m = (math.sin(math.radians(a / 3600)) for a in (OFF_CENTRE.east_arcsec, OFF_CENTRE.north_arcsec))  # noqa: E741
    path_m = uvw @ np.array([l, m, math.sqrt(1 - l * l - m * m) - 1])
    values = np.exp(2j * np.pi * path_m[:, None] * frequency[None, :] / SPEED_OF_LIGHT_M_S).astype(np.complex64)
    windows = Table.from_filename(str(path / "SPECTRAL_WINDOW"), readonly=False)
    windows.putcol("CHAN_FREQ", frequency[None, :])
    windows.putcol("MEAS_FREQ_REF", np.array([5], np.int32))
    windows.close()
    hands = Table.from_filename(str(path / "POLARIZATION"), readonly=False)
    hands.putcol("CORR_TYPE", np.array([[9, 12]], np.int32), (np.array([0]),))
    hands.close()
    fields = Table.from_filename(str(path / "FIELD"), readonly=False)
    fields.putcol("EPHEMERIS_ID", np.full((1, 1), -1, np.int32))
    fields.close()
    main = Table.from_filename(str(path), readonly=False)
    main.putcol("UVW", uvw)
    main.putcol("DATA", np.repeat(values[:, :, None], 2, axis=2))
    main.putcol("WEIGHT", np.ones((300, 2), np.float32))
    main.close()
    return path
