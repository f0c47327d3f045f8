"""Run the programs of a batch system or of another machine, here or through a login, without ever waiting for ever."""

import asyncio
import contextlib
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from armillary.base.errors import TransientError

PATIENCE_SECONDS = 30.0
MAX_SAID = 600
# What such programs see of the server's environment. Batch systems copy all of theirs into the job, where others may read
# it, and ours may hold the database's password.
PASSED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "KRB5CCNAME",
    "LD_LIBRARY_PATH",
)
PASSED_PREFIXES = ("SLURM_", "PBS_", "LSF_", "LSB_", "FLUX_")


def passed(own: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that is handed on."""
    return {name: value for name, value in own.items() if name in PASSED or name.startswith(PASSED_PREFIXES)}


@dataclass(frozen=True)
class Said:
    """What a program answered."""

    code: int
    output: str
    error: str


@dataclass(frozen=True)
class Shell:
    """Where programs run: here, or where the words before them lead, as in `ssh login.example.org`."""

    through: tuple[str, ...] = ()

    async def run(self, words: Sequence[str], send: str = "", variables: Mapping[str, str] | None = None) -> str:
        """What it prints; `TransientError` with what it complained of if it fails."""
        said = await self.ask(words, send, variables)
        if said.code:
            complaint = " ".join((said.error or said.output).split())[-MAX_SAID:]
            raise TransientError(
                f"{words[0]} failed with exit code {said.code}: {complaint}",
                "Run it by hand as the server's user; what is wished is tried again.",
            )
        return said.output

    async def ask(self, words: Sequence[str], send: str = "", variables: Mapping[str, str] | None = None) -> Said:
        """The same, whatever its exit code; secrets go in through `send`, never on a command line."""
        # A remote shell splits one line of words again, so that line is quoted for it.
        command = [*self.through, shlex.join(words)] if self.through else list(words)
        # Files, not pipes: what a program starts and leaves behind may keep them open, and is not waited for.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaint:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=output,
                    stderr=complaint,
                    env={**passed(os.environ), **(variables or {})},
                )
            except OSError as error:
                raise TransientError(
                    f"{command[0]} cannot be run here: {error.strerror}.", "Install it, or correct the pool's options."
                ) from error
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await process.communicate(send.encode())
            except TimeoutError as error:
                raise TransientError(
                    f"{words[0]} did not answer within {PATIENCE_SECONDS:g} s.", "See to it."
                ) from error
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
            return Said(process.returncode or 0, _text(output), _text(complaint))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
