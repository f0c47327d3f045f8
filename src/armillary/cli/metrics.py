"""`armillary metrics …`."""

import click

from armillary.cli.context import Context, json_option, pass_context
from armillary.cli.group import Noun
from armillary.cli.output import show_json


@click.group(cls=Noun, short_help="The token by which Prometheus reads /metrics.")
def metrics() -> None:
    """What Prometheus reads at `/metrics`."""


@metrics.command("token", epilog="Example:  armillary metrics token > metrics.token")
@json_option
@pass_context
def token(context: Context, as_json: bool) -> None:
    """Make the token that reads `/metrics` and nothing else, and print it, this once. The one before is revoked."""
    with context.client() as client:
        made = client.call("POST", "/api/metrics/token")
    if as_json:
        show_json(made)
        return
    click.echo(made["token"])
    click.echo("Keep it in a file of mode 0600 that Prometheus reads (authorization: credentials_file).", err=True)
