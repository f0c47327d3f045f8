"""`armillary-runner`: the program on a compute node."""

import faulthandler
import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import psutil

from armillary.base import units
from armillary.base.errors import ArmillaryError, UsageError
from armillary.runner import equipment
from armillary.runner.gpu import devices
from armillary.runner.notice import source
from armillary.runner.session import Registration
from armillary.runner.slots import Capacity
from armillary.runner.worker import Options, Worker
from armillary.runner.workfolder import WorkFolder

DEFAULT_CACHE = "20GiB"
_HERE = Path("~/.cache/armillary").expanduser()
_PATH = click.Path(path_type=Path)


@click.command(context_settings={"show_default": True})
@click.option("--url", envvar="ARMILLARY_URL", default="", help="The server.")
@click.option("--pool", default="default", help="The pool to work for.")
@click.option("--token-file", type=_PATH, help="A file with the token (or set ARMILLARY_TOKEN).")
@click.option("--work", type=_PATH, default=_HERE / "work", help="Where jobs' folders are made.")
@click.option("--cache", type=_PATH, default=_HERE / "cache", help="Where inputs and environments are kept.")
@click.option("--cache-size", default=DEFAULT_CACHE, help="How much of inputs to keep.")
@click.option("--cpu", type=float, default=None, help="Cores to offer; all if not given.")
@click.option("--memory", default=None, help="Memory to offer; 80 % of the machine's if not given.")
@click.option("--disk", default=None, help="Disk to offer; 80 % of what is free at --work if not given.")
@click.option("--gpus", default=None, help="GPUs to offer: 2, or 0,1 by name; those that the machine has if not given.")
@click.option("--start", default=None, help="The id under which a pool started this worker.")
@click.option(
    "--lasts", default=None, help="This worker is ended by others after so long: jobs that outlast it are left."
)
@click.option(
    "--notice", default=None, help="Where it is said that this machine ends soon: aws, gcp, azure, a URL, a file."
)
@click.option("--forget-token", is_flag=True, help="Remove the token file once it is read.")
@click.option("--once", is_flag=True, help="Run one job and leave.")
@click.option("--idle-exit", default=None, help="Leave after so long without a job, as in 5m.")
@click.option("--drain", default="10s", help="After SIGTERM, how long jobs may take to end by themselves.")
@click.option("--grace", default="30s", help="How long a job may take to stop when it is asked to.")
@click.option("--checkpoint", envvar="ARMILLARY_CHECKPOINT", default="3m", help="How often checkpoints are saved.")
@click.option(
    "--containers",
    default="auto",
    envvar="ARMILLARY_CONTAINERS",
    type=click.Choice(equipment.CONTAINERS),
    help="What runs jobs in containers; auto takes the first that is installed.",
)
@click.option(
    "--limits",
    default="auto",
    envvar="ARMILLARY_LIMITS",
    type=click.Choice(equipment.LIMITS),
    help="auto: control groups where this machine lets them be made, and sampling elsewhere.",
)
@click.option("--check", is_flag=True, help="Say what this machine offers and how limits are kept, and leave.")
@click.option("--verbose", is_flag=True, help="Say more.")
def main(
    url: str,
    pool: str,
    token_file: Path | None,
    work: Path,
    cache: Path,
    cache_size: str,
    cpu: float | None,
    memory: str | None,
    disk: str | None,
    gpus: str | None,
    start: str | None,
    lasts: str | None,
    notice: str | None,
    forget_token: bool,
    once: bool,
    idle_exit: str | None,
    drain: str,
    grace: str,
    checkpoint: str,
    containers: str,
    limits: str,
    check: bool,
    verbose: bool,
) -> None:
    """Run the jobs of a pool on this machine until told to stop (SIGTERM)."""
    faulthandler.register(signal.SIGUSR1)  # `kill -USR1` shows where every thread is
    _log(verbose)
    try:
        found = equipment.find(containers, limits)
        offered = devices(gpus)
        capacity = _capacity(cpu, memory, disk, work, len(offered))
        if check:
            _show(found.told() | {"capacity": capacity.wire()})
            return
        if not url:
            raise UsageError("There is no server.", "Give --url, or set ARMILLARY_URL.", field="--url")
        folder = WorkFolder(work.absolute(), found.sweep)
        ends_in = _seconds(lasts, "--lasts") if lasts else None
        options = Options(
            url=url,
            token=_token(token_file, forget=forget_token),
            equipment=found,
            registration=Registration(pool, capacity, start, ends_in),
            folder=folder.path,
            cache_folder=cache.absolute(),
            cache_bytes=units.size(cache_size, "--cache-size"),
            devices=offered,
            ends_in_seconds=ends_in,
            notice=source(notice) if notice else None,
            once=once,
            idle_exit_seconds=_seconds(idle_exit, "--idle-exit") if idle_exit else None,
            drain_seconds=_seconds(drain, "--drain"),
            grace_seconds=_seconds(grace, "--grace"),
            checkpoint_seconds=_seconds(checkpoint, "--checkpoint"),
        )
        _work(folder, options)
    except ArmillaryError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)


def _work(folder: WorkFolder, options: Options) -> None:
    with folder:
        worker = Worker(options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.terminate())
        worker.run()


def _show(found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        click.echo(f"{name:<12}{value}")


def _token(file: Path | None, *, forget: bool) -> str:
    if file is not None:
        try:
            token = file.read_text().strip()
            if forget:
                file.unlink()
            return token
        except OSError as error:
            raise UsageError(f"The token file {file} cannot be read: {error.strerror}.", "Name another.") from error
    # Taken out of the environment, so that nothing that is started from here can find it.
    if token := os.environ.pop("ARMILLARY_TOKEN", ""):
        return token
    raise UsageError("There is no token.", "Give --token-file, or set ARMILLARY_TOKEN.")


def _capacity(cpu: float | None, memory: str | None, disk: str | None, work: Path, gpu: int) -> Capacity:
    work.mkdir(parents=True, exist_ok=True)
    return Capacity(
        cpu if cpu is not None else float(len(os.sched_getaffinity(0))),
        units.size(memory, "--memory") if memory else int(psutil.virtual_memory().total * 0.8),
        units.size(disk, "--disk") if disk else int(shutil.disk_usage(work).free * 0.8),
        gpu,
    )


def _seconds(text: str, field: str) -> float:
    return units.duration(text, field).total_seconds()


def _log(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    for name in ("httpx2", "httpcore2", "stamina"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
