"""`armillary granule …`: find, show, download; revisions and lineage."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from armillary.base.errors import Conflict, UsageError
from armillary.base.units import human_duration, human_size
from armillary.cli.context import Context, GranuleName, granule_name, json_option, limit_option, pass_context
from armillary.cli.group import Noun
from armillary.cli.output import Column, show_fields, show_json, show_list, when

if TYPE_CHECKING:
    from armillary.client.client import Client

PAGE = 100


@click.group(cls=Noun, short_help="Find, show and download granules, and their lineage.")
def granule() -> None:
    """Granules: what is catalogued. A granule is named COLLECTION/ID."""


@granule.command(
    "list",
    epilog="Examples:  armillary granule list sentinel-1-slc   armillary granule list --bbox 10,45,11,46 "
    "--datetime 2026-03-01/.. --filter \"sat:orbit_state = 'descending'\"",
)
@click.argument("collections", metavar="[COLLECTION]...", nargs=-1)
@click.option("--bbox", metavar="W,S,E,N", help="Only those that touch this box, in degrees.")
@click.option(
    "--datetime", "time", metavar="FROM/TO", help="Only those of this time or interval; .. leaves an end open."
)
@click.option("--filter", "condition", metavar="CQL2", help="Only those of which this CQL2 text is true.")
@click.option("--sort", metavar="PROPERTY", help="Sort by this property; -PROPERTY for the largest first.")
@limit_option
@json_option
@pass_context
def list_(
    context: Context,
    collections: tuple[str, ...],
    bbox: str | None,
    time: str | None,
    condition: str | None,
    sort: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List granules, of all collections or of those named."""
    query: dict[str, Any] = {"limit": min(limit, PAGE)}
    query |= {"collections": list(collections)} if collections else {}
    query |= {"bbox": _bbox(bbox)} if bbox else {}
    query |= {"datetime": time} if time else {}
    query |= {"filter": condition, "filter-lang": "cql2-text"} if condition else {}
    if sort:
        query["sortby"] = [{"field": sort.lstrip("+-"), "direction": "desc" if sort.startswith("-") else "asc"}]
    with context.client() as client:
        show_list(
            _search(client, query),
            [
                ("granule", lambda item: f"{item['collection']}/{item['id']}"),
                ("time", _time),
                ("files", lambda item: len(item.get("assets", {}))),
                ("catalogued", lambda item: when(item["properties"].get("created"))),
            ],
            as_json=as_json,
            nothing="No granule is like that.",
            limit=limit,
        )


@granule.command("show", epilog="Example:  armillary granule show interferogram/20260301-20260313")
@click.argument("name", metavar="COLLECTION/ID", type=GranuleName())
@click.option("--revision", type=click.IntRange(1), help="An earlier one.")
@json_option
@pass_context
def show(context: Context, name: str, revision: int | None, as_json: bool) -> None:
    """Show a granule: its time and place, what it cost, its files, and where its page is."""
    from armillary.client.client import segment

    with context.client() as client:
        found = _granule(client, name, revision)
        path = "/".join(map(segment, granule_name(name)))
        found["cost"] = client.call("GET", f"/api/jobs/costs/{path}", params={"revision": revision})
        if as_json:
            show_json(found)
            return
        item = found["item"]
        show_fields(
            [
                ("granule", f"{found['collection']}/{found['id']}"),
                ("revision", f"{found['revision']}{_standing(found)}"),
                ("time", _time(item)),
                ("place", _place(item)),
                ("size", human_size(found["size_bytes"])),
                ("content", found["digest"]),
                ("made", f"{when(found['created'])} by {found['created_by']}, group {found['group']}"),
                ("cost", _cost(found["cost"])),
                ("page", f"{client.url}/granules/{found['collection']}/{found['id']}"),
            ]
        )
    click.echo()
    columns: Sequence[Column] = [
        ("file", "path"),
        ("size", lambda file: human_size(file["size"])),
        ("sha256", "sha256"),
    ]
    show_list(found["files"], columns, as_json=False, nothing="It has no files.")
    properties = {key: value for key, value in item["properties"].items() if value is not None}
    click.echo()
    show_fields(properties.items())


