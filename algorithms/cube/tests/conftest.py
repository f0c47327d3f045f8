"""Fixtures: a small simulated set, its image, edited copies of it, and the real data where they are."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr
from observations import Imaged, image, small

from armillary_cube import simulate


@pytest.fixture(scope="session")
def noiseless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate.simulate(small(), tmp_path_factory.mktemp("sim") / "small.ps.zarr", channels_per_chunk=4)


@pytest.fixture(scope="session")
def noiseless_image(noiseless: Path, tmp_path_factory: pytest.TempPathFactory) -> Imaged:
    return image(noiseless, tmp_path_factory.mktemp("image"))


@pytest.fixture
def edited(noiseless: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """A copy of the small set after a function has changed its partition's group."""

    def copy(change: Callable[[Any], None]) -> Path:
        target = tmp_path / f"edited-{len(list(tmp_path.iterdir()))}.ps.zarr"
        shutil.copytree(noiseless, target)
        with zarr.config.set({"array.write_empty_chunks": True}):
            change(zarr.open_group(target / "simulated_0", mode="r+", use_consolidated=False))
        zarr.consolidate_metadata(target)
        return target

    return copy


@pytest.fixture(scope="session")
def radio_data() -> Path:
    root = os.environ.get("ARMILLARY_TEST_DATA")
    if not root or not (Path(root) / "radio").is_dir():
        pytest.skip("ARMILLARY_TEST_DATA is not set or holds no radio data")
    return Path(root) / "radio"
