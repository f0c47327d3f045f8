"""What a path is, and why not."""

import pytest

from armillary.collections.collection import Collection, read
from armillary.collections.recognise import Candidate, granule_id, is_complete, is_signal, recognise

SLC = read({"id": "slc", "recognise": {"name": r"^S1[AB]_IW_SLC__.*\.(SAFE|zip)$"}})
FOLDER = read({"id": "folder", "recognise": {"directory": r"\.ms$", "member": r"^table\.dat$"}})
NAMED = read({"id": "named", "recognise": {"name": r"^(?P<id>dem_\d+)_v\d\.tif$"}})
BARE = read({"id": "bare"})
ALL = [SLC, FOLDER, NAMED, BARE]


def never() -> list[str]:
    raise AssertionError("nobody may list the members")


@pytest.mark.parametrize(
    ("candidate", "collection"),
    [
        (Candidate("S1A_IW_SLC__1.SAFE", True, never), "slc"),
        (Candidate("S1A_IW_SLC__1.zip", False, never), "slc"),
        (Candidate("x.ms", True, lambda: ["a/b", "table.dat"]), "folder"),
        (Candidate("dem_7_v2.tif", False, never), "named"),
    ],
)
def test_the_one_collection_whose_patterns_all_match_is_found(candidate: Candidate, collection: str) -> None:
    recognition = recognise(ALL, candidate)
    assert recognition.collection == collection
    assert recognition.matches == (collection,)


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Candidate("x.ms", False, never), "folder (it is not a folder)"),
        (Candidate("x.ms", True), "folder (it holds no files)"),
        (Candidate("x.ms", True, lambda: ["other"]), r"folder (nothing in it matches ^table\.dat$)"),
        (Candidate("dem.tif", False), r"slc (its name does not match ^S1[AB]_IW_SLC__.*\.(SAFE|zip)$)"),
    ],
)
def test_no_match_is_told_with_the_reason_of_each_collection(candidate: Candidate, reason: str) -> None:
    recognition = recognise(ALL, candidate)
    assert recognition.collection is None
    assert reason in recognition.problem().message
    assert "bare" not in recognition.problem().message


def test_several_matches_are_told_by_name() -> None:
    twin = read({"id": "twin", "recognise": {"name": "SLC"}})
    problem = recognise([*ALL, twin], Candidate("S1A_IW_SLC__1.zip")).problem()
    assert problem.message == "Several collections recognise 'S1A_IW_SLC__1.zip': slc, twin."
    assert "--collection" in problem.remedy


def test_many_reasons_are_cut_short() -> None:
    many = [read({"id": f"c{n}", "recognise": {"name": "^x$"}}) for n in range(9)]
    message = recognise(many, Candidate("y")).problem().message
    assert message.endswith("c4 (its name does not match ^x$), and 4 more.")


def test_without_patterns_nothing_is_recognised_and_that_is_said() -> None:
    assert "none has patterns" in recognise([BARE], Candidate("y")).problem().message


@pytest.mark.parametrize(
    ("collection", "name", "granule"),
    [
        (SLC, "S1A_IW_SLC__1.SAFE", "S1A_IW_SLC__1"),
        (BARE, "image.tar.gz", "image"),
        (BARE, "run 2.5", "run 2.5"),
        (BARE, "catalogue.fits", "catalogue"),
        (BARE, ".tif", ".tif"),
        (NAMED, "dem_7_v2.tif", "dem_7"),
    ],
)
def test_the_id_is_the_name_without_its_suffix_or_what_the_pattern_says(
    collection: Collection, name: str, granule: str
) -> None:
    assert granule_id(collection, name) == granule


@pytest.mark.parametrize(
    ("signal", "beside", "inside", "expected"),
    [
        (None, [], [], True),
        ("*.done", ["a.tif"], [], False),
        ("*.done", ["a.tif", "a.tif.done"], [], True),
        ("*.done", ["a.done"], [], True),
        ("*.done", ["b.done"], [], False),
        ("COMPLETE", [], ["COMPLETE"], True),
        ("COMPLETE", [], ["x"], False),
    ],
)
def test_a_signal_file_announces_its_own_granule(
    signal: str | None, beside: list[str], inside: list[str], expected: bool
) -> None:
    assert is_complete(signal, "a.tif", beside, inside) is expected


def test_a_signal_file_is_no_granule() -> None:
    signalled = read({"id": "s", "signal": "*.done"})
    assert is_signal([signalled], "x.done")
    assert not is_signal([signalled], "x.tif")
