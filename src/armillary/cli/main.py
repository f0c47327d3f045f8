"""The command `armillary`: its groups, loaded when they are used, and how failures are shown."""

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from armillary import __version__
from armillary.base.errors import ArmillaryError, UsageError
from armillary.cli.context import Context

# Section → name → (where it is, one line of help). The line is here so that `--help` loads none of them.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Server": {
        "up": ("server:up", "Start a server on this machine and say where it answers."),
        "down": ("server:down", "Stop the server of this home in good order."),
        "status": ("server:status", "Show what runs, what waits and what is wrong."),
        "finding": ("finding:finding", "What is wrong with the machinery, since when, and what to do."),
        "doctor": ("server:doctor", "Check that records and bytes agree."),
        "serve": ("server:serve", "Run one server process of chosen roles."),
        "metrics": ("metrics:metrics", "The token by which Prometheus reads /metrics."),
        "config": ("server:config", "Settings and where they come from."),
        "backup": ("server:backup", "Write database and store into a new folder."),
        "restore": ("server:restore", "Read a backup into a new home."),
        "database": ("server:database", "The embedded database."),
    },
    "Definitions": {
        "apply": ("definition:apply", "Put YAML definitions and algorithm folders into force."),
        "export": ("definition:export", "Write out all definitions as YAML."),
    },
    "Data": {
        "ingest": ("ingest:ingest", "Take files and folders in as granules."),
        "granule": ("granule:granule", "Find, show and download granules, and their lineage."),
        "collection": ("collection:collection", "Kinds of granules."),
    },
    "Work": {
        "run": ("job:run", "Run an algorithm on granules."),
        "algorithm": ("algorithm:algorithm", "Registered algorithms, and testing one that is not."),
        "job": ("job:job", "Jobs, their logs, and steering them."),
        "cost": ("job:cost", "What jobs cost, by day, group, algorithm and more."),
        "rule": ("rule:rule", "Rules, their firings, and why they fired or not."),
        "pool": ("pool:pool", "Pools of workers."),
        "worker": ("pool:worker", "The programs that run jobs."),
        "delivery": ("delivery:delivery", "What was sent to archives, and what they answered."),
    },
    "This program": {
        "completion": ("completion:completion", "Print the completion script of a shell."),
    },
}

EXIT_INTERRUPTED = 130


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, in the order of the help."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command of this name."""
        for section in COMMANDS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name][0].partition(":")
                command: click.Command = getattr(import_module(f"armillary.cli.{module}"), attribute)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of a plural or a slip of the keyboard say what may be meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            import difflib

            close = difflib.get_close_matches(name, self.list_commands(ctx), 2, 0.6)
            remedy = f"Did you mean {' or '.join(close)}?" if close else "`armillary --help` lists the commands."
            raise UsageError(f"There is no command {name!r}.", remedy)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The commands by section."""
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, help_line) for name, (_, help_line) in section.items()])


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "auto_envvar_prefix": None},
    epilog="Begin with `armillary up`; then, in another terminal, `armillary apply DIR` and `armillary ingest PATH`.",
)
@click.version_option(__version__, "-V", "--version", prog_name="armillary")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Where the instance on this machine keeps its data.  [default: ARMILLARY_HOME or ~/.armillary]",
)
@click.option("--url", help="The server to speak to.  [default: ARMILLARY_URL, or what runs on the home]")
@click.pass_context
def cli(ctx: click.Context, home: Path | None, url: str | None) -> None:
    """Armillary, a science data system: raw data in, verified and catalogued products out.

    Every command has --help with examples. With --json a command prints one JSON document, or one a line for a list.
    A token for another server than your own is taken from ARMILLARY_TOKEN.

    Exit codes: 0 done, 1 failed, 2 the request cannot be meant, 3 not signed in or not allowed, 4 not found, 5 conflict,
    6 try again later.
    """
    ctx.obj = Context(home, url)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and leave with the exit code of its class."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    try:
        code = cli.main(arguments, prog_name="armillary", standalone_mode=False)
        sys.stdout.flush()
    except ArmillaryError as error:
        code = _show(error, as_json)
    except click.exceptions.Abort:
        code = _interrupted()
    except click.ClickException as error:
        code = _show(_as_usage_error(error), as_json)
    except KeyboardInterrupt:
        code = _interrupted()
    except BrokenPipeError:
        # The reader of our output has left (`| head`): nobody wants to hear more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except Exception as error:  # whatever is left is our bug; the person gets a sentence, a developer the traceback
        if os.environ.get("ARMILLARY_DEBUG"):
            raise
        remedy = "This is a bug. Set ARMILLARY_DEBUG=1 to see where, and report it."
        code = _show(ArmillaryError(f"{type(error).__name__}: {error}".rstrip(": ") + ".", remedy), as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _show(error: ArmillaryError, as_json: bool) -> int:
    if os.environ.get("ARMILLARY_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if as_json:
        click.echo(json.dumps(error.problem(), default=str), err=True)
    else:
        click.echo(f"{click.style('armillary:', fg='red', bold=True)} {error}", err=True)
    return error.exit_code


def _as_usage_error(error: click.ClickException) -> UsageError:
    ctx = getattr(error, "ctx", None)
    remedy = f"See `{ctx.command_path} --help`." if ctx is not None else ""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return UsageError("Nothing was asked.", "Choose a command from above.")
    message = error.format_message().strip()
    return UsageError(message if message.endswith((".", "?")) else f"{message}.", remedy)


def _interrupted() -> int:
    click.echo("armillary: interrupted.", err=True)
    return EXIT_INTERRUPTED


if __name__ == "__main__":
    main()
