"""A granule's files on its page: a tree of thousands of chunks is a count, its first few and a link to pages of the rest."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from armillary.base.db import Database
from armillary.base.errors import NotFound
from armillary.base.storage import object_key
from armillary.granules import ingest, upload
from armillary.granules.granule import Asset, Commit, Draft, File
from armillary.portal import listing
from armillary.testing.catalogue import OWNER, Catalogue

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def told(**files_of: int) -> dict[str, Any]:
    """A granule as the API tells it: so many files of ten bytes in each asset."""
    files = [
        {"asset": name, "path": f"{name}/{number}", "size": 10}
        for name, count in files_of.items()
        for number in range(count)
    ]
    return {"id": "cube", "files": files, "item": {"assets": {name: {"title": name.upper()} for name in files_of}}}


@pytest.mark.parametrize(
    ("count", "shown"), [(1, 1), (listing.FEW, listing.FEW), (listing.FEW + 1, listing.FEW), (31_020, listing.FEW)]
)
def test_only_a_tree_of_many_files_is_cut_short(count: int, shown: int) -> None:
    one, tree = listing.summary(told(picture=1, tree=count))
    assert (one.asset, one.count, one.is_whole) == ("picture", 1, True)
    assert (tree.title, tree.count, tree.size_bytes, len(tree.shown)) == ("TREE", count, 10 * count, shown)
    assert tree.is_whole is (count <= listing.FEW)


@pytest.mark.parametrize("count", [1, listing.PER_PAGE, listing.PER_PAGE + 1, 1_234])
def test_the_pages_hold_every_file_once(count: int) -> None:
    found = told(picture=3, tree=count)
    pages = listing.page(found, "tree", 1).pages
    parts = [listing.page(found, "tree", number + 1) for number in range(pages)]
    paths = [file["path"] for part in parts for file in part.listed.shown]
    assert paths == [f"tree/{number}" for number in range(count)]
    assert [part.first for part in parts] == [1 + listing.PER_PAGE * number for number in range(pages)]
    with pytest.raises(NotFound, match=f"end with page {pages}"):
        listing.page(found, "tree", pages + 1)


def test_an_asset_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="no asset film"):
        listing.page(told(picture=1), "film", 1)


@pytest.fixture
async def visitor(database: Database, tmp_path: Path, signed_in: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """The owner, and a granule with a picture and a tree of 300 empty chunks."""
    catalogue = await Catalogue.make(database, tmp_path / "store")
    await catalogue.collections("cubes")
    async with database.transaction() as tx:
        wish = upload.Wish("cubes", "galaxy")
        (ticket,) = await upload.open_uploads(tx, OWNER, [wish], "relay", timedelta(hours=1))
    paths = [f"a & b.zarr/c/{number:03}" for number in range(300)]
    for path in ("picture.png", *paths, "manifest"):
        await catalogue.store.write(object_key(ticket.prefix, path), nothing())
    files = tuple(File(path, 0, EMPTY_SHA256) for path in paths)
    tree = Asset("tree", files, manifest=File("manifest", 0, EMPTY_SHA256), title="Cube")
    picture = Asset("file", (File("picture.png", 0, EMPTY_SHA256),))
    commit = Commit(ticket.id, Draft(), {"picture.png": picture, "a & b.zarr": tree})
    (done,) = await ingest.commit_all(database, OWNER, await ingest.prepare(database, catalogue.store, [commit]))
    assert not isinstance(done, Exception), done
    async with signed_in(database, catalogue.store) as client:
        yield client


async def nothing() -> AsyncIterator[bytes]:
    """The bytes of an empty file."""
    for chunk in ():
        yield chunk


async def test_from_the_granules_page_every_file_of_the_tree_is_reached(visitor: httpx2.AsyncClient) -> None:
    page = (await visitor.get("/granules/cubes/galaxy")).text
    assert "<b>Cube</b>: 300 files" in page
    assert len(re.findall(r">a &amp; b\.zarr/c/\d+</a>", page)) == listing.FEW
    assert ">picture.png</a>" in page
    (link,) = re.findall(r'<a href="([^"]+)">all of them', page)
    seen = []
    while link:
        answer = await visitor.get(link.replace("&amp;", "&"))
        assert answer.status_code == 200
        seen += re.findall(r">a &amp; b\.zarr/c/(\d+)</a>", answer.text)
        link = "".join(re.findall(r'rel="next" href="([^"]+)"', answer.text))
    assert seen == [f"{number:03}" for number in range(300)]


async def test_a_page_beyond_the_last_says_where_they_end(visitor: httpx2.AsyncClient) -> None:
    answer = await visitor.get("/granules/cubes/galaxy/assets/a%20%26%20b.zarr", params={"page": 3})
    assert answer.status_code == 404
    assert "end with page 2" in answer.text
