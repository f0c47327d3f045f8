"""CASA's tclean beside the cube imager on the same visibilities: `cube_casa.py PYTHON_WITH_CASATASKS [channels]`.

Run with the imager's environment; the argument is another environment's Python that holds casatasks and casadata. CASA
reads the set from UVFITS, so this also checks that CASA understands the UVFITS written here. tclean's time is its whole
task with its image files; ours is the whole run with its cube, both without products.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import zarr
from cube import REQUEST, alma_like, image_once

from armillary_cube import simulate, uvfits
from armillary_cube.clean import CleanSettings
from armillary_cube.plan import make_plan
from armillary_cube.store import Cube

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
    start = time.perf_counter()
    casatasks.tclean(imagename=name, niter=niter, threshold="0.32mJy", **common)
    took[name] = time.perf_counter() - start
    tool = casatools.image(); tool.open(name + (".residual" if niter == 0 else ".model"))
    np.save(name + ".npy", tool.getchunk()[:, :, 0, :]); tool.close()
pathlib.Path("times.json").write_text(json.dumps(took))
"""


def main() -> None:
    """Write one simulated set, let both image it, and compare times and images."""
    channels = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        observation = alma_like(channels)
        path = simulate.simulate(observation, folder / "set.ps.zarr")
        group = zarr.open_group(path / "alma_0", mode="r")
        samples = [group[n][:] for n in ("VISIBILITY", "FLAG", "WEIGHT")]
        uvfits.write(folder / "set.uvfits", simulate.header_of(observation), *samples)
        subprocess.run(
            [sys.argv[1], "-c", CASA], cwd=folder, check=True, env={**os.environ, "HOME": name}, stdout=sys.stderr
        )
        theirs = json.loads((folder / "times.json").read_text())
        image_once(path, make_plan(path, replace(REQUEST, channels=(0, 1))), folder / "warm")
        ours = {}
        for kind, settings in (("dirty", None), ("clean", CleanSettings(sigma=0, threshold_jy=THRESHOLD_JY))):
            request = replace(REQUEST, clean=settings, keep=("psf",) if settings is None else ("psf", "model"))
            ours[kind], outcome = image_once(path, make_plan(path, request), folder / kind)
            cube, casa = Cube(outcome.places.cube), np.load(folder / f"{kind}.npy")
            if settings is None:
                planes = np.array([cube.plane(c) for c in range(channels)])
                reference = casa.transpose(2, 0, 1)
                worst = np.abs(planes - reference).max() / np.abs(reference).max()
            else:
                fluxes = [float(cube.plane(c, 0, "SKY_MODEL").sum()) for c in range(channels)]
                worst = np.abs(np.array(fluxes) / casa.sum(axis=(0, 1)) - 1).max()
            what = "worst pixel over peak" if settings is None else "model flux, worst relative difference"
            factor = theirs[kind] / ours[kind]
            print(json.dumps({
                "kind": kind, "tclean_seconds": round(theirs[kind], 2), "ours_seconds": round(ours[kind], 2),
                "tclean over ours (aims: 6 dirty, 4 clean)": round(factor, 2), what: float(f"{worst:.3g}"),
                "channels": channels,
            }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
