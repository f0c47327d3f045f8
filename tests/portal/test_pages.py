"""A product's page, from the job that made it to what it was made of."""

from pathlib import Path

import httpx2

from armillary import app
from armillary.accounts import authenticate
from armillary.base.db import Database
from armillary.base.http import Context
from armillary.base.links import Links
from armillary.base.settings import Settings
from armillary.testing.world import World


async def test_a_products_page_names_its_job_and_what_it_was_made_of(database: Database, tmp_path: Path) -> None:
    world = await World(database, tmp_path).make()
    scene = await world.granule("monday")
    worker = await world.worker()
    job = (await world.submit(scene)).job.id
    (lease,) = await world.lease(worker)
    await world.finish(worker, await world.succeed(worker, lease, "portrait"))
    async with database.transaction() as tx:
        secret = await authenticate.sign_in(tx, await authenticate.make_sign_in(tx))
    context = Context(
        database, Settings(home=tmp_path), world.store, Links(b"k" * 32), "instance", lambda: "http://armillary"
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app.build(context)), base_url="http://armillary",
        headers={"Authorization": f"Bearer {secret}"},
    ) as visitor:  # fmt: skip
        answer = await visitor.get("/granules/picture/portrait")
    assert answer.status_code == 200, answer.text
    assert f'href="/jobs/{job}"' in answer.text
    assert 'href="/granules/scene/monday?revision=1">scene/monday</a> (scene)' in answer.text
