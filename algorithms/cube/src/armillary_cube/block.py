"""One task: a block of channels from visibilities to planes. Pure: the same plan and data give the same bits.

Each channel is imaged on its own by one thread, so how channels are grouped, and where and in which order the groups
run, changes nothing.
"""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from armillary_cube import allocator, continuum, store, weights
from armillary_cube import beam as beams
from armillary_cube import clean as cleaning
from armillary_cube.gridder import Complexes, Floats, dirty_image
from armillary_cube.plan import Plan
from armillary_cube.visibilities import Description, Rows, describe, read_channels, read_rows


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes; all a task needs besides the plan."""

    visibilities: Path
    output: Path
    run: str = ""  # names one run: what a worker has read of a set's rows serves for the length of it

    @property
    def cube(self) -> Path:
        return self.output / "cube.img.zarr"

    @property
    def work(self) -> Path:
        return self.output / "work"

    @property
    def records(self) -> Path:
        return self.work / "done"

    @property
    def continuum(self) -> Path:
        return self.work / "continuum.zarr"


@dataclass
class Stopwatch:
    """CPU seconds of this thread, by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.thread_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - start


def image_block(plan_json: str, places: Places, first: int, stop: int) -> store.Record:
    """Read, prepare, image and write the product's channels [first, stop); the record is written last."""
    allocator.keep_freed_memory()
    watch = Stopwatch()
    with watch.stage("read"):
        plan, about, rows, cube = _begun(plan_json, places)
        low, high = plan.file_channels(first, stop)
        block = read_channels(about, low, high)
        size = sum(array.nbytes for arrays in block for array in arrays)
    with watch.stage("prepare"):
        values, flags, weight = block
        if plan.continuum:
            continuum.subtract(about, places.continuum, low, values, flags)
        samples = _stokes_samples(plan, about, rows, values, flags, weight)
        del block, values, flags, weight
    planes, beam_rows, statistics, sums = _image_channels(plan, rows, samples, first, stop, watch)
    with watch.stage("write"):
        cube.write(first, planes)
    record = store.Record(first, stop, sums, beam_rows, statistics, watch.seconds, size)
    store.write_record(places.records, record)
    return record


@functools.lru_cache(maxsize=1)
def _begun(plan_json: str, places: Places) -> tuple[Plan, Description, Rows, store.Cube]:
    """What all tasks of a run have in common; read once per process, as it takes as long as gridding two channels."""
    plan = Plan.from_json(plan_json)
    about = describe(places.visibilities, plan.partitions)
    return plan, about, read_rows(about), store.Cube(places.cube, "r+")


