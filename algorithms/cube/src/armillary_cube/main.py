"""The command `armillary-cube`: import, plan, image, products, simulate, cost, and process for a data system."""

import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from armillary_cube import __version__
from armillary_cube.errors import RefusalError

PATH = click.Path(path_type=Path)
INPUT = click.Path(path_type=Path, exists=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Spectral cubes from radio-interferometer visibilities, on one core or many."""


def main() -> None:
    """Run the command; a refusal is printed with its remedy and ends with code 11 (10: an input is missing)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # xradio's schema has texts for coordinates, and consolidated metadata: zarr warns of both, once for each array.
    warnings.filterwarnings("ignore", ".*does not have a Zarr V3 specification")
    warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
    try:
        cli(standalone_mode=True)
    except RefusalError as error:
        click.echo(f"{error.message} {error.remedy[:1].upper()}{error.remedy[1:]}", err=True)
        sys.exit(10 if error.missing_input else 11)


def imaging_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `plan` and `image` share."""
    options = [
        click.option("--cell", "cell_arcsec", type=float, help="Pixel in arcseconds; default from the baselines."),
        click.option("--size", type=int, nargs=2, help="Width and height in pixels, even; default from the dish."),
        click.option("--channels", type=int, nargs=2, help="First and last channel of the file, from 0."),
        click.option("--stokes", default="I", show_default=True),
        click.option("--weighting", type=click.Choice(["natural", "briggs"]), default="natural", show_default=True),
        click.option("--robust", type=float, default=0.5, show_default=True, help="-2 uniform to 2 natural."),
        click.option("--w-term", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True),
        click.option("--continuum", "line_free", multiple=True, metavar="A-B", help="Line-free channels, repeatable."),
        click.option("--order", type=int, default=0, show_default=True, help="Order of the continuum's polynomial."),
        click.option("--clean", type=click.Choice(["none", "hogbom", "multiscale"]), default="none", show_default=True),
        click.option(
            "--sigma", type=float, default=3.0, show_default=True, help="Clean down to so many times the noise."
        ),
        click.option("--threshold", "threshold_jy", type=float, default=0.0, help="Clean down to so many Jy/beam."),
        click.option("--keep", multiple=True, type=click.Choice(["psf", "model", "residual"]), default=["psf"]),
        click.option("--epsilon", type=float, default=5e-5, show_default=True, help="Accuracy of the gridder."),
        click.option("--double", is_flag=True, help="Grid in double precision."),
        click.option("--partition", "partitions", multiple=True, help="Only this partition of the set, repeatable."),
        click.option("--field", "field_name", default="", help="Only this field."),
        click.option("--rest-frequency", "rest_frequency_hz", type=float, help="Of the line, in Hz."),
        click.option("--memory", "memory_gb", type=float, help="GB for all workers together."),
        click.option("--gridder", default="standard", show_default=True, help="Only standard is done here."),
        click.option("--spectral-frame", help="Refused unless it is the data's own."),
        click.option("--primary-beam-correction", is_flag=True, help="Refused: no beam model is known."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _request(workers: int, **options: Any) -> Any:
    from armillary_cube.clean import CleanSettings
    from armillary_cube.plan import Continuum, Request

    ranges, order = options.pop("line_free"), options.pop("order")
    method, sigma, threshold = options.pop("clean"), options.pop("sigma"), options.pop("threshold_jy")
    memory = options.pop("memory_gb")
    chosen: dict[str, Any] = {k: v or None if k in ("size", "channels") else v for k, v in options.items()}
    return Request(
        **chosen,
        continuum=Continuum(tuple(_range(r) for r in ranges), order) if ranges else None,
        clean=CleanSettings(method, sigma, threshold) if method != "none" else None,
        memory_bytes=int(memory * 1e9) if memory else None,
        workers=workers,
    )


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isdigit() and (last or first).isdigit()):
        raise RefusalError(f"--continuum {text!r} is no range of channels.", "write it as 4-6.")
    return int(first), int(last or first)


@cli.command("import")
@click.argument("source", type=INPUT)
@click.argument("target", type=PATH)
def import_(source: Path, target: Path) -> None:
    """Turn a measurement set v2 or a UVFITS file into a processing set."""
    from armillary_cube.ingest import import_set

    click.echo(import_set(source, target))


@cli.command()
@click.argument("visibilities", type=INPUT)
@click.option("--cores", type=int, default=1, show_default=True)
@click.option("--node-price", type=float, default=1.088, show_default=True, help="Of a node of 8 cores for an hour.")
@click.option("--spot", is_flag=True, help="On spot nodes: at 35 % of the price, with some work done twice.")
@click.option("--egress", is_flag=True, help="All planes leave the cloud.")
@click.option("--json", "as_json", is_flag=True, help="The whole plan.")
@imaging_options
def plan(
    visibilities: Path, cores: int, node_price: float, spot: bool, egress: bool, as_json: bool, **options: Any
) -> None:
    """Show what imaging would do, need, take and cost, or why it cannot be done."""
    from armillary_cube import cost
    from armillary_cube.plan import make_plan

    made = make_plan(visibilities, _request(cores, **options))
    if as_json:
        click.echo(made.to_json())
        return
    prices = cost.Prices(node_per_hour=node_price, spot=spot)
    guess = cost.predict(made, cost.measure_gridding(made), cores, prices, egress)
    grid = made.grid
    click.echo(f"{made.field_name} ({made.telescope}): {made.channels} channels of {made.rows:,} rows")
    click.echo(f"image {grid.width}×{grid.height}, {len(made.tasks)} tasks of up to {made.task_channels} channels,")
    click.echo(f"{made.task_bytes / 1e9:.2f} GB a task (give a worker half as much again and 0.2 GB)")
    for reason in made.reasons:
        click.echo(f"  {reason}")
    click.echo(
        f"about {guess.core_seconds:.1f} core-seconds, {guess.wall_seconds:.1f} s on {cores} cores, limited by "
        f"{guess.limit}; {guess.read_bytes / 1e9:.2f} GB read, {guess.written_bytes / 1e9:.2f} GB written"
    )
    click.echo(
        f"about {guess.price:.4f} in the currency of the node's price: {guess.compute_price:.4f} for nodes, "
        f"{guess.request_price:.4f} for {guess.requests:,} requests to an object store, {guess.egress_price:.4f} for egress"
    )


@cli.command()
@click.argument("visibilities", type=INPUT)
@click.argument("output", type=PATH)
@click.option("--executor", "executor_text", default="serial", show_default=True,
              help="serial, threads:N, dask:N, or a Dask scheduler's address.")  # fmt: skip
@click.option("--progress", type=PATH, help="Append JSON lines here.")
@click.option("--products/--no-products", "make_products", default=True, show_default=True)
@click.option("--price", "price_per_hour", type=float, help="Of a core-hour, for the cost account.")
@imaging_options
def image(
    visibilities: Path, output: Path, executor_text: str, progress: Path | None, make_products: bool,
    price_per_hour: float | None, **options: Any,
) -> None:  # fmt: skip
    """Image every channel into OUTPUT/cube.img.zarr; run it again to finish what was interrupted."""
    from armillary_cube.plan import make_plan
    from armillary_cube.run import Executor, run
    from armillary_cube.store import Cube

    executor = Executor.parse(executor_text)
    made = make_plan(visibilities, _request(max(1, executor.workers), **options))
    outcome = run(made, visibilities, output, executor, progress)
    if make_products:
        from armillary_cube.products import write_products

        for path in write_products(Cube(outcome.places.cube), output / "products", outcome, price_per_hour):
            click.echo(path)


@cli.command()
@click.argument("cube", type=INPUT)
@click.argument("output", type=PATH)
def products(cube: Path, output: Path) -> None:
    """Write FITS, moments, spectrum, statistics and pictures of a finished cube."""
    from armillary_cube.products import write_products
    from armillary_cube.store import Cube

    for path in write_products(Cube(cube), output):
        click.echo(path)


@cli.command()
@click.argument("target", type=PATH)
@click.option("--channels", type=int, default=48, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def simulate(target: Path, channels: int, seed: int) -> None:
    """Write a simulated observation of a turning ring (a galaxy in miniature) and its truth."""
    from armillary_cube.simulate import galaxy
    from armillary_cube.simulate import simulate as make

    click.echo(make(galaxy(channels, seed), target))


@cli.command()
def cost() -> None:
    """Hold the cost model against CNGI's published runs on AWS: calibrated at 16 threads, asked for the most."""
    from armillary_cube import cost as model

    click.echo("set     threads  published s  model s  ratio  on-demand $  spot $ (35 %)")
    for found in model.PUBLISHED:
        seconds = model.published_wall_seconds(found, found.threads)
        full, spot = (model.published_price(found, found.threads, model.Prices(spot=s)) for s in (False, True))
        click.echo(
            f"{found.name:7} {found.threads:7} {found.seconds:12.0f} {seconds:8.0f} {seconds / found.seconds:6.2f} "
            f"{full:12.2f} {spot:14.2f}"
        )


@cli.command("metadata")
@click.argument("reader", type=click.Choice(["measurement-set", "processing-set", "uvfits", "image-cube"]))
@click.argument("path", type=INPUT)
def metadata_(reader: str, path: Path) -> None:
    """Print the catalogue's metadata of an observation or a cube as JSON."""
    from armillary_cube import metadata

    click.echo(json.dumps(getattr(metadata, reader.replace("-", "_"))(path)))


@cli.command()
@click.argument("job", type=INPUT)
def process(job: Path) -> None:
    """Do one job of a data system in the current directory."""
    from armillary_cube.process import process as do

    sys.exit(do(job))


if __name__ == "__main__":
    main()
