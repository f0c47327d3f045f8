"""PBS, LSF and Flux against programs that answer in their documented formats.

The answers were written after each system's manual, not recorded from a running one: what passes here is our reading of
the manuals. The programs keep their jobs as files, run them as processes, and speak the system's language.
"""

import json
import os
import sys
import textwrap

import pytest

from armillary.algorithms.algorithm import Resources
from armillary.base.errors import TransientError
from armillary.base.ids import new_id
from armillary.pools.provider import Known, StartRequest, consecutive
from armillary.pools.providers import flux, lsf, pbs, slurm
from armillary.pools.shell import Shell
from armillary.testing.conformance.pool_provider import PoolProviderConformance

# One program for all: it keeps jobs in a folder, and prints as the program whose name it is called by.
FAKE = """
import json, os, pathlib, signal, subprocess, sys
jobs = pathlib.Path(os.environ["HOME"]) / "jobs"
jobs.mkdir(exist_ok=True)
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]

def state(job):
    try:
        os.kill(job["pid"], 0)
        return open(f"/proc/{job['pid']}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False

def submit(title):
    number = 100 + len(list(jobs.iterdir()))
    script = sys.stdin.read()
    pid = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL).pid
    (jobs / str(number)).write_text(json.dumps({"name": title, "pid": pid, "id": number}))
    return number

def all_jobs():
    return [json.loads(path.read_text()) for path in sorted(jobs.iterdir())]

def end(references, number):
    for job in all_jobs():
        if any(str(job["id"]) == one.partition(".")[0].lstrip("f") for one in references) and state(job):
            os.killpg(job["pid"], number)
            try:
                os.kill(job["pid"], number)
            except OSError:
                pass

if name == "qsub":
    print(f"{submit(words[words.index('-N') + 1])}.pbs01")
elif name == "qstat":
    print(json.dumps({"timestamp": 1772366400, "pbs_version": "2022.1.3", "pbs_server": "pbs01", "Jobs": {
        f"{job['id']}.pbs01": {"Job_Name": job["name"], "Job_Owner": "me@login", "job_state": "R" if state(job) else "F",
                               "queue": "workq", "comment": "Job run at Sun Mar 01 at 12:00 on (n1:ncpus=1)"}
        for job in all_jobs()}}))
elif name == "qdel":
    end(words, signal.SIGKILL if "force" in words else signal.SIGTERM)
elif name == "bsub":
    print(f"Job <{submit(words[words.index('-J') + 1])}> is submitted to default queue <normal>.")
elif name == "bjobs":
    for job in all_jobs():
        print(f"{job['name']}|{job['id']}|{'RUN' if state(job) else 'DONE'}|-|-")
elif name == "bkill" and words[0] == "-s":
    end(words[2:], getattr(signal, "SIG" + words[1]))
elif name == "flux" and words[0] == "batch":
    title = next(word for word in words if word.startswith("--job-name=")).partition("=")[2]
    print(f"f{submit(title)}")
elif name == "flux" and words[0] == "jobs":
    for job in all_jobs():
        print(f"{job['name']}|f{job['id']}|" + ("RUN|RUN|" if state(job) else "INACTIVE|COMPLETED|"))
elif name == "flux" and words[0] == "cancel":
    end(words[1:], signal.SIGTERM)
elif name == "flux" and words[:2] == ["job", "kill"]:
    end(words[3:], signal.SIGKILL)
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("qsub", "qstat", "qdel", "bsub", "bjobs", "bkill", "flux"):
        (folder / name).write_text(f"#!{sys.executable}\n{textwrap.dedent(FAKE)}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize("kind", [pbs, lsf, flux], ids=["pbs", "lsf", "flux"], scope="class")
class TestRecordedProviders(PoolProviderConformance):
    wait_seconds = 60.0

    @pytest.fixture
    def provider(self, kind, programs, tmp_path):
        self.make = lambda: kind.make(
            {"check_every": "0s", "command": ["sh", "-c", "exec sleep 600", "worker"]}, tmp_path / "pool"
        )
        return self.make()

    async def reborn(self, provider):
        return self.make()


async def test_what_has_no_name_is_looked_for_at_once_and_then_as_often_as_anything(programs, tmp_path, monkeypatch):
    provider = lsf.make({"check_every": "1h", "command": ["sh", "-c", "exec sleep 600", "worker"]}, tmp_path / "pool")
    asked = []

    async def listed(shell, words, *rest):
        asked.append(words[0])
        return ""

    monkeypatch.setattr(Shell, "run", listed)
    first, second = consecutive(new_id(), 2)
    for _ in range(3):
        assert await provider.check([Known(first, None)]) == {}
    assert asked == ["bjobs"]
    await provider.check([Known(first, None), Known(second, None)])
    await provider.check([Known(second, None)])
    assert asked == ["bjobs", "bjobs"]


# What the manuals show -----------------------------------------------------------------------------------------

START = "01a21513-ff42-7143-9e68-42c79dd2b9d9"
NAME = f"armillary-{START}"


def _read(provider, output):
    return [(one.name, one.reference, one.state, one.note) for one in provider._system.listed(output)]


def test_pbs_as_its_manual_shows_it(tmp_path):
    provider = pbs.make({}, tmp_path)
    said = {
        "Jobs": {
            "12.s": {
                "Job_Name": NAME,
                "job_state": "Q",
                "comment": "Not Running: Insufficient amount of resource: ncpus",
            },
            "13.s": {"Job_Name": "other", "job_state": "R"},
            "14.s": {"Job_Name": NAME, "job_state": "F", "comment": "Job run at … and finished", "Exit_status": 0},
            "15.s": {"Job_Name": NAME, "job_state": "H"},
        }
    }
    assert _read(provider, json.dumps(said)) == [
        (NAME, "12.s", "pending", "Not Running: Insufficient amount of resource: ncpus"),
        ("other", "13.s", "running", ""),
        (NAME, "14.s", "ended", "Its PBS job has ended. Job run at … and finished"),
        (NAME, "15.s", "pending", "It is held."),
    ]
    assert _read(provider, "") == []
    with pytest.raises(TransientError, match="not JSON"):
        _read(provider, "qstat: cannot connect to server pbs01 (errno=15010)")


def test_lsf_as_its_manual_shows_it(tmp_path):
    provider = lsf.make({}, tmp_path)
    said = f"{NAME}|12|PEND|-|Job slot limit reached;\n{NAME}|13|EXIT|TERM_RUNLIMIT: job killed after reaching LSF run limit|-\n"
    assert _read(provider, said) == [
        (NAME, "12", "pending", "Job slot limit reached;"),
        (
            NAME,
            "13",
            "ended",
            "Its LSF job ended with a failure. TERM_RUNLIMIT: job killed after reaching LSF run limit",
        ),
    ]
    assert provider._system.submitted("Job <4711> is submitted to queue <normal>.\n", 1) == ["4711"]
    with pytest.raises(TransientError, match="not understood"):
        provider._system.submitted("Request aborted by esub. Job not submitted.", 1)


def test_flux_as_its_manual_shows_it(tmp_path):
    provider = flux.make({}, tmp_path)
    said = f"{NAME}|ƒ2oLkDGqs|SCHED|SCHED|\n{NAME}|ƒ3|INACTIVE|TIMEOUT|\n{NAME}|ƒ4|INACTIVE|CANCELED|\n{NAME}|ƒ5|CLEANUP|CLEANUP|\n"
    assert [one[1:] for one in _read(provider, said)] == [
        ("ƒ2oLkDGqs", "pending", "It waits for resources to be free."),
        ("ƒ3", "ended", "Its Flux job reached its time limit."),
        ("ƒ4", "ended", "Its Flux job was cancelled."),
        ("ƒ5", "ending", "It is ending."),
    ]


def test_slurm_accounts_as_its_manual_shows_them(tmp_path):
    provider = slurm.make({}, tmp_path)
    said = f"{NAME}|12_1|CANCELLED by 1000|None\n{NAME}|13|NODE_FAIL|None\n{NAME}|14|PREEMPTED|None\n{NAME}|15|TIMEOUT|TimeLimit\n"
    found = provider._system.remembered(said)
    assert [(one.reference, one.index, one.state) for one in found] == [
        ("12_1", 1, "ended"), ("13", 0, "ended"), ("14", 0, "ended"), ("15", 0, "ended"),
    ]  # fmt: skip
    assert [one.note for one in found[1:]] == [
        "Its node failed.",
        "Its Slurm job was preempted by another.",
        "Its Slurm job reached its time limit.",
    ]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (pbs, {"queue": "gpu", "project": "x", "walltime": "2h"},
         ["-q", "gpu", "-P", "x", "-l", "walltime=7200", "-l", "select=1:ncpus=2:mem=1024mb:ngpus=1"]),
        (lsf, {"queue": "gpu", "walltime": "90min"},
         ["-q", "gpu", "-W", "90", "-n", "2", "-R", "span[hosts=1]", "-M", "1024MB", "-gpu", "num=1"]),
        (flux, {"queue": "gpu", "walltime": "1h"},
         ["--nslots=1", "--queue=gpu", "--time-limit=3600s", "--cores-per-slot=2", "--gpus-per-slot=1"]),
        (slurm, {"partition": "gpu", "constraints": "a100&ib", "walltime": "1h"},
         ["--nodes=1", "--ntasks=1", "--partition=gpu", "--constraint=a100&ib", "--time=60",
          "--cpus-per-task=2", "--mem=1024M", "--gres=gpu:1"]),
    ],
)  # fmt: skip
def test_size_and_options_become_words_of_the_system(kind, options, expected, tmp_path):
    provider = kind.make(options | {"lines": ["-x y"]}, tmp_path)
    words, head = provider._system.submit(NAME, "/log", 1, Resources(1.5, 2**30, 2**30, 0, gpu=1))
    assert [word for word in words if word in expected] == expected
    assert head[0].endswith(" -x y")


async def test_a_script_runs_its_setup_and_keeps_the_token_out(tmp_path):
    provider = pbs.make(
        {
            "setup": ["module load python"],
            "url": "https://data.example.org/",
            "work": "$TMPDIR/w",
            "folder": str(tmp_path),
        },
        tmp_path,
    )
    from uuid import UUID

    from armillary.pools.launch import script

    request = StartRequest(UUID(START), "hpc", "http://127.0.0.1:7117", "arm_secret", None)
    text = script(provider._site, [request], "0")
    assert "module load python" in text
    assert "https://data.example.org " in text
    assert '--work "$TMPDIR/w"' in text
    assert "arm_secret" not in text
