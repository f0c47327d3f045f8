"""Whatever is uploaded arrives whole, once, under names that a catalogue can bear; and a second run sends nothing."""

import json
import os
import signal
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.base.errors import Conflict, UsageError
from armillary.client.client import Client
from armillary.client.media import media_type, roles
from armillary.client.upload import AssetSource, GranuleSource, Outcome, Uploader, manifest_of, plan
from armillary.granules.granule import File
from armillary.testing.memory_server import MemoryServer


def _granule(path: Path, id: str = "g", collection: str = "c") -> GranuleSource:  # noqa: A002
    kind = "tree" if path.is_dir() else "file"
    return GranuleSource(collection, id, (AssetSource(path.name, path, kind),))  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "scene.SAFE"
    (tree / "measurement").mkdir(parents=True)
    (tree / "manifest.safe").write_text("<xml/>")
    (tree / "measurement" / "a b.tiff").write_bytes(b"pixels")
    return tree


@pytest.fixture
def uploader(client: Client) -> Iterator[Uploader]:
    with Uploader(client) as uploader:
        yield uploader


@pytest.mark.parametrize("transfer", ["file", "relay", "signed"])
def test_files_and_trees_arrive_and_a_second_run_sends_nothing(
    make_server: Callable[[str], MemoryServer], tree: Path, tmp_path: Path, transfer: str
) -> None:
    server = make_server(transfer)
    (tmp_path / "dem.tif").write_bytes(b"heights")
    sources = [_granule(tree, "scene"), _granule(tmp_path / "dem.tif", "dem")]
    seen: Counter[str] = Counter()
    with (
        Client(server.url, "t") as client,
        Uploader(client, progress=lambda name, n: seen.update({name: n})) as uploader,
    ):
        assert [one.outcome for one in uploader.upload(sources)] == ["created", "created"]
        assert seen == {"scene": 12, "dem": 7}
        tickets = len(server.uploads)
        assert [(one.granule, one.outcome) for one in uploader.upload(sources)] == [("scene", "same"), ("dem", "same")]
        assert len(server.uploads) == tickets
        (tree / "manifest.safe").write_text("<abc/>")
        assert [one.outcome for one in uploader.upload(sources)] == ["same", "revised"]


def test_a_tree_carries_its_manifest(uploader: Uploader, server: MemoryServer, tree: Path) -> None:
    list(uploader.upload([_granule(tree)]))
    asset = server.granules["c", "g"]["commit"]["assets"]["scene.SAFE"]
    assert [file["path"] for file in asset["files"]] == [
        "scene.SAFE/manifest.safe",
        "scene.SAFE/measurement/a b.tiff",
    ]
    upload = server.granules["c", "g"]["commit"]["upload"]
    manifest = json.loads(server.read_upload(upload, "scene.SAFE.manifest.json"))
    assert [file["path"] for file in manifest["files"]] == ["manifest.safe", "measurement/a b.tiff"]
    assert asset["manifest"]["path"] == "scene.SAFE.manifest.json"


