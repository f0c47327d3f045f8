"""Workers on machines that are reached by SSH: each a process in a session of its own, which outlives the connection."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from armillary.base.errors import ArmillaryError, UsageError
from armillary.pools.launch import Site, drop_tokens, read_site, save_tokens, script
from armillary.pools.options import Options
from armillary.pools.provider import Found, Known, PoolProvider, StartRequest
from armillary.pools.shell import Shell

SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15")
# The script comes by standard input, so that no command line but the worker's own has the start's id in it.
START = 'cat > "$1/$2.sh" && { setsid nohup sh "$1/$2.sh" > "$1/$2.log" 2>&1 < /dev/null & }'
LIST = ["ps", "-A", "-ww", "-o", "pid=,args="]
# A number that another process has by now is left alone: that one's command line has not the start's id in it.
STOP = """while read -r pid start; do
  case "$(ps -ww -o args= -p "$pid")" in
    *"$start"*) if [ "$1" = 1 ]; then pkill -KILL -s "$pid"; else kill -TERM "$pid"; fi ;;
  esac
done; true"""


@dataclass
class SshProvider:
    """A reference is `host:pid:start`; a worker is known by the start's id in its command line."""

    hosts: tuple[str, ...]
    per_host: int
    site: Site
    ssh: tuple[str, ...] = SSH
    busy: Counter[str] = field(default_factory=Counter)  # as last seen; the next look corrects it

    async def start(self, requests: Sequence[StartRequest]) -> Mapping[UUID, str]:
        """Each on the host with the fewest of ours; a host that does not answer is passed over."""
        started: dict[UUID, str] = {}
        problem: ArmillaryError = UsageError(
            f"All {len(self.hosts)} hosts have {self.per_host} workers.", "Lower workers.max, or raise ssh.per_host."
        )
        for request in requests:
            for host in sorted(self.hosts, key=lambda host: self.busy[host]):
                if self.busy[host] >= self.per_host:
                    continue
                try:
                    started[request.start] = await self._start(host, request)
                    self.busy[host] += 1
                    break
                except ArmillaryError as error:
                    problem = error
        if not started and requests:
            raise problem
        return started

    async def stop(self, references: Sequence[str], *, force: bool = False) -> None:
        """SIGTERM to the runner, or SIGKILL to its session."""
        parts = [reference.rsplit(":", 2) for reference in references]
        for host in sorted({part[0] for part in parts}):
            lines = "".join(f"{pid} {start}\n" for on, pid, start in parts if on == host)
            await self._on(host).run(["sh", "-c", STOP, "sh", str(int(force))], lines)

    async def check(self, starts: Sequence[Known]) -> Mapping[UUID, Found]:
        """One look at each host; what is on one that does not answer is taken to live: its silence is noticed elsewhere."""
        found: dict[UUID, Found] = {}
        looks = await asyncio.gather(*(self._look(host, starts) for host in self.hosts))
        for host, seen in zip(self.hosts, looks, strict=True):
            self.busy[host] = len(seen)
            found |= seen
        return found

    async def _start(self, host: str, request: StartRequest) -> str:
        words, lines = save_tokens(self.site, [request])
        shell = self._on(host)
        await shell.run(words, lines)
        start = str(request.start)
        await shell.run(["sh", "-c", START, "sh", self.site.folder, start], script(self.site, [request], "0"))
        for _ in range(50):
            processes = await self._processes(host)
            if found := _found(host, processes, [Known(request.start, None)]):
                return found[request.start].reference
            if not any(start in command for _, command in processes):
                break
            await asyncio.sleep(0.1)
        words, lines = drop_tokens(self.site, [request])
        await shell.ask(words, lines)
        said = await shell.ask(["tail", "-n", "3", f"{self.site.folder}/{start}.log"])
        raise UsageError(
            f"The worker on {host} ended at once: {said.output.strip()}", "Correct ssh.command or ssh.setup."
        )

    async def _look(self, host: str, starts: Sequence[Known]) -> dict[UUID, Found]:
        try:
            return _found(host, await self._processes(host), starts)
        except ArmillaryError as error:
            return {
                one.start: Found(one.reference, "running", f"{host} does not answer: {error.message}")
                for one in starts
                if one.reference and one.reference.rsplit(":", 2)[0] == host
            }

    async def _processes(self, host: str) -> list[tuple[str, str]]:
        """Numbers and command lines."""
        parts = (line.strip().partition(" ") for line in (await self._on(host).run(LIST)).splitlines())
        return [(pid, command) for pid, _, command in parts]

    def _on(self, host: str) -> Shell:
        return Shell((*self.ssh, host, "--"))


def make(document: object, _folder: Path) -> PoolProvider:
    """The provider that a pool's `ssh:` describes."""
    options = Options(document, "ssh")
    site = read_site(options, Path(".armillary-workers"))
    hosts = options.lines("hosts")
    if not hosts or any(not host or host.startswith("-") or " " in host for host in hosts):
        raise UsageError("ssh.hosts names no machines.", "Write hosts: [user@machine, …].", field="ssh.hosts")
    provider = SshProvider(hosts, options.whole("per_host", 1, 1, 1000), site, options.words("ssh", SSH))
    options.end()
    if site.through:
        raise UsageError(
            "ssh.through is not for this provider.", "Use ProxyJump in ssh's own configuration.", field="ssh.through"
        )
    return provider


def _found(host: str, processes: Sequence[tuple[str, str]], starts: Sequence[Known]) -> dict[UUID, Found]:
    asked = {str(one.start): one for one in starts}
    found: dict[UUID, Found] = {}
    for pid, command in processes:
        words = command.split()
        # Not the shell that starts it, which is told the id as well.
        for start in asked.keys() & {word for option, word in pairwise(words) if option == "--start"}:
            reference = f"{host}:{pid}:{start}"
            # The runner is the eldest; others that carry its command line are children of it.
            if asked[start].start not in found and asked[start].reference in (None, reference):
                found[asked[start].start] = Found(reference)
    return found
