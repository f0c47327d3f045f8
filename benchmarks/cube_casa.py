"""CASA's tclean beside the cube imager on the same visibilities: `make bench ARGS="cube_casa [channels]"`.

CASA has an environment of its own (`make -C algorithms/cube casa`: 1.5 GB from PyPI, pinned in `cube_casa.lock`). It
reads the set from UVFITS, so this also checks that CASA understands the UVFITS written here. tclean's time is its whole
task with its image files; ours is the whole run with its cube, both without products.
"""
# ruff: noqa: I001

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

from cube import REQUEST, ROOT, alma_like, image_once  # first: it changes to the imager's environment

import numpy as np
import zarr

from armillary_cube import simulate, uvfits
from armillary_cube.clean import CleanSettings
from armillary_cube.plan import make_plan
from armillary_cube.store import Cube

ENVIRONMENT = "cube"
CASA_PYTHON = ROOT / ".venvs" / "casa" / "bin" / "python"
THRESHOLD_JY = 3.2e-4
CASA = """
import json, os, sys, time, pathlib, numpy as np
home = pathlib.Path(os.environ["HOME"]) / ".casa"; home.mkdir(exist_ok=True)
import casadata
home.joinpath("config.py").write_text(
    f"datapath=[{casadata.datapath!r}]\\nmeasurespath={casadata.datapath!r}\\ndata_auto_update=False\\n"
    "measures_auto_update=False\\ntelemetry_enabled=False\\nnologger=True\\n")
import casatasks, casatools
casatasks.importuvfits(fitsfile="set.uvfits", vis="set.ms")
took, common = {}, dict(vis="set.ms", specmode="cube", imsize=512, cell="0.05arcsec", weighting="natural", stokes="I",
    gridder="standard", deconvolver="hogbom", restoration=True, outframe="LSRK", interpolation="nearest", pbcor=False)
for name, niter in (("dirty", 0), ("clean", 100000)):
    start, cpu = time.perf_counter(), time.process_time()
    casatasks.tclean(imagename=name, niter=niter, threshold="0.32mJy", **common)
    took[name] = time.perf_counter() - start, time.process_time() - cpu
    tool = casatools.image(); tool.open(name + (".residual" if niter == 0 else ".model"))
    np.save(name + ".npy", tool.getchunk()[:, :, 0, :]); tool.close()
pathlib.Path("times.json").write_text(json.dumps(took))
"""


def main() -> None:
    """Write one simulated set, let both image it, and compare times and images."""
    if not CASA_PYTHON.exists():
        print("CASA is not installed here, so nothing is compared with it: make -C algorithms/cube casa")
        return
    channels = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        observation = alma_like(channels)
        path = simulate.simulate(observation, folder / "set.ps.zarr")
        group = zarr.open_group(path / "alma_0", mode="r")
        samples = [group[n][:] for n in ("VISIBILITY", "FLAG", "WEIGHT")]
        uvfits.write(folder / "set.uvfits", simulate.header_of(observation), *samples)
        subprocess.run(
            [str(CASA_PYTHON), "-c", CASA],
            cwd=folder,
            check=True,
            env={**os.environ, "HOME": name},
            stdout=sys.stderr,
        )
        theirs = json.loads((folder / "times.json").read_text())
        image_once(path, make_plan(path, replace(REQUEST, channels=(0, 1))), folder / "warm")
        ours = {}
        for kind, settings in (("dirty", None), ("clean", CleanSettings(sigma=0, threshold_jy=THRESHOLD_JY))):
            request = replace(REQUEST, clean=settings, keep=("psf",) if settings is None else ("psf", "model"))
            cpu = time.process_time()
            wall, outcome = image_once(path, make_plan(path, request), folder / kind)
            ours[kind] = wall, time.process_time() - cpu
            cube, casa = Cube(outcome.places.cube), np.load(folder / f"{kind}.npy")
            if settings is None:
                planes = np.array([cube.plane(c) for c in range(channels)])
                reference = casa.transpose(2, 0, 1)
                worst = np.abs(planes - reference).max() / np.abs(reference).max()
            else:
                fluxes = [float(cube.plane(c, 0, "SKY_MODEL").sum()) for c in range(channels)]
                worst = np.abs(np.array(fluxes) / casa.sum(axis=(0, 1)) - 1).max()
            what = "worst pixel over peak" if settings is None else "model flux, worst relative difference"
            wall, cpu = (a / b for a, b in zip(theirs[kind], ours[kind], strict=True))
            print(json.dumps({
                "kind": kind, "tclean over ours (aims: 6 dirty, 4 clean)": round(wall, 2), "by CPU": round(cpu, 2),
                "tclean wall and CPU seconds": [round(s, 2) for s in theirs[kind]],
                "our wall and CPU seconds": [round(s, 2) for s in ours[kind]], what: float(f"{worst:.3g}"),
                "channels": channels,
            }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
