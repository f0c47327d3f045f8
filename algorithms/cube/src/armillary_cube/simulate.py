"""Observations whose truth is known: an array, a track across the sky, sources with lines, and noise.

The visibilities are the measurement equation summed source by source in double precision, so that nothing in the
imager is used to test the imager. Antennas turn with the Earth (Thompson, Moran & Swenson 2017, section 4.1);
precession, nutation and aberration are left out: they move the uv-track, not the truth.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from armillary_cube import msv4
from armillary_cube.gridder import SPEED_OF_LIGHT_M_S

EARTH_RADIUS_M = 6_371_000.0
SIDEREAL_RAD_PER_S = 7.292_115_9e-5
EPOCH_UNIX_S = 1_700_000_000.0


@dataclass(frozen=True)
class Source:
    """A point at an offset from the phase centre: flat continuum and, where `line_jy` is set, a Gaussian line."""

    east_arcsec: float
    north_arcsec: float
    flux_jy: float = 0.0
    line_jy: float = 0.0
    line_centre_hz: float = 0.0
    line_fwhm_hz: float = 1.0

    def spectrum_jy(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        offset = (frequency_hz - self.line_centre_hz) / self.line_fwhm_hz
        return self.flux_jy + self.line_jy * np.exp(-4 * math.log(2) * offset**2)


@dataclass(frozen=True)
class Observation:
    """What is pointed where, for how long, in which channels, with how much noise per sample and part."""

    sources: tuple[Source, ...]
    antennas_enu_m: tuple[tuple[float, float, float], ...]
    latitude_deg: float = 34.079
    ra_deg: float = 230.5
    dec_deg: float = 5.0667
    hours: float = 4.0
    integration_s: float = 120.0
    first_channel_hz: float = 1.4126e9
    channel_width_hz: float = 24_414.0625
    channels: int = 32
    polarizations: tuple[str, ...] = ("RR", "LL")
    noise_jy: float = 0.0
    autos: bool = False
    seed: int = 1
    telescope: str = "SIM"
    dish_diameter_m: float = 25.0
    rest_frequency_hz: float | None = 1.420405751786e9
    spectral_frame: str = "lsrk"
    name: str = "simulated"
    times: int = field(default=0)  # 0: from hours and integration

    @property
    def time_count(self) -> int:
        return self.times or max(1, int(self.hours * 3600 / self.integration_s))

    @property
    def frequency_hz(self) -> NDArray[np.float64]:
        return self.first_channel_hz + np.arange(self.channels, dtype=np.float64) * self.channel_width_hz


def y_shaped(arm_m: float, per_arm: int = 9) -> tuple[tuple[float, float, float], ...]:
    """Three arms 120° apart whose stations grow as a power law of their number (Napier et al. 1983, Proc. IEEE 71)."""
    places = []
    for azimuth_deg in (355.0, 115.0, 236.0):
        for station in range(1, per_arm + 1):
            reach = arm_m * (station / per_arm) ** 1.716
            azimuth = math.radians(azimuth_deg)
            places.append((reach * math.sin(azimuth), reach * math.cos(azimuth), 0.0))
    return tuple(places)


def spiral(longest_m: float, antennas: int) -> tuple[tuple[float, float, float], ...]:
    """A sunflower spiral: an even filling of a disk by any number of antennas."""
    golden = math.pi * (3 - math.sqrt(5))
    reach = [longest_m / 2 * math.sqrt((i + 0.5) / antennas) for i in range(antennas)]
    return tuple((r * math.cos(i * golden), r * math.sin(i * golden), 0.0) for i, r in enumerate(reach))


def simulate(observation: Observation, path: Path, channels_per_chunk: int = 0) -> Path:
    """Write the observation as a processing set with its truth in `<path>.truth.json`; memory is one chunk's."""
    header = header_of(observation)
    writer = msv4.Writer(path, header, channels_per_chunk)
    rng = np.random.default_rng(observation.seed)
    for first in range(0, observation.channels, writer.channels_per_chunk):
        stop = min(first + writer.channels_per_chunk, observation.channels)
        signal = visibilities(observation, header.uvw_m, observation.frequency_hz[first:stop])
        block = np.repeat(signal[..., None], len(observation.polarizations), axis=-1)
        _silence_cross_hands(observation, block)
        if observation.noise_jy:
            block += _noise(rng, block.shape, observation.noise_jy)
        sigma = observation.noise_jy or 1.0
        writer.write(first, block, np.zeros(block.shape, bool), np.full(block.shape, 1 / sigma**2, np.float32))
    msv4.finish(path)
    truth = path.with_name(path.name.removesuffix(".ps.zarr") + ".truth.json")
    truth.write_text(json.dumps(asdict(observation), indent=1))
    return path


def header_of(observation: Observation) -> msv4.Header:
    """The description of the simulated partition, uvw included."""
    first, second = msv4.baselines(len(observation.antennas_enu_m), autos=observation.autos)
    middle = observation.time_count / 2 - 0.5
    seconds = (np.arange(observation.time_count, dtype=np.float64) - middle) * observation.integration_s
    xyz = _equatorial(np.array(observation.antennas_enu_m), math.radians(observation.latitude_deg))
    tracks = _uvw(xyz, seconds * SIDEREAL_RAD_PER_S, math.radians(observation.dec_deg))
    return msv4.Header(
        name=f"{observation.name}_0",
        telescope=observation.telescope,
        field_name=observation.name,
        ra_rad=math.radians(observation.ra_deg),
        dec_rad=math.radians(observation.dec_deg),
        frequency_hz=observation.frequency_hz,
        channel_width_hz=abs(observation.channel_width_hz),
        polarizations=observation.polarizations,
        times_unix_s=EPOCH_UNIX_S + seconds,
        integration_s=observation.integration_s,
        uvw_m=tracks[:, first] - tracks[:, second],
        antenna_names=tuple(f"A{i:03d}" for i in range(len(xyz))),
        antenna_positions_m=_geocentric(np.array(observation.antennas_enu_m), math.radians(observation.latitude_deg)),
        antenna1=first,
        antenna2=second,
        dish_diameter_m=observation.dish_diameter_m,
        rest_frequency_hz=observation.rest_frequency_hz,
        spectral_frame=observation.spectral_frame,
    )


