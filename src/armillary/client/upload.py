"""The one way in for bytes: a ticket, the bytes, a commit; for the command line, watch folders and the runner alike."""

import json
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from armillary.base.crash import crash_point
from armillary.base.errors import ArmillaryError, Conflict, UsageError, from_problem
from armillary.base.ids import check_name, key_segment
from armillary.client.client import Client, Json
from armillary.client.transfer import Bytes, LocalFile, Prover, Ticket, Transfer
from armillary.granules.granule import Asset, File, check_file, content_digest

BATCH_GRANULES = 200
BATCH_FILES = 2000
BATCH_BYTES = 1 << 30
MAX_SEGMENT_BYTES = 255  # of a file's name on most disks, where a local store puts it percent-encoded

Progress = Callable[[str, int], None]
"""Called from several threads with a granule's id and how many of its bytes have just been read."""


@dataclass(frozen=True)
class AssetSource:
    """A file or folder here that becomes an asset."""

    name: str
    path: Path
    kind: Literal["file", "tree"] = "file"
    media_type: str = "application/octet-stream"
    roles: tuple[str, ...] = ("data",)
    title: str = ""
    description: str = ""


@dataclass(frozen=True)
class GranuleSource:
    """A granule to be uploaded; a runner says for which lease and output."""

    collection: str
    id: str
    assets: tuple[AssetSource, ...]
    item: Json = field(default_factory=dict)
    job: str | None = None
    lease: int | None = None
    output: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one granule: exactly one of `outcome` and `problem` is set."""

    collection: str
    granule: str
    revision: int | None = None
    outcome: Literal["created", "same", "revised"] | None = None
    problem: ArmillaryError | None = None


@dataclass(frozen=True)
class Planned:
    """A granule whose files were listed and found fit to be uploaded."""

    source: GranuleSource
    files: dict[str, tuple[LocalFile, ...]]  # by asset

    @property
    def size_bytes(self) -> int:
        """All that will be read."""
        return sum(file.size for files in self.files.values() for file in files)

    @property
    def count(self) -> int:
        """How many files that is."""
        return sum(map(len, self.files.values()))


class Uploader:
    """Uploads through one client, with a few threads."""

    def __init__(self, client: Client, *, threads: int = 4, progress: Progress = lambda _, __: None) -> None:
        self._client = client
        self._progress = progress
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="upload")
        self._commits = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._transfers: dict[str, Transfer] = {}
        self._prover = Prover(client)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(cancel_futures=True)
        self._commits.shutdown(cancel_futures=True)

    def __enter__(self) -> "Uploader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def upload(self, sources: Iterable[GranuleSource]) -> Iterator[Outcome]:
        """Upload granules batch by batch; what the catalogue has already is not sent again.

        While a batch is committed, the bytes of the next are on their way. One bad granule does not keep the others.
        """
        committing: Future[list[Outcome]] | None = None
        for batch in _batches((source, _plan_or_problem(source)) for source in sources):
            refused = [_refused(source, one) for source, one in batch if isinstance(one, ArmillaryError)]
            planned = [one for _, one in batch if isinstance(one, Planned)]
            same = self._find_same(planned)
            crash_point("upload.after-known")
            new = [one for one in planned if id(one) not in same]
            sent = self._send_planned(new)
            yield from refused
            yield from same.values()
            if committing is not None:
                yield from committing.result()
            committing = self._commits.submit(self._commit, [one.source for one in new], sent)
        if committing is not None:
            yield from committing.result()

    def send(self, sources: Sequence[GranuleSource]) -> list[Json | ArmillaryError]:
        """Ticket and bytes alone: for each granule the commit that will make it visible, or what is wrong with it."""
        planned = [_plan_or_problem(source) for source in sources]
        sent = iter(self._send_planned([one for one in planned if isinstance(one, Planned)]))
        return [one if isinstance(one, ArmillaryError) else next(sent) for one in planned]

    # What is there already -------------------------------------------------------------------------------------

    def _find_same(self, planned: Sequence[Planned]) -> dict[int, Outcome]:
        """Those whose very content is the catalogue's: only granules it knows are read for that."""
        same = {}
        by_collection = sorted(planned, key=lambda one: one.source.collection)
        for collection, group in groupby(by_collection, key=lambda one: one.source.collection):
            ours = list(group)
            known = self._client.known(collection, [one.source.id for one in ours])
            looked_at = [one for one in ours if (entry := known.get(one.source.id)) and _may_be_same(one, entry)]
            for one, digest in zip(looked_at, self._threads.map(local_digest, looked_at), strict=True):
                entry = known[one.source.id]
                if digest == entry["digest"]:
                    same[id(one)] = Outcome(collection, one.source.id, entry["revision"], "same")
        return same

    # Bytes -----------------------------------------------------------------------------------------------------

    def _send_planned(self, planned: Sequence[Planned]) -> list[Json | ArmillaryError]:
        if not planned:
            return []
        answers = self._client.open_uploads([_wish(one) for one in planned], self._prover.proof())
        crash_point("upload.after-ticket")
        sending = [self._start(one, answer) for one, answer in zip(planned, answers, strict=True)]
        sent = [one if isinstance(one, ArmillaryError) else one.wait() for one in sending]
        for transfer in self._transfers.values():
            transfer.settle()
        self._abandon([one.ticket.id for one in sending if isinstance(one, _Sending) and one.has_failed])
        crash_point("upload.after-bytes")
        return sent

    def _start(self, planned: Planned, answer: Json) -> "_Sending | ArmillaryError":
        if "problem" in answer:
            return from_problem(answer["problem"])
        ticket = Ticket(answer["id"], answer["prefix"], answer["transfer"], answer.get("root"))
        if ticket.transfer not in self._transfers:
            self._transfers[ticket.transfer] = Transfer.of(ticket.transfer, self._client)
        return _Sending(planned, ticket, self._transfers[ticket.transfer], self._threads, self._progress)

    def _abandon(self, uploads: list[str]) -> None:
        if uploads:
            with suppress(ArmillaryError):  # they expire by themselves
                self._client.abandon(uploads)

    # The commit ------------------------------------------------------------------------------------------------

    def _commit(self, sources: Sequence[GranuleSource], sent: Sequence[Json | ArmillaryError]) -> list[Outcome]:
        commits = [one for one in sent if not isinstance(one, ArmillaryError)]
        results = iter(self._client.commit(commits) if commits else [])
        crash_point("upload.after-commit")
        return [
            _refused(source, one) if isinstance(one, ArmillaryError) else _outcome(source, next(results))
            for source, one in zip(sources, sent, strict=True)
        ]


