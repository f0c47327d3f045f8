"""Progress bars with rates; only where somebody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def transfer_bar(what: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
    """A bar over bytes; what it yields is told of every piece."""
    if not sys.stderr.isatty() or not size_bytes:
        yield lambda _count: None
        return
    with bars() as progress:
        task = progress.add_task(what, total=size_bytes, note="")
        yield lambda count: progress.update(task, advance=count)


def bars() -> "Progress":
    """A drawing of bytes done, their rate and the time left, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
