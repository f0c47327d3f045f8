"""Files and folders become granules: recognised, whole, read out of process, once; each with its outcome and reason."""

import fcntl
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from armillary.base.errors import Conflict, NotFound
from armillary.client.client import Client
from armillary.client.find import PathOutcome, find, open_for_writing
from armillary.client.ingest import Ingest, Options, Silence, ingest
from armillary.client.upload import local_digest, plan
from armillary.collections.collection import read
from armillary.testing.memory_server import MemoryServer

READER = """\
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
if "bad" in path.name:
    sys.exit("the header is damaged")
print(json.dumps({"geometry": {"type": "Point", "coordinates": [10, 45]}, "frame": "earth",
                  "properties": {"datetime": "2026-03-01T00:00:00Z", "bytes": path.stat().st_size}} |
                 ({"id": "named-by-reader"} if "renamed" in path.name else {})))
"""


class Catalogue(MemoryServer):
    """A server in memory that has collections and refuses or revises changes."""

    def __init__(self, root: Path | None = None, transfer: str = "relay") -> None:
        super().__init__(root, transfer)
        self.specs: list[dict[str, Any]] = []

    def define(self, **spec: Any) -> None:
        """Add a collection."""
        self.specs.append({"kind": "collection", **spec})

    def answer(
        self, method: str, path: str, body: bytes, headers: Any, is_there: Callable[[], bool] = lambda: True
    ) -> Any:
        """Collections and granules; the rest as ever."""
        match [method, *path.strip("/").split("/")]:
            case ["GET", "api", "collections"]:
                return {"collections": [{"id": spec["id"], "spec": spec} for spec in self.specs]}
            case ["GET", "api", "granules", collection, granule]:
                assets = self.granules[collection, granule]["commit"]["assets"]
                return {"files": [file | {"asset": name} for name, asset in assets.items() for file in asset["files"]]}
        return super().answer(method, path, body, headers, is_there)

    def _commit(self, commit: dict[str, Any]) -> dict[str, Any]:
        wish = self.uploads[commit["upload"]]
        spec = next(spec for spec in self.specs if spec["id"] == wish["collection"])
        before = self.granules.get((wish["collection"], wish["granule"]))
        result = super()._commit(commit)
        if result["outcome"] == "revised" and spec.get("on_change") != "revise":
            assert before is not None
            self.granules[wish["collection"], wish["granule"]] = before
            return {"problem": Conflict("It is catalogued with other content.", "Give it another id.").problem()}
        return result

    def item(self, collection: str, granule: str) -> dict[str, Any]:
        """The item that was committed."""
        item: dict[str, Any] = self.granules[collection, granule]["commit"]["item"]
        return item

    @property
    def uploaded(self) -> int:
        """How many files were sent."""
        return sum(len(upload["files"]) for upload in self.uploads.values())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Catalogue]:
    server = Catalogue()
    server.define(id="data", recognise={"name": r"\.dat$"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def reader(tmp_path: Path) -> dict[str, Any]:
    script = tmp_path / "reader.py"
    script.write_text(READER)
    return {"command": ["python3", str(script), "{path}"]}


def states(outcomes: list[PathOutcome]) -> dict[str, str]:
    return {outcome.path.name: outcome.state for outcome in outcomes}


def only(outcomes: list[PathOutcome]) -> PathOutcome:
    (outcome,) = outcomes
    return outcome


def test_every_path_has_an_outcome_with_its_reason(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="twice", recognise={"name": "both"})
    for name in ("a.dat", "with space.dat", "both.dat", "readme.txt", "new\nline.dat", ".hidden.dat", "x.dat.part"):
        (folder / name).write_text(name)
    (folder / "deep").mkdir()
    (folder / "deep" / "b.dat").write_text("b")
    os.mkfifo(folder / "pipe.dat")
    (folder / "lost.dat").symlink_to("/nowhere")
    (folder / os.fsdecode(b"\xff.dat")).write_text("bytes")
    outcomes = ingest(client, [folder])
    assert states(outcomes) == {
        "a.dat": "created", "with space.dat": "created", "b.dat": "created", "both.dat": "failed",
        "new\nline.dat": "failed", "readme.txt": "skipped", "pipe.dat": "skipped", "lost.dat": "skipped",
        os.fsdecode(b"\xff.dat"): "failed",
    }  # fmt: skip
    assert all(outcome.reason for outcome in outcomes if outcome.state in ("failed", "skipped"))
    assert set(server.granules) == {("data", "a"), ("data", "with space"), ("data", "b")}


@pytest.mark.parametrize("name", ["readme.txt", "missing.dat"])
def test_what_was_named_and_cannot_be_taken_is_a_failure(client: Client, folder: Path, name: str) -> None:
    (folder / "readme.txt").write_text("x")
    assert only(ingest(client, [folder / name])).state == "failed"


def test_the_same_again_is_the_same_and_nothing_is_sent(client: Client, server: Catalogue, folder: Path) -> None:
    for number in range(30):
        (folder / f"{number}.dat").write_bytes(os.urandom(100))
    assert set(states(ingest(client, [folder])).values()) == {"created"}
    sent = server.uploaded
    again = ingest(client, [folder])
    assert {outcome.state for outcome in again} == {"same"}
    assert all(outcome.revision == 1 and outcome.reason for outcome in again)
    assert server.uploaded == sent


def test_an_interrupted_run_that_is_repeated_sends_only_the_rest(
    client: Client, server: Catalogue, folder: Path
) -> None:
    for number in range(10):
        (folder / f"{number}.dat").write_bytes(os.urandom(100))
    ingest(client, [folder / f"{number}.dat" for number in range(4)])
    sent = server.uploaded
    assert sorted(states(ingest(client, [folder])).values()) == ["created"] * 6 + ["same"] * 4
    assert server.uploaded == sent + 6


def test_other_content_follows_the_policy_of_the_collection(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="log", recognise={"name": r"\.log$"}, on_change="revise")
    for text in ("one", "other"):
        (folder / "a.dat").write_text(text)
        (folder / "a.log").write_text(text)
        outcomes = {outcome.path.name: outcome for outcome in ingest(client, [folder])}
    assert (outcomes["a.log"].state, outcomes["a.log"].revision) == ("revised", 2)
    assert outcomes["a.dat"].state == "failed"
    assert outcomes["a.dat"].reason == "It is catalogued with other content."


def test_two_paths_of_one_granule_are_the_same_or_refused(client: Client, folder: Path) -> None:
    for place, text in (("1", "same"), ("2", "same"), ("3", "other")):
        (folder / place).mkdir()
        (folder / place / "a.dat").write_text(text)
    outcomes = {outcome.path.parent.name: outcome.state for outcome in ingest(client, [folder])}
    assert outcomes == {"1": "created", "2": "same", "3": "failed"}


def test_a_path_that_is_named_twice_is_taken_once(client: Client, folder: Path) -> None:
    (folder / "a.dat").write_text("a")
    assert only(ingest(client, [folder, folder / "a.dat", folder / ".." / "in"])).state == "created"


# Recognition ---------------------------------------------------------------------------------------------------


def test_folders_and_archives_are_recognised_by_what_they_hold(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="sets", recognise={"directory": r"\.ms$", "member": "^table/t$"})
    server.define(id="zips", recognise={"name": r"\.zip$", "member": "manifest.safe$"})
    (folder / "x.ms" / "table").mkdir(parents=True)
    (folder / "x.ms" / "table" / "t").write_text("t")
    (folder / "x.ms" / "inner.dat").write_text("no granule of its own")
    with zipfile.ZipFile(folder / "scene.zip", "w") as archive:
        archive.writestr("S1/manifest.safe", "<xml/>")
    (folder / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    outcomes = ingest(client, [folder])
    assert states(outcomes) == {"x.ms": "created", "scene.zip": "created", "broken.zip": "skipped"}
    assets = server.granules["sets", "x"]["commit"]["assets"]
    assert assets["x.ms"]["kind"] == "tree"
    assert [file["path"] for file in assets["x.ms"]["files"]] == ["x.ms/inner.dat", "x.ms/table/t"]


def test_a_named_collection_takes_what_it_would_not_recognise(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="any")
    server.define(id="trees", asset="tree")
    (folder / "notes.txt").write_text("x")
    assert only(ingest(client, [folder / "notes.txt"], Options(collection="data"))).collection == "data"
    assert only(ingest(client, [folder], Options(collection="any"))).granule == "notes"
    assert only(ingest(client, [folder], Options(collection="trees"))).path == folder
    assert only(ingest(client, [folder / "notes.txt"], Options(collection="trees"))).state == "failed"
    with pytest.raises(NotFound, match="no collection 'none'"):
        ingest(client, [folder], Options(collection="none"))


def test_a_folder_of_files_is_a_granule_of_several_assets(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="product", recognise={"directory": r"^product"}, asset="file")
    (folder / "product-1").mkdir()
    for name in ("browse.png", "values.tif"):
        (folder / "product-1" / name).write_text(name)
    ingest(client, [folder])
    assets = server.granules["product", "product-1"]["commit"]["assets"]
    assert {name: asset["roles"] for name, asset in assets.items()} == {
        "browse.png": ["overview"],
        "values.tif": ["data"],
    }


def test_links_to_folders_are_not_followed_round_in_circles(client: Client, folder: Path) -> None:
    (folder / "a.dat").write_text("a")
    (folder / "round").symlink_to(folder)
    assert only(ingest(client, [folder])).state == "created"


# Metadata ------------------------------------------------------------------------------------------------------


def test_metadata_is_read_out_of_process_and_its_failure_is_quoted(
    client: Client, server: Catalogue, folder: Path, reader: dict[str, Any]
) -> None:
    server.define(id="read", recognise={"name": r"\.raw$"}, metadata=reader)
    for name in ("good.raw", "bad.raw", "renamed.raw"):
        (folder / name).write_text("1234")
    outcomes = {outcome.path.name: outcome for outcome in ingest(client, [folder])}
    assert server.item("read", "good") == {
        "geometry": {"type": "Point", "coordinates": [10, 45]},
        "frame": "earth",
        "properties": {"datetime": "2026-03-01T00:00:00Z", "bytes": 4},
    }
    assert outcomes["renamed.raw"].granule == "named-by-reader"
    assert outcomes["bad.raw"].state == "failed"
    assert "the header is damaged" in str(outcomes["bad.raw"].problem)
    again = ingest(client, [folder / "good.raw", folder / "renamed.raw"])
    assert {outcome.state for outcome in again} == {"same"}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["sleep", "60"], "took longer than 0.5 s"),
        (["echo", "hello"], "not JSON"),
        (["/no/such/program"], "no/such/program"),
    ],
)
def test_a_reader_that_fails_costs_its_own_granule_alone(
    client: Client, server: Catalogue, folder: Path, command: list[str], reason: str
) -> None:
    server.define(id="read", recognise={"name": r"\.raw$"}, metadata={"command": command})
    (folder / "a.raw").write_text("x")
    (folder / "a.dat").write_text("x")
    options = Options(read_timeout=timedelta(seconds=0.5))
    outcomes = {outcome.path.name: outcome for outcome in ingest(client, [folder], options)}
    assert outcomes["a.dat"].state == "created"
    assert outcomes["a.raw"].state == "failed"
    assert reason in outcomes["a.raw"].reason


