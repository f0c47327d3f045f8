"""Orbits made from nothing: a circular, Sentinel-1-like orbit that sees a place to the right at a given range."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from scipy.optimize import fsolve

from armillary_insar.safe import StateVectors
from armillary_insar.simulator.deformation import Floats
from armillary_insar.simulator.ground import ecef, state

GM = 3.986004418e14
EARTH_RATE = 7.2921159e-5
RADIUS_M = 7_071_000.0
INCLINATION = np.radians(98.18)


def orbit_over(
    latitude_deg: float, longitude_deg: float, range_m: float, middle_s: float, ascending: bool, span_s: float = 600.0
) -> StateVectors:
    """State vectors every ten seconds of an orbit that passes the place at `middle_s` at the range, right-looking."""
    target = ecef(latitude_deg, longitude_deg, 0.0)
    ground_deg = np.degrees(np.sqrt(range_m**2 - 693_000.0**2) / 6_371_000.0)
    side = -1.0 if ascending else 1.0  # ascending looks east, so the satellite is in the west
    below_lat = latitude_deg
    below_lon = longitude_deg + side * ground_deg / np.cos(np.radians(latitude_deg))
    u = np.arcsin(np.clip(np.sin(np.radians(below_lat)) / np.sin(INCLINATION), -1, 1))
    argument = u if ascending else np.pi - u
    x, y = np.cos(argument), np.sin(argument) * np.cos(INCLINATION)
    node = np.radians(below_lon) - np.arctan2(y, x)

    def misses(unknown: Floats) -> list[float]:
        position, velocity = _state(unknown[0], unknown[1], 0.0)
        look = target - position
        return [float(np.linalg.norm(look) - range_m) / 1e3, float(look @ velocity) / 7e6]

    node, argument = fsolve(misses, [node, argument], xtol=1e-13)
    offsets = np.arange(-span_s / 2, span_s / 2 + 1, 10.0)
    states = [_state(node, argument, dt) for dt in offsets]
    return StateVectors(middle_s + offsets, np.array([s[0] for s in states]), np.array([s[1] for s in states]))


def _state(node: float, argument: float, dt_s: float) -> tuple[Floats, Floats]:
    """Earth-fixed position and velocity at dt after the moment when the frames coincide."""
    rate = np.sqrt(GM / RADIUS_M**3)
    u = argument + rate * dt_s
    along = np.array([np.cos(u), np.sin(u) * np.cos(INCLINATION), np.sin(u) * np.sin(INCLINATION)])
    ahead = np.array([-np.sin(u), np.cos(u) * np.cos(INCLINATION), np.cos(u) * np.sin(INCLINATION)])
    turn = node - EARTH_RATE * dt_s
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    position = rotation @ (RADIUS_M * along)
    velocity = rotation @ (RADIUS_M * rate * ahead) - np.cross([0, 0, EARTH_RATE], position)
    return position, velocity


def shifted(
    vectors: StateVectors, target: Floats, time_s: float, perpendicular_m: float, parallel_m: float = 0.0
) -> StateVectors:
    """The orbit moved across the line of sight to a target, and along it."""
    position, velocity = state(vectors, time_s)
    look = (target - position) / np.linalg.norm(target - position)
    across = np.cross(velocity / np.linalg.norm(velocity), look)
    across /= np.linalg.norm(across)
    move = perpendicular_m * across + parallel_m * look
    return StateVectors(vectors.time_s, vectors.position_m + move, vectors.velocity_m_s)


def smoothed(vectors: StateVectors) -> StateVectors:
    """One polynomial of degree ten through all vectors, sampled every ten seconds.

    Annotation gives times to a microsecond, in which a satellite moves 8 mm: interpolators of one such orbit differ by
    tenths of a millimetre. A simulated pair needs an orbit that means one thing.
    """
    middle_s, scale_s = float(np.round(vectors.time_s.mean())), float(np.ptp(vectors.time_s)) / 2
    x, degree = (vectors.time_s - middle_s) / scale_s, 10
    powers = np.vander(x, degree + 1, increasing=True)
    slopes = np.zeros_like(powers)
    slopes[:, 1:] = powers[:, :-1] * np.arange(1, degree + 1)
    values = np.concatenate([vectors.position_m, vectors.velocity_m_s * scale_s])
    coefficients = np.linalg.lstsq(np.concatenate([powers, slopes]), values, rcond=None)[0]
    times = middle_s + 10.0 * np.arange(-(scale_s // 10), scale_s // 10 + 1)
    polyval, polyder = np.polynomial.polynomial.polyval, np.polynomial.polynomial.polyder
    at = (times - middle_s) / scale_s
    return StateVectors(times, polyval(at, coefficients).T, polyval(at, polyder(coefficients)).T / scale_s)


def delayed(vectors: StateVectors, by_s: float) -> StateVectors:
    return StateVectors(vectors.time_s + by_s, vectors.position_m, vectors.velocity_m_s)


def eof_name(mission: str, start: datetime, stop: datetime) -> str:
    return (
        f"{mission}_OPER_AUX_POEORB_OPOD_{stop + timedelta(days=20):%Y%m%dT%H%M%S}"
        f"_V{start:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}.EOF"
    )


def write_eof(folder: Path, mission: str, epoch: datetime, vectors: StateVectors) -> Path:
    """An orbit file in Earth Explorer format, labelled as simulated."""
    times = [epoch + timedelta(seconds=float(t)) for t in vectors.time_s]
    path = folder / eof_name(mission, times[0], times[-1])
    rows = []
    for time, p, v in zip(times, vectors.position_m, vectors.velocity_m_s, strict=True):
        values = "".join(f'<{n} unit="m">{x:.9f}</{n}>' for n, x in zip("XYZ", p, strict=True))
        values += "".join(f'<V{n} unit="m/s">{x:.12f}</V{n}>' for n, x in zip("XYZ", v, strict=True))
        rows.append(
            f"<OSV><UTC>UTC={time:%Y-%m-%dT%H:%M:%S.%f}</UTC><Absolute_Orbit>+00000</Absolute_Orbit>"
            f"{values}<Quality>NOMINAL</Quality></OSV>\n"
        )
    path.write_text(f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<Earth_Explorer_File><Earth_Explorer_Header><Fixed_Header>
<File_Name>{path.stem}</File_Name>
<File_Description>Simulated orbit</File_Description><Notes>Made by armillary-insar simulate</Notes>
<Mission>{mission.replace("S1", "Sentinel-1")}</Mission><File_Class>TEST</File_Class><File_Type>AUX_POEORB</File_Type>
<Validity_Period><Validity_Start>UTC={times[0]:%Y-%m-%dT%H:%M:%S}</Validity_Start>
<Validity_Stop>UTC={times[-1]:%Y-%m-%dT%H:%M:%S}</Validity_Stop></Validity_Period>
<File_Version>0001</File_Version></Fixed_Header>
<Variable_Header><Ref_Frame>EARTH_FIXED</Ref_Frame><Time_Reference>UTC</Time_Reference></Variable_Header>
</Earth_Explorer_Header><Data_Block type="xml"><List_of_OSVs count="{len(rows)}">
{"".join(rows)}</List_of_OSVs></Data_Block></Earth_Explorer_File>
""")
    return path