@given(
    names=st.lists(st.text("abcé/", min_size=1, max_size=6), unique=True, max_size=8), other=st.text("xyz", min_size=1)
)
def test_equal_trees_have_equal_manifests_whatever_their_name_and_order(names: list[str], other: str) -> None:
    here = [File(f"tree/{name}", 1, "0" * 64) for name in names]
    there = [File(f"{other}/{name}", 1, "0" * 64) for name in reversed(names)]
    assert manifest_of("tree", here) == manifest_of(other, there)


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    ("a link out of the tree", lambda folder: (folder / "l").symlink_to("/etc/passwd"), "leaves its folder"),
    ("a link to a folder", lambda folder: (folder / "l").symlink_to(folder / "measurement"), "link to a folder"),
    ("a broken link", lambda folder: (folder / "l").symlink_to(folder / "nothing"), "cannot be read"),
    ("a line break", lambda folder: (folder / "a\nb").write_text(""), "refused"),
    ("a backslash", lambda folder: (folder / "a\\b").write_text(""), "refused"),
    ("a name that is not UTF-8", lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch(), "UTF-8"),
    ("a name too long when encoded", lambda folder: (folder / ("é" * 100)).touch(), "too long"),
    ("two names that differ by case", lambda folder: [(folder / n).write_text("") for n in ("README", "readme")], "by case"),
    ("a pipe", _fifo, "neither a file nor a folder"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_tree_that_cannot_be_stored_is_refused_before_a_byte_is_sent(
    uploader: Uploader, server: MemoryServer, tree: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tree)
    (outcome,) = uploader.upload([_granule(tree)])
    assert isinstance(outcome.problem, UsageError) and reason in str(outcome.problem)
    assert not server.uploads


def test_a_link_within_a_tree_is_taken_as_its_bytes(uploader: Uploader, server: MemoryServer, tree: Path) -> None:
    (tree / "link.tiff").symlink_to("measurement/a b.tiff")
    assert [one.outcome for one in uploader.upload([_granule(tree)])] == ["created"]
    upload = server.granules["c", "g"]["commit"]["upload"]
    assert server.read_upload(upload, "scene.SAFE/link.tiff") == b"pixels"


def test_names_are_normalised(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "Ångström.txt")
    (tmp_path / name).write_text("x")
    (file,) = plan(_granule(tmp_path / name)).files[name]
    assert file.path == unicodedata.normalize("NFC", name)


def test_empty_things_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no files"):
        plan(_granule(tmp_path / "empty"))
    with pytest.raises(UsageError, match="has no files"):
        plan(GranuleSource("c", "g", ()))


def test_one_bad_granule_does_not_keep_the_others(uploader: Uploader, server: MemoryServer, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    sources = [_granule(tmp_path / "a", "a"), _granule(tmp_path / "gone", "gone"), _granule(tmp_path / "b", "b")]
    outcomes = {one.granule: one for one in uploader.upload(sources)}
    assert (outcomes["a"].outcome, outcomes["b"].outcome) == ("created", "created")
    assert "gone" in str(outcomes["gone"].problem)


def test_a_file_that_changes_meanwhile_is_not_committed_and_its_upload_is_given_up(
    server: MemoryServer, client: Client, tmp_path: Path
) -> None:
    growing = tmp_path / "growing"
    growing.write_bytes(bytes(3 << 20))

    def grow(_id: str, _count: int) -> None:
        with growing.open("ab") as stream:
            stream.write(b"more")

    with Uploader(client, progress=grow) as uploader:
        (outcome,) = uploader.upload([_granule(growing)])
    assert isinstance(outcome.problem, Conflict)
    assert not server.granules and server.abandoned == set(server.uploads)


def test_a_commit_whose_answer_was_lost_is_asked_again(
    uploader: Uploader, server: MemoryServer, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("a")
    lost: list[str] = []

    def lose_first(_method: str, path: str) -> object:
        if not path.endswith("/commit") or lost:
            return None
        lost.append(path)
        return "drop after"

    server.fault = lose_first  # type: ignore[assignment]
    (outcome,) = uploader.upload([_granule(tmp_path / "a")])
    assert lost and outcome.problem is None
    assert server.granules["c", "g"]["revision"] == 1


def test_many_small_granules_travel_in_few_calls(uploader: Uploader, server: MemoryServer, tmp_path: Path) -> None:
    for number in range(450):
        (tmp_path / f"{number}.txt").write_text(str(number))
    outcomes = list(uploader.upload(_granule(tmp_path / f"{n}.txt", f"{n}") for n in range(450)))
    assert {one.outcome for one in outcomes} == {"created"} and len(server.granules) == 450
    assert sum(path in ("/api/uploads", "/api/uploads/commit") for _, path in server.calls) == 6


SCRIPT = """
import sys
from pathlib import Path
from armillary.client.client import Client
from armillary.client.upload import AssetSource, GranuleSource, Uploader
with Client(sys.argv[1], "t") as client, Uploader(client) as uploader:
    sources = [GranuleSource("c", p.name, (AssetSource(p.name, p),)) for p in sorted(Path(sys.argv[2]).iterdir())]
    for one in uploader.upload(sources):
        print(one.granule, one.outcome)
"""
POINTS = ["upload.after-known", "upload.after-ticket", "upload.after-file", "upload.after-bytes", "upload.after-commit"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("transfer", ["file", "relay", "signed"])
def test_an_upload_killed_anywhere_leaves_all_or_nothing_and_is_finished_by_the_next_run(
    make_server: Callable[[str], MemoryServer], tmp_path: Path, point: str, transfer: str
) -> None:
    server = make_server(transfer)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a", "b", "c"):
        (data / name).write_text(name)
    command = [sys.executable, "-c", SCRIPT, server.url, str(data)]
    died = subprocess.run(command, env={**os.environ, "ARMILLARY_CRASH": point}, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL
    assert len(server.granules) == (3 if point == "upload.after-commit" else 0)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcome = "same" if point == "upload.after-commit" else "created"
    assert done.stdout.splitlines() == [f"{name} {outcome}" for name in ("a", "b", "c")]
    assert {entry["revision"] for entry in server.granules.values()} == {1}


def test_tickets_may_be_refused_one_by_one(
    uploader: Uploader, server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    open_one = server._open

    def refuse_a(wish: dict[str, object], transfer: str) -> dict[str, object]:
        return {"problem": Conflict("Taken.").problem()} if wish["granule"] == "a" else open_one(wish, transfer)

    monkeypatch.setattr(server, "_open", refuse_a)
    outcomes = {one.granule: one for one in uploader.upload([_granule(tmp_path / n, n) for n in ("a", "b")])}
    assert outcomes["a"] == Outcome("c", "a", problem=outcomes["a"].problem) and "Taken" in str(outcomes["a"].problem)
    assert outcomes["b"].outcome == "created"


def test_media_types_and_roles_follow_the_name() -> None:
    assert media_type("a.TIF") == "image/tiff; application=geotiff"
    assert media_type("cube.zarr", is_tree=True) == "application/vnd.zarr"
    assert media_type("folder", is_tree=True) == "application/x-directory"
    assert media_type("what.ever") == "application/octet-stream"
    assert roles("browse.png") == ("overview",) and roles("browse.txt") == ("data",) and roles("a.png") == ("data",)
