"""Collection: how its granules are recognised and read, and what happens when one changes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from armillary.base import units
from armillary.base.errors import UsageError
from armillary.base.ids import check_name

AssetKind = Literal["auto", "file", "tree"]
OnChange = Literal["refuse", "revise"]
RECOGNISE_BY = ("name", "directory", "member")
FIELDS = {"kind", "id", "title", "description", "licence", "recognise", "metadata", "browse", "asset", "on_change",
          "retain", "settle", "signal", "group"}  # fmt: skip


@dataclass(frozen=True)
class Collection:
    """A kind of granule."""

    id: str
    title: str = ""
    description: str = ""
    licence: str = "other"
    recognise: Mapping[str, str] = field(default_factory=dict)  # name, directory, member: regular expressions
    metadata: str | Mapping[str, Any] | None = None  # an entry point, or {command: […]}
    browse: str | None = None  # module:function
    asset: AssetKind = "auto"
    on_change: OnChange = "refuse"
    keep_revisions: int | None = None  # the newest so many; all of them unless said
    settle: timedelta = timedelta(0)  # how long a file must not change before it is taken
    signal: str | None = None  # a file whose presence says that a granule is complete


def read(document: Mapping[str, Any]) -> Collection:
    """Check a document of kind `collection`."""
    unknown = sorted(set(document) - FIELDS)
    if unknown:
        raise UsageError(
            f"Collection field {unknown[0]!r} is unknown.",
            f"Known: {', '.join(sorted(FIELDS))}.",
            field=unknown[0],
        )
    return Collection(
        id=check_name(_text(document, "id", required=True)),
        title=_text(document, "title"),
        description=_text(document, "description"),
        licence=_text(document, "licence") or "other",
        recognise=_recognise(document.get("recognise") or {}),
        metadata=_metadata(document.get("metadata")),
        browse=_text(document, "browse") or None,
        asset=_choice(document, "asset", ("auto", "file", "tree")),
        on_change=_choice(document, "on_change", ("refuse", "revise")),
        keep_revisions=_revisions(document.get("retain")),
        settle=units.duration(document["settle"], "settle") if document.get("settle") else timedelta(0),
        signal=_text(document, "signal") or None,
    )


def _text(document: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = document.get(name, "")
    if not isinstance(value, str) or (required and not value):
        raise UsageError(f"{name} of a collection is a text.", "Put it in quotes.", field=name)
    return value


def _choice(document: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> Any:
    value = document.get(name, choices[0])
    if value not in choices:
        raise UsageError(f"{name} is {value!r}.", f"It is one of {', '.join(choices)}.", field=name)
    return value


def _recognise(patterns: Any) -> Mapping[str, str]:
    if not isinstance(patterns, Mapping) or set(patterns) - set(RECOGNISE_BY):
        remedy = f"Give regular expressions for any of {', '.join(RECOGNISE_BY)}."
        raise UsageError("recognise is not understood.", remedy, field="recognise")
    for name, pattern in patterns.items():
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            remedy = "Mend the regular expression."
            raise UsageError(f"recognise.{name}: {error}.", remedy, field=f"recognise.{name}") from error
    return dict(patterns)


def _metadata(value: Any) -> str | Mapping[str, Any] | None:
    is_command = isinstance(value, Mapping) and set(value) == {"command"} and isinstance(value["command"], list)
    if value is None or isinstance(value, str):
        return value
    if is_command:
        return dict(value)
    raise UsageError(
        "metadata is not understood.",
        "Name a reader, or give {command: [program, '{path}']}.",
        field="metadata",
    )


def _revisions(retain: Any) -> int | None:
    if retain is None:
        return None
    count = retain.get("revisions") if isinstance(retain, Mapping) else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1 or set(retain) - {"revisions"}:
        raise UsageError("retain is not understood.", "Write retain: {revisions: 2}, at least 1.", field="retain")
    return count
