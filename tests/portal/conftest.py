"""Pages as the owner sees them, over a catalogue in a database of the test's own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from armillary import app
from armillary.accounts import authenticate
from armillary.base.db import Database
from armillary.base.http import Context
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.base.storage import Store

SignedIn = Callable[[Database, Store], AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def signed_in(tmp_path: Path) -> SignedIn:
    """Opens a client with the owner's session."""

    @asynccontextmanager
    async def opened(database: Database, store: Store) -> AsyncIterator[httpx2.AsyncClient]:
        async with database.transaction() as tx:
            secret = await authenticate.sign_in(tx, await authenticate.make_sign_in(tx))
        url = "http://armillary"
        context = Context(database, Settings(home=tmp_path), store, Links(b"k" * 32), "instance", lambda: url)
        transport = httpx2.ASGITransport(app=app.build(context))
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx2.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
            yield client

    return opened
