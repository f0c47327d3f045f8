"""The measurement equation in both directions: exactness, adjointness, linearity, and the w-term's switch."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armillary_cube.gridder import Grid, direct_sum, dirty_image, predict

FREQUENCY_HZ = 1.4e9
CELL_RAD = math.radians(15 / 3600)


def samples(seed: int = 0, rows: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    uvw = rng.normal(size=(rows, 3)) * np.array([250, 250, 120])
    values = (rng.normal(size=rows) + 1j * rng.normal(size=rows)).astype(np.complex64)
    return uvw, values, rng.uniform(0.5, 2, rows).astype(np.float32)


def pixels(width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    corners = [(0, 0), (0, height - 1), (width - 1, 0), (width - 1, height - 1), (width // 2, height // 2)]
    return np.array([*corners, *zip(rng.integers(0, width, 120), rng.integers(0, height, 120), strict=True)])


@pytest.mark.parametrize("w_term", [False, True])
@pytest.mark.parametrize(("double", "epsilon", "limit"), [(False, 5e-5, 2e-5), (True, 1e-7, 1e-6), (True, 1e-10, 1e-9)])
@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_dirty_image_is_the_exact_fourier_sum_even_in_the_corners(
    w_term: bool, double: bool, epsilon: float, limit: float, size: tuple[int, int]
) -> None:
    grid = Grid(*size, CELL_RAD, w_term, epsilon, double)
    uvw, values, weights = samples()
    image, where = dirty_image(grid, uvw, FREQUENCY_HZ, values, weights), pixels(*size)
    truth = direct_sum(grid, uvw, FREQUENCY_HZ, values, weights, where)
    assert np.abs(image[where[:, 0], where[:, 1]] - truth).max() <= limit * np.abs(image).max()


@pytest.mark.parametrize("w_term", [False, True])
@pytest.mark.parametrize(("double", "epsilon", "limit"), [(False, 5e-5, 1e-5), (True, 1e-10, 1e-12)])
def test_degridding_is_the_adjoint_of_gridding(w_term: bool, double: bool, epsilon: float, limit: float) -> None:
    grid = Grid(128, 128, CELL_RAD, w_term, epsilon, double)
    uvw, values, _ = samples(1)
    model = np.random.default_rng(2).normal(size=(128, 128))
    ones = np.ones(len(values), grid.real_type)
    forward = np.vdot(predict(grid, uvw, FREQUENCY_HZ, model), values).real
    backward = float((dirty_image(grid, uvw, FREQUENCY_HZ, values, ones).astype(float) * model).sum())
    scale = np.linalg.norm(predict(grid, uvw, FREQUENCY_HZ, model)) * np.linalg.norm(values)
    assert abs(forward - backward) <= limit * scale


def test_point_spread_function_is_one_at_the_centre_and_symmetric() -> None:
    grid = Grid(128, 128, CELL_RAD, w_term=False)
    uvw, values, weights = samples(3)
    psf = dirty_image(grid, uvw, FREQUENCY_HZ, np.ones_like(values), weights) / weights.sum(dtype=float)
    assert psf[64, 64] == pytest.approx(1, abs=grid.epsilon)
    assert np.abs(psf[1:, 1:] - psf[1:, 1:][::-1, ::-1]).max() <= 10 * grid.epsilon
    assert psf.max() == psf[64, 64]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(-3, 3))
def test_imaging_is_linear(seed: int, scale: float) -> None:
    grid = Grid(64, 64, CELL_RAD, w_term=True)
    uvw, a, weights = samples(seed, 400)
    b = samples(seed + 1, 400)[1]
    both = dirty_image(grid, uvw, FREQUENCY_HZ, (a + np.float32(scale) * b), weights)
    apart = dirty_image(grid, uvw, FREQUENCY_HZ, a, weights) + scale * dirty_image(grid, uvw, FREQUENCY_HZ, b, weights)
    size = np.abs(a).sum() + abs(scale) * np.abs(b).sum()
    assert np.abs(both - apart).max() <= 1e-5 * size


def test_a_weight_of_zero_leaves_no_trace_of_its_sample() -> None:
    grid = Grid(64, 64, CELL_RAD)
    uvw, values, weights = samples(5, 500)
    weights[100:200] = 0
    poisoned = values.copy()
    poisoned[100:200] = 1e20
    clean = dirty_image(grid, uvw, FREQUENCY_HZ, values, weights)
    assert np.array_equal(clean, dirty_image(grid, uvw, FREQUENCY_HZ, poisoned, weights))
