"""Which GPUs this machine has, and how an algorithm is told which of them are its own."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from armillary.base.errors import UsageError

ASK = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")


def devices(asked: str | None, own: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs to offer: a number, names as in CUDA_VISIBLE_DEVICES, or (if nothing is asked) those that there are."""
    if asked is None:
        return _found(own)
    if asked.isdigit():
        number, there = int(asked), _found(own)
        # Names that the machine does not give are counted from 0, as the driver counts them.
        return there[:number] if len(there) >= number else tuple(map(str, range(number)))
    names = tuple(name.strip() for name in asked.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--gpus {asked!r} is not understood.", "Write 2, or 0,1, or none: 0.", field="--gpus")
    return names


def visible(granted: Sequence[str]) -> dict[str, str]:
    """The variables by which drivers show a program these GPUs and no others; none at all where none was granted."""
    return dict.fromkeys(("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"), ",".join(granted))


def _found(own: Mapping[str, str]) -> tuple[str, ...]:
    """What a batch system has granted, or what the driver lists."""
    granted = own.get("CUDA_VISIBLE_DEVICES", own.get("ROCR_VISIBLE_DEVICES"))
    if granted is not None:
        return tuple(name for name in granted.split(",") if name and name not in ("-1", "NoDevFiles"))
    if not shutil.which(ASK[0]):
        return ()
    try:
        said = subprocess.run(ASK, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in said.splitlines() if line.strip())
