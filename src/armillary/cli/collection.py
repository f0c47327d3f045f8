"""`armillary collection …`."""

import click

from armillary.cli.context import Context, json_option, pass_context
from armillary.cli.group import Noun
from armillary.cli.output import show_fields, show_json, show_list, when


@click.group(cls=Noun, short_help="Kinds of granules.")
def collection() -> None:
    """Kinds of granules: how they are recognised and read. They are defined by `armillary apply`."""


@collection.command("list", epilog="Example:  armillary collection list")
@json_option
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List all collections."""
    with context.client() as client:
        show_list(
            client.collections(),
            [
                ("collection", "id"),
                ("title", "title"),
                ("recognised by", lambda row: ", ".join((row["spec"].get("recognise") or {}).keys())),
                ("metadata", "spec.metadata"),
                ("on change", lambda row: row["spec"].get("on_change", "refuse")),
            ],
            as_json=as_json,
            nothing="There are no collections; `armillary apply` defines some.",
        )


@collection.command("show", epilog="Example:  armillary collection show sentinel-1-slc")
@click.argument("collection_id", metavar="COLLECTION")
@json_option
@pass_context
def show(context: Context, collection_id: str, as_json: bool) -> None:
    """Show one collection as it was defined."""
    from armillary.client.client import segment

    with context.client() as client:
        found = client.call("GET", f"/api/collections/{segment(collection_id)}")
    if as_json:
        show_json(found)
        return
    from armillary.cli.definition import text_of

    show_fields(
        [
            ("collection", found["id"]),
            ("version", found["version"]),
            ("group", found["group"]),
            ("changed", when(found["updated"])),
            ("definition", text_of(found["spec"])),
        ]
    )
