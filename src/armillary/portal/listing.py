"""What a page tells of a granule's files: few files by name, many (the chunks of a tree) by number, the rest page by page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from armillary.base.errors import NotFound

FEW = 5
PER_PAGE = 200


@dataclass(frozen=True)
class Listed:
    """One asset's files as the granule's page shows them."""

    asset: str
    title: str
    count: int
    size_bytes: int
    shown: Sequence[Mapping[str, Any]]

    @property
    def is_whole(self) -> bool:
        """Whether every file is shown."""
        return len(self.shown) == self.count


@dataclass(frozen=True)
class Page:
    """A part of one asset's files; pages count from 1."""

    listed: Listed
    number: int
    pages: int

    @property
    def first(self) -> int:
        """The number of its first file, counted from 1."""
        return (self.number - 1) * PER_PAGE + 1


def summary(found: Mapping[str, Any]) -> list[Listed]:
    """Every asset of a granule, as the API tells it, with the first few of its files."""
    return [_listed(found, asset, files, slice(FEW)) for asset, files in _by_asset(found).items()]


def page(found: Mapping[str, Any], asset: str, number: int) -> Page:
    """One page of an asset's files."""
    files = _by_asset(found).get(asset)
    if files is None:
        raise NotFound(f"{found['id']} has no asset {asset}.", "Take the link from the granule's page.")
    pages = -(-len(files) // PER_PAGE)
    if number > pages:
        raise NotFound(f"The files of {asset} end with page {pages}.", f"Ask for page 1 to {pages}.")
    return Page(_listed(found, asset, files, slice((number - 1) * PER_PAGE, number * PER_PAGE)), number, pages)


def _by_asset(found: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for file in found["files"]:
        grouped.setdefault(file["asset"], []).append(file)
    return grouped


def _listed(found: Mapping[str, Any], asset: str, files: Sequence[Mapping[str, Any]], part: slice) -> Listed:
    title = found["item"]["assets"].get(asset, {}).get("title", "")
    return Listed(asset, title, len(files), sum(file["size"] for file in files), files[part])
