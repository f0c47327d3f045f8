"""The providers that there are. A new one is a file in `providers/` with `make`, a line here, and the conformance suite."""

from collections.abc import Callable, Mapping
from pathlib import Path

from armillary.pools.provider import PoolProvider
from armillary.pools.providers import command, flux, local, lsf, pbs, slurm, ssh

Make = Callable[[object, Path], PoolProvider]

KINDS: Mapping[str, Make] = {
    "local": local.make,
    "slurm": slurm.make,
    "pbs": pbs.make,
    "lsf": lsf.make,
    "flux": flux.make,
    "ssh": ssh.make,
    "command": command.make,
}
