"""Take files and folders in: find and recognise them, wait until they are whole, read them, upload them.

Everything happens where the bytes are, and readers run in processes of their own. Every path has one outcome with its
reason, and an interrupted run is repeated at no cost: what the catalogue has already is not read or sent again.
"""

import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from armillary.base.errors import ArmillaryError, Conflict, NotFound, UsageError
from armillary.base.ids import check_name
from armillary.client import media
from armillary.client.client import Client, Json
from armillary.client.find import Found, PathOutcome, find
from armillary.client.upload import AssetSource, GranuleSource, Outcome, Uploader, local_digest, plan
from armillary.collections import collection as collections
from armillary.collections.collection import Collection

if TYPE_CHECKING:
    from armillary_formats.pool import Readers

BATCH = 200  # paths whose granules are asked for in one call
AHEAD = 400  # granules that are read while others are sent
PICTURE = "browse.png"
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Options:
    """How to go about it."""

    collection: str | None = None  # instead of recognising
    dry_run: bool = False
    quiet: timedelta = timedelta(0)  # nothing is taken that changed more recently, whatever its collection says
    patience: timedelta = timedelta(seconds=60)  # how long to wait for what is still being written
    readers: int = 2
    read_timeout: timedelta = timedelta(minutes=2)
    threads: int = 4


# What to look at of what was found: it, an earlier sight of it, or nothing.
Look = Callable[[Found], Found | None]


class Progress(Protocol):
    """Told what happens; `moved` from several threads."""

    def found(self, path: Path, size_bytes: int) -> None:
        """A granule will be looked at."""

    def moved(self, granule: str, count: int) -> None:
        """So many bytes of it were read to be sent."""

    def waiting(self, path: Path, reason: str) -> None:
        """It is not whole yet."""

    def ended(self, outcome: PathOutcome) -> None:
        """A path is done with."""


class Silence:
    """Progress that nobody looks at."""

    def found(self, path: Path, size_bytes: int) -> None:
        """Nothing."""

    def moved(self, granule: str, count: int) -> None:
        """Nothing."""

    def waiting(self, path: Path, reason: str) -> None:
        """Nothing."""

    def ended(self, outcome: PathOutcome) -> None:
        """Nothing."""


def ingest(
    client: Client, paths: Iterable[Path], options: Options | None = None, progress: Progress | None = None
) -> list[PathOutcome]:
    """Ingest files and folders; one outcome for each path that was named or found."""
    with Ingest(client, options or Options(), progress or Silence()) as run:
        return run.ingest(paths)


