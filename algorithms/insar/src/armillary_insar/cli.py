"""The command line: simulate, process, check."""

import sys
from datetime import datetime
from pathlib import Path

import click

from armillary_insar import __version__
from armillary_insar.errors import Refusal


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Sentinel-1 interferograms, and simulated pairs whose truth is known."""


@main.command()
@click.argument("job", type=click.Path(path_type=Path))
def process(job: Path) -> None:
    """Make the interferogram that JOB (a job.json) asks for."""
    from armillary_insar.job import read_job

    opened = None
    try:
        opened = read_job(job)
        if opened.parameters.engine == "isce2-container":
            from armillary_insar.isce2 import process as engine
        else:
            from armillary_insar.process import process as engine
        click.echo(engine(opened))
    except Refusal as refusal:
        if opened is not None:
            opened.fail(refusal)
        click.echo(f"Error: {refusal.message}\n{refusal.remedy}", err=True)
        sys.exit(refusal.exit_code)


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--crop/--full", default=True, help="Two subswaths by two short bursts, or three by nine full ones.")
@click.option("--place", type=float, nargs=2, default=(31.05, -8.4), help="Latitude and longitude of the middle.")
@click.option("--date", type=click.DateTime(), default="2026-03-01T06:37:30", help="Of the reference, UTC.")
@click.option(
    "--orbits",
    type=click.Path(path_type=Path, exists=True),
    nargs=2,
    default=None,
    help="Orbit files (EOF) that pass the place at --date and --days later, instead of made-up ones.",
)
@click.option("--days", default=12, help="From reference to secondary.")
@click.option("--ascending", is_flag=True)
@click.option("--baseline", default=60.0, help="Perpendicular baseline in metres, without --orbits.")
@click.option("--source", type=click.Choice(["mogi", "okada", "none"]), default="mogi")
@click.option("--coherence", type=float, nargs=2, default=(0.55, 0.92), help="Lowest and highest.")
@click.option("--seed", default=7)
@click.option("--zip", "zipped", is_flag=True, help="Zip the SAFE folders.")
@click.option("--threads", default=2)
@click.option(
    "--fill",
    type=click.Path(path_type=Path, exists=True),
    nargs=2,
    default=None,
    help="Fill the grid of this real SAFE pair instead of making one.",
)
@click.option("--elevation", type=click.Path(path_type=Path, exists=True), help="Ellipsoidal heights instead of hills.")
@click.option("--bursts", default=None, help="With --fill: for example iw1:1,2;iw2:1 (counted from 1).")
def simulate(
    out: Path,
    crop: bool,
    place: tuple[float, float],
    date: datetime,
    orbits: tuple[Path, Path] | None,
    days: int,
    ascending: bool,
    baseline: float,
    source: str,
    coherence: tuple[float, float],
    seed: int,
    zipped: bool,
    threads: int,
    fill: tuple[Path, Path] | None,
    elevation: Path | None,
    bursts: str | None,
) -> None:
    """Write a simulated pair, its elevation, orbits and truth into OUT."""
    from armillary_insar.simulator import pair as pairs

    try:
        if fill:
            made = pairs.fill_real(
                fill[0], fill[1], out, elevation, pairs.read_selection(bursts), source, coherence, seed, threads
            )
        else:
            spec = pairs.PairSpec(
                latitude_deg=place[0],
                longitude_deg=place[1],
                start=date,
                days=days,
                ascending=ascending,
                baseline_m=baseline,
                coherence=coherence,
                source=source,
                swaths=pairs.CROP if crop else pairs.FULL,
                seed=seed,
            )
            made = pairs.make_pair(spec, out, threads, zipped, orbits, elevation)
    except Refusal as refusal:
        click.echo(f"Error: {refusal.message}\n{refusal.remedy}", err=True)
        sys.exit(refusal.exit_code)
    for path in (made.reference, made.secondary, made.elevation, *made.orbits, made.truth):
        click.echo(path)


@main.command()
@click.argument("pair", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def check(pair: Path, as_json: bool) -> None:
    """Check the invariants on the data of PAIR: a job.json or the folder that holds it."""
    from armillary_insar.check import run

    try:
        sys.exit(run(pair, as_json, click.echo))
    except Refusal as refusal:
        click.echo(f"Error: {refusal.message}\n{refusal.remedy}", err=True)
        sys.exit(refusal.exit_code)


if __name__ == "__main__":
    main()