def test_a_picture_is_made_and_does_not_count_as_content(
    client: Client, server: Catalogue, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture made by another version of a library must not make other content of the same data."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "data"))
    server.define(id="pictured", recognise={"name": r"\.raw$"}, browse="pictures:random")
    (folder / "a.raw").write_text("data")
    assert only(ingest(client, [folder])).state == "created"
    assets = server.granules["pictured", "a"]["commit"]["assets"]
    assert assets["browse.png"]["roles"] == ["overview"]
    assert only(ingest(client, [folder])).state == "same"


def test_data_without_a_picture_is_better_than_none(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="pictured", recognise={"name": r"\.raw$"}, browse="no_such_module:draw")
    (folder / "a.raw").write_text("data")
    assert only(ingest(client, [folder])).state == "created"
    assert set(server.granules["pictured", "a"]["commit"]["assets"]) == {"a.raw"}


def test_a_dry_run_reads_and_takes_nothing(
    client: Client, server: Catalogue, folder: Path, reader: dict[str, Any]
) -> None:
    server.define(id="read", recognise={"name": r"\.raw$"}, metadata=reader)
    for name in ("good.raw", "bad.raw"):
        (folder / name).write_text("1234")
    dry = {outcome.path.name: outcome for outcome in ingest(client, [folder], Options(dry_run=True))}
    assert (dry["good.raw"].state, dry["bad.raw"].state) == ("planned", "failed")
    assert dry["good.raw"].reason == "It is new."
    assert not server.uploads
    ingest(client, [folder / "good.raw"])
    (folder / "good.raw").write_text("other")
    assert "it is refused" in only(ingest(client, [folder / "good.raw"], Options(dry_run=True))).reason


# What is still being written -----------------------------------------------------------------------------------


def test_a_file_that_a_process_has_open_for_writing_is_not_taken(client: Client, folder: Path) -> None:
    with (folder / "a.dat").open("w") as writer:
        writer.write("half")
        writer.flush()
        assert open_for_writing(folder / "a.dat") == folder / "a.dat"
        outcome = only(ingest(client, [folder], Options(patience=timedelta(0))))
        assert outcome.state == "failed"
        assert "open for writing" in outcome.reason
    assert open_for_writing(folder) is None
    assert only(ingest(client, [folder], Options(patience=timedelta(0)))).state == "created"


def test_a_lease_does_not_keep_a_writer_that_comes_meanwhile(folder: Path) -> None:
    """Asking the kernel leaves no lease behind, and no deadly signal."""
    (folder / "a.dat").write_text("x")
    assert open_for_writing(folder / "a.dat") is None
    with (folder / "a.dat").open("r+") as writer:
        assert fcntl.fcntl(writer, fcntl.F_GETLEASE) == fcntl.F_UNLCK


def test_a_file_is_waited_for_until_it_is_quiet(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="slow", recognise={"name": r"\.slow$"}, settle="PT1H")
    (folder / "a.slow").write_text("x")
    (folder / "b.slow").write_text("x")
    hours_ago = time.time() - 7200
    os.utime(folder / "b.slow", (hours_ago, hours_ago))
    outcomes = {outcome.path.name: outcome for outcome in ingest(client, [folder], Options(patience=timedelta(0)))}
    assert outcomes["b.slow"].state == "created"
    assert outcomes["a.slow"].state == "failed"
    assert "less than 3600 s ago" in outcomes["a.slow"].reason


def test_what_becomes_whole_while_it_is_waited_for_is_taken(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="signalled", recognise={"name": r"\.mk$"}, signal="*.done")
    (folder / "a.mk").write_text("x")
    (folder / "b.mk").write_text("x")
    (folder / "b.mk.done").touch()

    class Finisher(Silence):
        told: ClassVar[list[str]] = []

        def waiting(self, path: Path, reason: str) -> None:
            self.told.append(f"{path.name}: {reason}")
            (folder / "a.done").touch()

    outcomes = ingest(client, [folder], Options(patience=timedelta(seconds=30)), Finisher())
    assert states(outcomes) == {"a.mk": "created", "b.mk": "created"}
    assert Finisher.told == ["a.mk: its signal file *.done is not there"]


def test_one_without_its_signal_is_refused_when_patience_ends(client: Client, server: Catalogue, folder: Path) -> None:
    server.define(id="signalled", recognise={"name": r"\.mk$"}, signal="*.done")
    (folder / "a.mk").write_text("x")
    outcome = only(ingest(client, [folder], Options(patience=timedelta(0))))
    assert outcome.state == "failed"
    assert "its signal file *.done is not there" in outcome.reason


def test_a_folder_that_grows_while_it_is_read_is_not_taken_half(
    client: Client, server: Catalogue, folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "grow.sh"
    script.write_text('[ -e "$1/late" ] || echo late > "$1/late"; echo \'{"properties": {}, "frame": "none"}\'')
    server.define(id="sets", recognise={"directory": r"\.ms$"}, metadata={"command": ["sh", str(script), "{path}"]})
    (folder / "x.ms").mkdir()
    (folder / "x.ms" / "first").write_text("1")
    assert only(ingest(client, [folder])).state == "created"
    files = server.granules["sets", "x"]["commit"]["assets"]["x.ms"]["files"]
    assert [file["path"] for file in files] == ["x.ms/first", "x.ms/late"]


def test_a_file_that_changes_while_it_is_sent_is_sent_again(client: Client, server: Catalogue, folder: Path) -> None:
    file = folder / "a.dat"
    file.write_text("first")

    def grow(method: str, path: str) -> None:
        if path == "/api/uploads" and file.read_text() == "first":
            file.write_text("second, longer")

    server.fault = grow  # type: ignore[assignment]
    assert only(ingest(client, [folder])).state == "created"
    assert server.granules["data", "a"]["size_bytes"] == len("second, longer")


# The whole -----------------------------------------------------------------------------------------------------


def test_thousands_of_files_in_one_call(client: Client, server: Catalogue, folder: Path) -> None:
    for number in range(3000):
        (folder / f"{number}.dat").write_bytes(b"%d" % number)
    assert len(ingest(client, [folder])) == 3000
    assert len(server.granules) == 3000
    commits = [path for method, path in server.calls if path == "/api/uploads/commit"]
    assert len(commits) <= 20
    assert {outcome.state for outcome in ingest(client, [folder])} == {"same"}


def test_nothing_is_left_behind(client: Client, server: Catalogue, folder: Path, tmp_path: Path) -> None:
    (folder / "a.dat").write_text("a")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        ingest(client, [folder])
    assert list(temporary.iterdir()) == []


def test_the_digest_here_is_the_digest_there(client: Client, server: Catalogue, folder: Path) -> None:
    (folder / "a.dat").write_text("a")
    ingest(client, [folder])
    found = next(iter(find([folder / "a.dat"], [read({"id": "data", "recognise": {"name": r"\.dat$"}})])))
    assert not isinstance(found, PathOutcome)
    from armillary.client.ingest import source

    assert local_digest(plan(source(found))) == server.granules["data", "a"]["digest"]


def test_progress_hears_of_every_byte_that_is_sent(client: Client, server: Catalogue, folder: Path) -> None:
    (folder / "a.dat").write_bytes(b"x" * 5000)

    class Listener(Silence):
        heard: ClassVar[dict[str, Any]] = {"found": 0, "moved": 0, "ended": []}

        def found(self, path: Path, size_bytes: int) -> None:
            self.heard["found"] += size_bytes

        def moved(self, granule: str, count: int) -> None:
            self.heard["moved"] += count

        def ended(self, outcome: PathOutcome) -> None:
            self.heard["ended"].append(outcome.state)

    with Ingest(client, Options(), Listener()) as run:
        run.ingest([folder])
    assert Listener.heard == {"found": 5000, "moved": 5000, "ended": ["created"]}


@pytest.mark.real_data
def test_real_orbits_and_interferograms_are_taken(client: Client, server: Catalogue, tmp_path: Path) -> None:
    data = os.environ.get("ARMILLARY_TEST_DATA")
    if not data:
        pytest.skip("ARMILLARY_TEST_DATA names no folder of real data.")
    server.define(id="orbit", recognise={"name": r"^S1.*\.EOF"}, metadata="sentinel-1-orbit")
    orbits = sorted(Path(data).rglob("S1*.EOF*"))
    assert orbits, "there are no orbit files in the data"
    for orbit in orbits:
        shutil.copy(orbit, tmp_path / orbit.name)
    outcomes = ingest(client, [tmp_path / orbit.name for orbit in orbits])
    assert {outcome.state for outcome in outcomes} <= {"created", "same"}
    for outcome in outcomes:
        assert json.dumps(server.item("orbit", str(outcome.granule))["properties"])
