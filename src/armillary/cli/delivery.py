"""`armillary delivery …`: what was sent to archives, and what they answered."""

from collections.abc import Sequence
from typing import Any

import click

from armillary.base.units import human_duration
from armillary.cli.context import Context, GranuleName, Id, json_option, limit_option, pass_context
from armillary.cli.group import Noun
from armillary.cli.output import Column, show_fields, show_json, show_list, state, when

STATES = ("intended", "sent", "acknowledged", "rejected", "failed")
COLUMNS: Sequence[Column] = (
    ("delivery", "id"),
    ("destination", "destination"),
    ("granule", lambda row: f"{row['collection']}/{row['granule']}"),
    ("state", "state"),
    ("sent", lambda row: when(row.get("sent_at"))),
    ("answered", lambda row: when(row.get("acknowledged_at"))),
    ("reason", "reason"),
)


@click.group(cls=Noun, short_help="What was sent to archives, and what they answered.")
def delivery() -> None:
    """Deliveries: granules sent to a destination, which `armillary apply` defines (kind: delivery)."""


@delivery.command(
    "list", epilog="Examples:  armillary delivery list --state failed   armillary delivery list --granule product/x"
)
@click.option("--state", "wanted", type=click.Choice(STATES), help="Only in this state.")
@click.option("--granule", metavar="COLLECTION/ID", type=GranuleName(), help="Only of this granule.")
@limit_option
@json_option
@pass_context
def list_(context: Context, wanted: str | None, granule: str | None, limit: int, as_json: bool) -> None:
    """List deliveries, newest first."""
    with context.client() as client:
        params = {"state": wanted, "granule": granule, "limit": limit}
        found = client.call("GET", "/api/deliveries", params=params)["deliveries"]
    show_list(found, COLUMNS, as_json=as_json, nothing="There are no such deliveries.", limit=limit)


@delivery.command("show", epilog="Example:  armillary delivery show 01991f3c-…")
@click.argument("delivery_id", metavar="DELIVERY", type=Id("delivery"))
@json_option
@pass_context
def show(context: Context, delivery_id: str, as_json: bool) -> None:
    """Show a delivery: what was sent and what came back."""
    from armillary.client.client import segment

    with context.client() as client:
        found: dict[str, Any] = client.call("GET", f"/api/deliveries/{segment(delivery_id)}")
    if as_json:
        show_json(found)
        return
    show_fields(
        [
            ("delivery", found["id"]),
            ("destination", found["destination"]),
            ("granule", f"{found['collection']}/{found['granule']} (revision {found['revision']})"),
            ("state", state(found["state"])),
            ("reason", found["reason"]),
            ("job", found["job"]),
            ("sent", when(found["sent_at"])),
            ("answered", when(found["acknowledged_at"])),
            ("message", found["sent"]),
            ("receipt", found["receipt"]),
        ]
    )


@delivery.command("send", epilog="Example:  armillary delivery send archive interferogram/20260301-20260313")
@click.argument("destination")
@click.argument("names", metavar="COLLECTION/ID...", nargs=-1, required=True, type=GranuleName())
@json_option
@pass_context
def send(context: Context, destination: str, names: tuple[str, ...], as_json: bool) -> None:
    """Send granules to a destination. One that is on its way or there already is not sent twice."""
    with context.client() as client:
        body = {"destination": destination, "granules": list(names)}
        found = client.call("POST", "/api/deliveries", body=body)["deliveries"]
    show_list(found, COLUMNS, as_json=as_json, nothing="Nothing was sent.")


@delivery.command("unacknowledged", epilog="Example:  armillary delivery unacknowledged")
@limit_option
@json_option
@pass_context
def unacknowledged(context: Context, limit: int, as_json: bool) -> None:
    """List what was sent and never answered, the oldest first."""
    with context.client() as client:
        found = client.call("GET", "/api/deliveries/unacknowledged", params={"limit": limit})["deliveries"]
    columns = [*COLUMNS[:3], ("sent", lambda row: when(row.get("sent_at"))), ("waited", _waited)]
    show_list(found, columns, as_json=as_json, nothing="Everything that was sent was answered.", limit=limit)


def _waited(row: Any) -> str:
    return human_duration(row["waited"])
