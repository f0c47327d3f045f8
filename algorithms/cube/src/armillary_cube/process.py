"""One job of a data system: `job.json` and `inputs/` in, `outputs/` out; restartable from `checkpoint/`.

The job's `algorithm.id` says which of the four works it is: `cube-import`, `cube`, `cube-block` or `cube-join`.
"""

import errno
import json
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from armillary_cube import metadata
from armillary_cube.block import Places
from armillary_cube.clean import CleanSettings
from armillary_cube.errors import RefusalError
from armillary_cube.ingest import import_set, kind_of
from armillary_cube.plan import Continuum, Plan, Request, make_plan
from armillary_cube.run import Executor, Outcome, StoppedEarlyError, join, run
from armillary_cube.store import Cube

INPUT_MISSING, SCIENCE, OUT_OF_MEMORY, OUT_OF_DISK, PREEMPTED = 10, 11, 12, 13, 15
CLASS_NAMES = {
    INPUT_MISSING: "input missing", SCIENCE: "science error", OUT_OF_MEMORY: "out of memory",
    OUT_OF_DISK: "out of disk", PREEMPTED: "preempted",
}  # fmt: skip
PROGRESS = Path("progress.jsonl")
CHECKPOINT = Path("checkpoint")


def process(job_file: Path) -> int:
    """Do the job in the current directory; the exit code names the error's class, `error.json` explains it."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        job = json.loads(job_file.read_text())
        work = WORKS.get(job["algorithm"]["id"])
        if work is None:
            raise RefusalError(f"algorithm {job['algorithm']['id']!r} is none of this program.", f"use {list(WORKS)}.")
        work(job, stop)
    except RefusalError as error:
        return _fail(INPUT_MISSING if error.missing_input else SCIENCE, error.message, error.remedy)
    except StoppedEarlyError as error:
        return _fail(PREEMPTED, str(error), "run the job again: it continues from its checkpoint.")
    except MemoryError as error:
        return _fail(OUT_OF_MEMORY, str(error) or "memory ran out", "give the job more memory.")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail(OUT_OF_DISK, str(error), "give the job more disk.")
        traceback.print_exc()
        return _fail(SCIENCE, f"{type(error).__name__}: {error}", "see the log.")
    return 0


def request_of(parameters: dict[str, Any], resources: dict[str, Any]) -> Request:
    """The job's parameters as a request; what is null is chosen from the data."""
    clean = None
    if parameters.get("clean", "none") != "none":
        clean = CleanSettings(
            method=parameters["clean"],
            sigma=float(parameters.get("sigma", 3.0)),
            threshold_jy=float(parameters.get("threshold_jy", 0.0)),
            majors=int(parameters.get("majors", 12)),
        )
    lines_free = parameters.get("continuum_channels") or []
    size = parameters.get("size")
    channels = parameters.get("channels")
    return Request(
        cell_arcsec=parameters.get("cell_arcsec"),
        size=(int(size[0]), int(size[-1])) if size else None,
        channels=(int(channels[0]), int(channels[1])) if channels else None,
        stokes=str(parameters.get("stokes", "I")),
        weighting=str(parameters.get("weighting", "natural")),
        robust=float(parameters.get("robust", 0.5)),
        w_term=str(parameters.get("w_term", "auto")),
        continuum=Continuum(
            tuple((int(a), int(b)) for a, b in lines_free), int(parameters.get("continuum_order", 0))
        ) if lines_free else None,
        clean=clean,
        field_name=str(parameters.get("field") or ""),
        rest_frequency_hz=parameters.get("rest_frequency_hz"),
        memory_bytes=resources.get("memory_bytes"),
        workers=_threads(resources),
    )  # fmt: skip


def _import(job: dict[str, Any], _stop: threading.Event) -> None:
    source, granule = _single(job, "observation")
    name = f"{granule.removesuffix('.ms')}.ps"
    out = _output(job, "visibilities", name)
    _say(0.05, "import", f"importing {source.name}")
    target = import_set(source, out / f"{name}.zarr")
    _write_item(out, metadata.processing_set(target), {target.name: (["data"], "Processing set (measurement set v4)")})
    _say(1.0, "import", "done")


