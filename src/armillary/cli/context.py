"""What every command works with: which home, which server, and how its answer is shown."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from armillary.base.errors import UsageError

if TYPE_CHECKING:
    from armillary.client.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Context:
    """The options that stand before every command."""

    home_given: Path | None = None
    url: str | None = None

    @property
    def home(self) -> Path:
        """The home of the instance on this machine."""
        from armillary.client import auth

        return (self.home_given or auth.default_home()).expanduser().absolute()

    def client(self, patience_seconds: float = 10.0) -> "Client":
        """A line to the server that is meant; a person waits less long than a runner."""
        import stamina.instrumentation

        from armillary.client import auth
        from armillary.client.client import Client

        # Retries are no news to a person, and must not get between the lines of `--json`.
        stamina.instrumentation.set_on_retry_hooks([])
        found = auth.find(self.url, home=self.home)
        return Client(found.url, found.token, patience_seconds=patience_seconds)


pass_context = click.make_pass_decorator(Context)


def json_option(command: Command) -> Command:
    """`--json`, passed on as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def limit_option(command: Command) -> Command:
    """`--limit`, for lists."""
    option = click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
    return option(command)


def granule_name(text: str) -> tuple[str, str]:
    """`collection/id` in its two parts."""
    collection, slash, granule = text.partition("/")
    if not slash or not collection or not granule:
        raise UsageError(f"{text!r} names no granule.", "Write collection/id.", field="granule")
    return collection, granule


class Id(click.ParamType[str]):
    """The id that a list shows."""

    def __init__(self, noun: str) -> None:
        self.name = noun

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Refuse what cannot be one before the server is asked."""
        try:
            return str(uuid.UUID(value))
        except ValueError as error:
            remedy = f"`armillary {self.name} list` shows those that there are."
            raise UsageError(f"{value!r} is not the id of a {self.name}.", remedy, field=self.name) from error


class GranuleName(click.ParamType[str]):
    """`collection/id`."""

    name = "collection/id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Refuse what names no granule before the server is asked."""
        granule_name(value)
        return value
