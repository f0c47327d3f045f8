"""The command line as a whole: light, complete, and never a traceback."""

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from armillary.base import errors
from armillary.cli import main as main_module
from armillary.cli.main import COMMANDS, cli, main

HEAVY = {"rich", "httpx2", "yaml", "fastapi", "pydantic", "psycopg", "obstore", "numpy", "asyncio", "stamina", "psutil"}


def loaded_by(*arguments: str) -> set[str]:
    script = (
        "import sys\n"
        "from armillary.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('\\n'.join(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["job", "--help"], ["ingest", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert not loaded_by(*arguments) & HEAVY


def test_an_error_loads_nothing_that_draws() -> None:
    assert not loaded_by("granule", "show", "no-slash") & {"rich", "yaml", "fastapi"}


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))
    else:
        yield path, command


ALL = dict(commands())


def test_the_lines_of_the_help_are_those_of_the_commands() -> None:
    context = click.Context(cli)
    for section in COMMANDS.values():
        for name, (_, line) in section.items():
            command = cli.get_command(context, name)
            assert command is not None
            assert command.get_short_help_str(300) == line
            assert command.name == name


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.help
    assert command.epilog
    assert f"armillary {' '.join(path)}" in command.epilog.replace("armillary --home", "armillary").replace(
        "/data/new ", ""
    )
    assert CliRunner().invoke(cli, [*path, "--help"]).exit_code == 0 or path == ("serve",)


SILENT_PATHS = {("worker", "release"), ("worker", "start"), ("job", "download")}
SILENT = {"serve", "completion", "down", "backup", "restore", "logs", "upgrade", "enable", "disable", "pause", "resume"}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_that_answers_has_json(path: tuple[str, ...]) -> None:
    options = {option for parameter in ALL[path].params for option in parameter.opts}
    assert ("--json" in options) == (path[-1] not in SILENT and path not in SILENT_PATHS)


# Failures ------------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.delenv("ARMILLARY_DEBUG", raising=False)
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert isinstance(left.value.code, int)
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["jop"], 2, "There is no command 'jop'. Did you mean job?"),
        (["jobs"], 2, "Did you mean job?"),
        (["zzz"], 2, "`armillary --help` lists the commands."),
        (["job", "lst"], 2, "No such command 'lst'. Did you mean 'list'?"),
        (["job", "list", "--stat", "x"], 2, "No such option '--stat'. Did you mean '--state'?"),
        (["granule", "show", "x"], 2, "'x' names no granule. Write collection/id."),
        (["job", "show", "7"], 2, "'7' is not the id of a job."),
        (["run", "a", "--param", "b"], 2, "--param 'b' is not understood. Write NAME=VALUE."),
        (["run", "a", "--input", "b"], 2, "--input 'b' is not understood."),
        (["apply", "/does/not/exist"], 2, "'/does/not/exist' does not exist."),
        (["--url", "ftp://x", "status"], 2, "ftp://x"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.setenv("ARMILLARY_HOME", "/does/not/exist")
    found, text = run(monkeypatch, capsys, *arguments)
    assert (found, said in text) == (code, True), text
    assert "Traceback" not in text


@pytest.mark.parametrize("kind", errors.KINDS.values(), ids=errors.KINDS)
def test_the_exit_code_is_that_of_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[errors.ArmillaryError]
) -> None:
    fail_with(monkeypatch, kind("It failed.", "Mend it."))
    assert run(monkeypatch, capsys, "status") == (kind.exit_code, "armillary: It failed. Mend it.\n")
    code, text = run(monkeypatch, capsys, "status", "--json")
    assert code == kind.exit_code
    assert json.loads(text)["type"] == f"urn:armillary:error:{kind.kind}"


def test_a_bug_is_a_sentence_and_with_debug_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, KeyError("nobody thought of it"))
    code, text = run(monkeypatch, capsys, "status")
    assert code == 1
    assert "KeyError: 'nobody thought of it'. This is a bug." in text
    monkeypatch.setenv("ARMILLARY_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["status"])


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 0)])
def test_an_interrupt_and_a_reader_that_left_are_quiet(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    monkeypatch.setattr(main_module.os, "dup2", lambda *_: None)
    fail_with(monkeypatch, error)
    found, text = run(monkeypatch, capfd, "status")
    assert found == code
    assert "Traceback" not in text


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("armillary.cli.context.Context.client", fail)
    monkeypatch.setattr(click, "style", lambda text, **_: text)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_us(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell], catch_exceptions=False)
    assert "_ARMILLARY_COMPLETE" in script.output
    assert shell in script.output


def test_the_shell_completes_nouns_verbs_and_options() -> None:
    def complete(line: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "armillary.cli.main"],
            env={"_ARMILLARY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)},
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    assert "plain,job" in complete("armillary jo")
    assert "plain,cancel" in complete("armillary job can")
    assert "plain,--watch" in complete("armillary ingest --wat")
