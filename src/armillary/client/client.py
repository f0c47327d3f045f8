"""The Python client: one method per call of the server, with retries, typed errors and verified downloads."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Literal, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import httpx2
import stamina

from armillary.base.errors import ArmillaryError, TransientError, UsageError, from_problem

PROTOCOL = 1
BLOCK_BYTES = 1 << 20
PATIENCE_SECONDS = 45.0
_TIMEOUT = httpx2.Timeout(30, connect=5, pool=None)

T = TypeVar("T")
Json = dict[str, Any]
Body = bytes | Iterable[bytes]
# Called for each try: a body that was half sent must begin anew.
MakeBody = Callable[[], Body]


@dataclass(frozen=True)
class LogPart:
    """A piece of a job's log, and where the next one begins."""

    data: bytes
    next_offset: int
    has_ended: bool
    attempt: int | None


class UndeliveredError(TransientError):
    """The request never reached a server, so nothing was done: even what must not be done twice may be tried again."""


class UnansweredError(TransientError):
    """The request was sent and no answer came: it may have been done."""


class BusyError(TransientError):
    """The server refused for now; it may have said when to come back."""

    def __init__(self, message: str, remedy: str, after_seconds: float | None) -> None:
        super().__init__(message, remedy)
        self.after_seconds = after_seconds


