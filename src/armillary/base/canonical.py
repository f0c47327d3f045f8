"""JSON in one form only (RFC 8785), so that equal values have equal digests in any language."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from armillary.base.errors import UsageError

LARGEST_EXACT = 2**53 - 1  # RFC 7493: JSON numbers are doubles, which beyond this skip whole numbers


def canonical_json(value: Any) -> bytes:
    """The value as RFC 8785 bytes: keys by UTF-16, numbers as ECMAScript prints doubles, no white space."""
    try:
        return _text(value).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            "A text holds half of a surrogate pair, which is no character.", "Write valid Unicode."
        ) from error


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _text(value: Any) -> str:
    match value:
        case None | bool() | str():
            return json.dumps(value, ensure_ascii=False)
        case int():
            return _whole(value)
        case float():
            return _number(value)
        case list() | tuple():
            return "[" + ",".join(map(_text, value)) + "]"
        case Mapping():
            return "{" + ",".join(f"{_key(key)}:{_text(value[key])}" for key in sorted(value, key=_order)) + "}"
    raise TypeError(f"{type(value).__name__} is not JSON")


def _order(key: Any) -> bytes:
    return str(key).encode("utf-16-be", "surrogatepass")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise UsageError(f"The key {key!r} is not text.", "Put it in quotes.")
    return json.dumps(key, ensure_ascii=False)


def _whole(value: int) -> str:
    if abs(value) <= LARGEST_EXACT:
        return str(value)
    if abs(value) < 2**1023 and (text := _number(float(value))) == str(value):
        return text
    raise UsageError(f"{value} has more digits than a JSON number holds.", "Write it as text.")


def _number(value: float) -> str:
    """ECMA-262 Number::toString: the shortest digits that read back the same, placed by its rules."""
    if not math.isfinite(value):
        raise UsageError(f"{value} is not a JSON number.", "Leave it out, or write it as text.")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The number is 0.digits × 10^point.
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    return sign + _place(digits.rstrip("0"), point)


def _place(digits: str, point: int) -> str:
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{mantissa}e{point - 1:+d}"
