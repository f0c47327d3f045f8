"""A server in memory that speaks the wire of uploads and workers, and that a test can take away, slow down or break."""

import base64
import hashlib
import json
import select
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from armillary.base.errors import ArmillaryError, NotAuthenticated, NotFound, TransientError
from armillary.base.ids import key_segment
from armillary.granules.granule import Asset, File, content_digest

Json = dict[str, Any]
Fault = Callable[[str, str], ArmillaryError | Literal["drop before", "drop after"] | None]
"""What goes wrong for a method and path: an error to answer, or a connection cut before or after the work is done."""


class MemoryServer:
    """Uploads, files, leases, reports and logs, all open to the test that holds it."""

    def __init__(self, root: Path | None = None, transfer: str = "relay") -> None:
        self.root = root  # where `file` tickets lead
        self.transfer = transfer
        self.uploads: dict[str, Json] = {}
        self.abandoned: set[str] = set()
        self.granules: dict[tuple[str, str], Json] = {}
        self.objects: dict[str, bytes] = {}  # by the path of their link
        self.downloads: list[str] = []
        self.workers: dict[str, Json] = {}
        self.queue: list[Json] = []
        self.stops: list[Json] = []
        self.gone: list[Json] = []
        self.is_draining = False
        self.beats: list[Json] = []
        self.reports: list[Json] = []
        self.refuse: set[tuple[str, int]] = set()  # leases whose reports are refused
        self.logs: dict[tuple[str, int], dict[int, bytes]] = {}
        self.checkpoints: dict[str, bytes] = {}
        self.folders: dict[str, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self.fault: Fault = lambda _method, _path: None
        self.changed = threading.Condition()
        self._http: _Server | None = None
        self._port = 0
        if root:
            (root / ".nonce").write_bytes(b"\x01" * 32)

    @property
    def url(self) -> str:
        """Where it listens; the same after `stop` and `start`."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen."""
        self._http = _Server(("127.0.0.1", self._port), _Handler)
        self._http.memory = self
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Be away: connections are refused."""
        if self._http:
            self._http.shutdown()
            self._http.server_close()
            self._http.close_connections()
            self._http = None

    def wait(self, condition: Callable[[], object], timeout_seconds: float = 20) -> None:
        """Return once something is so; fails if that takes too long."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout_seconds), "what was waited for did not happen"

    def add_object(self, data: bytes, path: str = "") -> Json:
        """Bytes behind a link."""
        sha256 = hashlib.sha256(data).hexdigest()
        href = f"/objects/{sha256}/{path}"
        self.objects[href] = data
        return {"sha256": sha256, "size": len(data), "href": href}

    def enqueue(self, *leases: Json) -> None:
        """Jobs for whoever asks."""
        with self.changed:
            self.queue += leases
            self.changed.notify_all()

    def stop_job(self, job: str, lease: int, how: str) -> None:
        """Ask a worker to stop a job."""
        with self.changed:
            self.stops.append({"job": job, "lease": lease, "how": how})
            self.changed.notify_all()

    def log(self, job: str, lease: int) -> bytes:
        """All that was sent of a log."""
        chunks = self.logs.get((job, lease), {})
        return b"".join(chunks[position] for position in sorted(chunks))

    def report(self, job: str) -> Json:
        """The report of a job, once it is here."""
        self.wait(lambda: any(report["job"] == job for report in self.reports))
        return next(report for report in self.reports if report["job"] == job)

    # Handlers --------------------------------------------------------------------------------------------------

    def answer(
        self, method: str, path: str, body: bytes, headers: Any, is_there: Callable[[], bool] = lambda: True
    ) -> Any:
        """What one request is answered: JSON, or bytes."""
        parts = [unquote(part) for part in path.split("/")[1:]]
        match [method, *parts]:
            case ["GET", "health"]:
                return {"status": "ok"}
            case ["GET", "api"]:
                return {"version": "0", "instance": "memory", "protocol": 1, "url": self.url}
            case ["GET", "objects", *_]:
                self.downloads.append(path)
                return self._object(path, headers.get("Range"))
            case ["PUT", "bucket", *_]:
                self.objects[path] = body
                return {}
        if not headers.get("Authorization"):
            raise NotAuthenticated("No token.", "Bring one.")
        if parts[1] == "workers":
            return self._worker(method, parts[2:], body, headers, is_there)
        return self._upload(method, parts[1:], body)

    def _object(self, path: str, wanted: str | None) -> Any:
        if path not in self.objects:
            raise NotFound(f"There is nothing at {path}.")
        data = self.objects[path]
        return (206, data[int(wanted.removeprefix("bytes=").rstrip("-")) :]) if wanted else data

    def _upload(self, method: str, parts: list[str], body: bytes) -> Any:
        match [method, *parts]:
            case ["GET", "store"]:
                return {"file": {"root": str(self.root), "nonce_file": ".nonce"} if self.root else None}
            case ["POST", "uploads"]:
                asked = json.loads(body)
                transfer = "file" if self.root and asked["proof"] == "01" * 32 else self.transfer
                return {"uploads": [self._open(wish, transfer) for wish in asked["uploads"]]}
            case ["PUT", "uploads", upload, "files", *segments]:
                self.uploads[upload]["files"]["/".join(segments)] = body
                return {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            case ["POST", "uploads", upload, "sign"]:
                paths = json.loads(body)["paths"]
                prefix = f"{self.url}/bucket/{upload}"
                return {"urls": {path: f"{prefix}/{'/'.join(map(key_segment, path.split('/')))}" for path in paths}}
            case ["POST", "uploads", "commit"]:
                return {"results": [self._commit(commit) for commit in json.loads(body)["commits"]]}
            case ["POST", "uploads", "abandon"]:
                self.abandoned.update(json.loads(body)["uploads"])
                return None
            case ["POST", "granules", "known"]:
                asked = json.loads(body)
                found = {name: self.granules.get((asked["collection"], name)) for name in asked["granules"]}
                return {"known": {name: entry for name, entry in found.items() if entry}}
            case ["POST", "pools", pool, "workers"]:
                worker = str(uuid.uuid4())
                self.workers[worker] = json.loads(body) | {"pool": pool, "has_left": False}
                return {"worker": worker, "epoch": 1, "token": "w", "heartbeat_seconds": 0.2, "lease_seconds": 5}
        raise NotFound(f"There is no {method} /{'/'.join(parts)}.")

    def _open(self, wish: Json, transfer: str) -> Json:
        upload = str(uuid.uuid4())
        prefix = f"{key_segment(wish['collection'])}/{key_segment(wish['granule'])}/{upload}"
        self.uploads[upload] = wish | {"prefix": prefix, "files": {}}
        root = {"root": str(self.root)} if transfer == "file" else {}
        return {"id": upload, "prefix": prefix, "transfer": transfer, "expires_at": "2100-01-01T00:00:00Z"} | root

    def read_upload(self, upload: str, path: str) -> bytes:
        """What was sent under a ticket, by whichever way."""
        encoded = "/".join(map(key_segment, path.split("/")))
        wish = self.uploads[upload]
        if path in wish["files"]:
            return bytes(wish["files"][path])
        if f"/bucket/{upload}/{encoded}" in self.objects:
            return bytes(self.objects[f"/bucket/{upload}/{encoded}"])
        assert self.root
        data: bytes = (self.root / wish["prefix"] / encoded).read_bytes()
        return data

    def _commit(self, commit: Json) -> Json:
        wish = self.uploads[commit["upload"]]
        name = (wish["collection"], wish["granule"])
        for asset in commit["assets"].values():
            for file in [*asset["files"], *([asset["manifest"]] if "manifest" in asset else [])]:
                assert hashlib.sha256(self.read_upload(commit["upload"], file["path"])).hexdigest() == file["sha256"]
        digest = content_digest({key: _asset(asset) for key, asset in commit["assets"].items()})
        before = self.granules.get(name)
        outcome = "created" if before is None else "same" if before["digest"] == digest else "revised"
        revision = (before["revision"] if before else 0) + (outcome != "same")
        size = sum(file["size"] for asset in commit["assets"].values() for file in asset["files"])
        self.granules[name] = {"revision": revision, "digest": digest, "size_bytes": size, "commit": commit}
        return {"collection": name[0], "granule": name[1], "revision": revision, "outcome": outcome}

    def _worker(self, method: str, parts: list[str], body: bytes, headers: Any, is_there: Callable[[], bool]) -> Any:
        worker = self.workers.get(parts[0])
        if worker is None or worker["has_left"]:
            raise NotFound("This worker is gone.", "Register anew.")
        match [method, *parts[1:]]:
            case ["POST", "lease"]:
                return self._lease(parts[0], json.loads(body), is_there)
            case ["POST", "heartbeat"]:
                self.beats.append(json.loads(body))
                return self._commands()
            case ["POST", "commands"]:
                self._held(lambda: self.stops or self.gone, json.loads(body)["wait_seconds"])
                return self._commands()
            case ["POST", "logs"]:
                for chunk in json.loads(body)["chunks"]:
                    data = base64.b64decode(chunk["data"])
                    self.logs.setdefault((chunk["job"], chunk["lease"]), {})[chunk["position"]] = data
                return {"refused": []}
            case ["POST", "finish"]:
                return {"results": [self._finish(report) for report in json.loads(body)["reports"]]}
            case ["PUT", "folders", job, _]:
                self.folders[job] = body
                return None
            case ["PUT", "checkpoints", job, _]:
                assert hashlib.sha256(body).hexdigest() == headers["Armillary-SHA256"]
                self.checkpoints[job] = body
                return None
            case ["POST", "leave"]:
                worker["has_left"] = True
                return None
        raise NotFound(f"There is no {method} {parts}.")

    def _lease(self, worker: str, asked: Json, is_there: Callable[[], bool]) -> Json:
        self._held(lambda: self.queue or self.is_draining, asked["wait_seconds"])
        with self.changed:
            if not is_there() or worker not in self.workers:
                return {"leases": [], "drain": False}  # nobody would hear of it
            taken, self.queue = self.queue[: asked["count"]], self.queue[asked["count"] :]
        return {"leases": taken, "drain": self.is_draining}

    def _commands(self) -> Json:
        with self.changed:
            stops, self.stops = self.stops, []
            gone, self.gone = self.gone, []
        return {"stop": stops, "gone": gone, "drain": self.is_draining}

    def _finish(self, report: Json) -> Json:
        key = {"job": report["job"], "lease": report["lease"]}
        if (report["job"], report["lease"]) in self.refuse:
            return key | {"outcome": "refused", "reason": "The lease was lost."}
        for output in report.get("outputs", []):
            self._commit(output["commit"])
        self.reports.append(report)
        return key | {"outcome": "recorded", "reason": ""}

    def _held(self, condition: Callable[[], object], seconds: float) -> None:
        with self.changed:
            self.changed.wait_for(condition, min(seconds, 2))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    memory: MemoryServer

    def __init__(self, *arguments: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def close_connections(self) -> None:
        """As if the process had died."""
        for request in self._open:
            with suppress(OSError):
                request.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def _serve(self) -> None:
        memory, path = self.server.memory, urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        memory.calls.append((self.command, path))
        fault = memory.fault(self.command, path)
        if fault == "drop before":
            return self._drop()
        status, answer = self._result(fault, memory, path, body)
        with memory.changed:
            memory.changed.notify_all()
        if fault == "drop after":
            return self._drop()
        data = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 503:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)
        return None

    def _result(self, fault: object, memory: MemoryServer, path: str, body: bytes) -> tuple[int, Any]:
        try:
            if isinstance(fault, ArmillaryError):
                raise fault
            answer = memory.answer(self.command, path, body, self.headers, self._is_there)
        except ArmillaryError as error:
            return error.status, error.problem()
        return answer if isinstance(answer, tuple) else (200, answer)

    def _is_there(self) -> bool:
        """Whether the client still waits for the answer."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return not readable

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815


def busy() -> TransientError:
    """An answer that asks to come again."""
    return TransientError("The server is starting.", "Try again.")


def _asset(asset: Json) -> Asset:
    files = tuple(File(file["path"], file["size"], file["sha256"]) for file in asset["files"])
    manifest = asset.get("manifest")
    return Asset(asset["kind"], files, manifest=File(**manifest) if manifest else None)
