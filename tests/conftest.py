"""What every test can ask for, and how thorough property tests are."""

import os

import hypothesis
import pytest

pytest_plugins = ["armillary.testing.database", "armillary.testing.object_store", "armillary.testing.strict"]

hypothesis.settings.register_profile("default", max_examples=50, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("ARMILLARY_HYPOTHESIS", "default"))


@pytest.fixture
async def world(database, tmp_path):
    """An owner, a pool, two collections and an algorithm (`armillary.testing.world`)."""
    from armillary.testing.world import World

    return await World(database, tmp_path).make()