def _stokes_samples(
    plan: Plan,
    about: Description,
    rows: Rows,
    values: list[Complexes],
    flags: list[NDArray[np.bool_]],
    weight: list[Floats],
) -> list[tuple[Complexes, Floats]]:
    """Per Stokes parameter: samples and weights as (channel, row), rows baseline by baseline, channels upward."""
    ready = []
    for block, flag, block_weight in zip(values, flags, weight, strict=True):
        weights.silence(block, block_weight, weights.usable(block, flag, block_weight))
    for stokes in plan.stokes:
        parts = [weights.combine(stokes, about.polarizations, v, w) for v, w in zip(values, weight, strict=True)]
        joined = [_joined([_baseline_major(part[i]) for part in parts]) for i in (0, 1)]
        joined[1][:, ~rows.usable] = 0
        if plan.descending:
            joined = [array[::-1] for array in joined]
        ready.append((joined[0], joined[1]))
    return ready


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _baseline_major(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """(time, baseline, channel) to (channel, baseline·time): the gridder likes neighbours in the uv-plane together."""
    times, baselines, channels = array.shape
    return np.ascontiguousarray(array.transpose(2, 1, 0)).reshape(channels, baselines * times)


def _image_channels(
    plan: Plan, rows: Rows, samples: list[tuple[Complexes, Floats]], first: int, stop: int, watch: Stopwatch
) -> tuple[dict[str, NDArray[np.float32]], list[list[list[float]]], list[list[list[float]]], list[list[float]]]:
    shape = (stop - first, len(plan.stokes), plan.grid.width, plan.grid.height)
    planes = {name: np.full(shape, np.nan, np.float32) for name in (store.SKY, *(store.KEPT[k] for k in plan.keep))}
    beam_rows, statistics, sums = [], [], []
    for channel in range(stop - first):
        done = [
            image_channel(plan, rows, plan.frequencies_hz()[first + channel], v[channel], w[channel], watch)
            for v, w in samples
        ]
        for index, one in enumerate(done):
            for name, plane in one.planes.items():
                if name in planes:
                    planes[name][channel, index] = plane
        beam_rows.append(
            [[b.major_rad, b.minor_rad, b.angle_rad] if b else [np.nan] * 3 for b in (o.beam for o in done)]
        )
        statistics.append([store.statistics_row(one.statistics) for one in done])
        sums.append([one.sum_of_weights for one in done])
    return planes, beam_rows, statistics, sums


@dataclass(frozen=True)
class Channel:
    """One imaged channel of one Stokes parameter; without planes where it holds no data."""

    planes: dict[str, Floats]
    beam: beams.Beam | None
    statistics: store.ChannelStatistics
    sum_of_weights: float


def image_channel(
    plan: Plan, rows: Rows, frequency_hz: float, values: Complexes, weight: Floats, watch: Stopwatch
) -> Channel:
    """Weigh, grid, and where the plan says so, clean and restore one channel."""
    grid = plan.grid
    count = int(np.count_nonzero(weight))
    if count == 0:
        return Channel({}, None, store.ChannelStatistics(), 0.0)
    if plan.weighting == "briggs":
        with watch.stage("weigh"):
            weight = weights.briggs(grid, rows.uvw_m, frequency_hz, weight, plan.robust)
    total = float(weight.sum(dtype=np.float64))
    with watch.stage("grid"):
        psf = dirty_image(grid, rows.uvw_m, frequency_hz, np.ones_like(values), weight)
        dirty = dirty_image(grid, rows.uvw_m, frequency_hz, values, weight)
    with watch.stage("normalise"):
        psf /= total
        dirty /= total
    with watch.stage("beam"):
        beam = beams.fit(psf, grid.cell_rad)
    planes = {store.PSF: psf, store.SKY: dirty, store.RESIDUAL: dirty}
    outcome = None
    if plan.clean:
        with watch.stage("clean"):
            outcome = cleaning.clean(plan.clean, grid, rows.uvw_m, frequency_hz, values, weight, psf, dirty, beam)
        with watch.stage("restore"):
            restored = outcome.residual + beams.smooth(outcome.model, beam, grid.cell_rad)
        planes |= {store.MODEL: outcome.model, store.RESIDUAL: outcome.residual, store.SKY: restored}
    with watch.stage("statistics"):
        statistics = _statistics(count, dirty, planes, outcome)
    return Channel(planes, beam, statistics, total)


def _statistics(
    count: int, dirty: Floats, planes: dict[str, Floats], outcome: cleaning.Cleaned | None
) -> store.ChannelStatistics:
    sky, residual = planes[store.SKY], planes[store.RESIDUAL]
    flat = residual.ravel()
    return store.ChannelStatistics(
        samples=float(count),
        peak_jy=float(sky.max()),
        rms_jy=float(np.sqrt(np.dot(flat, flat) / flat.size)),
        dirty_peak_jy=float(dirty.max()) if outcome else float(sky.max()),
        model_flux_jy=float(outcome.model.sum(dtype=np.float64)) if outcome else 0.0,
        majors=float(outcome.majors) if outcome else 0.0,
        minors=float(outcome.minors) if outcome else 0.0,
        diverged=float(outcome.diverged) if outcome else 0.0,
    )