@granule.command("download", epilog="Example:  armillary granule download interferogram/20260301-20260313 --to /data")
@click.argument("names", metavar="COLLECTION/ID...", nargs=-1, required=True, type=GranuleName())
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), default=".", help="A folder.")
@click.option("--revision", type=click.IntRange(1), help="An earlier one.")
@json_option
@pass_context
def download(context: Context, names: tuple[str, ...], folder: Path, revision: int | None, as_json: bool) -> None:
    """Download granules, each into a folder of its id. Every file is checked; those that are there already are kept."""
    with context.client(patience_seconds=60) as client:
        for name in names:
            found = _granule(client, name, revision)
            if found["retired_at"]:
                raise Conflict(
                    f"Revision {found['revision']} of {name} was retired at {when(found['retired_at'])}.",
                    "Take a newer one: `armillary granule history` lists them.",
                    field="revision",
                )
            target = folder / found["id"]
            new, kept = _download(client, found["files"], target)
            if as_json:
                show_json({"granule": name, "folder": str(target), "downloaded": new, "kept": kept})
            else:
                there = f", {kept} were there already" if kept else ""
                click.echo(f"{target}: {new} file{'s' if new != 1 else ''} downloaded{there}")


@granule.command("history", epilog="Example:  armillary granule history elevation/n45e010")
@click.argument("name", metavar="COLLECTION/ID", type=GranuleName())
@json_option
@pass_context
def history(context: Context, name: str, as_json: bool) -> None:
    """List the revisions of a granule, newest first."""
    with context.client() as client:
        show_list(
            client.revisions(*granule_name(name)),
            [
                ("revision", "revision"),
                ("made", lambda row: when(row["created"])),
                ("by", "created_by"),
                ("size", lambda row: human_size(row["size_bytes"])),
                ("content", lambda row: row["digest"][:16]),
                ("retired at", lambda row: when(row["retired_at"])),
            ],
            as_json=as_json,
            nothing="It has no revisions.",
        )


@granule.command(
    "lineage",
    epilog="Examples:  armillary granule lineage product/x   armillary granule lineage product/x --prov > x.json",
)
@click.argument("name", metavar="COLLECTION/ID", type=GranuleName())
@click.option("--down", is_flag=True, help="What was made from it, instead of what it was made from.")
@click.option("--prov", is_flag=True, help="W3C PROV-JSON.")
@json_option
@pass_context
def lineage(context: Context, name: str, down: bool, prov: bool, as_json: bool) -> None:
    """Show what a granule was made from, by which algorithm version, when and where; or what was made from it."""
    from armillary.client.client import segment

    path = "/".join(map(segment, granule_name(name)))
    with context.client() as client:
        if prov:
            show_json(client.call("GET", f"/api/provenance/{path}/prov"))
            return
        direction = "down" if down else "up"
        found = client.call("GET", f"/api/provenance/{path}", params={"direction": direction})
    if as_json:
        show_json(found)
    else:
        show_lineage(found, name, down=down)


def show_lineage(found: Mapping[str, Any], name: str, *, down: bool) -> None:
    """The walk as a tree of what was made from what."""
    makers: dict[str, list[Mapping[str, Any]]] = {}
    retired = {_reference(one): one["retired_at"] for one in found["granules"] if one.get("retired_at")}
    for activity in found["activities"]:
        for end in activity["used" if down else "generated"]:
            makers.setdefault(_reference(end), []).append(activity)
    shown: set[str] = set()

    def show_below(granule: str, depth: int) -> None:
        is_known = granule in shown
        shown.add(granule)
        said = f" (retired at {when(retired[granule])})" if granule in retired else ""
        click.echo(f"{'    ' * depth}{granule}{said}{' (as above)' if is_known and makers.get(granule) else ''}")
        for activity in [] if is_known else makers.get(granule, []):
            click.echo(click.style(f"{'    ' * depth}  {_activity(activity, down=down)}", dim=True))
            for end in activity["generated" if down else "used"]:
                show_below(_reference(end), depth + 1)

    show_below(name, 0)
    if not makers:
        click.echo("  It was made from nothing here." if not down else "  Nothing was made from it yet.")


