"""Notices as clouds document them, from a file and over HTTP; and a worker that hands back before its machine goes."""

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from armillary.base.errors import UsageError
from armillary.runner import notice
from armillary.runner.ending import Ending

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("FALSE", None),
        ("TRUE", 30.0),
        ("NONE", None),
        ("90", 90.0),
        ("0", 0.0),
        ("2026-03-01T12:02:00Z", 120.0),
        ("2026-03-01T11:00:00Z", 0.0),
        (json.dumps({"action": "terminate", "time": "2026-03-01T12:02:00Z"}), 120.0),
        (json.dumps({"action": "none"}), None),
        (json.dumps({"DocumentIncarnation": 1, "Events": []}), None),
        (json.dumps({"Events": [{"EventType": "Reboot", "NotBefore": "Sun, 01 Mar 2026 12:01:00 GMT"}]}), None),
        (json.dumps({"Events": [{"EventType": "Preempt", "NotBefore": "Sun, 01 Mar 2026 12:00:30 GMT"}]}), 30.0),
        ("whatever", None),
    ],
)
def test_every_cloud_is_understood(text, expected):
    assert notice.seconds_left(text, NOW) == expected


class Metadata(BaseHTTPRequestHandler):
    """A metadata service: AWS's wants a token of its own, Google's and Azure's a header."""

    def do_PUT(self):
        self._answer("secret" if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else None)

    def do_GET(self):
        known = {"X-aws-ec2-metadata-token": "secret", "Metadata-Flavor": "Google", "Metadata": "true"}
        is_known = any(self.headers[name] == value for name, value in known.items())
        self._answer("TRUE" if is_known and "/none" not in self.path else None)

    def _answer(self, text):
        self.send_response(200 if text else 404)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    clouds = {name: (f"{url}/{name}", headers) for name, (_, headers) in notice.CLOUDS.items()}
    monkeypatch.setattr(notice, "CLOUDS", clouds)
    monkeypatch.setattr(notice, "TOKEN", (f"{url}/token", notice.TOKEN[1]))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    yield url
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_metadata_services_are_asked_as_they_wish(metadata, cloud):
    look, _ = notice.source(cloud)
    assert look() == "TRUE"


def test_an_address_that_knows_nothing_is_no_notice(metadata):
    assert notice.source(f"{metadata}/none")[0]() == ""
    assert notice.source("http://127.0.0.1:1/gone")[0]() == ""


def test_a_file_is_a_notice_once_it_is_there(tmp_path):
    look, _ = notice.source(str(tmp_path / "notice"))
    assert look() == ""
    (tmp_path / "notice").touch()
    assert notice.seconds_left(look(), NOW) == 0
    with pytest.raises(UsageError, match="--notice"):
        notice.source("ftp://x")


def test_an_end_only_comes_nearer_and_leaves_time_to_stop():
    now = [0.0]
    ending = Ending(100, 10, lambda: now[0])
    assert ending.wire() == {"seconds_left": 90.0}
    ending.come(500, "later")
    assert (ending.seconds_left, ending.reason) == (90.0, "Its walltime ends.")
    ending.come(30, "sooner")
    assert (ending.seconds_left, ending.reason) == (20.0, "sooner")
    now[0] = 40.0
    assert ending.seconds_left == 0.0
    assert Ending(None, 10).wire() == {}


def test_a_worker_whose_machine_is_taken_away_hands_back_in_time(server, jobs, start_runner, tmp_path):
    saves = "trap 'echo 1 > checkpoint/s; exit 15' TERM; mkdir -p checkpoint; echo up; sleep 60 & wait"
    lease, other = jobs.shell(saves), jobs.shell("true")
    runner = start_runner("--notice", str(tmp_path / "notice"), "--drain", "0s")
    server.enqueue(lease)
    server.wait(lambda: server.log(lease["job"], 1))
    (tmp_path / "notice").write_text("3")
    assert server.report(lease["job"])["outcome"] == "preempted"
    server.wait(lambda: lease["job"] in server.checkpoints)
    assert runner.process.wait(20) == 0
    server.enqueue(other)
    assert any("taken away" in beat.get("leaving", "") for beat in server.beats)


def test_a_worker_with_a_walltime_says_what_is_left_of_it(server, jobs, start_runner):
    runner = start_runner("--lasts", "4s", "--drain", "0s", "--grace", "1s")
    lease = jobs.shell("echo up; sleep 60")
    server.enqueue(lease)
    assert server.report(lease["job"])["outcome"] == "preempted"
    assert runner.process.wait(20) == 0
    assert next(iter(server.workers.values()))["ends_in_seconds"] == 4.0
