"""YAML as people mean it: strict, no surprises of type, and every value knows its line.

YAML 1.2's core types over PyYAML's events: `on` and `NO` are texts, dates too; a duplicate key, a tag, a merge key and
a number that JSON lacks are refused with their place, and neither nesting nor aliases can blow the document up.
"""

import copy
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from armillary.base.errors import ArmillaryError, UsageError

MAX_NODES = 100_000
MAX_DEPTH = 64

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 300
_MISREAD = re.compile(f"{_INTEGER.pattern}|{_FLOAT.pattern}|{_NOT_JSON.pattern}")


@dataclass(frozen=True)
class Document:
    """One document of a file and the place of each of its values, by JSON pointer (RFC 6901)."""

    value: Any
    name: str
    positions: Mapping[str, tuple[int, int]]

    def where(self, field: str = "") -> str:
        """`file:line:column` of a JSON pointer or a dotted name; of what holds it if it is not there itself."""
        pointer = field if field.startswith("/") else _pointer(field)
        while pointer and pointer not in self.positions:
            pointer = pointer.rpartition("/")[0]
        line, column = self.positions[pointer]
        return f"{self.name}:{line}:{column}"

    def place(self, error: ArmillaryError) -> ArmillaryError:
        """The same error, its sentence begun with the place of the field that it is about."""
        message = f"{self.where(error.field or '')}: {error.message}"
        return type(error)(message, error.remedy, field=error.field, **error.details)


def load(text: str | bytes, name: str = "YAML") -> Any:
    """The value of a file that holds one document; None if it is empty."""
    documents = load_all(text, name)
    if len(documents) > 1:
        raise UsageError(f"{documents[1].where()}: a second document begins here.", f"Keep one document in {name}.")
    return documents[0].value if documents else None


def load_all(text: str | bytes, name: str = "YAML") -> list[Document]:
    """Every document of a file that is not empty, in order."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(_Reader(yaml.parse(text, loader), name).documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        reason = ": ".join(part for part in (error.context, error.problem) if part)
        raise UsageError(f"{place}: this is not YAML: {reason}.", "Mend it there or just before.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "reason", str(error))
        raise UsageError(f"{name}: this is not YAML: {reason}.", "Save it as UTF-8 text.") from error


class _Reader:
    """Makes values of events, without recursion deeper than MAX_DEPTH."""

    def __init__(self, events: Iterator[Any], name: str) -> None:
        self._events = events
        self._name = name

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if type(event).__name__ != "DocumentStartEvent":
                continue
            self._nodes = 0
            self._anchors: dict[str, tuple[Any, int]] = {}
            self._positions: dict[str, tuple[int, int]] = {}
            value = self._value(next(self._events), "", 0)
            # `---` with nothing after it is a habit, not a document.
            if value is not None:
                yield Document(value, self._name, self._positions)

    def _value(self, event: Any, pointer: str, depth: int) -> Any:
        self._positions[pointer] = (event.start_mark.line + 1, event.start_mark.column + 1)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event)
        before = self._nodes
        self._count(event, 1)
        if event.tag is not None and not (kind == "ScalarEvent" and event.tag == "!"):
            self._refuse(event, f"the tag {event.tag} is not allowed", "Write the plain value.")
        if depth > MAX_DEPTH:
            self._refuse(event, f"values are nested more than {MAX_DEPTH} deep", "Flatten them.")
        if kind == "MappingStartEvent":
            value: Any = self._mapping(pointer, depth)
        elif kind == "SequenceStartEvent":
            value = self._sequence(pointer, depth)
        else:
            value = self._scalar(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _mapping(self, pointer: str, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            key = self._key(event)
            if key in mapping:
                line, _ = self._positions[f"{pointer}/{_escaped(key)}"]
                reason = f"the key {key!r} is here twice (its value is also at line {line})"
                self._refuse(event, reason, "Keep one of them.")
            mapping[key] = self._value(next(self._events), f"{pointer}/{_escaped(key)}", depth + 1)
        return mapping

    def _key(self, event: Any) -> str:
        self._count(event, 1)
        if type(event).__name__ != "ScalarEvent":
            self._refuse(event, "a key is not a text", "Write `key: value`.")
        if event.value == "<<" and event.implicit[0]:
            self._refuse(event, "merge keys (<<) are not allowed", "Write the keys out.")
        key = self._scalar(event)
        if not isinstance(key, str):
            self._refuse(event, f"the key {event.value} is not a text", f'Put it in quotes: "{event.value}".')
        return key

    def _sequence(self, pointer: str, depth: int) -> list[Any]:
        sequence: list[Any] = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            sequence.append(self._value(event, f"{pointer}/{len(sequence)}", depth + 1))
        return sequence

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # quoted, or a block
            return text
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INTEGER.fullmatch(text) and len(text) <= _MAX_DIGITS:
            return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
        if _FLOAT.fullmatch(text) and len(text) <= _MAX_DIGITS and abs(float(text)) != float("inf"):
            return float(text)
        if _NOT_JSON.fullmatch(text):
            self._refuse(event, f"{text} is not a number that JSON has", "Put it in quotes, or leave it out.")
        return text

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            reason = f"the alias *{event.anchor} is of something that is not complete before it"
            self._refuse(event, reason, "Define the anchor first.")
        value, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        return copy.deepcopy(value)

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._refuse(event, f"the document has more than {MAX_NODES:,} values", "Split it.")

    def _refuse(self, event: Any, reason: str, remedy: str) -> NoReturn:
        place = f"{self._name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"
        raise UsageError(f"{place}: {reason}.", remedy)


def _pointer(field: str) -> str:
    """`inputs.orbits[0].collection` as `/inputs/orbits/0/collection`."""
    steps = re.sub(r"\[(\d+)\]", r".\1", field).split(".")
    return "".join(f"/{_escaped(step)}" for step in steps if step)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def dump(value: Any) -> str:
    """JSON-like data as YAML that `load` reads as the same."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data and data.isprintable() is False and _is_block(data) else None
        # PyYAML quotes what YAML 1.1 would misread; the rest of what YAML 1.2 would is quoted here.
        if style is None and (_MISREAD.fullmatch(data) or not data.isprintable()):
            style = '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    dumper_options: dict[str, Any] = {"allow_unicode": True, "width": 120}
    node = _represented(Dumper, value)
    return str(yaml.serialize(node, Dumper=Dumper, **dumper_options))


def _represented(dumper: Any, value: Any) -> Any:
    """The node of a value: one key a line at the top, short things on one line below."""
    made = dumper(io.StringIO(), sort_keys=False, default_flow_style=None)
    node = made.represent_data(value)
    if isinstance(value, dict | list) and value:
        node.flow_style = False
    return node


def _is_block(text: str) -> bool:
    """Whether lines can stand as they are in a block."""
    lines = text.split("\n")
    return all(line.isprintable() and line == line.rstrip() for line in lines) and not text.startswith((" ", "\n"))
