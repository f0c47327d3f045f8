"""The ground as the simulator knows it: elevation, displacement and coherence on latitude–longitude grids."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from armillary_insar.simulator.deformation import Floats, Mogi, Okada

METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True)
class Grid:
    """A regular grid of posts; rows go south."""

    latitude0_deg: float
    longitude0_deg: float
    step_latitude_deg: float  # negative
    step_longitude_deg: float
    rows: int
    columns: int

    def latitudes(self) -> Floats:
        return self.latitude0_deg + np.arange(self.rows) * self.step_latitude_deg

    def longitudes(self) -> Floats:
        return self.longitude0_deg + np.arange(self.columns) * self.step_longitude_deg


@dataclass(frozen=True)
class Scene:
    """Elevation above the ellipsoid on one grid; displacement (Earth-fixed x, y, z) and coherence on a coarser one."""

    elevation_grid: Grid
    elevation_m: npt.NDArray[np.float32]
    field_grid: Grid
    fields: npt.NDArray[np.float32]  # (4, rows, columns): dx, dy, dz in m, coherence
    seed: int

    @property
    def enu_m(self) -> Floats:
        """Displacement east, north, up on the field grid, (3, rows, columns)."""
        rotation = _enu_axes(self.field_grid)
        return np.asarray(np.einsum("ejkx,xjk->ejk", rotation, self.fields[:3].astype(float)))


def made_up_elevation(
    grid: Grid, seed: int, relief_m: float = 500.0, base_m: float = 300.0, cone: tuple[float, float] | None = None
) -> npt.NDArray[np.float32]:
    """Fractal hills (a power law of −3.2 in amplitude squared), with a volcano's cone at (latitude, longitude) where asked."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(grid.rows)[:, None]
    fx = np.fft.rfftfreq(grid.columns)[None, :]
    wave = np.hypot(fy, fx)
    wave[0, 0] = np.inf
    spectrum = wave**-2.2 * np.exp(2j * np.pi * rng.random(wave.shape)) * np.exp(-((wave / 0.12) ** 2))
    hills = np.fft.irfft2(spectrum, s=(grid.rows, grid.columns))
    hills = (hills - hills.min()) / np.ptp(hills) * relief_m + base_m
    if cone is not None:
        north = (grid.latitudes()[:, None] - cone[0]) * METRES_PER_DEGREE
        east = (grid.longitudes()[None, :] - cone[1]) * METRES_PER_DEGREE * np.cos(np.radians(cone[0]))
        away = np.hypot(east, north)
        hills += 900 * np.exp(-away / 2500) - 260 * np.exp(-((away / 450) ** 2))
    return np.asarray(hills, np.float32)


def make_scene(
    grid: Grid,
    elevation_m: npt.NDArray[np.float32],
    source: Mogi | Okada | None,
    centre_deg: tuple[float, float],
    coherence: tuple[float, float],
    seed: int,
    field_step_m: float = 100.0,
) -> Scene:
    """A scene whose source lies relative to `centre_deg` and whose coherence varies smoothly between two values."""
    fields = field_grid(grid, field_step_m)
    lat, lon = np.meshgrid(fields.latitudes(), fields.longitudes(), indexing="ij")
    north = (lat - centre_deg[0]) * METRES_PER_DEGREE
    east = (lon - centre_deg[1]) * METRES_PER_DEGREE * np.cos(np.radians(centre_deg[0]))
    enu = source.displacement(east, north) if source else np.zeros((3, *lat.shape))
    xyz = np.einsum("ejkx,ejk->xjk", _enu_axes(fields), enu)
    wave = 0.5 + 0.25 * (np.sin(east / 4100 + 1) + np.sin(north / 5300 + 2 + east / 9000))
    gamma = coherence[0] + (coherence[1] - coherence[0]) * wave
    return Scene(grid, elevation_m, fields, np.concatenate([xyz, gamma[None]]).astype(np.float32), seed)


def field_grid(grid: Grid, step_m: float) -> Grid:
    """A coarser grid over the same area."""
    step_lat = step_m / METRES_PER_DEGREE
    step_lon = step_lat / np.cos(np.radians(grid.latitude0_deg))
    height = -grid.step_latitude_deg * (grid.rows - 1)
    width = grid.step_longitude_deg * (grid.columns - 1)
    return Grid(
        grid.latitude0_deg,
        grid.longitude0_deg,
        -step_lat,
        float(step_lon),
        int(np.ceil(height / step_lat)) + 1,
        int(np.ceil(width / step_lon)) + 1,
    )


def _enu_axes(grid: Grid) -> Floats:
    """Unit vectors east, north, up in Earth-fixed coordinates, (3, rows, columns, 3)."""
    phi, lam = (np.radians(v) for v in np.meshgrid(grid.latitudes(), grid.longitudes(), indexing="ij"))
    zero = np.zeros_like(phi)
    east = np.stack([-np.sin(lam), np.cos(lam), zero], -1)
    north = np.stack([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)], -1)
    up = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], -1)
    return np.stack([east, north, up])
