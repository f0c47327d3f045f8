"""The program of the built-in algorithm `deliver`: copy a granule to its destination, read it back there, tell the archive.

It runs like any algorithm, in a job's directory; what is there already and right is not sent again, so that an attempt
takes up where the last one ended.
"""

import base64
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol
from urllib.parse import quote

from armillary.base.crash import crash_point
from armillary.deliveries import cnm

CHUNK_BYTES = 1 << 20
INFRASTRUCTURE, INPUT_MISSING, SCIENCE_ERROR = 16, 10, 11


class Place(Protocol):
    """Where files go: three verbs."""

    def has(self, name: str, sha256: str, /) -> bool:
        """Whether exactly these bytes are there."""

    def put(self, name: str, file: Path, sha256: str, /) -> None:
        """Put them there."""

    def uri(self, name: str) -> str:
        """What others find them by."""


class Directory:
    """A folder that this host sees."""

    def __init__(self, to: Mapping[str, Any]) -> None:
        self.root = Path(to["path"])

    def has(self, name: str, sha256: str) -> bool:
        path = self.root / name
        return path.is_file() and _sha256(path.open("rb")) == sha256

    def put(self, name: str, file: Path, _sha256: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with file.open("rb") as source, part.open("wb") as sink:
            while chunk := source.read(CHUNK_BYTES):
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
        crash_point("deliver.before-rename")
        part.replace(path)
        handle = os.open(path.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    def uri(self, name: str) -> str:
        return f"file://{quote(str(self.root / name))}"


class Bucket:
    """S3 or its like, through obstore; read back whole, since an ETag is no SHA-256."""

    def __init__(self, to: Mapping[str, Any]) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError:
            fail(INFRASTRUCTURE, "Delivering to S3 needs obstore on the worker.", "Install armillary[server] there.")
        options: dict[str, Any] = {"region": to.get("region", "us-east-1")}
        if to.get("endpoint"):
            options |= {"endpoint": to["endpoint"], "allow_http": to["endpoint"].startswith("http:")}
        for option, name in (("access_key_id", "access_key"), ("secret_access_key", "secret_key")):
            if to.get(name):
                options[option] = secret(to[name])
        client = {"allow_http": True} if options.pop("allow_http", False) else None
        self._obstore = obstore
        self._store = S3Store(to["bucket"], prefix=to.get("prefix") or None, client_options=client, **options)  # type: ignore[arg-type]
        self._base = f"s3://{to['bucket']}/{to['prefix'] + '/' if to.get('prefix') else ''}"

    def has(self, name: str, sha256: str) -> bool:
        try:
            stream = self._obstore.get(self._store, name).stream(min_chunk_size=CHUNK_BYTES)
        except FileNotFoundError:
            return False
        digest = hashlib.sha256()
        for chunk in stream:
            digest.update(bytes(chunk))
        return digest.hexdigest() == sha256

    def put(self, name: str, file: Path, _sha256: str) -> None:
        self._obstore.put(self._store, name, file)

    def uri(self, name: str) -> str:
        return self._base + name


class Endpoint:
    """An HTTP server that takes PUT and says by RFC 9530 (Repr-Digest) what it holds."""

    def __init__(self, to: Mapping[str, Any]) -> None:
        import httpx2

        headers = {"Authorization": f"Bearer {secret(to['token'])}"} if to.get("token") else {}
        self._base = to["url"].rstrip("/")
        self._client = httpx2.Client(headers=headers, timeout=60)

    def has(self, name: str, sha256: str) -> bool:
        answer = self._client.head(self.uri(name), headers={"Want-Repr-Digest": "sha-256=10"})
        if answer.status_code == 404:
            return False
        answer.raise_for_status()
        return _digest_field(sha256) in answer.headers.get("repr-digest", "")

    def put(self, name: str, file: Path, sha256: str) -> None:
        with file.open("rb") as source:
            headers = {"Repr-Digest": _digest_field(sha256), "Content-Length": str(file.stat().st_size)}
            self._client.put(self.uri(name), content=_chunks(source), headers=headers).raise_for_status()

    def uri(self, name: str) -> str:
        return f"{self._base}/{quote(name)}"


PLACES: Mapping[str, Callable[[Mapping[str, Any]], Place]] = {"directory": Directory, "s3": Bucket, "http": Endpoint}


def main() -> None:
    """Send what `job.json` names."""
    job = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else "job.json").read_text())
    parameters = job["parameters"]
    destination, granule = parameters["destination"], job["inputs"]["granule"][0]
    try:
        place = PLACES[destination["kind"]](destination["to"])
        sent = send(place, destination, granule)
        result: dict[str, Any] = {"files": sent}
        if destination.get("notify"):
            result |= notify(parameters["delivery"], destination["notify"], granule, sent)
    except Exception as error:  # noqa: BLE001  whatever the far side does is worth another attempt
        fail(INFRASTRUCTURE, f"{destination['id']}: {type(error).__name__}: {error}", "It will be tried again.")
    Path("result.json").write_text(json.dumps(result))