class _Sending:
    """The bytes of one granule on their way."""

    def __init__(
        self, planned: Planned, ticket: Ticket, transfer: Transfer, threads: ThreadPoolExecutor, progress: Progress
    ) -> None:
        self.ticket = ticket
        self.has_failed = False
        self._planned = planned
        self._transfer = transfer
        self._progress = progress
        paths = [file.path for files in planned.files.values() for file in files]
        paths += [manifest_path(asset.name) for asset in planned.source.assets if asset.kind == "tree"]
        transfer.prepare(ticket, paths)
        self._files: dict[str, list[Future[File]]] = {
            name: [threads.submit(self._put, file) for file in files] for name, files in planned.files.items()
        }

    def wait(self) -> Json | ArmillaryError:
        """The commit, once all bytes are there."""
        problem: ArmillaryError | None = None
        assets: dict[str, Json] = {}
        for source in self._planned.source.assets:
            try:
                files = [future.result() for future in self._files[source.name]]
                assets[source.name] = self._asset(source, files)
            except ArmillaryError as error:
                problem = problem or error
        if problem is not None:
            self.has_failed = True
            return problem
        return {"upload": self.ticket.id, "item": self._planned.source.item, "assets": assets}

    def _put(self, file: LocalFile) -> File:
        if self.has_failed:
            raise Conflict("Another file of this granule could not be sent.")
        try:
            sent = self._transfer.put(self.ticket, file, lambda count: self._progress(self._planned.source.id, count))
        except ArmillaryError:
            self.has_failed = True
            raise
        crash_point("upload.after-file")
        return sent

    def _asset(self, source: AssetSource, files: list[File]) -> Json:
        asset: Json = {
            "kind": source.kind,
            "media_type": source.media_type,
            "roles": list(source.roles),
            "files": [_file_json(file) for file in files],
        }
        asset |= {name: text for name in ("title", "description") if (text := getattr(source, name))}
        if source.kind == "tree":
            manifest = Bytes(manifest_path(source.name), manifest_of(source.name, files))
            asset["manifest"] = _file_json(self._transfer.put(self.ticket, manifest, lambda _: None))
        return asset


# Pure parts, and the listing of files -----------------------------------------------------------------------------


def plan(source: GranuleSource) -> Planned:
    """List what will be read, and refuse what could not be stored: links out of a tree, bad names, special files."""
    check_name(source.id, "granule")
    if not source.assets:
        raise UsageError(f"Granule {source.id!r} has no files.", "Give it at least one.", field="assets")
    files = {asset.name: tuple(_list_asset(asset)) for asset in source.assets}
    if len(files) != len(source.assets):
        raise UsageError(f"Granule {source.id!r} has two assets of one name.", "Rename one.", field="assets")
    paths = [file.path for listed in files.values() for file in listed]
    _check_distinct(paths + [manifest_path(asset.name) for asset in source.assets if asset.kind == "tree"])
    return Planned(source, files)


def manifest_path(asset: str) -> str:
    """Where the manifest of a tree is, beside the tree."""
    return f"{unicodedata.normalize('NFC', asset)}.manifest.json"


