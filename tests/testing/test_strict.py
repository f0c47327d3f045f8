"""What a skip means."""

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest

def test_passes(): pass

def test_lacks_data(): pytest.skip("ARMILLARY_TEST_DATA is not set")

def test_lacks_a_program(): pytest.skip("there is no podman")

@pytest.mark.xfail(reason="known")
def test_is_known_to_fail(): raise AssertionError
"""


@pytest.fixture
def files(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_some=TESTS, test_whole="import pytest\npytest.skip('no netCDF', allow_module_level=True)")
    return pytester


def run(files: pytest.Pytester) -> pytest.RunResult:
    return files.runpytest_subprocess("-p", "armillary.testing.strict", "-p", "no:cacheprovider", "-rs")


def test_a_bare_machine_may_skip(files: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARMILLARY_STRICT", raising=False)
    result = run(files)
    result.assert_outcomes(passed=1, skipped=3, xfailed=1)


def test_a_strict_run_fails_for_a_skip_but_not_for_missing_data(
    files: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARMILLARY_STRICT", "1")
    result = run(files)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*was skipped, and this run allows no skip. *no netCDF*"])
    files.makepyfile(test_whole="")
    result = run(files)
    result.assert_outcomes(passed=1, skipped=1, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*was skipped, and this run allows no skip. *there is no podman*"])
    result.stdout.fnmatch_lines(
        ["*1 not run: ARMILLARY_TEST_DATA names no real data*", "test_some.py::test_lacks_data"]
    )
