"""Planning: sizes, memory, tasks and what is chosen from the data."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from observations import REQUEST

from armillary_cube import cost
from armillary_cube.clean import CleanSettings
from armillary_cube.main import cli
from armillary_cube.plan import Continuum, Plan, Request, good_size, make_plan, memory_bytes


def test_what_is_left_out_is_chosen_from_the_data(noiseless: Path) -> None:
    plan = make_plan(noiseless, Request())
    cell_arcsec = plan.grid.cell_rad * 206_264.806
    assert 0.18 < cell_arcsec / (206_264.806 * 0.2122 / 1022) < 0.25
    assert plan.grid.width == plan.grid.height
    assert plan.grid.w_term
    assert any("w-term on (auto)" in reason for reason in plan.reasons)


def test_a_plan_survives_its_own_json(noiseless: Path) -> None:
    request = replace(
        REQUEST, clean=CleanSettings(), continuum=Continuum(((0, 2), (5, 6)), 1), keep=("psf", "model"), stokes="IV"
    )
    plan = make_plan(noiseless, request)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.digest == plan.digest


def test_the_digest_names_the_recipe_and_not_the_cut(noiseless: Path) -> None:
    plan = make_plan(noiseless, REQUEST)
    assert make_plan(noiseless, replace(REQUEST, task_channels=1)).digest == plan.digest
    assert make_plan(noiseless, replace(REQUEST, epsilon=1e-4)).digest != plan.digest


def test_tasks_follow_the_chunks_of_the_file(noiseless: Path) -> None:
    assert make_plan(noiseless, replace(REQUEST, channels=(2, 13), task_channels=None)).tasks == (
        (0, 2), (2, 6), (6, 10), (10, 12)
    )  # fmt: skip


def test_tasks_shrink_to_fit_memory(noiseless: Path) -> None:
    whole = make_plan(noiseless, replace(REQUEST, task_channels=16))
    tight = make_plan(noiseless, replace(REQUEST, task_channels=16, memory_bytes=whole.task_bytes - 1))
    assert tight.task_channels == 8
    assert tight.task_bytes < whole.task_bytes


@given(st.floats(1, 20_000))
def test_sizes_are_even_enough_and_quick_to_transform(least: float) -> None:
    size = good_size(least)
    assert size % 2 == 0
    assert size >= max(32, least)
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    assert size == 1


def test_memory_formula_reproduces_the_worked_example(noiseless: Path) -> None:
    grid = replace(make_plan(noiseless, REQUEST).grid, width=512, height=512)
    assert memory_bytes(108_360, 8, 2, grid, 1, 2, clean=False) == pytest.approx(0.23e9, rel=0.05)


def test_cost_grows_with_the_work_and_spot_is_cheaper(noiseless: Path) -> None:
    plan = make_plan(noiseless, REQUEST)
    dirty = cost.predict(plan, 0.01, 2)
    cleaned = cost.predict(make_plan(noiseless, replace(REQUEST, clean=CleanSettings())), 0.01, 2)
    assert cleaned.core_seconds > 3 * dirty.core_seconds
    spot = cost.predict(plan, 0.01, 2, cost.Prices(spot=True))
    assert spot.compute_price < 0.4 * dirty.compute_price
    assert cost.predict(plan, 0.01, 2, egress=True).egress_price > 0
    assert dirty.wall_seconds < dirty.core_seconds


@pytest.mark.parametrize("published", cost.PUBLISHED, ids=lambda run: run.name)
def test_the_cost_model_has_the_published_runs_order_of_magnitude(published: cost.PublishedRun) -> None:
    ratio = cost.published_wall_seconds(published, published.threads) / published.seconds
    assert 0.6 < ratio < 1.5
    assert 0.2 < cost.published_price(published, published.threads) < 10


def test_the_price_is_said_before_the_run(noiseless: Path) -> None:
    said = CliRunner().invoke(cli, ["plan", str(noiseless), "--cores", "8", "--node-price", "2", "--spot", "--egress"])
    assert said.exit_code == 0, said.output
    assert re.search(
        r"about [\d.]+ in the currency.*: [\d.]+ for nodes, [\d.]+ for \d+ requests.*, [\d.]+ for egress", said.output
    )