class Ingest:
    """Ingestion through one client, with its reader processes and threads; serves any number of runs."""

    def __init__(self, client: Client, options: Options, progress: Progress) -> None:
        self._client = client
        self._options = options
        self._progress = progress
        self._workers = ThreadPoolExecutor(max(options.readers, 1), thread_name_prefix="ingest")
        self._uploader = Uploader(client, threads=options.threads, progress=progress.moved)
        self._folder = Path(tempfile.mkdtemp(prefix="armillary-ingest-"))
        self._collections: list[Collection] = []
        self._outcomes: list[PathOutcome] = []
        self._in_flight: dict[tuple[str, str], Found] = {}
        self._again: list[Found] = []
        self._deadline = float("inf")

    def close(self) -> None:
        """Stop readers and threads."""
        self._workers.shutdown(cancel_futures=True)
        self._uploader.close()
        if "_readers" in self.__dict__:
            self._readers.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "Ingest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ingest(self, paths: Iterable[Path]) -> list[PathOutcome]:
        """Find what is there, take what is whole, then wait for the rest as long as patience lasts."""
        self._outcomes = []
        self._deadline = time.monotonic() + self._options.patience.total_seconds()
        waiting = self.sweep(paths)
        while waiting:
            ready = [one for one in waiting if not one.why_not_ready(self._options.quiet)]
            waiting = [one for one in waiting if one not in ready]
            if ready:
                waiting += self._take(iter(ready))
            elif time.monotonic() < self._deadline:
                time.sleep(PAUSE_SECONDS)
            else:
                for one in waiting:
                    self._fail(one, _not_whole(one, self._options.quiet))
                waiting = []
        return self._outcomes

    def sweep(self, paths: Iterable[Path], look: Look = lambda found: found) -> list[Found]:
        """Find what is there and take what is whole; what is not yet is given back. `look` may leave some out."""
        self._collections = self._specs()
        return self._take(one for one in map(look, self._find(paths)) if one is not None)

    # Steps -----------------------------------------------------------------------------------------------------

    def _specs(self) -> list[Collection]:
        specs = [collections.read(row["spec"]) for row in self._client.collections()]
        chosen = self._options.collection
        if chosen is None:
            return specs
        if not any(spec.id == chosen for spec in specs):
            remedy = "`armillary collection list` shows those that are."
            raise NotFound(f"There is no collection {chosen!r}.", remedy, field="collection")
        return [spec for spec in specs if spec.id == chosen]

    def _find(self, paths: Iterable[Path]) -> Iterator["Found"]:
        for one in find(paths, self._collections, chosen=self._options.collection is not None):
            if isinstance(one, PathOutcome):
                self._end(one)
            else:
                self._progress.found(one.path, one.signature.size_bytes)
                yield one

    def _take(self, found: Iterator["Found"]) -> list["Found"]:
        """Take all that is whole; what is not yet is given back."""
        self._again = []
        for outcome in self._uploader.upload(self._sources(found)):
            self._uploaded(outcome)
        return self._again

    def _sources(self, found: Iterator["Found"]) -> Iterator[GranuleSource]:
        """What the uploader takes, read in other threads some way ahead of it."""
        reading: deque[tuple[Found, Future[GranuleSource | PathOutcome]]] = deque()
        while batch := list(islice(found, BATCH)):
            whole = [one for one in batch if not self._is_deferred(one)]
            known = self._known(whole)
            reading += [(one, self._workers.submit(self._read, one, known.get(one.key))) for one in whole]
            while len(reading) > AHEAD:
                yield from self._taken(*reading.popleft())
        while reading:
            yield from self._taken(*reading.popleft())

    def _is_deferred(self, one: "Found") -> bool:
        reason = one.why_not_ready(self._options.quiet)
        if reason:
            self._progress.waiting(one.path, reason)
            self._again.append(one)
        return bool(reason)

    def _known(self, batch: Sequence["Found"]) -> dict[tuple[str, str], Json]:
        known: dict[tuple[str, str], Json] = {}
        for collection in {one.collection.id for one in batch}:
            ids = [one.granule for one in batch if one.collection.id == collection]
            entries = self._client.known(collection, ids)
            known |= {(collection, granule): entry for granule, entry in entries.items()}
        return known

    def _taken(self, one: "Found", reading: "Future[GranuleSource | PathOutcome]") -> Iterator[GranuleSource]:
        try:
            taken = reading.result()
        except NotWholeError as problem:
            if time.monotonic() < self._deadline:
                self._again.append(one)
            else:
                self._fail(one, problem)
            return
        except ArmillaryError as problem:
            self._fail(one, problem)
            return
        except OSError as error:
            self._fail(one, UsageError(f"{one.path} cannot be read: {error.strerror}.", "Is it complete?"))
            return
        if isinstance(taken, PathOutcome):
            self._end(taken)
            return
        key = (taken.collection, taken.id)
        if key in self._in_flight:
            # Two paths give one granule: the second is looked at once the first is in, and is the same or refused.
            self._again.append(one)
            return
        self._in_flight[key] = one
        yield taken

    def _uploaded(self, outcome: Outcome) -> None:
        one = self._in_flight.pop((outcome.collection, outcome.granule))
        shutil.rmtree(self._folder / one.scratch, ignore_errors=True)
        if outcome.problem is not None and one.has_changed() and time.monotonic() < self._deadline:
            self._again.append(one)  # what is wrong is that it was still being written
        elif outcome.problem is not None:
            self._fail(replace(one, granule=outcome.granule), outcome.problem)
        else:
            assert outcome.outcome is not None
            self._end(one.outcome(outcome.outcome, granule=outcome.granule, revision=outcome.revision))

    def _fail(self, one: "Found", problem: ArmillaryError) -> None:
        self._end(one.outcome("failed", reason=problem.message, problem=problem))

    def _end(self, outcome: PathOutcome) -> None:
        self._outcomes.append(outcome)
        self._progress.ended(outcome)

    # One granule, in a thread ----------------------------------------------------------------------------------

    def _read(self, one: "Found", entry: Json | None) -> GranuleSource | PathOutcome:
        """What is to be uploaded, or that it is there already."""
        bare = source(one)
        if entry is not None and self._is_same(bare, entry):
            return one.outcome("same", revision=entry["revision"], reason="The catalogue has this very content.")
        metadata = self._metadata(one)
        whole = source(one, metadata)
        if whole.id != one.granule:
            entry = self._client.known(whole.collection, [check_name(whole.id)]).get(whole.id)
            if entry is not None and self._is_same(whole, entry):
                reason = "The catalogue has this very content."
                return one.outcome("same", granule=whole.id, revision=entry["revision"], reason=reason)
        if self._options.dry_run:
            plan(whole)
            return one.outcome("planned", granule=whole.id, reason=_plan_of(one.collection, entry))
        pictured = self._with_picture(one, whole)
        if one.has_changed():
            raise NotWholeError(f"{one.path} changed while it was read.", "Ingest it again once it is complete.")
        return pictured

    def _is_same(self, bare: GranuleSource, entry: Json) -> bool:
        """Whether the catalogue has the same bytes; a picture made at ingest does not count."""
        planned = plan(bare)
        if planned.size_bytes == entry["size_bytes"] and local_digest(planned) == entry["digest"]:
            return True
        ours = {file.path: file for files in planned.files.values() for file in files}
        theirs = {
            file["path"]: file
            for file in self._client.granule(bare.collection, bare.id)["files"]
            if file["asset"] != PICTURE or PICTURE in planned.files
        }
        if {path: file.size for path, file in ours.items()} != {path: file["size"] for path, file in theirs.items()}:
            return False
        return all(file.digest().sha256 == theirs[path]["sha256"] for path, file in ours.items())

    def _metadata(self, one: "Found") -> Json:
        reader = one.collection.metadata
        if reader is None:
            return {}
        wanted = reader if isinstance(reader, str) else dict(reader)
        metadata: Json = self._asked(lambda readers: readers.read(wanted, one.path))
        return metadata

    def _with_picture(self, one: "Found", whole: GranuleSource) -> GranuleSource:
        """Add a picture; one that cannot be made is no reason to refuse the data."""
        if one.collection.browse is None or any(asset.name == PICTURE for asset in whole.assets):
            return whole
        browse = one.collection.browse
        out = self._folder / one.scratch / PICTURE
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._asked(lambda readers: readers.browse(browse, one.path, out))
        except UsageError:
            return whole
        picture = AssetSource(PICTURE, out, media_type="image/png", roles=("overview",), title="Quick look")
        return replace(whole, assets=(*whole.assets, picture))

    def _asked(self, ask: Any) -> Any:
        from armillary_formats.pool import ReadError

        try:
            return ask(self._readers)
        except ReadError as error:
            remedies = {
                "refused": "Is it whole, and of this collection?",
                "timeout": "Give it longer with --read-timeout.",
                "crashed": "The reader is to blame, or the file breaks it.",
            }
            remedy = remedies.get(error.kind, "The reader is to blame: it is the collection's `metadata`.")
            message = error.message if error.message.endswith(".") else f"{error.message}."
            raise UsageError(message, remedy, field="metadata", detail=error.detail) from error

    @cached_property
    def _readers(self) -> "Readers":
        try:
            from armillary_formats.pool import Readers
        except ImportError as error:
            message = "The collection's metadata reader needs the distribution armillary-formats."
            raise NotFound(message, "Install it: `pip install armillary-formats`.") from error
        return Readers(workers=self._options.readers, timeout=self._options.read_timeout)


