"""Bad input, from the file's name to the rule that would run for ever: each is refused at its stage, and the reason is kept.

One folder of everything that is wrong is ingested in one call; its report keeps a reason for each path. What a bad
algorithm does is in tests/runner/test_bad_algorithms.py, and a full disk in test_disks.py.
"""

import io
import json
import os
import zipfile

import pytest

from armillary.base.errors import UsageError
from armillary.testing.instance import Instance

READERS = {"zip": "sentinel-1-safe", "EOF": "sentinel-1-orbit", "tif": "geotiff", "fits": "fits", "nc": "netcdf"}
COMMANDS = {"meta": ["cat", "{path}"], "slow": ["sleep", "60"], "dies": ["sh", "-c", "kill -9 $$"]}
RUN_FORTH = {
    "kind": "algorithm", "id": "forth", "version": "1.0.0", "run": {"command": ["true"]}, "environment": {"site": True},
    "inputs": {"one": {"collection": "raw"}},
    "outputs": {"two": {"collection": "raw", "optional": True}},
    "resources": {"cpu": 0.1, "memory": "64MiB", "disk": "10MiB"}, "retry": {"attempts": 1},
}  # fmt: skip


def zip_of(*names, data=b"data"):
    """An archive with members of these names, as they are."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name  # its constructor would clean the name
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def broken(packed):
    """An archive a byte of whose content has changed."""
    at = packed.index(b"S1/manifest.safe") + len("S1/manifest.safe") + 2
    return packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]


def metadata(geometry=None, **properties):
    """What a reader would say."""
    return json.dumps(
        {"geometry": geometry, "frame": "earth" if geometry else "none", "properties": properties}
    ).encode()


def polygon(*ring):
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


TIF = b"II*\0\x08\0\0\0"
FITS = b"SIMPLE  =                    T" + b" " * 50
MANIFEST = "S1/manifest.safe"

# What it is called, what it holds, at which stage it is refused, and a part of the reason.
TABLE = [
    ("with space.meta", metadata(), "taken", ""),
    ("new\nline.meta", metadata(), "find", "control character"),
    (os.fsdecode(b"\xff.meta"), metadata(), "find", "UTF-8"),
    ("x" * 210 + ".meta", metadata(), "find", "200 bytes"),
    ("unknown.xyz", b"x", "recognise", "No collection recognises"),
    ("empty.tif", b"", "read", "empty"),
    ("empty.zip", b"", "read", "empty"),
    ("empty.fits", b"", "read", "empty"),
    ("empty.nc", b"", "read", "empty"),
    ("empty.EOF", b"", "read", "empty"),
    ("junk.tif", b"no picture at all" * 50, "read", "TIFF"),
    ("junk.EOF", b"<not xml", "read", "XML"),
    ("truncated.tif", TIF, "read", "not a TIFF"),
    ("truncated.fits", FITS, "read", "not a whole FITS file"),
    ("truncated.nc", b"\x89HDF\r\n\x1a\n" + bytes(40), "read", "not a whole HDF5 file"),
    ("truncated.zip", zip_of(MANIFEST)[:-30], "read", "not a whole zip archive"),
    ("bomb.zip", zip_of(MANIFEST, data=bytes(300 << 20)), "read", "bomb"),
    ("dots.zip", zip_of(MANIFEST, "../../etc/passwd"), "read", "'..'"),
    ("absolute.zip", zip_of(MANIFEST, "/etc/passwd"), "read", "absolute"),
    ("line.zip", zip_of(MANIFEST, "S1/a\nb"), "read", "control character"),
    ("checksum.zip", broken(zip_of(MANIFEST, data=b"<xml>" * 100)), "read", "checksum"),
    ("no-json.meta", b"hello", "read", "not JSON"),
    ("no-object.meta", b"[1]", "read", "object"),
    ("hangs.slow", b"x", "read", "took longer than"),
    ("dies.dies", b"x", "read", "ended with code -9"),
    ("crossing.meta", metadata(polygon([0, 0], [5, 5], [5, 0], [0, 5])), "commit", "crosses or touches itself"),
    ("outside.meta", metadata(polygon([0, 80], [5, 80], [5, 95])), "commit", "latitude"),
    ("nan.meta", metadata({"type": "Point", "coordinates": [float("nan"), 0]}), "read", "not JSON compliant"),
    ("backwards.meta", metadata(start_datetime="2026-01-02T00:00:00Z", end_datetime="2026-01-01T00:00:00Z"), "commit",
     "ends before it starts"),
    ("no-time.meta", metadata(datetime="yesterday"), "commit", "not understood"),
]  # fmt: skip
BY_NAME = {row[0]: row for row in TABLE}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The instance that was given it all, and what the report of the one call says of each name."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "in").mkdir()
    for name, content, *_ in TABLE:
        (folder / "in" / name).write_bytes(content)
    instance = Instance(folder / "home")
    instance.start()
    try:
        kinds = READERS | {suffix: {"command": command} for suffix, command in COMMANDS.items()}
        with instance.client as client:
            client.apply(
                [{"kind": "collection", "id": "raw", "recognise": {"name": r"\.raw$"}, "on_change": "revise"}]
                + [
                    {"kind": "collection", "id": suffix, "recognise": {"name": rf"\.{suffix}$"}, "metadata": reader}
                    for suffix, reader in kinds.items()
                ]
            )
        done = instance.armillary(
            "ingest", folder / "in", "--report", folder / "report", "--read-timeout", "10s", check=False
        )
        assert done.returncode == 1
        lines = map(json.loads, (folder / "report").read_text().splitlines())
        yield instance, {line["path"].rpartition("/")[2]: line for line in lines}
    finally:
        instance.close()


@pytest.mark.parametrize(
    "name", BY_NAME, ids=[name.encode(errors="backslashreplace").decode()[:40] for name in BY_NAME]
)
def test_a_file_that_is_wrong_is_refused_with_its_reason(told, name):
    instance, report = told
    _name, _content, stage, reason = BY_NAME[name]
    line = report[name.encode(errors="backslashreplace").decode()]
    assert reason in line["reason"], line
    assert "\n" not in line["reason"]
    state = {"taken": "created", "recognise": "skipped"}.get(stage, "failed")
    assert line["state"] == state
    found = instance.rows(
        "select 1 from item where collection = %s and granule = %s", line["collection"], line["granule"]
    )
    assert len(found) == (1 if stage == "taken" else 0)


def test_a_rule_that_would_trigger_itself_for_ever_is_refused_by_name(told):
    instance, _ = told
    rule = {"kind": "rule", "id": "round", "when": {"one": {"collection": "raw"}}, "then": {"run": "forth"}}
    with instance.client as client, pytest.raises(UsageError, match="round → raw → round"):
        client.apply([RUN_FORTH, rule])


def test_a_bundle_with_another_checksum_is_refused(told, tmp_path):
    instance, _ = told
    (tmp_path / "bundle").write_bytes(b"x")
    with instance.client as client, pytest.raises(UsageError, match="another SHA-256 than its address"):
        client.put_bundle(tmp_path / "bundle", "0" * 64)


def test_an_input_whose_bytes_have_changed_in_the_store_fails_the_attempt_with_the_reason(told):
    instance, _ = told
    assert instance.ingest("changed", b"as they were").returncode == 0
    [stored] = (instance.home / "store" / "raw" / "changed").rglob("changed.raw")
    stored.write_bytes(b"as they are ")
    with instance.client as client:
        client.apply([RUN_FORTH])
    job = instance.ended(instance.submit("changed", "forth"))
    [attempt] = job["attempts"]
    assert (job["state"], attempt["outcome"], attempt["error_class"]) == ("failed", "failed", "infrastructure")
    assert "holds other bytes" in attempt["reason"]
    assert [finding["check"] for finding in instance.doctor()] == ["bytes"]