def visibilities(
    observation: Observation, uvw_m: NDArray[np.float64], frequency_hz: NDArray[np.float64]
) -> NDArray[np.complex64]:
    """The exact sum over sources, (time, baseline, channel)."""
    total = np.zeros((*uvw_m.shape[:2], len(frequency_hz)), np.complex128)
    for source in observation.sources:
        l, m = (math.sin(math.radians(a / 3600)) for a in (source.east_arcsec, source.north_arcsec))  # noqa: E741
        path_m = uvw_m @ np.array([l, m, math.sqrt(1 - l * l - m * m) - 1])
        spectrum = source.spectrum_jy(frequency_hz)
        for channel in np.flatnonzero(np.abs(spectrum) > 1e-12):
            phase = (2 * math.pi * frequency_hz[channel] / SPEED_OF_LIGHT_M_S) * path_m
            total[:, :, channel] += spectrum[channel] * np.exp(1j * phase)
    return total.astype(np.complex64)


def rotating_ring(
    centre_hz: float, radius_arcsec: float = 240.0, inclination_deg: float = 50.0, angle_deg: float = 20.0,
    rotation_kms: float = 110.0, flux_jy_kms: float = 30.0, clouds: int = 60, seed: int = 3,
) -> tuple[Source, ...]:  # fmt: skip
    """A galaxy in miniature: clouds on an inclined turning ring, approaching on one side and receding on the other."""
    rng = np.random.default_rng(seed)
    rest_hz, fwhm_kms = 1.420405751786e9, 15.0
    per_kms = rest_hz / (SPEED_OF_LIGHT_M_S / 1000)
    peak_jy = flux_jy_kms / clouds / (fwhm_kms * math.sqrt(math.pi / (4 * math.log(2))))
    inclination, angle = math.radians(inclination_deg), math.radians(angle_deg)
    sources = []
    for phi in np.linspace(0, 2 * math.pi, clouds, endpoint=False):
        reach = radius_arcsec * (1 + 0.15 * rng.standard_normal())
        along, across = reach * math.cos(phi), reach * math.sin(phi) * math.cos(inclination)
        velocity = rotation_kms * math.sin(inclination) * math.cos(phi)
        sources.append(
            Source(
                east_arcsec=along * math.sin(angle) + across * math.cos(angle),
                north_arcsec=along * math.cos(angle) - across * math.sin(angle),
                line_jy=peak_jy,
                line_centre_hz=centre_hz - velocity * per_kms,
                line_fwhm_hz=fwhm_kms * per_kms,
            )
        )
    return tuple(sources)


def galaxy(channels: int = 48, seed: int = 1) -> Observation:
    """The observation the examples use where no real one is at hand: a ring, two continuum sources, and noise."""
    width = 24_414.0625
    first = 1.41266507e9
    ring = rotating_ring(first + width * (channels - 1) / 2)
    return Observation(
        sources=(*ring, Source(600, -420, flux_jy=0.08), Source(-750, 300, flux_jy=0.05)),
        antennas_enu_m=y_shaped(590.0),
        channels=channels,
        first_channel_hz=first,
        channel_width_hz=width,
        integration_s=300.0,
        hours=4.0,
        noise_jy=0.12,
        seed=seed,
        name="galaxy",
    )


def _silence_cross_hands(observation: Observation, block: NDArray[np.complex64]) -> None:
    """Unpolarised sources: nothing in RL, LR, XY, YX."""
    for i, hand in enumerate(observation.polarizations):
        if hand[0] != hand[1]:
            block[..., i] = 0


def _noise(rng: np.random.Generator, shape: Sequence[int], sigma_jy: float) -> NDArray[np.complex64]:
    parts = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(sigma_jy)
    return np.asarray(parts.view(np.complex64)[..., 0])


def _equatorial(enu_m: NDArray[np.float64], latitude: float) -> NDArray[np.float64]:
    """East-north-up to x (meridian at the equator), y (east), z (pole)."""
    east, north, up = enu_m.T
    sin, cos = math.sin(latitude), math.cos(latitude)
    return np.stack([cos * up - sin * north, east, sin * up + cos * north], axis=1)


def _geocentric(enu_m: NDArray[np.float64], latitude: float) -> NDArray[np.float64]:
    """Antenna positions on a spherical Earth at longitude 0: metadata only."""
    return _equatorial(enu_m + np.array([0, 0, EARTH_RADIUS_M]), latitude)


def _uvw(xyz_m: NDArray[np.float64], hour_angle: NDArray[np.float64], dec: float) -> NDArray[np.float64]:
    """Antenna positions seen from the source, (time, antenna, 3)."""
    sin_h, cos_h = np.sin(hour_angle)[:, None], np.cos(hour_angle)[:, None]
    x, y, z = (xyz_m[None, :, i] for i in range(3))
    u = sin_h * x + cos_h * y
    v = -math.sin(dec) * cos_h * x + math.sin(dec) * sin_h * y + math.cos(dec) * z
    w = math.cos(dec) * cos_h * x - math.cos(dec) * sin_h * y + math.sin(dec) * z
    return np.stack([u, v, w], axis=2)