def _cube(job: dict[str, Any], stop: threading.Event) -> None:
    granule, visibilities, plan = _planned(job)
    outcome = run(plan, visibilities, CHECKPOINT / "run", _executor(job, plan), PROGRESS, stop)
    _publish(job, granule, outcome.places.output, plan, outcome)


def _block(job: dict[str, Any], stop: threading.Event) -> None:
    granule, visibilities, plan = _planned(job)
    number, blocks = int(job["parameters"]["block"]), int(job["parameters"]["blocks"])
    outcome = run(plan, visibilities, CHECKPOINT / "run", _executor(job, plan), PROGRESS, stop, (number, blocks))
    name = f"{granule}-{plan.digest[:12]}-{number}-of-{blocks}"
    out = _output(job, "block", name)
    part = out / f"{name}.part"
    part.mkdir(parents=True)
    for inside in ("cube.img.zarr", "work/done"):
        if (outcome.places.output / inside).exists():
            shutil.copytree(outcome.places.output / inside, part / inside)
    identity = metadata.processing_set(visibilities)["properties"]["radio:identity"]
    properties = {"cube:block": number, "cube:blocks": blocks, "radio:identity": identity}
    properties |= _properties(plan, granule)
    item = {"geometry": metadata.footprint_of_plan(plan), "frame": "sky", "properties": properties}
    _write_item(out, item, {part.name: (["data"], f"Channels of block {number} of {blocks}")})


def _join(job: dict[str, Any], _stop: threading.Event) -> None:
    parts = [found for granule in job["inputs"]["blocks"] for found in sorted(Path(granule["path"]).glob("*.part"))]
    output = CHECKPOINT / "run"
    shutil.rmtree(output, ignore_errors=True)
    outcome = join(parts, output)
    granule = str(job["inputs"]["blocks"][0].get("item", {}).get("properties", {}).get("cube:visibilities", "cube"))
    _publish(job, granule, output, outcome.plan, outcome)


WORKS: dict[str, Callable[[dict[str, Any], threading.Event], None]] = {
    "cube-import": _import,
    "cube": _cube,
    "cube-block": _block,
    "cube-join": _join,
}


def _planned(job: dict[str, Any]) -> tuple[str, Path, Plan]:
    """The processing set (imported first where the input is another format) and the plan."""
    source, granule = _single(job, "visibilities")
    if kind_of(source) != "processing-set":
        imported = CHECKPOINT / f"{granule}.ps.zarr"
        if not imported.exists():
            _say(0.0, "import", f"importing {source.name}")
            import_set(source, imported)
        source = imported
    plan = make_plan(source, request_of(job["parameters"], job.get("resources", {})))
    return granule, source, plan


def _publish(job: dict[str, Any], granule: str, output: Path, plan: Plan, outcome: Outcome) -> None:
    """Move the cube and its products to the outputs, under a name that the same inputs and plan always give."""
    from armillary_cube import products  # astropy and matplotlib are slow to load and needed only at the end

    name = f"{_stem(granule)}-cube-{plan.digest[:12]}"
    out = _output(job, "cube", name)
    out.mkdir(parents=True)
    _say(0.97, "products", "FITS, moments, spectrum and pictures")
    cube = Cube(Places(Path(), output).cube)
    prefixed = {}
    for path in products.write_products(cube, out, outcome, job["parameters"].get("price_per_core_hour")):
        renamed = path if path.name == "browse.png" else path.rename(out / f"{name}.{path.name}")
        prefixed[path.name] = renamed.name
    target = out / f"{name}.img.zarr"
    shutil.move(cube.path, target)
    numbers = json.loads((out / prefixed["statistics.json"]).read_text())
    item = metadata.image_cube(target)
    item["properties"] |= _properties(plan, granule) | {
        f"cube:{key}": numbers[key]
        for key in ("peak_jy_per_beam", "median_rms_jy_per_beam", "integrated_flux", "integrated_flux_unit")
        if numbers[key] is not None
    }
    _write_item(out, item, _roles(target.name, prefixed))
    Path("result.json").write_text(json.dumps({k: v for k, v in numbers.items() if not k.startswith("channel_")}))
    _say(1.0, "done", name)


