"""CNM 1.6.1: what goes out is what the small archive of the examples accepts, what comes in is understood."""

import hashlib
import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import pytest

from armillary.base.errors import UsageError
from armillary.deliveries import cnm

ARCHIVE = Path(__file__).parents[2] / "examples" / "archive" / "archive.py"
spec = importlib.util.spec_from_file_location("archive", ARCHIVE)
archive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(archive)

PRODUCT = {"collection": "browse", "id": "one", "revision": 2}


def message(folder, content=b"picture", **changes):
    file = folder / "one.png"
    file.write_bytes(content)
    sent = {"name": "one.png", "uri": f"file://{file}", "size": len(content), "sha256": hashlib.sha256(content).hexdigest(),
            "roles": ["overview"], **changes}  # fmt: skip
    return cnm.submission("id-1", PRODUCT, [sent], {"provider": "HERE"}, datetime(2026, 3, 1, tzinfo=UTC))


def test_an_archive_accepts_a_submission(tmp_path):
    sent = message(tmp_path)
    assert archive.problems(sent, tmp_path, "/files/") == []
    assert sent["product"]["files"][0]["type"] == "browse"
    assert sent["submissionTime"] == "2026-03-01T00:00:00Z"
    assert cnm.read_response(archive.response(sent, [])) == ("id-1", True, "")


@pytest.mark.parametrize("changes", [{"size": 1}, {"sha256": "0" * 64}, {"uri": "file:///nowhere"}])
def test_an_archive_refuses_a_file_that_is_not_as_told(tmp_path, changes):
    sent = message(tmp_path, **changes)
    found = archive.problems(sent, tmp_path, "/files/")
    assert len(found) == 1
    identifier, succeeded, reason = cnm.read_response(archive.response(sent, found))
    assert (identifier, succeeded) == ("id-1", False)
    assert "VALIDATION_ERROR" in reason


@pytest.mark.parametrize("answer", [{}, {"identifier": "x"}, {"identifier": "x", "response": {"status": "MAYBE"}}])
def test_an_answer_that_is_none_is_refused(answer):
    with pytest.raises(UsageError):
        cnm.read_response(answer)