class Client:
    """A signed-in line to one server; threads may share it."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.patience_seconds = patience_seconds
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Armillary-Protocol": str(PROTOCOL), "Accept": "application/json"}
            | ({"Authorization": f"Bearer {token}"} if token else {}),
            timeout=_TIMEOUT,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=32),
            transport=transport,
            trust_env=not _is_loopback(self.url),
        )
        # Links that name another host (an object store's) are followed without our token.
        self._elsewhere = httpx2.Client(timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()
        self._elsewhere.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The calls that all others are made of ---------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        once: bool = False,
        held_seconds: float = 0,
    ) -> Any:
        """Send JSON and get JSON. A call that must not be done twice (`once`) is repeated only if it never arrived."""
        content = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        response = self.request(
            method, path, content=content, params=params, headers=headers, once=once, held_seconds=held_seconds
        )
        return response.json() if response.content else None

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | MakeBody | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        once: bool = False,
        held_seconds: float = 0,
    ) -> httpx2.Response:
        """One request, repeated while that is safe and patience lasts; an answer that is an error is raised."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        timeout = httpx2.Timeout(30 + held_seconds, connect=5, pool=None)

        def send() -> httpx2.Response:
            http = self._line_to(path)
            response = http.request(
                method,
                path,
                content=content() if callable(content) else content,
                params=given or None,
                headers=dict(headers or {}),
                timeout=timeout,
            )
            raise_for_problem(response)
            return response

        return self._patiently(send, once=once)

    def _patiently(self, send: Callable[[], T], *, once: bool = False) -> T:
        repeatable = (UndeliveredError, BusyError) if once else (TransientError,)

        def may_repeat(error: Exception) -> bool | timedelta:
            if not isinstance(error, repeatable):
                return False
            if isinstance(error, BusyError) and error.after_seconds is not None:
                return timedelta(seconds=error.after_seconds)
            return True

        if self.patience_seconds <= 0:
            with _transport_errors(self.url):
                return send()
        for attempt in stamina.retry_context(
            on=may_repeat,
            attempts=None,
            timeout=self.patience_seconds,
            wait_initial=0.05,
            wait_max=2.0,
            wait_jitter=0.1,
        ):
            with attempt, _transport_errors(self.url):
                return send()
        raise AssertionError("stamina ends with a result or an error")

    def _line_to(self, url: str) -> httpx2.Client:
        return self._http if self._is_ours(url) else self._elsewhere

    def _is_ours(self, url: str) -> bool:
        there, here = urlsplit(url), urlsplit(self.url)
        return not there.netloc or (there.scheme, there.netloc) == (here.scheme, here.netloc)

    # The server ------------------------------------------------------------------------------------------------

    def about(self) -> Json:
        """Its version, instance and protocol."""
        return dict(self.call("GET", "/api"))

    def is_healthy(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.call("GET", "/health")["status"] == "ok")
        except ArmillaryError:
            return False

    def pages(self, path: str, plural: str, params: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """Every entry of a list, page after page."""
        query = dict(params or {})
        while True:
            page = self.call("GET", path, params=query)
            yield from page[plural]
            if not page.get("next"):
                return
            query["after"] = page["next"]

    # Definitions -----------------------------------------------------------------------------------------------

    def apply(self, documents: Sequence[Json], *, dry_run: bool = False) -> list[Json]:
        """Put definitions into force, all or none; the changes that were (or would be) made."""
        answer = self.call("POST", "/api/definitions", body={"documents": list(documents), "dry_run": dry_run})
        return list(answer["changes"])

    def definitions(self, kind: str | None = None) -> list[Json]:
        """What is in force."""
        return list(self.pages("/api/definitions", "definitions", {"kind": kind}))

    def definition(self, kind: str, id: str, version: str | int | None = None) -> Json:  # noqa: A002
        """One definition, now or at an earlier version."""
        return dict(self.call("GET", f"/api/definitions/{segment(kind)}/{segment(id)}", params={"version": version}))

    def definition_history(self, kind: str, id: str) -> Json:  # noqa: A002
        """Every version of a definition."""
        return dict(self.call("GET", f"/api/definitions/{segment(kind)}/{segment(id)}/history"))

    def delete_definition(self, kind: str, id: str) -> None:  # noqa: A002
        """Take a definition out of force; its history stays."""
        self.call("DELETE", f"/api/definitions/{segment(kind)}/{segment(id)}")

    def put_bundle(self, file: Path, sha256: str) -> None:
        """Send the packed folder of an algorithm."""
        size = file.stat().st_size
        headers = {"Content-Type": "application/gzip", "Content-Length": str(size)}
        self.request("PUT", f"/api/bundles/{sha256}", content=lambda: blocks(file), headers=headers)

    def collections(self) -> list[Json]:
        """All collections with their specs."""
        return list(self.pages("/api/collections", "collections"))

    # Uploads: `upload.py` is the way in that uses them ----------------------------------------------------------

    def store(self) -> Json:
        """How bytes may travel to the store."""
        return dict(self.call("GET", "/api/store"))

    def open_uploads(self, uploads: Sequence[Json], proof: str | None) -> list[Json]:
        """Tickets, one for each granule to upload, in their order."""
        # A ticket whose answer was lost expires by itself, so asking again is safe.
        return list(self.call("POST", "/api/uploads", body={"uploads": list(uploads), "proof": proof})["uploads"])

    def put_upload_file(self, upload: str, path: str, content: MakeBody, size: int) -> Json:
        """Send one file through the server."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        url = f"/api/uploads/{upload}/files/{quote(path)}"
        return dict(self.request("PUT", url, content=content, headers=headers).json())

    def sign_upload(self, upload: str, paths: Sequence[str]) -> dict[str, str]:
        """Links to which the files of an upload may be sent."""
        return dict(self.call("POST", f"/api/uploads/{upload}/sign", body={"paths": list(paths)})["urls"])

    def commit(self, commits: Sequence[Json]) -> list[Json]:
        """Make uploads visible; one result for each, in their order. Repeating a commit changes nothing."""
        return list(self.call("POST", "/api/uploads/commit", body={"commits": list(commits)})["results"])

    def abandon(self, uploads: Sequence[str]) -> None:
        """Give uploads up, for the collector to sweep."""
        self.call("POST", "/api/uploads/abandon", body={"uploads": list(uploads)})

    def known(self, collection: str, granules: Sequence[str]) -> dict[str, Json]:
        """Which of these granules the catalogue has, with the digest of what it has."""
        body = {"collection": collection, "granules": list(granules)}
        return dict(self.call("POST", "/api/granules/known", body=body)["known"])

    # Granules and files ----------------------------------------------------------------------------------------

    def granule(self, collection: str, id: str) -> Json:  # noqa: A002
        """A granule as it is now."""
        return dict(self.call("GET", f"/api/granules/{segment(collection)}/{segment(id)}"))

    def revisions(self, collection: str, id: str) -> list[Json]:  # noqa: A002
        """All that a granule has been."""
        return list(self.pages(f"/api/granules/{segment(collection)}/{segment(id)}/revisions", "revisions"))

    def search(self, query: Json) -> Json:
        """A page of a STAC search."""
        return dict(self.call("POST", "/stac/search", body=query))

    def download(
        self,
        href: str,
        to: IO[bytes],
        *,
        sha256: str | None = None,
        size: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> str:
        """Write what a link leads to into a file; returns its SHA-256. Goes on where a broken connection left off.

        `TransientError` if the bytes are not those that were promised: the next try may get the right ones.
        """
        url = urljoin(f"{self.url}/", href)
        digest, done = hashlib.sha256(), 0

        def fetch() -> None:
            nonlocal digest, done
            headers = {"Accept": "*/*", "Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
            with self._line_to(url).stream("GET", url, headers=headers) as response:
                raise_for_problem(response)
                if done and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                    to.seek(0)
                    to.truncate()
                    digest, done = hashlib.sha256(), 0
                for block in response.iter_raw(BLOCK_BYTES):
                    to.write(block)
                    digest.update(block)
                    done += len(block)
                    progress(len(block))

        self._patiently(fetch)
        _check_download(href, done, digest.hexdigest(), size, sha256)
        return digest.hexdigest()

    # Jobs ------------------------------------------------------------------------------------------------------

    def submit(self, job: Json) -> Json:
        """Ask for work: the job and whether it is new, shared or reused."""
        # Safe to repeat unless twins are to be made on purpose.
        return dict(self.call("POST", "/api/jobs", body=job, once=job.get("twins") == "again"))

    def submit_many(self, jobs: Sequence[Json]) -> list[Json]:
        """Ask for up to a thousand jobs at once, all or none; for each its id, state, outcome and reason, in order."""
        is_once = any(job.get("twins") == "again" for job in jobs)
        return list(self.call("POST", "/api/jobs/batch", body={"jobs": list(jobs)}, once=is_once)["jobs"])

    def estimate(self, jobs: Sequence[Json]) -> Json:
        """What submissions would come to, take and cost; nothing is submitted."""
        return dict(self.call("POST", "/api/estimates", body={"jobs": list(jobs)}))

    def job(self, id: str) -> Json:  # noqa: A002
        """A job with its attempts, inputs and outputs."""
        return dict(self.call("GET", f"/api/jobs/{segment(id)}"))

    def jobs(self, **filters: Any) -> Iterator[Json]:
        """Jobs, newest first."""
        return self.pages("/api/jobs", "jobs", filters)

    def act_on_job(
        self,
        id: str,  # noqa: A002
        action: Literal["cancel", "retry", "hold", "release", "priority"],
        body: Json | None = None,
    ) -> Json:
        """Ask something of a job."""
        return dict(self.call("POST", f"/api/jobs/{segment(id)}/{action}", body=body or {}))

    def job_log(self, id: str, *, offset: int = 0, attempt: int | None = None, wait_seconds: float = 0) -> LogPart:  # noqa: A002
        """What a job wrote from `offset` on; held until there is more, at most `wait_seconds`."""
        response = self.request(
            "GET",
            f"/api/jobs/{segment(id)}/log",
            params={"offset": offset, "attempt": attempt, "wait_seconds": wait_seconds or None},
            headers={"Accept": "*/*"},
            held_seconds=wait_seconds,
        )
        number = response.headers.get("Armillary-Attempt")
        return LogPart(
            response.content,
            int(response.headers["Armillary-Next-Offset"]),
            response.headers.get("Armillary-Log-Ended") == "true",
            int(number) if number else None,
        )

    # Workers ---------------------------------------------------------------------------------------------------

    def register_worker(self, pool: str, worker: Json) -> Json:
        """Become a worker of a pool: its id and a token of its own."""
        return dict(self.call("POST", f"/api/pools/{segment(pool)}/workers", body=worker, once=True))

    def lease(self, worker: str, free: Json, count: int, wait_seconds: float, *, in_turn: bool = False) -> Json:
        """Jobs to run; held until there are some. Not repeated: what a lost answer held is given to others in time."""
        body = {"free": free, "count": count, "in_turn": in_turn, "wait_seconds": wait_seconds}
        return dict(self.call("POST", f"/api/workers/{worker}/lease", body=body, once=True, held_seconds=wait_seconds))

    def heartbeat(self, worker: str, running: Sequence[Json], leaving: str = "", machine: Json | None = None) -> Json:
        """Say what runs (and why nothing new is taken, if so), and how the machine is; hear what shall stop."""
        said: Json = {"leaving": leaving, "machine": machine}
        body = {"running": list(running), **{name: value for name, value in said.items() if value}}
        return dict(self.call("POST", f"/api/workers/{worker}/heartbeat", body=body))

    def commands(self, worker: str, wait_seconds: float) -> Json:
        """Hear at once what shall stop."""
        body = {"wait_seconds": wait_seconds}
        return dict(self.call("POST", f"/api/workers/{worker}/commands", body=body, held_seconds=wait_seconds))

    def send_logs(self, worker: str, chunks: Sequence[Json]) -> list[Json]:
        """Send what jobs wrote; the leases that may not."""
        return list(self.call("POST", f"/api/workers/{worker}/logs", body={"chunks": list(chunks)})["refused"])

    def finish(self, worker: str, reports: Sequence[Json]) -> list[Json]:
        """Report ended attempts; repeating a report changes nothing."""
        return list(self.call("POST", f"/api/workers/{worker}/finish", body={"reports": list(reports)})["results"])

    def put_checkpoint(self, worker: str, job: str, lease: int, file: Path, sha256: str) -> None:
        """Save what the next attempt may take up."""
        headers = {
            "Content-Type": "application/x-tar",
            "Content-Length": str(file.stat().st_size),
            "Armillary-SHA256": sha256,
        }
        url = f"/api/workers/{worker}/checkpoints/{job}/{lease}"
        self.request("PUT", url, content=lambda: blocks(file), headers=headers)

    def put_folder(self, worker: str, job: str, lease: int, size: int, chunks: MakeBody) -> None:
        """Keep what an attempt left: a line of JSON and the bytes of its files."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self.request("PUT", f"/api/workers/{worker}/folders/{job}/{lease}", content=chunks, headers=headers)

    def job_files(self, id: str, *, attempt: int | None = None) -> Json:  # noqa: A002
        """What a failed attempt left: its files, until when they are kept."""
        return dict(self.call("GET", f"/api/jobs/{segment(id)}/files", params={"attempt": attempt}))

    def job_file(self, id: str, path: str, to: IO[bytes], *, attempt: int) -> None:  # noqa: A002
        """Write one file that a failed attempt left into another."""
        self.download(f"/api/jobs/{segment(id)}/files/{quote(path)}?attempt={attempt}", to)

    def leave(self, worker: str, reason: str) -> None:
        """Say that this worker is going."""
        self.call("POST", f"/api/workers/{worker}/leave", body={"reason": reason})


def segment(name: str) -> str:
    """A name as one segment of a URL's path."""
    return quote(name, safe="")


def blocks(file: Path) -> Iterator[bytes]:
    """The bytes of a file, a block at a time."""
    with file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


def raise_for_problem(response: httpx2.Response) -> None:
    """Raise the error that an answer describes, if it is one."""
    if response.is_success:
        return
    response.read()
    body = _problem(response)
    error = from_problem(body)
    if response.status_code in (429, 502, 503, 504):
        raise BusyError(error.message, error.remedy, _retry_after_seconds(response))
    raise error


def _problem(response: httpx2.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and "detail" in body:
        return body if isinstance(body["detail"], str) else body | {"detail": json.dumps(body["detail"])}
    kinds = {401: "not-authenticated", 403: "not-allowed", 404: "not-found", 409: "conflict"}
    text = f"{response.request.method} {response.request.url.path} was answered {response.status_code}"
    said = response.text.strip()[:300]
    return {
        "type": f"urn:armillary:error:{kinds.get(response.status_code, 'internal')}",
        "detail": f"{text}: {said}" if said else f"{text}.",
    }


def _retry_after_seconds(response: httpx2.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return min(float(value), 60.0) if value.isdecimal() else None


class _transport_errors:  # noqa: N801  (a context manager, written as a class because it runs for every request)
    """Turn what the HTTP library raises into our errors, by whether the request can have been received."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            raise UndeliveredError(f"{self._url} cannot be reached: {error}.", "Is the server running?") from error
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.LocalProtocolError):
            raise UsageError(f"{self._url} cannot be asked: {error}.", field="url") from error
        if isinstance(error, httpx2.TransportError):
            raise UnansweredError(f"{self._url} gave no answer: {error or type(error).__name__}.") from error


def _check_download(href: str, size: int, sha256: str, size_wanted: int | None, sha256_wanted: str | None) -> None:
    name = urlsplit(href).path.rpartition("/")[2]
    if size_wanted is not None and size != size_wanted:
        raise TransientError(f"{name} came as {size} bytes instead of {size_wanted}.")
    if sha256_wanted is not None and sha256 != sha256_wanted:
        raise TransientError(f"{name} came with other bytes: SHA-256 {sha256} instead of {sha256_wanted}.")


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}
