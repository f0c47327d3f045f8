"""Completion of commands, options and their values, for bash, zsh and fish."""

import os
from pathlib import Path

import click

from armillary.base.errors import UsageError
from armillary.cli.group import Verb

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Verb,
    epilog='Example:  eval "$(armillary completion bash)"',
    short_help="Print the completion script of a shell.",
)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the completion script of SHELL, yours if it is not named.

    \b
    bash   eval "$(armillary completion bash)"     in ~/.bashrc
    zsh    eval "$(armillary completion zsh)"      in ~/.zshrc
    fish   armillary completion fish | source      in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from armillary.cli.main import cli

    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise UsageError(f"There is no completion for the shell {shell!r}.", f"Name one of {', '.join(SHELLS)}.")
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "armillary", "_ARMILLARY_COMPLETE").source())