def _cost(cost: Mapping[str, Any]) -> str:
    """Of the job that made it, and of all on the way from the sources; nothing for what was ingested."""
    if cost["job"] is None:
        return ""
    with_others = f" (which made {cost['products']} products)" if cost["products"] > 1 else ""
    hidden = "" if cost["is_whole"] else ", besides what you may not see"
    own, chain = spent(cost["own"]), spent(cost["chain"])
    return f"{own} for its job{with_others}; {chain} for all {cost['chain']['jobs']} jobs from its sources{hidden}"


def spent(part: Mapping[str, Any]) -> str:
    """What some jobs cost, or how long they took where no pool had a price."""
    took = human_duration(part["seconds"])
    return f"{took} of workers" if part["cost"] is None else f"{part['cost']:.4f} ({took})"


def _standing(found: Mapping[str, Any]) -> str:
    if found["retired_at"]:
        return f" (retired at {when(found['retired_at'])}; there is a newer one)"
    return "" if found["is_current"] else " (there is a newer one)"


def _activity(activity: Mapping[str, Any], *, down: bool) -> str:
    algorithm = f"{activity['algorithm']} {activity['algorithm_version']}"
    return f"{'→' if down else '←'} {algorithm}, {when(activity['ended_at'])}, on {activity['host']}"


def _reference(end: Mapping[str, Any]) -> str:
    return f"{end['collection']}/{end.get('id') or end.get('granule')}"


def _granule(client: "Client", name: str, revision: int | None) -> dict[str, Any]:
    from armillary.client.client import segment

    path = "/".join(map(segment, granule_name(name)))
    found: dict[str, Any] = client.call("GET", f"/api/granules/{path}", params={"revision": revision})
    return found


def _search(client: "Client", query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    page = client.search(query)
    while True:
        yield from page["features"]
        following = next((link for link in page.get("links", []) if link["rel"] == "next"), None)
        if following is None or not page["features"]:
            return
        if following.get("method", "GET") == "POST":
            body = query | following["body"] if following.get("merge") else following["body"]
            page = client.call("POST", following["href"], body=body)
        else:
            page = client.call("GET", following["href"])


def _bbox(text: str) -> list[float]:
    try:
        box = [float(part) for part in text.split(",")]
    except ValueError:
        box = []
    if len(box) != 4:
        raise UsageError(f"--bbox {text!r} is not a box.", "Write west,south,east,north in degrees.", field="bbox")
    return box


def _time(item: Mapping[str, Any]) -> str:
    properties = item["properties"]
    if properties.get("start_datetime"):
        return f"{when(properties['start_datetime'])} – {when(properties['end_datetime'])[11:]}"
    return when(properties.get("datetime"))


def _place(item: Mapping[str, Any]) -> str:
    box: Sequence[float] | None = item.get("bbox")
    return ", ".join(f"{degrees:.4f}°" for degrees in box) if box else ""


def _download(client: "Client", files: Sequence[Mapping[str, Any]], target: Path) -> tuple[int, int]:
    from armillary.cli.progress import transfer_bar

    missing = [file for file in files if not _is_there(target / file["path"], file)]
    with transfer_bar("Downloading", sum(file["size"] for file in missing)) as advance:
        for file in missing:
            path = target / file["path"]
            if not path.resolve().is_relative_to(target.resolve()):
                raise UsageError(f"The server names a file outside of its granule: {file['path']}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            with part.open("w+b") as output:
                client.download(file["href"], output, sha256=file["sha256"], size=file["size"], progress=advance)
            part.replace(path)
    return len(missing), len(files) - len(missing)


def _is_there(path: Path, file: Mapping[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != file["size"]:
        return False
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    return found == str(file["sha256"])
