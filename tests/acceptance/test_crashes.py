"""Kill the process at every marked step between two outside effects: nothing is lost, doubled or half visible."""

import ast
import http.server
import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from armillary.testing.instance import RUN, attempts, kill_session

SOURCES = Path(__file__).parents[2] / "src" / "armillary"


def all_points() -> list[str]:
    """Every point that the sources mark."""
    return sorted(
        {name for file in SOURCES.rglob("*.py") for name in re.findall(r'crash_point\("([^"]+)"\)', file.read_text())}
    )


class Archive(http.server.BaseHTTPRequestHandler):
    """Takes every notification, and counts."""

    def do_POST(self):
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["identifier"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def archive():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    server.heard = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


# Each story passes its points; the process that passes the armed one dies, and the story is told to its end ----------


class Story:
    """One granule's way, with a death on it."""

    def __init__(self, instance, archive, point):
        self.instance, self.archive, self.name = instance, archive, point.replace(".", "-")

    def persist(self, act):
        """As a person would: say it once more."""
        for _ in range(4):
            self.instance.wait(self.instance.announcement.exists, "a server")
            if act().returncode == 0:
                return
        raise AssertionError(self.instance.log())

    def start_slow(self):
        """A job whose first attempt a runner is in the middle of, and the runner."""
        job = self.instance.submit(self.name, seconds=60)
        self.instance.wait(lambda: b"counting" in self.log(job), "a job under way")
        return job, self.instance.runner_of(job)

    def log(self, job):
        with self.instance.client as client:
            return client.job_log(job).data

    def ended(self, job):
        return self.instance.wait(
            lambda: (found := self.instance.job(job))["state"] not in ("queued", "running") and found, "its end"
        )

    def register(self, **more):
        """A new version of an algorithm, of a new bundle."""
        folder = self.instance.home / self.name
        folder.mkdir(exist_ok=True)
        document = {"kind": "algorithm", "id": self.name, "version": "1.0.0", "inputs": {"one": {"collection": "raw"}},
                    "outputs": {"counted": {"collection": "counted"}}, "run": {"command": ["python", "run.py"]},
                    "environment": {"site": True}, "parameters": {"seconds": {"type": "number", "default": 0}},
                    "resources": {"cpu": 0.1, "memory": "64MiB", "disk": "10MiB"}} | more  # fmt: skip
        (folder / "algorithm.yaml").write_text(json.dumps(document))
        (folder / "requirements.lock").write_text("# nothing\n")
        (folder / "run.py").write_text(RUN.replace("-counted", f"-{self.name}"))
        self.persist(lambda: self.instance.armillary("apply", folder, check=False))

    # The stories

    def product(self):
        """From a file to a product."""

    def bundle(self):
        """A folder becomes an algorithm, and runs."""
        self.register()
        assert self.ended(self.instance.submit(self.name, self.name))["state"] == "succeeded"

    def environment(self):
        """An environment is built for an algorithm."""
        self.register(environment={"lock": "requirements.lock"})
        assert self.ended(self.instance.submit(self.name, self.name))["state"] == "succeeded"

    def checkpoint(self):
        """A worker that has to go saves what its job has reached; the next takes it up."""
        job, runner = self.start_slow()
        os.kill(runner, signal.SIGTERM)
        os.kill(runner, signal.SIGTERM)  # at once
        ended = self.ended(job)
        assert ended["state"] == "succeeded"
        assert attempts(ended)[-1] == "succeeded"

    def collection(self):
        """What nobody committed is swept, and what ended jobs have saved; a server does so at its start."""
        upload = {"collection": "raw", "granule": f"{self.name}-never"}
        self.instance.call("POST", "/api/uploads", {"uploads": [upload], "proof": None})
        self.instance.rows(
            """update upload set expires_at = armillary_now() - interval '1 hour', state = 'abandoned',
                   ended_at = armillary_now() - interval '1 hour' where state = 'open' and granule = %s returning id""",
            upload["granule"],
        )
        self.instance.kill()
        self.instance.wait(
            lambda: self.instance.rows(
                "select 1 from upload where granule = %s and state = 'deleted'", upload["granule"]
            ),
            "the sweep",
        )

    def retention(self):
        """Of five revisions the first is gone, the second given up, the third retired; a server sweeps at its start."""
        document = {"kind": "collection", "id": "revised", "on_change": "revise", "retain": {"revisions": 2}}
        with self.instance.client as client:
            client.apply([document])
        for number in range(5):
            file = self.instance.home / self.name
            file.write_bytes(f"{self.name} {number}".encode())
            self.persist(
                lambda file=file: self.instance.armillary("ingest", "--collection", "revised", file, check=False)
            )
        self.instance.execute(
            """update item set retired_at = armillary_now() - interval '3 days',
                   discarded_at = case revision when 1 then armillary_now() - interval '1 hour' end
               where collection = 'revised' and granule = %s and revision < 3""",
            self.name,
        )
        self.instance.execute(
            """update upload set state = 'abandoned', ended_at = armillary_now() - interval '1 hour'
               from item where upload_id = upload.id and item.collection = 'revised' and item.granule = %s and revision = 1""",
            self.name,
        )
        self.instance.kill()
        self.instance.wait(
            lambda: self.swept() == [(1, True, "deleted"), (2, True, "abandoned"), (3, True, "committed"),
                                     (4, False, "committed"), (5, False, "committed")],
            "the sweep",
        )  # fmt: skip

    def swept(self):
        rows = self.instance.rows(
            """select item.revision, retired_at is not null as is_retired, upload.state
               from item join upload on upload.id = upload_id
               where item.collection = 'revised' and item.granule = %s order by 1""",
            self.name,
        )
        return [tuple(row.values()) for row in rows]

    def kept(self):
        """What an attempt left is kept, and deleted when its time is over; a server does so at its start."""
        self.register(keep={"on": "always"})
        job = self.instance.submit(self.name, self.name)
        assert self.ended(job)["state"] == "succeeded"
        past = """update kept_folder set expires_at = armillary_now() - interval '1 minute' where job_id = %s returning key"""
        assert self.instance.rows(past, job)
        self.instance.kill()
        self.instance.wait(
            lambda: not self.instance.rows("select 1 from kept_folder where job_id = %s", job), "the sweep"
        )

    def worker(self):
        """A worker dies in the middle of a job; another is started, sweeps what it left, and does the job."""
        job, runner = self.start_slow()
        kill_session(runner)
        ended = self.ended(job)
        assert ended["state"] == "succeeded"
        assert attempts(ended) == ["lost"] * (len(ended["attempts"]) - 1) + ["succeeded"]

    def delivery(self):
        """A product is put into an archive's folder, and the archive is told."""
        folder = self.instance.home / "archive"
        to = {"kind": "delivery", "id": "archive", "to": {"directory": str(folder)},
              "notify": {"cnm": {"url": f"http://127.0.0.1:{self.archive.server_port}", "provider": "HERE"}}}  # fmt: skip
        with self.instance.client as client:
            client.apply([to])
        self.instance.wait(lambda: self.instance.product(self.name), "the product")
        wish = {"destination": "archive", "granules": [f"counted/{self.name}-counted"]}

        def is_sent():
            # A sender that was killed has failed, and says so; asked again, it is sent again.
            [made] = self.instance.call("POST", "/api/deliveries", wish)["deliveries"]
            return made if made["state"] == "sent" else None

        made = self.instance.wait(is_sent, "the delivery")
        [file] = (folder / "counted" / f"{self.name}-counted").iterdir()
        assert json.loads(file.read_text()) == {"bytes": 1000}
        assert made["id"] in self.archive.heard


STORIES = {
    "bundle.before-write": Story.bundle,
    "store.before-link": Story.bundle,
    "environment.before-bundle-rename": Story.bundle,
    "environment.before-complete": Story.environment,
    "checkpoint.before-record": Story.checkpoint,
    "checkpoint.after-record": Story.checkpoint,
    "checkpoint.before-delete": Story.collection,
    "collect.abandoned": Story.collection,
    "collect.deleted": Story.collection,
    "retire.discarded": Story.retention,
    "retire.retired": Story.retention,
    "kept.before-write": Story.kept,
    "kept.before-record": Story.kept,
    "kept.before-delete": Story.kept,
    "pools.recorded": Story.worker,
    "pools.started": Story.worker,
    "pools.before-reference": Story.worker,
    "runner.before-sweep": Story.worker,
    "deliver.before-rename": Story.delivery,
    "deliver.after-put": Story.delivery,
    "deliver.after-notify": Story.delivery,
}


@pytest.mark.parametrize("point", all_points())
def test_a_kill_at_this_point_loses_nothing(instance, archive, point):
    story = Story(instance, archive, point)
    with instance.kept_alive():
        told_to_its_end(instance, story, point)
        assert instance.doctor() == []


def told_to_its_end(instance, story, point):
    tell = STORIES.get(point, Story.product)
    crash = instance.home / "crash"
    if tell is Story.product:
        crash.write_text(point)
    # Bytes of its own, as others would be in the worker's cache already.
    story.persist(lambda: instance.ingest(story.name, story.name.encode().ljust(1000)))
    if tell is not Story.product:
        crash.write_text(point)
        tell(story)
    instance.wait(lambda: instance.product(story.name), f"the product after a kill at {point}")
    assert not crash.exists(), f"nothing passed {point}"
    revisions = instance.get(f"/api/granules/counted/{story.name}-counted/revisions")["revisions"]
    assert [one["revision"] for one in revisions] == [1]
    assert {job["state"] for job in instance.jobs_of(story.name)} == {"succeeded"}


# Where a point must stand --------------------------------------------------------------------------------------------

# An effect outside of PostgreSQL that others see or that must be undone: bytes under a key, a file put in its place,
# a process, what an archive is told. `store` is the object store; the nouns' SQL modules of that name have no `sizes`.
EFFECTS = re.compile(
    r"(objects|store|self\.store)\.(write|delete)$|^os\.link$|\.rename$|^part\.replace$"
    r"|^httpx2\.post$|^place\.put$|transfer\.put$|^self\._client\.commit$|self\._calls\.finish$"
    r"|self\.providers\[.*\]\.start$|^subprocess\.Popen$"
)
# Functions with an effect that nothing can come between, and why.
ALONE = {
    "base/home.py:write_private": "one rename; what it names is written anew at each start",
    "base/storage.py:read_or_make_secret": "one link; whoever comes second takes the first's",
    "base/postgres.py:_initialise": "one rename; a cluster that is not whole is made anew",
    "base/postgres.py:_write_password": "one rename",
    "base/postgres.py:_finish_upgrade": "killed at each step by tests/base/test_postgres_upgrade.py",
    "base/postgres.py:upgrade": "killed at each step by tests/base/test_postgres_upgrade.py",
    "base/dump.py:_restore_into_older": "a pipe of two programs; its target is a database that is dropped on failure",
    "cli/granule.py:_download": "one rename, of a copy for a person",
    "cli/job.py:download": "one rename, of a copy for a person",
    "cli/server.py:_start": "a person starts a server: it says itself where it answers",
    "client/upload.py:_asset": "one file of an upload; the caller passes upload.after-file",
    "collections/define.py:remove": "a row",
    "granules/upload.py:receive": "one write under a key that its upload's row names; `store.before-link` is in it",
    "pools/define.py:remove": "a row",
    "rules/define.py:remove": "a row",
    "runner/apptainer.py:prepare": "one rename of an image file that is made again if it is not there",
    "runner/cache.py:_link": "one link of a whole entry",
    "runner/jobfolder.py:_take_spare": "one rename within the runner's own folder, which goes with its runner",
    "runner/jobfolder.py:hand_on": "one rename within the runner's own folder, which goes with its runner",
    "runner/environment.py:_programs": "one rename of a folder that is made again if it is not there",
    "runner/family.py:start": "the caller passes runner.before-start; its children carry their folder's name",
    "runner/family.py:help": "the caller passes runner.before-start; its children carry their folder's name",
}


def test_every_point_is_named_where_it_stands_so_that_it_is_killed_at_above():
    calls = sum(file.read_text().count("crash_point(") for file in SOURCES.rglob("*.py"))
    assert len(all_points()) == calls - 1, "a name of its own for each, written out"  # less the function itself
    assert set(STORIES) <= set(all_points())


def functions():
    for file in sorted(SOURCES.rglob("*.py")):
        if "testing" not in file.parts:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    calls = [ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)]
                    yield f"{file.relative_to(SOURCES)}:{node.name}", calls


def test_every_upload_and_commit_site_has_a_point():
    found = {name for name, calls in functions() if any(map(EFFECTS.search, calls))}
    marked = {name for name, calls in functions() if "crash_point" in calls}
    assert found - marked == set(ALONE), "mark what stands between two effects, or say why nothing does"