def _roles(cube: str, names: dict[str, str]) -> dict[str, tuple[list[str], str]]:
    titles = {
        "cube.fits": (["data"], "Spectral cube (FITS)"), "moment0.fits": (["data"], "Integrated intensity"),
        "moment1.fits": (["data"], "Mean velocity"), "moment2.fits": (["data"], "Velocity width"),
        "spectrum.csv": (["data"], "Spectrum"), "statistics.json": (["metadata"], "Statistics of every channel"),
        "cost.json": (["metadata"], "What the run cost"), "plan.json": (["metadata"], "The plan it was made with"),
        "browse.png": (["overview"], "Intensity, velocity and spectrum"),
        "film.gif": (["overview", "film"], "The channels as a film"),
    }  # fmt: skip
    return {cube: (["data"], "Spectral cube (Zarr)"), **{names[k]: v for k, v in titles.items() if k in names}}


def _properties(plan: Plan, granule: str) -> dict[str, Any]:
    when = datetime.fromtimestamp((plan.observed_mjd - 40_587.0) * 86_400, UTC).isoformat()
    return {
        "datetime": when, "cube:visibilities": granule, "cube:plan": plan.digest, "cube:weighting": plan.weighting,
        "cube:deconvolved": plan.clean is not None, "cube:w_term": plan.grid.w_term,
    }  # fmt: skip


def _single(job: dict[str, Any], role: str) -> tuple[Path, str]:
    """The one asset of the role's one granule, and the granule's id."""
    found = job["inputs"].get(role) or []
    if len(found) != 1:
        raise RefusalError(f"inputs.{role} holds {len(found)} granules.", "give exactly one.", missing_input=True)
    folder = Path(found[0]["path"])
    for candidate in (folder, *sorted(p for p in folder.glob("*") if not p.name.startswith("."))):
        try:
            kind_of(candidate)
        except RefusalError:
            continue
        return candidate, str(found[0]["id"])
    raise RefusalError(
        f"{folder} holds no measurement set, processing set or UVFITS.",
        "see the collection's rule.",
        missing_input=True,
    )


def _output(job: dict[str, Any], name: str, granule: str) -> Path:
    if name not in job.get("outputs", {name: None}):
        raise RefusalError(f"outputs has no {name!r}.", "register the algorithm from its own folder.")
    return Path("outputs") / name / granule


def _write_item(out: Path, item: dict[str, Any], roles: dict[str, tuple[list[str], str]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    assets = {name: {"roles": kinds, "title": title} for name, (kinds, title) in roles.items()}
    (out / "granule.json").write_text(json.dumps({**item, "assets": assets}, indent=1))


def _executor(job: dict[str, Any], plan: Plan) -> Executor:
    """What was asked for; else threads, or processes where more than two cores would wait for each other to clean."""
    if asked := job["parameters"].get("executor"):
        return Executor.parse(asked)
    cores = _threads(job.get("resources", {}))
    return Executor("dask" if plan.clean and cores > 2 else "threads", cores)


def _threads(resources: dict[str, Any]) -> int:
    return max(1, int(resources.get("cpu", 1)))


def _stem(granule: str) -> str:
    for ending in (".ms", ".ps", ".zarr", ".uvfits", ".fits"):
        granule = granule.removesuffix(ending)
    return granule[:120]


def _say(fraction: float, stage: str, message: str) -> None:
    with PROGRESS.open("a") as out:
        out.write(json.dumps({"fraction": fraction, "stage": stage, "message": message}) + "\n")


def _fail(code: int, message: str, remedy: str) -> int:
    print(f"{CLASS_NAMES[code]}: {message} {remedy}", file=sys.stderr)
    Path("error.json").write_text(json.dumps({"class": CLASS_NAMES[code], "message": message, "remedy": remedy}))
    return code
