"""Write the reference pages that the code itself knows: `python docs/generate.py`; a test compares them."""

from pathlib import Path

import click

from armillary.base.settings import Settings, names
from armillary.cli.main import COMMANDS, cli
from armillary.metrics.metric import CURRENT, HOSTS, SERVER, TALLIED

REFERENCE = Path(__file__).parent / "reference"


def settings() -> str:
    """Every setting with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "Made by `python docs/generate.py`. A value comes from `<home>/config.yaml`, then from the environment",
        "(`web.port` is `ARMILLARY_WEB__PORT`), then from a flag; `armillary config show` tells which.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for name in names():
        model, _, field = name.rpartition(".")
        owner = Settings.model_fields[model].annotation if model else Settings
        assert owner is not None
        about = owner.model_fields[field]
        lines.append(f"| `{name}` | `{about.default}` | {about.description} |")
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """Every command with its help, its options and examples."""
    lines = [
        "# The command line",
        "",
        "Made by `python docs/generate.py`. [The guide](../guides/command-line.md) says what all commands have in common.",
        "",
    ]
    for section, commands in COMMANDS.items():
        lines += [f"## {section}", ""]
        for name in commands:
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            lines += described(command, f"armillary {name}")
    return "\n".join(lines)


def paragraphs(text: str) -> list[str]:
    """A help text as Markdown; what click leaves as it stands is a block."""
    lines = []
    for paragraph in text.split("\n\n"):
        is_block = paragraph.startswith("\b")
        body = [line.strip() for line in paragraph.replace("\b", "").splitlines() if line.strip()]
        lines += ["```", *body, "```", ""] if is_block else [" ".join(body), ""]
    return lines


def described(command: click.Command, path: str) -> list[str]:
    """One command, or those of a group."""
    help_text = paragraphs(command.help or "")
    if isinstance(command, click.Group):
        inner = [line for name, verb in command.commands.items() for line in described(verb, f"{path} {name}")]
        return [*help_text, *inner]
    arguments = " ".join(
        one.make_metavar(click.Context(command)) for one in command.params if one.param_type_name == "argument"
    )
    lines = [f"### {' '.join(filter(None, [path, arguments]))}", "", *help_text]
    for parameter in command.params:
        record = parameter.get_help_record(click.Context(command)) if isinstance(parameter, click.Option) else None
        if record:
            lines.append(f"- `{record[0]}` {' '.join(record[1].split())}")
    lines += [""] if lines[-1] else []
    return [*lines, "```sh", *getattr(command, "examples", []), "```", ""]


def metrics() -> str:
    """Every metric with its labels and meaning."""
    lines = [
        "# Metrics",
        "",
        "Made by `python docs/generate.py`. What `GET /metrics` answers in the text format of Prometheus, beside the library's",
        "`process_…` and `python_…`; [the guide](../guides/monitor.md) says how to read it and what it costs.",
        "",
    ]
    for title, about, found in (
        (
            "Added up from the history",
            "They go on where they were after a restart, a crash or a change of servers.",
            TALLIED,
        ),
        ("The present", "Asked of the database, so that it takes at most a tenth of its time.", CURRENT),
        ("The machines of workers", "Told in heartbeats, every ten seconds or less often in a large fleet.", HOSTS),
        ("The server that is asked", "`part=server` gives these alone, `part=instance` all others.", SERVER),
    ):
        lines += [f"## {title}", "", about, "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
        for one in found:
            labels = ", ".join(f"`{label}`" for label in one.labels)
            lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.meaning} |")
        lines.append("")
    return "\n".join(lines)


PAGES = {"settings.md": settings, "cli.md": command_line, "metrics.md": metrics}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
