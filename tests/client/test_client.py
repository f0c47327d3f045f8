"""The client repeats what may be repeated, and turns every answer into a result or a typed error."""

import hashlib
import io
import os

import httpx2
import pytest

from armillary.base.errors import ArmillaryError, Conflict, NotFound, TransientError, UsageError
from armillary.client.client import BusyError, Client, UnansweredError, UndeliveredError
from armillary.testing.memory_server import MemoryServer, busy


def _failing(server: MemoryServer, *faults: object) -> list[str]:
    """Let the next requests fail so; returns the list in which they are noted."""
    left, seen = list(faults), []

    def fault(method: str, path: str) -> object:
        seen.append(f"{method} {path}")
        return left.pop(0) if left else None

    server.fault = fault  # type: ignore[assignment]
    return seen


@pytest.mark.parametrize("fault", ["drop before", "drop after", busy()])
def test_an_idempotent_call_is_repeated_until_it_is_answered(
    server: MemoryServer, client: Client, fault: object
) -> None:
    seen = _failing(server, fault, fault)
    assert client.about()["instance"] == "memory"
    assert len(seen) == 3


def test_what_may_have_been_done_is_not_done_again(server: MemoryServer, client: Client) -> None:
    seen = _failing(server, "drop after")
    with pytest.raises(UnansweredError):
        client.register_worker("default", {})
    assert len(seen) == 1
    assert len(server.workers) == 1


def test_what_was_refused_for_now_may_be_tried_again_even_if_it_must_be_done_once(
    server: MemoryServer, client: Client
) -> None:
    _failing(server, busy())
    client.register_worker("default", {})
    assert len(server.workers) == 1


def test_patience_ends_with_a_sentence_that_names_the_server(server: MemoryServer) -> None:
    server.stop()
    with Client(server.url, patience_seconds=0.2) as client, pytest.raises(UndeliveredError, match="cannot be reached"):
        client.about()


def test_an_error_arrives_as_it_was_raised(server: MemoryServer, client: Client) -> None:
    raised = UsageError("Filter is wrong.", "Close the quote.", field="filter", position=7)
    _failing(server, raised)
    with pytest.raises(UsageError) as caught:
        client.about()
    assert caught.value.problem() == raised.problem()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, b"<html>no such page</html>", NotFound),
        (409, b"{}", Conflict),
        (502, b"bad gateway", BusyError),
        (500, b"oh", ArmillaryError),
        (422, b'{"detail": [{"loc": ["body", "uploads"]}]}', ArmillaryError),
    ],
)
def test_an_answer_that_is_not_ours_is_still_an_error_of_ours(
    status: int, body: bytes, error: type[ArmillaryError]
) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=body))
    with Client("http://server", patience_seconds=0, transport=transport) as client, pytest.raises(error):
        client.about()


def test_the_token_goes_to_our_server_alone() -> None:
    seen = {}

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen[request.url.host] = request.headers.get("Authorization")
        return httpx2.Response(200, stream=httpx2.ByteStream(b"x"))

    with Client("https://ours", "secret", transport=httpx2.MockTransport(answer)) as client:
        client.download("https://bucket.example/key?signature=1", io.BytesIO())
        client.download("/api/files/key", io.BytesIO())
    assert seen == {"bucket.example": None, "ours": "Bearer secret"}


def test_a_broken_download_goes_on_where_it_broke() -> None:
    data, ranges = os.urandom(5 << 20), []

    class Breaking(httpx2.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield data[: 3 << 20]
            raise httpx2.ReadError("gone")

    def answer(request: httpx2.Request) -> httpx2.Response:
        ranges.append(request.headers.get("Range"))
        if not ranges[-1]:
            return httpx2.Response(200, stream=Breaking())
        start = int(ranges[-1].removeprefix("bytes=").rstrip("-"))
        return httpx2.Response(206, stream=httpx2.ByteStream(data[start:]))

    out = io.BytesIO()
    with Client("http://server", transport=httpx2.MockTransport(answer)) as client:
        sha256 = client.download("/file", out, size=len(data))
    assert ranges == [None, f"bytes={3 << 20}-"]
    assert out.getvalue() == data and sha256 == hashlib.sha256(data).hexdigest()


def test_a_server_without_ranges_begins_anew() -> None:
    data, calls = os.urandom(2 << 20), []

    class Breaking(httpx2.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield data[: 1 << 20]
            raise httpx2.ReadError("gone")

    def answer(_: httpx2.Request) -> httpx2.Response:
        calls.append(1)
        return (
            httpx2.Response(200, stream=Breaking())
            if len(calls) == 1
            else httpx2.Response(200, stream=httpx2.ByteStream(data))
        )

    out = io.BytesIO()
    with Client("http://server", transport=httpx2.MockTransport(answer)) as client:
        client.download("/file", out, sha256=hashlib.sha256(data).hexdigest())
    assert out.getvalue() == data


@pytest.mark.parametrize("promise", [{"size": 4}, {"sha256": "0" * 64}])
def test_a_download_of_other_bytes_is_refused(server: MemoryServer, client: Client, promise: dict[str, object]) -> None:
    href = server.add_object(b"three")["href"]
    with pytest.raises(TransientError):
        client.download(href, io.BytesIO(), **promise)  # type: ignore[arg-type]


def test_all_pages_of_a_list_are_read() -> None:
    pages = {None: {"jobs": [{"id": 1}], "next": "a"}, "a": {"jobs": [{"id": 2}], "next": None}}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=pages[request.url.params.get("after")]))
    with Client("http://server", transport=transport) as client:
        assert [job["id"] for job in client.jobs(state="failed")] == [1, 2]
