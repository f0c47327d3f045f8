"""A small archive: takes files over HTTP, validates CNM-S 1.6.1, checks what it names, answers with CNM-R."""

import argparse
import base64
import hashlib
import json
import threading
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FILE_TYPES = {"data", "browse", "metadata", "ancillary", "linkage"}


def problems(message: Any, folder: Path, files_below: str) -> list[str]:
    """What is wrong with a CNM-S message and the files that it names; nothing if it can be accepted."""
    if not isinstance(message, dict):
        return ["the message is no JSON object"]
    missing = [
        name
        for name in ("version", "provider", "collection", "submissionTime", "identifier", "product")
        if not message.get(name)
    ]
    if missing:
        return [f"{name} is missing" for name in missing]
    files = message["product"].get("files") if isinstance(message["product"], dict) else None
    if message["version"] != "1.6.1" or not message["product"].get("name") or not isinstance(files, list) or not files:
        return ["version is not 1.6.1, or the product has no name or files"]
    return [problem for file in files for problem in file_problems(file, folder, files_below)]


def file_problems(file: dict[str, Any], folder: Path, files_below: str) -> list[str]:
    """What is wrong with one file of a message."""
    name = file.get("name")
    missing = [field for field in ("type", "uri", "name", "checksumType", "checksum", "size") if field not in file]
    if missing or file["type"] not in FILE_TYPES or file["checksumType"] != "SHA256":
        return [f"file {name}: {', '.join(missing) or 'type or checksumType'} not as CNM 1.6.1 says"]
    path = path_of(file["uri"], folder, files_below)
    if path is None or not path.is_file():
        return [f"file {name}: nothing is at {file['uri']}"]
    if path.stat().st_size != file["size"] or sha256(path).hex() != file["checksum"]:
        return [f"file {name}: size or checksum differ"]
    return []


def path_of(uri: str, folder: Path, files_below: str) -> Path | None:
    """Where a URI's file is here; None if it is not ours."""
    parts = urllib.parse.urlsplit(uri)
    text = urllib.parse.unquote(parts.path)
    path = Path(text) if parts.scheme == "file" else folder / text.removeprefix(files_below)
    path = path.resolve()
    return path if path.is_relative_to(folder.resolve()) else None


def response(message: Any, found: list[str]) -> dict[str, Any]:
    """The CNM-R."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    answer: dict[str, Any] = {"status": "SUCCESS"}
    if found:
        answer = {"status": "FAILURE", "errorCode": "VALIDATION_ERROR", "errorMessage": "; ".join(found)}
    kept = {
        name: message[name]
        for name in ("provider", "collection", "identifier", "submissionTime", "trace")
        if isinstance(message, dict) and name in message
    }
    return {"version": "1.6.1", **kept, "receivedTime": now, "processCompleteTime": now, "response": answer}


def sha256(path: Path) -> bytes:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


class Archive(BaseHTTPRequestHandler):
    """PUT and HEAD below /files/, POST /cnm."""

    protocol_version = "HTTP/1.1"
    options: argparse.Namespace
    lock = threading.Lock()

    def do_PUT(self) -> None:
        """Take a file."""
        path = path_of(self.path, self.options.folder, "/files/")
        if path is None:
            return self.answer(400)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as sink:
            for chunk in self.body():
                sink.write(chunk)
        part.replace(path)
        return self.answer(201)

    def do_HEAD(self) -> None:
        """Say what is there."""
        path = path_of(self.path, self.options.folder, "/files/")
        if path is None or not path.is_file():
            return self.answer(404)
        return self.answer(200, headers={"Repr-Digest": f"sha-256=:{base64.b64encode(sha256(path)).decode()}:"})

    def do_POST(self) -> None:
        """Take a notification."""
        body = b"".join(self.body())
        with self.lock:
            if self.options.refuse_first > 0:
                self.options.refuse_first -= 1
                return self.answer(503)
        try:
            message = json.loads(body)
        except ValueError:
            message = None
        found = problems(message, self.options.folder, "/files/")
        answer = response(message, found)
        with self.lock, (self.options.folder / "received.jsonl").open("a") as log:
            log.write(json.dumps({"message": message, "answer": answer}) + "\n")
        if self.options.answer_to:
            threading.Thread(target=self.post, args=(answer,)).start()
            return self.answer(202)
        return self.answer(200, json.dumps(answer).encode())

    def post(self, answer: dict[str, Any]) -> None:
        """Send the CNM-R to the provider."""
        headers = {"Content-Type": "application/json"}
        if self.options.token_file:
            headers["Authorization"] = f"Bearer {self.options.token_file.read_text().strip()}"
        request = urllib.request.Request(self.options.answer_to, json.dumps(answer).encode(), headers)  # noqa: S310
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310

    def body(self) -> Any:
        """The request's body, whether its length was told or it comes in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left and (chunk := self.rfile.read(min(left, 1 << 20))):
            left -= len(chunk)
            yield chunk

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--refuse-first", type=int, default=0)
    parser.add_argument("--answer-to")
    parser.add_argument("--token-file", type=Path)
    Archive.options = parser.parse_args()
    Archive.options.folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", Archive.options.port), Archive)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
