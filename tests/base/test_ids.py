"""Ids sort as they were made; names are fit to be keys, folders and URL segments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.base.errors import UsageError
from armillary.base.ids import check_name, key_segment, new_id


def test_ids_are_distinct_sort_as_made_and_are_version_7():
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {one.version for one in made} == {7}


@pytest.mark.parametrize("name", ["", ".hidden", "..", "a/b", "a\nb", "a\x00b", "ü" * 101])
def test_a_name_that_cannot_be_a_key_is_refused(name):
    with pytest.raises(UsageError):
        check_name(name)


@given(st.text(min_size=1, max_size=50))
def test_a_name_that_passes_is_stable_and_its_segment_is_plain(name):
    try:
        checked = check_name(name)
    except UsageError:
        return
    assert check_name(checked) == checked
    assert "/" not in key_segment(checked)
    assert key_segment(checked).isascii()
