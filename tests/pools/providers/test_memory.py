import pytest

from armillary.testing.conformance.pool_provider import PoolProviderConformance
from armillary.testing.memory import MemoryProvider


class TestMemoryProvider(PoolProviderConformance):
    @pytest.fixture
    def provider(self):
        return MemoryProvider()
