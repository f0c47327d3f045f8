"""Show what work would take and cost."""

from collections.abc import Mapping
from typing import Any

import click

from armillary.base.units import human_duration
from armillary.cli.output import show_fields


def show_estimate(found: Mapping[str, Any]) -> None:
    for outcome in found["jobs"]:
        would = "It would be submitted" if outcome["outcome"] == "submitted" else "Nothing would be spent"
        click.echo(f"{would}. {outcome['reason']}")
    for one in found["estimates"]:
        if one["jobs"]:
            click.echo(f"{one['jobs']:,} × {one['algorithm']} {one['version']} in pool {one['pool']}. {one['basis']}")
    total = found["total"]
    if total["jobs"]:
        show_fields(
            [
                ("worker time", human_duration(total["seconds"]) if total["seconds"] is not None else "not known"),
                ("cost", cost_text(total["cost"]) or ("not known" if total["cost_limit"] is not None else "no price")),
                ("if each took what 9 of 10 do not exceed", cost_text(total["cost_p90"])),
                ("if each took its limit once", cost_text(total["cost_limit"])),
            ]
        )


def cost_text(cost: float | None) -> str:
    return "" if cost is None else f"{cost:.4f}"
