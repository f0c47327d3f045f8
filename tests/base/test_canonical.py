import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.base.canonical import canonical_json, digest_of
from armillary.base.errors import UsageError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(values)
def test_reading_back_gives_the_same_value(value):
    assert json.loads(canonical_json(value), parse_int=float) == value


@given(values)
def test_it_is_the_same_whatever_the_order_of_keys_and_the_kind_of_number(value):
    assert canonical_json(json.loads(json.dumps(value), object_pairs_hook=_reversed)) == canonical_json(value)
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def _reversed(pairs):
    return dict(reversed(pairs))


# Bit patterns and texts of RFC 8785, appendix B.
@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
    ],
)
def test_numbers_are_printed_as_the_standard_prints_them(bits, text):
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == text.encode()


def test_keys_sort_by_utf_16_and_controls_are_escaped():
    value = {"\ufb33": 1, "\U0001f600": 2, "\r": 3, "1": 4, "ö": '\x0f\n\u20ac"\\/'}
    assert canonical_json(value) == ('{"\\r":3,"1":4,"ö":"\\u000f\\n€\\"\\\\/","\U0001f600":2,"\ufb33":1}'.encode())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53 + 1, 10**400, {1: 2}, "\ud800"])
def test_what_json_cannot_hold_exactly_is_refused(value):
    with pytest.raises(UsageError):
        canonical_json(value)


def test_whole_floats_and_integers_are_one_number():
    assert digest_of({"a": 1.0}) == digest_of({"a": 1})
