"""Tables, fields and JSON: plain for a pipe, fitting for a person."""

import json
from typing import Any

import click
import pytest

from armillary.base.units import human_duration
from armillary.cli.output import how_long, show_fields, show_list, show_table, text, when


def test_a_table_for_a_pipe_is_plain_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["name", "state"], [["a", "created"], ["longer [bold]name", "line\nbreak"]])
    assert capsys.readouterr().out.splitlines() == [
        "name               state",
        "a                  created",
        "longer [bold]name  line; break",
    ]


def test_a_table_for_a_terminal_fits_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    show_table(["name", "state"], [["x" * 60, "[red]not markup"]])
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 40
    assert "".join(line[:40] for line in lines).count("x") == 60
    assert "[red]not" in "".join(lines)


def test_a_list_as_json_is_one_document_a_line_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    def rows() -> Any:
        yield {"a": {"b": 1}}
        yield {"a": {"b": "ü"}}
        raise AssertionError("nobody asked for a third")

    show_list(rows(), [("b", "a.b")], as_json=True, nothing="none", limit=2)
    assert [json.loads(line)["a"]["b"] for line in capsys.readouterr().out.splitlines()] == [1, "ü"]


def test_an_empty_list_says_so_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    show_list([], [("b", "b")], as_json=False, nothing="There are none.")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "There are none.\n")


def test_a_list_that_is_cut_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_list([{"b": 1}] * 5, [("b", "b")], as_json=False, nothing="none", limit=2)
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["b", "1", "1"]
    assert "--limit" in shown.err


def test_empty_fields_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_fields([("a", 1), ("none", None), ("empty", []), ("zero", 0), ("list", ["x", "y"])])
    assert capsys.readouterr().out.splitlines() == ["a     1", "zero  0", "list  x", "      y"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.3, "42 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (-1, "0.0 s")],
)
def test_lengths_of_time(value: float, expected: str) -> None:
    assert human_duration(value) == expected


def test_times_are_in_utc() -> None:
    assert when("2026-03-01T12:00:00.5+02:00") == "2026-03-01 10:00:00"
    assert when(None) == ""
    assert how_long("2026-03-01T12:00:00Z", "2026-03-01T12:03:05Z") == "3 min 5 s"
    assert how_long(None, None) == ""


@pytest.mark.parametrize(("value", "expected"), [(None, ""), (True, "yes"), ({"a": 1}, '{"a": 1}'), (1.5, "1.5")])
def test_values(value: object, expected: str) -> None:
    assert text(value) == expected