class NotWholeError(Conflict):
    """It is still being written."""


def source(one: Found, metadata: Json | None = None) -> GranuleSource:
    """The granule that a path is, with what its reader said."""
    metadata = metadata or {}
    item: Json = {name: metadata[name] for name in ("geometry", "bbox", "frame", "properties") if name in metadata}
    details = metadata.get("assets") or {}
    assets = tuple(_asset(name, path, details.get(name) or {}) for name, path in _asset_paths(one))
    return GranuleSource(one.collection.id, str(metadata.get("id") or one.granule), assets, item)


def _asset_paths(one: Found) -> list[tuple[str, Path]]:
    kind, is_folder = one.collection.asset, one.path.is_dir()
    if kind == "tree" and not is_folder:
        raise UsageError(f"{one.path.name!r} is a file, and the collection takes folders.", field="asset")
    if kind == "file" and is_folder:
        # A folder of files, each an asset of its own.
        return [(entry.name, entry) for entry in sorted(one.path.iterdir()) if not entry.name.startswith(".")]
    return [(one.path.name, one.path)]


def _asset(name: str, path: Path, details: Json) -> AssetSource:
    is_tree = path.is_dir()
    return AssetSource(
        name,
        path,
        "tree" if is_tree else "file",
        media_type=details.get("type") or media.media_type(name, is_tree=is_tree),
        roles=tuple(details.get("roles") or media.roles(name)),
        title=details.get("title") or "",
        description=details.get("description") or "",
    )


def _not_whole(one: Found, quiet: timedelta) -> NotWholeError:
    reason = one.why_not_ready(quiet) or "it kept changing"
    return NotWholeError(f"{one.path} is not whole: {reason}.", "Ingest it again once it is; --wait waits longer.")


def _plan_of(collection: Collection, entry: Json | None) -> str:
    if entry is None:
        return "It is new."
    other = f"The catalogue has other content as revision {entry['revision']}"
    return f"{other}; this would be a new revision." if collection.on_change == "revise" else f"{other}; it is refused."
