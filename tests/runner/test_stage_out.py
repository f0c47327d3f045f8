"""Products are described by what their maker wrote, completed from the inputs."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.runner.item import ItemError, item

Json = dict[str, Any]
POINT = {"type": "Point", "coordinates": [1, 2]}


def _input(start: str, end: str, **more: Any) -> Json:
    return {"geometry": None, "properties": {"datetime": None, "start_datetime": start, "end_datetime": end}} | more


def test_what_is_not_said_comes_from_the_inputs() -> None:
    inputs = [
        _input("2026-03-01T00:00:00Z", "2026-03-01T00:01:00Z"),
        _input("2026-02-01T00:00:00Z", "2026-02-01T00:01:00Z", geometry=POINT),
        {"geometry": None, "properties": {"datetime": "2030-01-01T00:00:00Z", "armillary:is_timeless": True}},
    ]
    assert item({}, inputs) == {
        "geometry": POINT,
        "frame": "earth",
        "properties": {"start_datetime": "2026-02-01T00:00:00Z", "end_datetime": "2026-03-01T00:01:00Z"},
    }


def test_what_is_said_counts() -> None:
    written = {"geometry": POINT, "frame": "sky", "datetime": "2026-01-01T00:00:00Z", "properties": {"a": 1}}
    assert item(written, [_input("2026-03-01T00:00:00Z", "2026-03-01T00:01:00Z")]) == {
        "geometry": POINT,
        "frame": "sky",
        "properties": {"a": 1, "datetime": "2026-01-01T00:00:00Z"},
    }
    assert item({"frame": "none"}, [{"geometry": POINT, "properties": {}}])["geometry"] is None
    assert item({"geometry": None}, [{"geometry": POINT, "properties": {}}])["geometry"] is None


def test_a_footprint_in_the_sky_is_handed_on_in_its_frame() -> None:
    sky = {"geometry": None, "properties": {"armillary:frame": "sky", "armillary:sky_geometry": POINT}}
    made = item({}, [sky])
    assert (made["geometry"], made["frame"]) == (POINT, "sky")
    assert item({"frame": "earth"}, [sky])["geometry"] is None


@pytest.mark.parametrize(
    "written", [{"frame": "moon"}, {"geometry": "POINT"}, {"properties": []}, {"resolution": 30}], ids=str
)
def test_what_is_not_part_of_an_item_is_refused(written: Json) -> None:
    with pytest.raises(ItemError):
        item(written, [])


@given(st.lists(st.tuples(st.datetimes(), st.datetimes()).map(sorted), min_size=1, max_size=5))
def test_a_product_covers_the_time_of_all_its_inputs(spans: list[Any]) -> None:
    inputs = [_input(f"{start.isoformat()}Z", f"{end.isoformat()}Z") for start, end in spans]
    properties = item({}, inputs)["properties"]
    first = min(start for start, _ in spans).isoformat() + "Z"
    last = max(end for _, end in spans).isoformat() + "Z"
    assert properties == ({"datetime": first} if first == last else {"start_datetime": first, "end_datetime": last})


def test_files_trees_pictures_and_the_result_are_reported(bench: Any, jobs: Any, server: Any) -> None:
    code = """
        mkdir -p 'outputs/out/a b/cube.zarr/0'
        cd 'outputs/out/a b'
        echo 1 > 'image 1.tif'; echo 2 > browse.png; echo 3 > cube.zarr/0/0; echo '{}' > cube.zarr/.zgroup
        echo '{"assets": {"image 1.tif": {"roles": ["amplitude"], "title": "Amplitude"}}}' > granule.json
        cd -; echo '{"bursts": 9}' > result.json
    """
    report = bench.run(jobs.shell(code, outputs={"out": {"collection": "o"}}, inputs={"scene": {"f": b"1"}}))
    assert report["outcome"] == "succeeded", report
    assert report["result"] == {"bursts": 9}
    (output,) = report["outputs"]
    assets = output["commit"]["assets"]
    assert output["output"] == "out" and sorted(assets) == ["browse.png", "cube.zarr", "image 1.tif"]
    assert (assets["image 1.tif"]["roles"], assets["image 1.tif"]["title"]) == (["amplitude"], "Amplitude")
    assert assets["browse.png"]["roles"] == ["overview"]
    assert [file["path"] for file in assets["cube.zarr"]["files"]] == ["cube.zarr/.zgroup", "cube.zarr/0/0"]
    upload = server.uploads[output["commit"]["upload"]]
    assert (upload["collection"], upload["granule"], upload["job"], upload["lease"]) == ("o", "a b", report["job"], 1)


@pytest.mark.parametrize("declared", [{"optional": True}, {"many": True}])
def test_optional_and_many_are_taken_at_their_word(bench: Any, jobs: Any, declared: Json) -> None:
    code = "for g in a b; do mkdir -p outputs/out/$g; echo > outputs/out/$g/f; done" if "many" in declared else "true"
    report = bench.run(jobs.shell(code, outputs={"out": {"collection": "o"} | declared}))
    assert report["outcome"] == "succeeded"
    assert len(report["outputs"]) == (2 if "many" in declared else 0)


def test_inputs_lie_where_the_job_file_says(bench: Any, jobs: Any) -> None:
    code = """
        import json, pathlib
        job = json.load(open("job.json"))
        assert job["attempt"] == 1 and job["parameters"] == {"looks": 4} and job["resources"]["memory_bytes"] == 1 << 30
        assert job["outputs"] == {"out": {"collection": "o"}}
        (scene,) = job["inputs"]["scene"]
        assert (scene["collection"], scene["id"], scene["revision"]) == ("c", "scene-1", 1)
        assert scene["item"]["geometry"]["type"] == "Point"
        place = pathlib.Path(scene["path"])
        assert (place / "s p.SAFE" / "manifest.safe").read_text() == "tree" and (place / "ü.txt").read_text() == "file"
        out = pathlib.Path("outputs/out/x"); out.mkdir(parents=True); (out / "f").write_text("")
    """
    inputs = {"scene": {"s p.SAFE/manifest.safe": b"tree", "ü.txt": b"file"}}
    report = bench.run(jobs.script(code, inputs=inputs, outputs={"out": {"collection": "o"}}))
    assert report["outcome"] == "succeeded", (report, bench.log())
    names = [(one["name"], one["bytes"]) for one in report["usage"]["transfers"]]
    assert names == [("manifest.safe", 4), ("ü.txt", 4)]


def test_an_input_that_the_store_has_lost_is_named(bench: Any, jobs: Any, server: Any) -> None:
    lease = jobs.shell("true", inputs={"scene": {"in.txt": b"lost"}})
    server.objects.clear()
    report = bench.run(lease)
    assert (report["error_class"], "in.txt of c/scene-1" in report["reason"]) == ("input missing", True)


@pytest.mark.parametrize("path", ["../escape", "/etc/x", "a/../../b", "a\nb"])
def test_a_lease_cannot_lead_out_of_the_jobs_folder(jobs: Any, path: str, tmp_path: Path) -> None:
    from armillary.base.errors import UsageError
    from armillary.runner.lease import read_lease

    with pytest.raises(UsageError):
        read_lease(jobs.shell("true", inputs={"scene": {path: b""}}))
