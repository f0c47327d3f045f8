import pytest

from armillary.testing.world import World


@pytest.fixture
async def world(database, tmp_path):
    return await World(database, tmp_path).make()
