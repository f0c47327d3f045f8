"""When and from how far a given orbit sees a place: what a pair on two real orbits is laid out around."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from armillary_insar.errors import Refusal
from armillary_insar.orbit import eof_header, read_eof
from armillary_insar.safe import Floats, StateVectors
from armillary_insar.simulator.ground import ecef, state

WITHIN = timedelta(minutes=10)
NEAREST_M, FARTHEST_M = 780_000.0, 990_000.0  # what the three subswaths see, and a little more


@dataclass(frozen=True)
class Pass:
    """A place broadside to the right of the satellite."""

    mission: str
    broadside: datetime
    range_m: float
    ascending: bool
    epoch: datetime
    vectors: StateVectors  # in seconds after `epoch`

    def since(self, epoch: datetime) -> StateVectors:
        """The vectors in seconds after another midnight."""
        moved = self.vectors.time_s + (self.epoch - epoch).total_seconds()
        return StateVectors(moved, self.vectors.position_m, self.vectors.velocity_m_s)


def find_pass(orbit: Path, latitude_deg: float, longitude_deg: float, near: datetime) -> Pass:
    """The pass in an orbit file nearest to a moment; refused where the radar does not see the place."""
    epoch = near.replace(hour=0, minute=0, second=0, microsecond=0)
    vectors = read_eof(orbit, epoch, around=(near - WITHIN, near + WITHIN))
    place = ecef(latitude_deg, longitude_deg, 0.0)
    time_s = _broadside_s(vectors, place, (near - epoch).total_seconds())
    if time_s is None:
        raise Refusal(
            f"{orbit.name} has no pass over the place within ten minutes of {near:%Y-%m-%d %H:%M:%S}.",
            "Give the date and time of a pass, and an orbit file that covers it.",
        )
    position, velocity = state(vectors, time_s)
    look = place - position
    range_m = float(np.linalg.norm(look))
    if not (NEAREST_M < range_m < FARTHEST_M and look @ np.cross(velocity, position) > 0):
        side = "right" if look @ np.cross(velocity, position) > 0 else "left"
        raise Refusal(
            f"On the pass of {orbit.name} the place lies {range_m / 1000:.0f} km to the {side}, where the radar does not look.",
            f"Choose a place {NEAREST_M / 1000:.0f} to {FARTHEST_M / 1000:.0f} km to the right of the track.",
        )
    return Pass(eof_header(orbit)[0], epoch + timedelta(seconds=time_s), range_m, bool(velocity[2] > 0), epoch, vectors)


def _broadside_s(vectors: StateVectors, place: Floats, near_s: float) -> float | None:
    """Where the place goes from ahead to behind, nearest to a time; with room for interpolation on either side."""
    ahead = np.sum((place - vectors.position_m) * vectors.velocity_m_s, axis=1)
    changes = np.flatnonzero((ahead[:-1] > 0) & (ahead[1:] <= 0))
    changes = changes[(changes >= 6) & (changes < len(ahead) - 6)]
    if not changes.size:
        return None
    first = changes[np.argmin(np.abs(vectors.time_s[changes] - near_s))]

    def doppler(time_s: float) -> float:
        position, velocity = state(vectors, time_s)
        return float((place - position) @ velocity)

    return float(brentq(doppler, vectors.time_s[first] - 1, vectors.time_s[first + 1] + 1, xtol=1e-7))
