"""Times as the catalogue writes them: RFC 3339 in UTC."""

from datetime import UTC, datetime

from armillary_formats.refusal import Refused


def utc(text: str, field: str) -> str:
    """A time of any ISO 8601 spelling as RFC 3339 in UTC; one without a zone is UTC, as the formats say."""
    return rfc3339(parse(text, field))


def parse(text: str, field: str) -> datetime:
    """The moment that a field names, or a refusal that names the field."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise Refused(f"{field} is {text[:60]!a}, which is not a time.") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def rfc3339(moment: datetime) -> str:
    """2023-09-04T06:37:30.213065Z, without a fraction where there is none."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def check_order(start: str, end: str, name: str) -> None:
    """Refuse an interval that ends before it starts."""
    if parse(end, "end") < parse(start, "start"):
        raise Refused(f"{name} ends ({end}) before it starts ({start}).")
