"""Every command against a real server: what it prints, as a table and as JSON, and how it ends."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from armillary.base.yamlfile import load_all

Shell = Any  # of conftest.py

pytestmark = pytest.mark.slow


def last_job(shell: Shell, *words: str) -> dict[str, Any]:
    job: dict[str, Any] = shell.lines("job", "list", "--limit", "1", *words)[0]
    return job


# Server --------------------------------------------------------------------------------------------------------


def test_status_tells_what_runs_and_signs_in(shell: Shell) -> None:
    status = shell.json("status")
    assert status["granules"] >= 4
    assert [pool["id"] for pool in status["pools"]] == ["default"]
    assert re.search(r"/sign-in\?code=arm_", status["sign_in"])
    shown = shell("status")
    assert "Nothing is wrong." in shown
    assert str(shell.home) in shown


def test_a_second_up_is_refused_by_name_of_the_first(shell: Shell) -> None:
    said = shell.run("up", "--detach", code=5).stderr
    pid = json.loads((shell.home / "run" / "server.json").read_text())["pid"]
    assert f"{shell.home} is run by process {pid} at http://127.0.0.1:" in said


def test_doctor_finds_nothing_until_bytes_are_missing(shell: Shell) -> None:
    assert "All is well." in shell("doctor", "--checksums")
    assert shell.json("doctor")["findings"] == []
    (shell.folder / "broken.raw").write_text("broken")
    shell("ingest", "broken.raw")
    (stored,) = (shell.home / "store").rglob("broken.raw")
    hidden = stored.with_name(".hidden")
    stored.rename(hidden)
    said = shell.run("doctor", code=1).stdout
    assert "raw/broken revision 1" in said
    hidden.rename(stored)
    shell("doctor")


def test_config_tells_where_each_value_comes_from(shell: Shell) -> None:
    shown = shell("config", "show", ARMILLARY_WEB__PORT="8123")
    assert re.search(r"web\.port +8123 +environment ARMILLARY_WEB__PORT", shown)
    assert re.search(r"web\.host +127\.0\.0\.1 +default", shown)
    served = {row["name"]: row["value"] for row in shell.lines("config", "show", "--server")}
    assert served["home"] == str(shell.home)


def test_a_backup_is_restored_with_everything(shell: Shell, tmp_path: Path) -> None:
    shell("backup", str(tmp_path / "backup"))
    new = str(tmp_path / "h")
    shell("--home", new, "restore", str(tmp_path / "backup"))
    assert "holds an instance" in shell.run("--home", new, "restore", str(tmp_path / "backup"), code=None).stderr
    shell("--home", new, "up", "--port", "0", "--detach")
    try:
        assert "raw/a" in shell("--home", new, "granule", "list", "raw")
        assert "All is well." in shell("--home", new, "doctor", "--checksums")
    finally:
        shell("--home", new, "down")


# Definitions ---------------------------------------------------------------------------------------------------


def test_apply_shows_the_plan_and_does_it_once(shell: Shell) -> None:
    file = shell.folder / "more.yaml"
    file.write_text("kind: collection\nid: more\ntitle: More")
    assert shell("apply", "more.yaml", "--dry-run").splitlines() == ["+ collection more", "Nothing was changed."]
    assert shell("apply", "more.yaml").splitlines() == ["+ collection more", "Applied."]
    assert shell("apply", "more.yaml").splitlines() == ["= collection more", "All of it is in force already."]
    file.write_text("kind: collection\nid: more\ntitle: Still more")
    shown = shell("apply", "more.yaml")
    assert "~ collection more" in shown
    assert "More" in shown and "Still more" in shown
    assert shell.json("apply", "more.yaml") == {
        "changes": [{"kind": "collection", "id": "more", "action": "same", "differences": []}],
        "applied": False,
    }


def test_what_the_server_refuses_is_told_with_its_place_and_nothing_is_done(shell: Shell) -> None:
    file = shell.folder / "bad.yaml"
    file.write_text(
        "kind: collection\nid: unmade\n---\nkind: rule\nid: r\nwhen:\n  one: {collection: nowhere}\nthen: {run: count}"
    )
    said = shell.run("apply", "bad.yaml", code=None)
    assert said.returncode in (2, 4)
    assert "bad.yaml:" in said.stderr
    assert "nowhere" in said.stderr
    assert "unmade" not in shell("collection", "list")


def test_an_export_applies_to_an_empty_instance(shell: Shell, tmp_path: Path) -> None:
    shell("export", "--to", str(tmp_path / "all"))
    assert "is not empty" in shell.run("export", "--to", str(tmp_path / "all"), code=2).stderr
    home = str(tmp_path / "h")
    shell("--home", home, "up", "--port", "0", "--detach")
    try:
        shown = shell("--home", home, "apply", str(tmp_path / "all"))
        assert "+ algorithm count@1.0.0" in shown
        assert "+ rule count-all" in shown
        here, there = (
            {(row["kind"], row["id"]): row for row in json.loads(shell(*words, "export", "--json"))}
            for words in ([], ["--home", home])
        )
        assert there == here
    finally:
        shell("--home", home, "down")
    kinds = {document.value["kind"] for document in load_all(shell("export"))}
    assert kinds == {"collection", "rule", "pool", "algorithm"}


# Data ----------------------------------------------------------------------------------------------------------


def test_ingest_tells_what_became_of_each_path(shell: Shell) -> None:
    (shell.folder / "c.raw").write_text("c")
    (shell.folder / "c.txt").write_text("c")
    done = shell.run("ingest", "c.raw", "c.txt", "a.raw", "--report", "report.jsonl", code=1)
    assert "created  c.raw  → raw/c" in done.stdout
    assert "same     a.raw  → raw/a" in done.stdout
    assert "failed   c.txt\n         No collection recognises 'c.txt'" in done.stdout
    assert re.search(r"^1 created, 1 there already, 1 failed \(", done.stdout, re.MULTILINE)
    reported = [json.loads(line) for line in (shell.folder / "report.jsonl").read_text().splitlines()]
    assert {row["state"] for row in reported} == {"created", "same", "failed"}
    assert shell("ingest", "c.raw", "--json") == shell("ingest", "c.raw", "--json")
    assert json.loads(shell("ingest", "c.raw", "--json"))["state"] == "same"


def test_granules_are_found_shown_and_downloaded(shell: Shell, tmp_path: Path) -> None:
    assert {item["id"] for item in shell.lines("granule", "list", "counted")} >= {"a-counted", "b-counted"}
    assert shell("granule", "list", "raw", "--filter", "id = 'a'").splitlines()[1].startswith("raw/a ")
    assert "is not a box" in shell.run("granule", "list", "raw", "--bbox", "1,2,3", code=2).stderr
    assert shell.json("granule", "show", "raw/a")["size_bytes"] == 100
    assert "raw/a" in shell("granule", "show", "raw/a")
    assert "2 were there" not in shell("granule", "download", "raw/a", "raw/b", "--to", str(tmp_path))
    assert (tmp_path / "a" / "a.raw").read_text() == "a" * 100
    assert "0 files downloaded, 1 were there already" in shell("granule", "download", "raw/a", "--to", str(tmp_path))
    (tmp_path / "a" / "a.raw").write_text("spoilt")
    shell("granule", "download", "raw/a", "--to", str(tmp_path))
    assert (tmp_path / "a" / "a.raw").read_text() == "a" * 100


def test_revisions_are_listed_and_fetched(shell: Shell, tmp_path: Path) -> None:
    for text in ("one", "other"):
        (shell.folder / "r.raw").write_text(text)
        shell("ingest", "r.raw")
    assert [row["revision"] for row in shell.lines("granule", "history", "raw/r")] == [2, 1]
    shell("granule", "download", "raw/r", "--revision", "1", "--to", str(tmp_path))
    assert (tmp_path / "r" / "r.raw").read_text() == "one"


def test_lineage_is_walked_both_ways(shell: Shell) -> None:
    up = shell("granule", "lineage", "counted/a-counted").splitlines()
    assert up[0] == "counted/a-counted"
    assert up[1].startswith("  ← count 1.0.0, ")
    assert up[2] == "    raw/a"
    down = shell("granule", "lineage", "raw/a", "--down").splitlines()
    assert [line.strip() for line in down][::2] == ["raw/a", "counted/a-counted"]
    assert json.loads(shell("granule", "lineage", "counted/a-counted", "--prov"))["activity"]


@pytest.mark.parametrize(
    "words", [["granule", "show", "raw/none"], ["collection", "show", "none"], ["rule", "show", "none"]]
)
def test_what_is_not_there_is_exit_code_4(shell: Shell, words: list[str]) -> None:
    said = shell.run(*words, code=4).stderr
    assert "none" in said


def test_collections_are_shown_as_they_were_defined(shell: Shell) -> None:
    assert "raw" in shell("collection", "list")
    assert shell.json("collection", "show", "raw")["spec"]["on_change"] == "revise"
    assert "on_change: revise" in shell("collection", "show", "raw")


# Work ----------------------------------------------------------------------------------------------------------


def test_the_same_work_is_not_done_twice(shell: Shell) -> None:
    done = shell("run", "count", "--input", "one=raw/a", "--wait")
    assert "reused: " in done
    assert "counted: counted/a-counted (revision 1)" in done


def test_what_a_run_would_take_is_told_and_nothing_is_submitted(shell: Shell) -> None:
    before = len(shell.lines("job", "list"))
    told = shell("run", "count", "--input", "one=raw/a", "--twins", "again", "--estimate")
    assert "It would be submitted." in told
    assert "runs of count 1.0.0: median" in told
    assert "Pool default has no price" in told
    found = shell.json("run", "count", "--input", "one=raw/a", "--estimate")
    assert (found["jobs"][0]["outcome"], found["total"]["jobs"]) == ("reused", 0)
    assert len(shell.lines("job", "list")) == before


def test_a_product_tells_what_it_cost(shell: Shell) -> None:
    cost = shell.json("granule", "show", "counted/a-counted")["cost"]
    assert (cost["own"]["jobs"], cost["chain"]["jobs"], cost["is_whole"]) == (1, 1, True)
    assert cost["own"]["seconds"] > 0
    assert "for all 1 jobs from its sources" in shell("granule", "show", "counted/a-counted")
    assert shell.json("granule", "show", "raw/a")["cost"]["job"] is None


def test_a_job_that_fails_says_why_and_run_says_so_by_its_exit_code(shell: Shell) -> None:
    done = shell.run("run", "count", "--input", "one=raw/a", "--param", "fail=true", "--wait", code=1)
    assert "It was asked to fail." in done.stdout
    job = last_job(shell, "--state", "failed")
    shown = shell("job", "show", job["id"])
    assert "science error" in shown
    assert "It was asked to fail." in shown
    assert "is queued" in shell("job", "retry", job["id"])


def test_what_a_failed_job_left_is_listed_and_fetched(shell: Shell, tmp_path: Path) -> None:
    shell.run("run", "count", "--input", "one=raw/a", "--param", "fail=true", "--twins", "again", "--wait", code=1)
    job = last_job(shell, "--state", "failed")["id"]
    listed = shell("job", "files", job)
    assert "job.json" in listed and "kept until" in listed and "not kept" in listed  # its inputs are in the catalogue
    names = [one["path"] for one in shell.json("job", "files", job, "inputs")["files"]]
    assert names and all(name.startswith("inputs/") for name in names)
    shell("job", "download", job, "job.json", "--to", str(tmp_path / "job.json"))
    assert json.loads((tmp_path / "job.json").read_text())["parameters"]["fail"] is True
    assert (
        "there already"
        in shell.run("job", "download", job, "job.json", "--to", str(tmp_path / "job.json"), code=2).stderr
    )
    shell("job", "download", job, ".", "--to", str(tmp_path / "all"))
    assert {"job.json", "environment.json"} <= {path.name for path in (tmp_path / "all").iterdir()}
    assert "catalogue" in shell.run("job", "download", job, names[0], "--to", str(tmp_path / "no"), code=4).stderr


def test_a_log_is_printed_and_followed_to_its_end(shell: Shell) -> None:
    job = shell.lines("job", "list", "--state", "succeeded")[-1]
    assert shell("job", "logs", job["id"]).startswith("counted ")
    assert shell("job", "logs", job["id"], "-f") == shell("job", "logs", job["id"])


def test_a_job_is_held_moved_released_and_cancelled(shell: Shell) -> None:
    answer = shell.json("run", "count", "--input", "one=raw/b", "--twins", "again", "--hold")
    job = answer["job"]["id"]
    assert shell.json("job", "priority", job, "7")["priority"] == 7
    assert "is cancelled" in shell("job", "cancel", job)
    said = shell.run("job", "hold", job, code=5).stderr
    assert "cancelled" in said


def test_what_many_would_take_is_told_before_they_are_released(shell: Shell) -> None:
    held = shell.json("run", "count", "--input", "one=raw/b", "--twins", "again", "--hold")["job"]["id"]
    told = shell("job", "release", held, "--dry-run")
    assert "1 × count 1.0.0 in pool default. The last" in told
    assert "worker time" in told
    shell("job", "cancel", held)


def test_several_jobs_are_steered_and_the_ones_that_refuse_are_named(shell: Shell) -> None:
    held = shell.json("run", "count", "--input", "one=raw/b", "--twins", "again", "--hold")["job"]["id"]
    done = shell.lines("job", "list", "--state", "succeeded")[-1]["id"]
    result = shell.run("job", "cancel", done, held, code=5)
    assert f"Job {held} is cancelled" in result.stdout
    assert done in result.stderr


def test_algorithms_are_shown_and_tried_without_a_server(shell: Shell) -> None:
    assert "count" in shell("algorithm", "list")
    assert "fail: boolean = False  End with an error." in shell("algorithm", "show", "count")
    assert shell.json("algorithm", "show", "count", "--version", "1")["version"] == "1.0.0"
    words = ["algorithm", "test", "count", "--input", "one=a.raw"]
    assert shell.json("--home", "/nowhere", *words)["outcome"] == "succeeded"
    done = shell.run(*words, "--param", "fail=true", code=1)
    assert "It was asked to fail." in done.stdout


def test_rules_tell_what_they_did_and_why(shell: Shell) -> None:
    assert "count-all" in shell("rule", "list")
    assert "then: {run: count}" in shell("rule", "show", "count-all")
    firings = shell.lines("rule", "firings", "count-all")
    assert {"one": ["raw/a"]} in [firing["granules"] for firing in firings]
    assert "submitted" in shell("rule", "explain", "count-all", "raw/a")
    foreseen = shell("rule", "backfill", "count-all", "--dry-run")
    assert "granules would be tried" in foreseen
    assert "× count 1.0.0 in pool default." in foreseen
    assert "worker time" in foreseen
    assert shell("rule", "disable", "count-all") == "Rule count-all is off.\n"
    assert shell.json("rule", "show", "count-all")["enabled"] is False
    shell("rule", "enable", "count-all")


def test_pools_and_workers_are_listed_and_drained(shell: Shell) -> None:
    assert "1 live" in shell("pool", "list")
    worker = shell.lines("worker", "list", "--pool", "default")[0]
    assert worker["id"] in shell("pool", "show", "default")
    assert worker["id"] in shell.json("pool", "drain", "default")["workers"]


def test_a_delivery_is_sent_listed_and_shown(shell: Shell, tmp_path: Path) -> None:
    (shell.folder / "archive.yaml").write_text(
        f"kind: delivery\nid: archive\nto: {{directory: {tmp_path / 'archive'}}}"
    )
    shell("apply", "archive.yaml")
    assert "archive" in shell("delivery", "send", "archive", "counted/a-counted")
    delivery = shell.lines("delivery", "list", "--granule", "counted/a-counted")[0]
    assert delivery["destination"] == "archive"
    assert delivery["id"] in shell("delivery", "show", delivery["id"])
    shell("delivery", "unacknowledged")
