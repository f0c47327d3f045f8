"""A real Slurm on loopback: munged, slurmctld and slurmd from Debian, with ports, keys and folders of their own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=30
MinJobAge=300
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 Gres=gpu:2
PartitionName=short Nodes=ALL MaxTime=01:00:00 Default=YES
PartitionName=shut Nodes=ALL State=DOWN
"""


def missing() -> str:
    """Why there can be no Slurm here; empty if there can."""
    absent = [program for program in PROGRAMS if not (shutil.which(program) or shutil.which(f"/usr/sbin/{program}"))]
    if absent:
        return f"{', '.join(absent)} not found: apt install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd needs root"


class Slurm:
    """One controller with one node."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="armillary-slurm-"))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.config = self.folder / "slurm.conf"

    @property
    def variables(self) -> dict[str, str]:
        """What clients need to find it."""
        return {"SLURM_CONF": str(self.config)}

    def start(self) -> None:
        """Return once its node is idle."""
        self.folder.chmod(0o755)
        host = socket.gethostname().partition(".")[0]
        ports = {name: _free_port() for name in ("controller_port", "node_port")}
        self.config.write_text(CONFIG.format(folder=self.folder, host=host, **ports))
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        munge = self.folder / "munge"
        munge.mkdir()
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        shutil.chown(munge, "munge")
        shutil.chown(key, "munge")
        places = {"key-file": key, "pid-file": munge / "pid", "seed-file": munge / "seed", "log-file": munge / "log"}
        # The socket's folder must be open to all who sign, which munged would refuse by itself.
        shutil.chown(self.folder, "munge")
        self._run(
            ["/usr/sbin/munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket",
             *(f"--{name}={path}" for name, path in places.items())], user="munge",
        )  # fmt: skip
        self._until(lambda: (self.folder / "munge.socket").exists())
        self._run(["/usr/sbin/slurmctld", "-D", "-f", str(self.config)])
        self._run(["/usr/sbin/slurmd", "-D", "-f", str(self.config), "-N", host])
        self._until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T", "-p", "short"))

    def stop(self) -> None:
        """End all jobs and all daemons."""
        self.ask("scancel", "--user=root", "--signal=KILL", "--full")
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *words: str) -> str:
        """What a client prints."""
        return subprocess.run(words, env=os.environ | self.variables, capture_output=True, text=True, timeout=60).stdout

    def queue(self) -> str:
        """All jobs that have not ended."""
        return self.ask("squeue", "--noheader", "--array", "--format=%i %j %T %r")

    def _run(self, words: Sequence[str], user: str | None = None) -> None:
        log = (self.folder / f"{Path(words[0]).name}-{len(self.processes)}.out").open("wb")
        environment = os.environ | self.variables
        self.processes.append(
            subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True, user=user)
        )

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            said = "\n".join(f"{path}: {path.read_text()[-600:]}" for path in self.folder.glob("*.out"))
            assert time.monotonic() < deadline, f"Slurm did not start. {said}"
            assert all(process.poll() is None for process in self.processes), said
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
