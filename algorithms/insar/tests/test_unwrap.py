"""Unwrapping: whole cycles, components, a real interferogram, and snaphu where it is installed."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from armillary_insar.errors import Refusal
from armillary_insar.looks import cramer_rao_rad, effective_looks, measured_looks
from armillary_insar.unwrap import goldstein, unwrap


def ramp(shape: tuple[int, int] = (120, 150), fringes: float = 6) -> np.ndarray:  # type: ignore[type-arg]
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(2 * np.pi * fringes * (x / shape[1] + 0.3 * (y / shape[0]) ** 2))


def test_a_smooth_phase_comes_back_with_every_cycle() -> None:
    phase = ramp()
    coherence = np.full(phase.shape, 0.9, np.float32)
    valid = np.ones(phase.shape, bool)
    seen, components = unwrap(np.exp(1j * phase).astype(np.complex64), coherence, 50, valid)
    off = seen - phase
    assert np.allclose(off - off[0, 0], 0, atol=1e-3)
    assert set(np.unique(components)) == {1}


def test_rewrapped_is_the_input_and_holes_stay_holes() -> None:
    rng = np.random.default_rng(2)
    wrapped = np.exp(1j * (ramp() + rng.normal(0, 0.5, (120, 150)))).astype(np.complex64)
    valid = np.ones((120, 150), bool)
    valid[40:60, 50:90] = False
    seen, components = unwrap(wrapped, np.full((120, 150), 0.6, np.float32), 20, valid)
    assert np.array_equal(np.isnan(seen), ~valid)
    assert np.abs(np.angle(np.exp(1j * seen[valid]) * np.conj(wrapped[valid]))).max() < 1e-4
    assert not components[~valid].any()


def test_filter_lowers_noise_and_keeps_fringes() -> None:
    rng = np.random.default_rng(3)
    phase = ramp((256, 256), 8)
    noisy = np.exp(1j * (phase + rng.normal(0, 0.6, phase.shape))).astype(np.complex64)
    left = np.angle(goldstein(noisy, 0.7) * np.exp(-1j * phase))
    assert left.std() < 0.5 * 0.6
    assert abs(left.mean()) < 0.05
    assert goldstein(noisy, 0) is noisy


def test_unknown_method_and_missing_snaphu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = np.ones((32, 32))
    with pytest.raises(Refusal, match="not known"):
        unwrap(one.astype(np.complex64), one.astype(np.float32), 10, one > 0, "magic")
    monkeypatch.setitem(__import__("sys").modules, "snaphu", None)
    with pytest.raises(Refusal, match="not installed"):
        unwrap(one.astype(np.complex64), one.astype(np.float32), 10, one > 0, "snaphu")


def test_real_interferogram_unwraps_consistently(real_data: Path) -> None:
    """Morocco, September 2023: rewraps to itself; snaphu, where installed, finds the same cycles on 99.9 % of the pixels."""
    folder = real_data / "real_wrapped_ifg_morocco_eo_tools"
    with rasterio.open(folder / "phi_vv.tif") as file, rasterio.open(folder / "coh_vv.tif") as other:
        phase, coherence = file.read(1), other.read(1)
    valid = (phase > -10) & np.isfinite(phase) & (coherence > 0)
    wrapped = np.where(valid, np.exp(1j * phase), 0).astype(np.complex64)
    gamma = np.where(valid, coherence, 0).astype(np.float32)
    seen, components = unwrap(wrapped, gamma, 20, valid)
    assert np.abs(np.angle(np.exp(1j * seen[valid]) * np.conj(wrapped[valid]))).max() < 1e-4
    assert np.mean(components[valid] == np.bincount(components[valid]).argmax()) > 0.9
    pytest.importorskip("snaphu", reason="the optional program snaphu is not installed")
    theirs, _ = unwrap(wrapped, gamma, 20, valid, "snaphu")
    cycles = np.rint((seen - theirs)[valid] / (2 * np.pi))
    same = np.mean(cycles == np.bincount((cycles - cycles.min()).astype(int)).argmax() + cycles.min())
    assert same >= 0.999


def test_effective_looks_are_those_of_simulated_speckle() -> None:
    """White complex noise through the annotation's windows, multilooked: its measured looks are the formula's."""
    from dataclasses import replace

    from armillary_insar.safe import Swath

    swath = replace(
        _swath(), range_bandwidth_hz=56.5e6, range_window=0.75, azimuth_bandwidth_hz=327.0, azimuth_window=0.7
    )
    assert isinstance(swath, Swath)
    rng = np.random.default_rng(4)
    shape = (7 * 60, 19 * 60)
    noise = np.fft.fft2(rng.normal(size=shape) + 1j * rng.normal(size=shape))
    for axis, (band, window) in enumerate(((327.0 * 2.0555563e-3, 0.7), (56.5e6 / 64_345_238.0, 0.75))):
        f = np.fft.fftfreq(shape[axis])
        response = (np.abs(f) < band / 2) * (window + (1 - window) * np.cos(2 * np.pi * f / band))
        noise = noise * (response[:, None] if axis == 0 else response[None, :])
    power = np.abs(np.fft.ifft2(noise)) ** 2
    cells = power.reshape(60, 7, 60, 19).mean(axis=(1, 3)).astype(np.float32)
    expected = effective_looks(swath, (19, 7))
    assert expected == pytest.approx(54.9, abs=0.2)
    assert measured_looks(cells, np.ones(cells.shape, bool), 10) == pytest.approx(expected, rel=0.08)
    assert cramer_rao_rad(np.array(0.7), expected) == pytest.approx(0.0974, abs=1e-3)


def _swath():  # type: ignore[no-untyped-def]
    from armillary_insar.safe import GridPoints, Swath

    none = np.zeros(0)
    return Swath(
        "IW1",
        "VV",
        "",
        1507,
        23055,
        5.3e-3,
        64_345_238.12571429,
        2.0555563e-3,
        5.405e9,
        0.0277,
        0,
        0,
        0,
        0,
        (),
        (),
        (),
        GridPoints(none, none, none, none, none, none, none),
    )
