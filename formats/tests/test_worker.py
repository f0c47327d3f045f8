"""The line protocol: an answer for each line, whatever it holds, and nothing else on the line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armillary_formats.worker import answer

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
requests = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("call", "read", "browse", "path", "out", "command"), json_values)
)
PLUGINS = """
import math, sys
def nothing(path): return None
def bare(path): return {"geometry": None}
def odd_frame(path): return {"properties": {}, "frame": "mars"}
def not_finite(path): return {"properties": {"x": math.nan}}
def not_json(path): return {"properties": {"x": path}}
def huge(path): return {"properties": {"x": "x" * 9_000_000}}
def leaves(path): sys.exit("bye")
def wrong(path): raise KeyError("x")
def silent(path): raise ValueError()
def no_picture(path, out): pass
def picture(path, out): out.write_bytes(b"png")
number = 7
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch) -> str:
    (tmp_path / "answer_plugins.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "answer_plugins", raising=False)
    return "answer_plugins"


def ask(**request) -> dict:
    return answer(json.dumps(request).encode())


def error_of(**request) -> dict:
    answered = ask(**{"call": 1, "path": __file__} | request)
    assert answered.keys() == {"call", "error"}
    assert answered["error"].keys() == {"message", "kind", "detail"}
    return answered["error"]


@given(st.binary() | requests.map(lambda r: json.dumps(r).encode()) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_line_has_an_answer_that_is_one_line(line: bytes) -> None:
    answered = answer(line)
    assert "error" in answered
    assert answered["error"]["kind"] in ("refused", "failed")
    assert answered["error"]["message"]
    assert b"\n" not in json.dumps(answered).encode()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b" ")), max_size=20))
def test_a_worker_answers_every_line_in_order_whatever_junk_it_gets(lines: list[bytes]) -> None:
    asked = [json.dumps({"call": i, "read": "none-such", "path": "/x"}).encode() for i in range(len(lines) + 1)]
    sent = b"".join(junk + b"\n" + request + b"\n" for junk, request in zip([*lines, b""], asked, strict=True))
    worker = [sys.executable, "-P", "-m", "armillary_formats.worker"]
    done = subprocess.run(worker, input=sent, capture_output=True, timeout=60, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["call"] for each in answers if each["call"] is not None] == list(range(len(lines) + 1))
    assert len(answers) == len(asked) + sum(bool(junk.strip()) for junk in lines)


def test_the_start_loads_the_standard_library_alone() -> None:
    program = "import sys, armillary_formats.worker, armillary_formats.pool; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "rasterio", "astropy", "h5py"} & set(loaded)
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"armillary_formats", "__main__"}
    site = {name for name in foreign if not name.startswith(("_", "sitecustomize"))}
    assert site <= {"google", "mpl_toolkits", "sphinxcontrib"}, "namespace packages may be announced by .pth files"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nothing", "gave NoneType where an object with 'properties' is expected"),
        ("bare", "have no object 'properties'"),
        ("odd_frame", "have the frame 'mars'; there are: earth, sky, none"),
        ("not_finite", "are not JSON"),
        ("not_json", "are not JSON: Object of type"),
        ("huge", "at most 8388608 are taken"),
        ("leaves", "failed on test_worker.py: SystemExit: bye"),
        ("wrong", "failed on test_worker.py: KeyError: 'x'"),
        ("missing", "cannot be loaded: AttributeError"),
        ("number", "is not a function"),
    ],
)
def test_a_reader_that_breaks_the_contract_has_failed(plugins, function, said) -> None:
    error = error_of(read=f"{plugins}:{function}")
    assert error["kind"] == "failed"
    assert said in error["message"]


def test_a_refusal_is_quoted_and_one_without_words_gets_some(plugins, tmp_path) -> None:
    assert error_of(read=f"{plugins}:silent")["message"].endswith("refused test_worker.py without a reason.")
    empty = tmp_path / "a.tif"
    empty.touch()
    error = error_of(read="geotiff", path=str(empty))
    assert error == {"message": "a.tif is empty.", "kind": "refused", "detail": error["detail"]}
    assert "Traceback" in error["detail"]


def test_an_unknown_reader_is_told_the_known_ones() -> None:
    message = error_of(read="geotif")["message"]
    assert "No reader is named 'geotif'" in message
    known = "elevation, fits, geotiff, hdf5, netcdf, sentinel-1-calibration, sentinel-1-orbit, sentinel-1-safe"
    assert known in message
    assert "cannot be loaded: ModuleNotFoundError" in error_of(read="no_such_module:read")["message"]


def test_a_picture_must_be_there(plugins, tmp_path) -> None:
    out = tmp_path / "picture.png"
    assert "without writing a picture" in error_of(browse=f"{plugins}:no_picture", out=str(out))["message"]
    assert ask(call="b", browse=f"{plugins}:picture", path=__file__, out=str(out)) == {"call": "b", "browse": str(out)}


def test_a_command_prints_metadata_for_the_path_in_it(tmp_path) -> None:
    strange = tmp_path / "a b;$(touch x).txt"
    strange.write_text('{"properties": {"title": "read"}}')
    answered = ask(call=3, read={"command": ["cat", "{path}"]}, path=str(strange))
    assert answered["metadata"]["properties"] == {"title": "read"}


@pytest.mark.parametrize(
    ("command", "kind", "said"),
    [
        (["sh", "-c", "echo not json"], "failed", r"printed 'not json\n', which is not JSON"),
        (
            ["sh", "-c", "echo first >&2; echo the reason >&2; exit 3"],
            "refused",
            "code 3 on test_worker.py: the reason",
        ),
        (["sh", "-c", "kill -9 $$"], "failed", "code -9"),
        (["false"], "refused", "it said nothing"),
        (["/no/such/program"], "failed", "cannot be started"),
        (["true"], "failed", "printed '', which is not JSON"),
        ([], "failed", "list of texts"),
        ("ls", "failed", "list of texts"),
    ],
)
def test_a_command_that_fails_is_quoted(command, kind, said) -> None:
    error = error_of(read={"command": command})
    assert (error["kind"], said in error["message"]) == (kind, True), error


def test_the_memory_limit_is_set_before_anything_is_read() -> None:
    program = ["sh", "-c", 'printf \'{"properties": {"limit": "%s"}}\' "$(ulimit -v)"']
    sent = json.dumps({"call": 1, "read": {"command": program}, "path": "/"}).encode()
    worker = [sys.executable, "-P", "-m", "armillary_formats.worker", "--memory-bytes", str(2 * 1024**3)]
    done = subprocess.run(worker, input=sent, capture_output=True, check=True)
    assert json.loads(done.stdout)["metadata"]["properties"] == {"limit": str(2 * 1024**2)}


def test_every_built_in_reader_can_be_loaded() -> None:
    for name in ("sentinel-1-safe", "sentinel-1-orbit", "geotiff", "fits", "netcdf", "hdf5"):
        assert error_of(read=name, path=str(Path("/no/such/file")))["message"].startswith(f"{name} failed on file: ")