def send(place: Place, destination: Mapping[str, Any], granule: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Put every file there and read it back; returns what is there now."""
    folder = destination["layout"].format(
        collection=granule["collection"], id=granule["id"], revision=granule["revision"]
    )
    files = list(_files(granule))
    sent = []
    for index, (path, roles) in enumerate(files):
        source = Path(granule["path"]) / path
        sha256, name = _sha256(source.open("rb")), f"{folder}/{path}"
        if not place.has(name, sha256):
            place.put(name, source, sha256)
            crash_point("deliver.after-put")
            if not place.has(name, sha256):
                fail(INFRASTRUCTURE, f"{place.uri(name)} holds other bytes than were sent.", "It will be sent again.")
        sent.append(
            {"name": path, "uri": place.uri(name), "size": source.stat().st_size, "sha256": sha256, "roles": roles}
        )
        _progress((index + 1) / len(files), f"{index + 1} of {len(files)} files are there")
    return sent


def notify(
    delivery: str, notify_spec: Mapping[str, Any], granule: Mapping[str, Any], sent: list[dict[str, Any]]
) -> dict[str, Any]:
    """Send the CNM-S; an archive may answer with the CNM-R at once, or later."""
    import httpx2

    message = cnm.submission(delivery, granule, sent, notify_spec, datetime.now(UTC))
    headers = {"Authorization": f"Bearer {secret(notify_spec['token'])}"} if notify_spec.get("token") else {}
    answer = httpx2.post(notify_spec["url"], json=message, headers=headers, timeout=60)
    answer.raise_for_status()
    crash_point("deliver.after-notify")
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    body = answer.json() if is_json and answer.content else None
    receipt = {"receipt": body} if isinstance(body, dict) and "response" in body else {}
    return {"cnm": message} | receipt


def secret(reference: Mapping[str, str]) -> str:
    """A credential, from where its reference says; it is never written anywhere."""
    if "file" in reference:
        return Path(reference["file"]).read_text().strip()
    if reference["env"] not in os.environ:
        fail(
            INPUT_MISSING,
            f"The worker has no variable {reference['env']}.",
            "Start workers with it, or use {file: PATH}.",
        )
    return os.environ[reference["env"]]


def fail(code: int, message: str, remedy: str) -> NoReturn:
    """End with an error class and words for a person."""
    classes = {INFRASTRUCTURE: "infrastructure", INPUT_MISSING: "input missing", SCIENCE_ERROR: "science error"}
    Path("error.json").write_text(json.dumps({"class": classes[code], "message": message, "remedy": remedy}))
    print(message, file=sys.stderr)
    sys.exit(code)


def _files(granule: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    folder = Path(granule["path"])
    roles = {name: asset.get("roles", []) for name, asset in granule["item"]["assets"].items()}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            yield name, roles.get(name) or roles.get(name.partition("/")[0], [])


def _progress(fraction: float, message: str) -> None:
    with Path("progress.jsonl").open("a") as file:
        file.write(json.dumps({"fraction": fraction, "stage": "send", "message": message}) + "\n")


def _chunks(source: Any) -> Iterator[bytes]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def _sha256(source: Any) -> str:
    with source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _digest_field(sha256: str) -> str:
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


if __name__ == "__main__":
    main()
