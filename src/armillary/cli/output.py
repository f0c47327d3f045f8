"""How answers look: JSON for programs, tables that fit a terminal, plain columns for a pipe."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from armillary.base.units import human_duration

Row = Mapping[str, Any]
Column = tuple[str, str | Callable[[Row], Any]]
"""A title, and the key of a row's value (dotted for an inner one) or what makes it."""

STATE_COLOURS = {
    "succeeded": "green", "acknowledged": "green", "created": "green", "revised": "green", "live": "green",
    "running": "cyan", "submitted": "cyan", "sent": "cyan", "waiting": "yellow", "queued": "yellow", "held": "yellow",
    "draining": "yellow", "failed": "red", "rejected": "red", "refused": "red", "lost": "red", "gone": "red",
}  # fmt: skip


def show_json(document: Any) -> None:
    """One document."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def show_list(rows: Iterable[Row], columns: Sequence[Column], *, as_json: bool, nothing: str, limit: int = 0) -> None:
    """A list: one JSON document a line as they come, or a table; where it is empty, say so."""
    rows = islice(rows, limit) if limit else rows
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False, default=str))
        return
    rows = list(rows)
    if not rows:
        click.echo(nothing, err=True)
        return
    show_table([title for title, _ in columns], [[_cell(row, key) for _, key in columns] for row in rows])
    if limit and len(rows) == limit:
        click.echo(f"The first {limit}; --limit shows more.", err=True)


def show_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal, or as wide as it takes where nobody looks."""
    if not sys.stdout.isatty():
        rows = [[cell.replace("\n", "; ") for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        for row in (titles, *rows):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo(line.rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        # Text, not markup: a name may hold square brackets.
        table.add_row(*(Text(cell, style=STATE_COLOURS.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def show_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """One thing, a field a line; what is empty is left out."""
    shown = [(title, text(value)) for title, value in fields if value not in (None, "", [], {}, ())]
    width = max((len(title) for title, _ in shown), default=0)
    for title, value in shown:
        first, *more = value.splitlines() or [""]
        click.echo(f"{click.style(title.ljust(width), bold=True)}  {first}")
        for line in more:
            click.echo(f"{'':{width}}  {line}")


def text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "\n".join(map(text, value))
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def when(value: Any) -> str:
    """A time in UTC, to the second."""
    if not value:
        return ""
    return datetime.fromisoformat(str(value)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def how_long(start: Any, end: Any) -> str:
    """The time between two times; until now, if it has not ended."""
    if not start:
        return ""
    until = datetime.fromisoformat(str(end)) if end else datetime.now(UTC)
    return human_duration((until - datetime.fromisoformat(str(start))).total_seconds())


def counts(numbers: Mapping[str, int]) -> str:
    """`3 queued, 1 running`; what there is none of is left out."""
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number)


def state(value: str) -> str:
    """A state in its colour."""
    return click.style(value, fg=STATE_COLOURS.get(value))


def _cell(row: Row, key: str | Callable[[Row], Any]) -> str:
    if callable(key):
        return text(key(row))
    value: Any = row
    for step in key.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return text(value)
