"""The cube on disk: one Zarr v3 group in xradio's image schema, one object per plane.

No two tasks ever write the same object. A task's last act is its record: a small file, put in place in one step,
that says its channels are done and carries their statistics. Restarting redoes the tasks without a whole record.
`seal` gathers the records into the cube once all are there.
"""

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from armillary_cube.errors import RefusalError
from armillary_cube.plan import Plan

SKY, PSF, MODEL, RESIDUAL = "SKY", "POINT_SPREAD_FUNCTION", "SKY_MODEL", "SKY_RESIDUAL"
MARKER, BEAM = "VISIBILITY_NORMALIZATION", "BEAM_FIT_PARAMS_SKY"
STATISTICS = "STATISTICS_"  # one array per column, with the dimensions that the image schema knows
KEPT = {"psf": PSF, "model": MODEL, "residual": RESIDUAL}
UNITS = {SKY: "Jy/beam", PSF: "", MODEL: "Jy/pixel", RESIDUAL: "Jy/beam"}
PLANE = ("time", "frequency", "polarization", "l", "m")
OBSERVERS = {"topo": "TOPO", "barycentric": "BARY"}


@dataclass(frozen=True)
class ChannelStatistics:
    """One row of the table that goes with every plane; numbers only, so that it is an array."""

    samples: float = 0.0
    peak_jy: float = np.nan
    rms_jy: float = np.nan
    dirty_peak_jy: float = np.nan
    model_flux_jy: float = 0.0
    majors: float = 0.0
    minors: float = 0.0
    diverged: float = 0.0


COLUMNS = tuple(ChannelStatistics.__dataclass_fields__)


def create(path: Path, plan: Plan) -> None:
    """Lay out an empty cube; made beside its place and moved there, so that a cube is whole or not there."""
    import xradio.image  # heavy: only the process that lays out the store needs it

    arcs = plan.grid.cell_rad
    empty = xradio.image.make_empty_sky_image(
        phase_center=[plan.ra_rad, plan.dec_rad],
        image_size=[plan.grid.width, plan.grid.height],
        cell_size=[arcs, arcs],
        frequency_coords=plan.frequencies_hz(),
        pol_coords=list(plan.stokes),
        time_coords=[plan.observed_mjd],
        direction_reference=plan.sky_frame,
        spectral_reference=OBSERVERS.get(plan.spectral_frame, plan.spectral_frame),
    )
    if plan.rest_frequency_hz:
        _set_rest_frequency(empty, plan)
    empty.attrs["data_groups"] = _groups(plan)
    empty.attrs["description"] = f"Spectral cube of {plan.field_name} from {plan.set_name}"
    empty.attrs["plan"] = json.loads(plan.to_json())
    empty.attrs["plan_digest"] = plan.digest
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".building")
    empty.to_zarr(building, mode="w", consolidated=False, zarr_format=3)
    _create_arrays(zarr.open_group(building, mode="r+"), plan)
    zarr.consolidate_metadata(building)
    building.rename(path)


def require_same_plan(path: Path, plan: Plan) -> Plan:
    """The plan a cube was begun with; refused if it is another recipe, for its planes would not belong together."""
    found = Plan.from_json(json.dumps(zarr.open_group(path, mode="r").attrs["plan"]))
    if found.digest != plan.digest:
        raise RefusalError(
            f"{path.name} was begun with another plan ({found.digest[:12]}, now {plan.digest[:12]}).",
            "choose another output folder, or remove the unfinished cube.",
        )
    return found


@dataclass(frozen=True)
class Record:
    """What a finished task leaves: sums of weights, beams and statistics of its channels, and what it cost."""

    first: int
    stop: int
    sum_of_weights: list[list[float]]  # (channel, Stokes); 0 says: done, and no data
    beams: list[list[list[float]]]
    statistics: list[list[list[float]]]
    seconds: dict[str, float]
    bytes_read: int


class Cube:
    """An open cube, for reading planes and for writing whole blocks."""

    def __init__(self, path: Path, mode: Any = "r") -> None:
        self.path = path
        self._group = zarr.open_group(path, mode=mode)
        self.plan = Plan.from_json(json.dumps(self._group.attrs["plan"]))

    def _array(self, name: str) -> Any:
        # Planes are never left out because they are all fill value: that comparison costs as much as the write.
        return self._group[name].with_config(  # type: ignore[union-attr]
            {"write_empty_chunks": True}
        )

    def names(self) -> tuple[str, ...]:
        return (SKY, *(KEPT[k] for k in self.plan.keep))

    def write(self, first: int, planes: dict[str, NDArray[np.float32]]) -> None:
        """Put planes (channel, Stokes, x, y) in their places."""
        for name, values in planes.items():
            self._array(name)[0, first : first + len(values)] = values

    def plane(self, channel: int, stokes: int = 0, name: str = SKY) -> NDArray[np.float32]:
        return np.asarray(self._group[name][0, channel, stokes])  # type: ignore[index]

    def sum_of_weights(self) -> NDArray[np.float64]:
        """(channel, Stokes); NaN where a channel is not done, zero where it has no data."""
        return np.asarray(self._group[MARKER][0])  # type: ignore[index]

    def beams(self) -> NDArray[np.float64]:
        """Major axis, minor axis and position angle in radians, (channel, Stokes, 3)."""
        return np.asarray(self._group[BEAM][0])  # type: ignore[index]

    def statistics(self) -> NDArray[np.float64]:
        """Columns of every plane, (channel, Stokes, column)."""
        columns = [np.asarray(self._group[STATISTICS + c.upper()][0]) for c in COLUMNS]  # type: ignore[index]
        return np.stack(columns, axis=-1)

    def require_sealed(self) -> None:
        if not np.isfinite(self.sum_of_weights()).all():
            raise RefusalError(
                f"{self.path.name} is unfinished: some of its channels are missing.",
                "run `armillary-cube image` again with the same output: it does only what is missing.",
                missing_input=True,
            )


