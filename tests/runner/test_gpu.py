import pytest

from armillary.base.errors import UsageError
from armillary.runner.gpu import devices, visible


@pytest.mark.parametrize(
    ("asked", "own", "expected"),
    [
        (None, {"CUDA_VISIBLE_DEVICES": "0,1"}, ("0", "1")),
        (None, {"CUDA_VISIBLE_DEVICES": ""}, ()),
        (None, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ()),
        (None, {"ROCR_VISIBLE_DEVICES": "3"}, ("3",)),
        ("1", {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, ("GPU-a",)),
        ("2", {"CUDA_VISIBLE_DEVICES": ""}, ("0", "1")),
        ("0", {"CUDA_VISIBLE_DEVICES": "0"}, ()),
        ("2,5", {}, ("2", "5")),
    ],
)
def test_gpus_are_those_asked_for_or_those_granted_by_a_batch_system(asked, own, expected):
    assert devices(asked, own) == expected


def test_the_driver_is_asked_what_there_is(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-11\necho GPU-22\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices(None, {}) == ("GPU-11", "GPU-22")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert devices(None, {}) == ()


def test_what_is_not_understood_is_refused():
    for asked in ("1,,2", "0,0", ""):
        with pytest.raises(UsageError, match="--gpus"):
            devices(asked, {})


def test_a_job_without_gpus_sees_none():
    assert visible(())["CUDA_VISIBLE_DEVICES"] == ""
    assert visible(("1", "2"))["CUDA_VISIBLE_DEVICES"] == "1,2"
