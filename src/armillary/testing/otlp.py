"""A receiver of OpenTelemetry traces on this machine, which understands OTLP's JSON and keeps what it is sent."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Json = dict[str, Any]


class Receiver:
    """What was received; `statuses` are the answers to come, 200 once there are no more."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], Json]] = []
        self.statuses: list[int] = []
        self.url = ""

    @property
    def spans(self) -> list[Json]:
        """Every span that was taken, in order."""
        return [
            span
            for _, request in self.requests
            for resource in request["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """One that listens."""
    kept = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = kept.statuses.pop(0) if kept.statuses else 200
            if status == 200:
                kept.requests.append((dict(self.headers), body))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


def attributes(span: Json) -> dict[str, Any]:
    """The attributes of a span by name."""
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}
