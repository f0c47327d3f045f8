"""Large temporaries are not mapped anew each time, whatever the environment says of trimming."""

import os
import platform
import subprocess
import sys

import pytest

from armillary_cube import allocator

FAULTS_OF_TEN_TEMPORARIES = """
import resource, sys
import numpy as np
from armillary_cube import allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(5_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

sys.argv[1] == "kept" and allocator.keep_freed_memory()
faults()
print(faults())
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS_OF_TEN_TEMPORARIES, how], capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"},  # as Dask's nanny starts its workers
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, another allocator")
def test_with_dasks_environment_freed_memory_is_used_again() -> None:
    assert allocator.keep_freed_memory()
    pages_of_one = 40_000_000 // 2**21  # even where the kernel gives huge pages
    assert faults("kept") < pages_of_one <= faults("as dask has it") / 10
