"""What the tests share: samples written once, and the real data where they are."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from armillary_formats.samples.write import write

# Other work may run beside the tests: how long an example takes says nothing.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One small pair: two products, two orbit files and an elevation model."""
    return write(tmp_path_factory.mktemp("samples"), pairs=1, width=48, height=24)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data, or a skip that says what is not set."""
    folder = os.environ.get("ARMILLARY_TEST_DATA")
    if not folder:
        pytest.skip("ARMILLARY_TEST_DATA is not set: no real data to read")
    return Path(folder)