def write_record(folder: Path, record: Record) -> None:
    """The task's completion marker, in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{record.first}-{record.stop}.{os.getpid()}.{threading.get_ident()}"
    part.write_text(json.dumps(asdict(record)))
    part.replace(folder / f"{record.first:06d}-{record.stop:06d}.json")


def read_records(folder: Path, plan: Plan) -> dict[tuple[int, int], Record]:
    """The records that are whole; a torn one counts as not there."""
    found = {}
    for task in plan.tasks:
        try:
            raw = json.loads((folder / f"{task[0]:06d}-{task[1]:06d}.json").read_text())
            record = Record(**raw)
        except (OSError, ValueError, TypeError):
            continue
        if len(record.sum_of_weights) == task[1] - task[0]:
            found[task] = record
    return found


def seal(path: Path, records: list[Record]) -> None:
    """Gather the records of all tasks into the cube: beams, statistics, and last the sums of weights."""
    group = zarr.open_group(path, mode="r+")
    ordered = sorted(records, key=lambda r: r.first)

    def joined(lists: list[Any]) -> NDArray[np.float64]:
        return np.array([channel for block in lists for channel in block], float)

    group[BEAM][0] = joined([r.beams for r in ordered])  # type: ignore[index]
    statistics = joined([r.statistics for r in ordered])
    for index, column in enumerate(COLUMNS):
        group[STATISTICS + column.upper()][0] = statistics[..., index]  # type: ignore[index]
    group[MARKER][0] = joined([r.sum_of_weights for r in ordered])  # type: ignore[index]


def statistics_row(row: ChannelStatistics) -> list[float]:
    return list(asdict(row).values())


def _groups(plan: Plan) -> dict[str, dict[str, str]]:
    base = {"sky": SKY, "visibility_normalization": MARKER, "beam_fit_params_sky": BEAM}
    if "psf" in plan.keep:
        base["point_spread_function"] = PSF
    groups = {"base": base}
    for name in ("model", "residual"):
        if name in plan.keep:
            groups[name] = {"sky": KEPT[name]}
    return groups


def _set_rest_frequency(empty: Any, plan: Plan) -> None:
    rest: dict[str, Any] = {"data": plan.rest_frequency_hz, "dims": [], "attrs": {"type": "quantity", "units": "Hz"}}
    empty.frequency.attrs.update(rest_frequency=rest, rest_frequencies=rest)
    empty.velocity.values[:] = 299_792_458.0 * (1 - empty.frequency.values / plan.rest_frequency_hz)


def _create_arrays(group: Any, plan: Plan) -> None:
    channels, stokes = plan.channels, len(plan.stokes)
    shape = (1, channels, stokes, plan.grid.width, plan.grid.height)
    for name in (SKY, *(KEPT[k] for k in plan.keep)):
        attributes = {"type": name.lower() if name == PSF else "sky", "units": UNITS[name]}
        if name == SKY:
            attributes |= {"beam_fit_params": BEAM, "telescope": {"name": plan.telescope}}  # type: ignore[dict-item]
        group.create_array(
            name, shape=shape, chunks=(1, 1, 1, *shape[3:]), dtype="float32", fill_value=np.nan, compressors=None,
            dimension_names=PLANE, attributes={**attributes, "coordinates": "velocity"},
        )  # fmt: skip
    stack = (1, channels, stokes)
    group.create_array(
        BEAM, shape=(*stack, 3), chunks=(*stack, 3), dtype="float64", fill_value=np.nan,
        dimension_names=(*PLANE[:3], "beam_params_label"), attributes={"type": "beam_fit_params_sky", "units": "rad"},
    )  # fmt: skip
    for column in COLUMNS:
        group.create_array(
            STATISTICS + column.upper(), shape=stack, chunks=stack, dtype="float64", fill_value=np.nan,
            dimension_names=PLANE[:3], attributes={"type": "statistics"},
        )  # fmt: skip
    group.create_array(
        MARKER, shape=stack, chunks=stack, dtype="float64", fill_value=np.nan, dimension_names=PLANE[:3],
        attributes={"type": "visibility_normalization"},
    )  # fmt: skip
