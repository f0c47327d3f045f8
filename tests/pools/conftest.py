import pytest

from armillary.testing import slurm as real_slurm


@pytest.fixture(scope="session")
def slurm():
    """A real Slurm; its tests are in one file, so that one worker of the run starts one."""
    if reason := real_slurm.missing():
        pytest.skip(reason)
    cluster = real_slurm.Slurm()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
