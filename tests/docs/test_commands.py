"""Every command in the documents exists as it is written there, and those of the tutorials are run.

In a tutorial every `sh` block is run, in order, in an empty folder. `<!-- file: PATH -->` before a block writes the
block there; `<!-- run: COMMAND -->` runs what the text only tells (a server that is started in another terminal).
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import click
import psutil
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("*/*/*.md")]
TUTORIALS = sorted(ROOT.glob("docs/tutorial/*.md"))
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
STEP = re.compile(
    r"^<!-- file: (?P<file>\S+) -->\s*^```\w*\n(?P<content>.*?)^```\s*$"
    r"|^<!-- run: (?P<hidden>[^\n]+) -->$"
    r"|^```sh\n(?P<shown>.*?)^```\s*$",
    re.MULTILINE | re.DOTALL,
)


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands(document: Path) -> Iterator[str]:
    """Every command line of Armillary or make in a document, in blocks and between backticks."""
    text = document.read_text()
    lines = [line for _, block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    for line in lines:
        for part in re.split(r"&&|;|\|", line.partition(" #")[0]):
            words = part.strip().removeprefix("$ ")
            if words.startswith(("armillary ", "make ")):
                yield words


@pytest.mark.parametrize("document", sorted(set(DOCUMENTS)), ids=short)
def test_every_command_is_known(document: Path) -> None:
    makefiles = [file for file in (ROOT / "Makefile", document.parent / "Makefile") if file.exists()]
    targets = {name for file in makefiles for name in re.findall(r"^([a-z]+):", file.read_text(), re.MULTILINE)}
    for command in commands(document):
        words = shlex.split(command.replace("…", ""))
        if words[0] == "make":
            named = [word for word in words[1:] if re.fullmatch(r"[a-z]+", word)]
            assert "-C" in words or set(named) <= targets, command
        else:
            check_armillary(words[1:], command)


def check_armillary(words: list[str], line: str) -> None:
    """Find the command that the words name, and every option in them."""
    from armillary.cli.main import cli

    command: click.Command = cli
    options = options_of(command)
    context = click.Context(command, info_name="armillary")
    for word in words:
        if command.context_settings.get("ignore_unknown_options"):
            return  # it hands its options to another program
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{line}: no option {word}"
        elif isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(context, word)
            if found is None:  # the value of an option, as in `armillary --home NEW restore`
                assert words[words.index(word) - 1].startswith("--") or not word.islower(), f"{line}: no {word}"
                continue
            command = found
            options |= options_of(command)
            context = click.Context(command, parent=context, info_name=word)


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=short)
def test_a_tutorial_does_what_it_says(tutorial: Path, tmp_path: Path) -> None:
    run = uuid4().hex
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": paths, "ARMILLARY_HOME": str(tmp_path / "home"), "ARMILLARY_DOCS_RUN": run}
    folder = tmp_path / "folder"
    folder.mkdir()
    try:
        for step in STEP.finditer(tutorial.read_text()):
            if step["file"]:
                (folder / step["file"]).parent.mkdir(parents=True, exist_ok=True)
                (folder / step["file"]).write_text(step["content"])
            else:
                execute(step["hidden"] or step["shown"], folder, environment)
    finally:
        end_processes_of(run)


def execute(script: str, folder: Path, environment: dict[str, str]) -> None:
    with (folder / "said.log").open("w+") as said:
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, check=False, timeout=300,
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said.seek(0)
        assert result.returncode == 0, f"{script}\n{said.read()}"


def end_processes_of(run: str) -> None:
    """End what the commands have left running: it bears our mark in its environment."""
    left = [process for process in psutil.process_iter() if is_marked(process, run)]
    for process in left:
        process.terminate()
    for process in psutil.wait_procs(left, timeout=20)[1]:
        process.kill()


def is_marked(process: psutil.Process, run: str) -> bool:
    try:
        return process.environ().get("ARMILLARY_DOCS_RUN") == run
    except (psutil.Error, OSError):
        return False
