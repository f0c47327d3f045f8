"""A product's page, from the job that made it to what it was made of."""

from pathlib import Path
from typing import Any

from armillary.base.db import Database
from armillary.testing.world import World


async def test_a_products_page_names_its_job_and_what_it_was_made_of(
    database: Database, tmp_path: Path, signed_in: Any
) -> None:
    world = await World(database, tmp_path).make()
    scene = await world.granule("monday")
    worker = await world.worker()
    job = (await world.submit(scene)).job.id
    (lease,) = await world.lease(worker)
    await world.finish(worker, await world.succeed(worker, lease, "portrait"))
    async with signed_in(database, world.store) as visitor:
        answer = await visitor.get("/granules/picture/portrait")
    assert answer.status_code == 200, answer.text
    assert f'href="/jobs/{job}"' in answer.text
    assert 'href="/granules/scene/monday?revision=1">scene/monday</a> (scene)' in answer.text