def manifest_of(asset: str, files: Sequence[File]) -> bytes:
    """The manifest of a tree: its files by NFC path within the tree, so that equal trees have equal manifests."""
    start = len(unicodedata.normalize("NFC", asset)) + 1
    entries = sorted((file.path[start:], file) for file in files)
    document = {"files": [{"path": path, "size": file.size, "sha256": file.sha256} for path, file in entries]}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def local_digest(planned: Planned) -> str:
    """The content digest that the granule would have; reads all its files."""
    assets = {}
    for source in planned.source.assets:
        files = tuple(file.digest() for file in planned.files[source.name])
        manifest = None
        if source.kind == "tree":
            manifest = Bytes(manifest_path(source.name), manifest_of(source.name, files)).digest()
        assets[source.name] = Asset(source.kind, files, manifest=manifest)
    return content_digest(assets)


def _list_asset(asset: AssetSource) -> Iterator[LocalFile]:
    name = unicodedata.normalize("NFC", asset.name)
    if asset.kind == "file":
        yield _local_file(asset.path, name)
        return
    root = asset.path.resolve()
    if not root.is_dir():
        raise UsageError(f"{asset.path} is not a folder.", "Name a folder, or upload it as a file.", field="assets")
    listed = sorted(_walk(root, root, name), key=lambda file: file.path)
    if not listed:
        raise UsageError(f"The folder {asset.path} holds no files.", "Nothing to upload.", field="assets")
    yield from listed


def _walk(root: Path, folder: Path, prefix: str) -> Iterator[LocalFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            name = f"{prefix}/{unicodedata.normalize('NFC', entry.name)}"
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, path, name)
            else:
                yield _local_file(_inside(root, path) if entry.is_symlink() else path, name)


def _inside(root: Path, link: Path) -> Path:
    """Where a link within a tree leads: its bytes are taken, unless they lie outside."""
    target = link.resolve()
    if not target.is_relative_to(root):
        raise UsageError(f"{link} is a link that leaves its folder.", "Replace it by what it leads to.", field="assets")
    if target.is_dir():
        raise UsageError(f"{link} is a link to a folder.", "Replace it by what it leads to.", field="assets")
    return target


def _local_file(path: Path, name: str) -> LocalFile:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"The name {os.fsencode(path)!r} is not UTF-8.", "Rename it.", field="assets") from error
    check_file(File(name, 0, "0" * 64), "assets")
    if any(len(key_segment(segment)) > MAX_SEGMENT_BYTES for segment in name.split("/")):
        raise UsageError(f"The name {name!r} is too long to be stored.", "Choose a shorter one.", field="assets")
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Is it complete?", field="assets") from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} is neither a file nor a folder.", "Leave it out.", field="assets")
    return LocalFile(name, path, status.st_size, status.st_mtime_ns, status.st_ino)


def _check_distinct(paths: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        folded = path.casefold()
        if folded in seen:
            raise UsageError(
                f"{seen[folded]!r} and {path!r} differ by case or form only.", "Rename one of them.", field="assets"
            )
        seen[folded] = path


def _may_be_same(planned: Planned, entry: Json) -> bool:
    return bool(planned.size_bytes == entry["size_bytes"])


def _wish(planned: Planned) -> Json:
    source = planned.source
    wish: Json = {"collection": source.collection, "granule": source.id, "size_bytes": planned.size_bytes}
    given: dict[str, Any] = {"job": source.job, "lease": source.lease, "output": source.output}
    return wish | {name: value for name, value in given.items() if value is not None}


def _file_json(file: File) -> Json:
    return {"path": file.path, "size": file.size, "sha256": file.sha256}


def _plan_or_problem(source: GranuleSource) -> Planned | ArmillaryError:
    try:
        return plan(source)
    except ArmillaryError as problem:
        return problem


def _refused(source: GranuleSource, problem: ArmillaryError) -> Outcome:
    return Outcome(source.collection, source.id, problem=problem)


def _outcome(source: GranuleSource, result: Json) -> Outcome:
    if "problem" in result:
        return _refused(source, from_problem(result["problem"]))
    return Outcome(source.collection, source.id, result["revision"], result["outcome"])


def _batches(
    planned: Iterable[tuple[GranuleSource, Planned | ArmillaryError]],
) -> Iterator[list[tuple[GranuleSource, Planned | ArmillaryError]]]:
    """Batches that are worth a call and that a crash would not make one sorry for."""
    batch: list[tuple[GranuleSource, Planned | ArmillaryError]] = []
    files = size_bytes = 0
    for source, one in planned:
        batch.append((source, one))
        if isinstance(one, Planned):
            files, size_bytes = files + one.count, size_bytes + one.size_bytes
        if len(batch) >= BATCH_GRANULES or files >= BATCH_FILES or size_bytes >= BATCH_BYTES:
            yield batch
            batch, files, size_bytes = [], 0, 0
    if batch:
        yield batch
