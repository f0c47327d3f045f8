"""A catalogue with rules, and a reactor that works until nothing is due."""

import pytest
import pytest_asyncio

from armillary.rules import fire
from armillary.rules.fire import Rules
from armillary.testing.catalogue import Catalogue


@pytest_asyncio.fixture
async def catalogue(database, tmp_path):
    return await Catalogue.make(database, tmp_path / "store")


@pytest.fixture
def react(database):
    rules = Rules()

    async def until_idle():
        while await fire.react(database, rules):
            pass

    return until_idle
