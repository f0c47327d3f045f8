"""Filters in CQL2 (OGC 21-065r2), text and JSON: checked once, then compiled to SQL or decided in Python, both alike.

Logic has three values: what is missing or of another type than it is compared with makes a comparison unknown.
SQL decides everything but what it cannot decide exactly (places on the sphere; CASEI and ACCENTI of text outside
ASCII): of that it proposes a superset, and `matches` has the last word wherever `Expression.is_exact` is false.
"""

from __future__ import annotations

import json
import math
import operator
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, cast

from armillary.base.errors import UsageError
from armillary.granules import footprint
from armillary.granules.granule import Granule

Kind = Literal["boolean", "number", "text", "time", "interval", "geometry", "array", "any"]
Mode = Literal["exact", "upper", "lower"]

MAX_BRACKETS = 100  # the parser of the text dies of deeper ones, and of more operators
MAX_OPERATORS = 500
MAX_DEPTH = 64
MAX_TEXT = 100_000

_STRINGS = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"")
_OPERATORS = re.compile(r"[-+*/%^<>=]|\b(?:and|or|not|div|between|in|like|is)\b", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"(?<![\w.])\d{16,}(?![\w.])")
_TIME = re.compile(
    r"([1-9]\d{3})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(\.\d{1,9})?"
    r"(Z|[+-](?:0\d|1[0-4]):[0-5]\d)"
)
_TIME_SQL = (
    r"^[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?"
    r"(Z|[+-](0\d|1[0-4]):[0-5]\d)$"
)
_TINY, _HUGE = 1e-100, 1e100
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Subject:
    """What a filter is asked of."""

    id: str
    collection: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    frame: footprint.Frame = "none"
    geometry: dict[str, Any] | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    created_at: datetime | None = None
    revision: int = 1
    size_bytes: int = 0

    @staticmethod
    def of(granule: Granule) -> Subject:
        """A granule, as filters see it."""
        return Subject(
            granule.granule, granule.collection, granule.properties, granule.frame, granule.geometry,
            granule.starts_at, granule.ends_at, granule.created_at, granule.revision, granule.size_bytes,
        )  # fmt: skip

    @cached_property
    def shape(self) -> footprint.Shape:
        """Its place on the sphere."""
        assert self.geometry
        return footprint.shape(self.geometry, self.frame)


def _not_read(_: Subject) -> None:
    raise AssertionError("this is only asked in SQL")


@dataclass(frozen=True)
class Column:
    """A property that is not among `properties`: in the table, and in a subject."""

    kind: Kind
    sql: str
    read: Callable[[Subject], Any] = _not_read
    frame: footprint.Frame = "none"


COLUMNS: Mapping[str, Column] = {
    "id": Column("text", "item.granule", lambda subject: subject.id),
    "collection": Column("text", "item.collection", lambda subject: subject.collection),
    "datetime": Column("time", "item.starts_at", lambda subject: subject.starts_at),
    "start_datetime": Column("time", "item.starts_at", lambda subject: subject.starts_at),
    "end_datetime": Column("time", "item.ends_at", lambda subject: subject.ends_at),
    "created": Column("time", "item.created_at", lambda subject: subject.created_at),
    "armillary:frame": Column("text", "item.frame", lambda subject: subject.frame),
    "armillary:revision": Column("number", "item.revision", lambda subject: subject.revision),
    "armillary:size_bytes": Column("number", "item.size_bytes", lambda subject: subject.size_bytes),
    "geometry": Column("geometry", "item.geometry", lambda subject: subject.geometry, "earth"),
    "armillary:sky_geometry": Column("geometry", "item.geometry", lambda subject: subject.geometry, "sky"),
}


@dataclass(frozen=True)
class Queryables:
    """What a filter may ask for: columns, and the members of one JSON column whose names begin with a prefix."""

    columns: Mapping[str, Column]
    members: str  # the JSON column
    prefix: str = ""

    def property(self, name: str) -> Property:
        """The queryable of this name, or `UsageError`."""
        if (column := self.columns.get(name)) is not None:
            return Property(name, column)
        if not name.startswith(self.prefix) or name == self.prefix:
            known = ", ".join(self.columns)
            raise UsageError(f"There is no {name!r} to ask for.", f"Known: {known}, and {self.prefix}NAME.")
        return Property(name.removeprefix(self.prefix), None, self.members)


GRANULES = Queryables(COLUMNS, "item.properties")


# The tree ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """A literal."""

    kind: Kind
    value: Any


@dataclass(frozen=True)
class Property:
    """A queryable; of any kind unless it is a column."""

    name: str
    column: Column | None = None
    members: str = "item.properties"  # where it is, if it is no column

    @property
    def kind(self) -> Kind:
        return self.column.kind if self.column else "any"

    @property
    def frame(self) -> footprint.Frame:
        """In which its geometry is."""
        return self.column.frame if self.column else "none"


@dataclass(frozen=True)
class Call:
    """An operator or a function."""

    op: str
    args: tuple[Node, ...]
    kind: Kind


Node = Value | Property | Call


@dataclass(frozen=True)
class Expression:
    """A filter that has been checked; `source` is its CQL2 JSON."""

    source: Any
    root: Node = field(compare=False, repr=False)

    @property
    def is_exact(self) -> bool:
        """Whether the SQL says it all."""
        return _is_exact(self.root)

    @property
    def properties(self) -> frozenset[str]:
        """The names that it asks for."""
        return frozenset(node.name for node in _walk(self.root) if isinstance(node, Property))


@dataclass(frozen=True)
class Compiled:
    """A condition on the table (`item`) with named parameters, all beginning with cql_."""

    sql: str
    params: dict[str, Any]
    is_exact: bool


def parse(
    written: str | Mapping[str, Any] | bool, field: str = "filter", queryables: Queryables = GRANULES
) -> Expression:
    """Read CQL2 text, or JSON as text or document; `UsageError` says what it does not mean."""
    try:
        source = _source(written)
        root = _node(source, 0, queryables)
        _expect(root, "boolean", "The filter")
    except UsageError as error:
        raise UsageError(error.message, error.remedy, field=field) from error
    return Expression(source, root)


def to_sql(expression: Expression) -> Compiled:
    """The condition that every granule satisfies for which the filter is true, and no other if it is exact."""
    writer = _Writer()
    sql = writer.condition(expression.root, "upper")
    return Compiled(sql, writer.params, expression.is_exact)


def matches(expression: Expression, subject: Subject) -> bool | None:
    """Whether the filter is true of the subject; None is unknown."""
    return cast("bool | None", _value(expression.root, "boolean", subject))


def json_text(value: Any) -> str:
    """JSON as a parameter of type jsonb."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# Reading -------------------------------------------------------------------------------------------------------


def _source(written: object) -> Any:
    if not isinstance(written, str):
        return written
    if len(written) > MAX_TEXT:
        raise UsageError(f"The filter has {len(written)} characters.", "Ask for less at once.")
    if written.lstrip().startswith("{"):
        try:
            return json.loads(written)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"The filter is not JSON: {error}.", "Mend it, or write CQL2 text.") from error
    _guard(written)
    import cql2

    try:
        return cql2.parse_text(written).to_json()
    except cql2.ParseError as error:
        remedy = "Write it as in: \"eo:cloud_cover\" < 10 AND platform = 'sentinel-1a'."
        raise UsageError(f"The filter is not CQL2 text: {error}", remedy) from error


def _guard(text: str) -> None:
    """Refuse what the parser would not survive or would change."""
    bare = _STRINGS.sub("''", text)
    depth = deepest = 0
    for letter in bare:
        depth += (letter in "([") - (letter in ")]")
        deepest = max(deepest, depth)
    if deepest > MAX_BRACKETS or len(_OPERATORS.findall(bare)) > MAX_OPERATORS:
        remedy = f"Use at most {MAX_OPERATORS} operators and {MAX_BRACKETS} nested brackets, or IN with a list."
        raise UsageError("The filter is too long or too deep.", remedy)
    if number := _LONG_NUMBER.search(bare):
        raise UsageError(f"The number {number[0]} would be rounded.", "Write the filter as CQL2 JSON.")


def _node(source: Any, depth: int, known: Queryables) -> Node:
    if depth > MAX_DEPTH:
        raise UsageError(f"The filter is nested deeper than {MAX_DEPTH}.", "Make it flatter.")
    if isinstance(source, bool):
        return Value("boolean", source)
    if isinstance(source, int | float):
        if not math.isfinite(source):
            raise UsageError("A number of the filter is not finite.", "Leave it out.")
        return Value("number", source)
    if isinstance(source, str):
        return Value("text", _check_text(source))
    if isinstance(source, list | tuple):
        return Value("array", [_scalar(member) for member in source])
    if isinstance(source, Mapping):
        return _object(source, depth, known)
    raise UsageError("The filter holds a null.", "Ask with IS NULL, in JSON {op: isNull}.")


def _scalar(member: Any) -> Any:
    if isinstance(member, Mapping) and set(member) in ({"timestamp"}, {"date"}):
        return _time(next(iter(member.values())))
    if not isinstance(member, str | int | float | bool):
        raise UsageError("A list of the filter holds something else than values.", "List texts, numbers or times.")
    return _check_text(member) if isinstance(member, str) else member


def _check_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("A text of the filter is not Unicode.", "Leave the surrogate out.") from error
    if "\0" in text:
        raise UsageError("A text of the filter holds a zero character.", "Leave it out.")
    return text


def _object(source: Mapping[str, Any], depth: int, known: Queryables) -> Node:
    if "op" in source:
        args = source.get("args")
        if not isinstance(source["op"], str) or not isinstance(args, list | tuple):
            raise UsageError("An operation of the filter has no op or args.", "Write {op: NAME, args: [...]}.")
        return _call(source["op"], args, depth, known)
    if "property" in source:
        name = source["property"]
        if not isinstance(name, str) or not name:
            raise UsageError("A property of the filter has no name.", "Write {property: NAME}.")
        return known.property(_check_text(name.removeprefix("properties.")))
    if "timestamp" in source or "date" in source:
        return Value("time", _time(source.get("timestamp", source.get("date"))))
    if "interval" in source:
        return _interval(source["interval"], depth, known)
    if "bbox" in source:
        return Value("geometry", list(footprint.check_bbox(source["bbox"])))
    if "type" in source:
        return Value("geometry", dict(source))
    raise UsageError(
        f"The filter holds an object with {', '.join(map(str, source)) or 'nothing'}.", "See OGC 21-065r2."
    )


def _time(text: object) -> datetime:
    """An instant; a date is its first, at 00:00 UTC."""
    if isinstance(text, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        text = f"{text}T00:00:00Z"
    time = _read_time(text)
    if time is None:
        raise UsageError(f"{text!r} is not a time.", "Write it as in 2026-03-01T12:00:00Z, or the date alone.")
    return time


def _read_time(text: object) -> datetime | None:
    """An RFC 3339 time of the years 1000 to 9999, to the microsecond; the same ones as `_time_of` in SQL."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if not found:
        return None
    try:
        return datetime.fromisoformat(f"{found[0][:19]}{(found[7] or '')[:7]}{found[8]}")
    except ValueError:  # 30 February
        return None


def _interval(ends: Any, depth: int, known: Queryables) -> Call:
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise UsageError("An interval of the filter has not two ends.", "Write two times; '..' is open.")
    nodes: list[Node] = []
    for end, open_end in zip(ends, (_EARLIEST, _LATEST), strict=True):
        if end == ".." or end is None:
            nodes.append(Value("time", open_end))
        elif isinstance(end, str):
            nodes.append(Value("time", _time(end)))
        else:
            node = _node(end, depth + 1, known)
            nodes.append(_expect(node, "time", "An interval"))
    if all(isinstance(node, Value) for node in nodes) and nodes[0].value > nodes[1].value:  # type: ignore[union-attr]
        raise UsageError("An interval of the filter ends before it starts.", "Exchange its ends.")
    return Call("interval", tuple(nodes), "interval")


def _call(name: str, args: Sequence[Any], depth: int, known: Queryables) -> Call:
    op = _NAMES.get(name.lower())
    if op is None:
        raise UsageError(
            f"The filter asks for {name}, which is unknown here.", f"Known: {', '.join(sorted(_NAMES.values()))}."
        )
    nodes = [_node(arg, depth + 1, known) for arg in args]
    least, most = _ARITY.get(op, (2, 2))
    if not least <= len(nodes) <= most:
        wanted = f"{least}" if least == most else f"at least {least}"
        raise UsageError(f"{op} takes {wanted} arguments and has {len(nodes)}.", "Give as many.")
    return _CHECKS[op](op, nodes)


def _expect(node: Node, kind: Kind, whose: str) -> Node:
    """The node, if it can be of this kind; a text that must be a time becomes one."""
    if kind == "time" and isinstance(node, Value) and node.kind == "text":
        return Value("time", _time(node.value))
    if node.kind not in (kind, "any"):
        raise UsageError(f"{whose} needs a {kind} and has a {node.kind}.", "Compare like with like.")
    return node


def _check_logic(op: str, nodes: list[Node]) -> Call:
    return Call(op, tuple(_expect(node, "boolean", op) for node in nodes), "boolean")


def _check_comparison(op: str, nodes: list[Node]) -> Call:
    """All arguments of one kind; two properties may be of any."""
    kinds = {node.kind for node in nodes} - {"any"}
    if kinds == {"text", "time"}:
        kinds = {"time"}
    if not kinds <= {"boolean", "number", "text", "time"}:
        raise UsageError(f"{op} does not compare a {', '.join(sorted(kinds))}.", "Use S_, T_ or A_ functions for that.")
    if len(kinds) > 1:
        raise UsageError(f"{op} compares a {' with a '.join(sorted(kinds))}.", "Compare like with like.")
    kind: Kind = kinds.pop() if kinds else "any"
    if kind == "boolean" and op not in ("=", "<>"):
        raise UsageError(f"{op} does not order what is true or false.", "Use = or <>.")
    if op == "between" and kind == "any":
        raise UsageError("BETWEEN needs a value at one side.", "Compare with >= and <=.")
    return Call(op, tuple(node if kind == "any" else _expect(node, kind, op) for node in nodes), "boolean")


def _check_in(op: str, nodes: list[Node]) -> Call:
    item, members = nodes
    if not isinstance(members, Value) or members.kind != "array" or not members.value:
        raise UsageError("IN needs a list with something in it.", "Write name IN ('a', 'b').")
    listed = [Value(_kind_of(member), member) for member in members.value]
    checked = _check_comparison("=", [item, *listed])
    return Call(op, checked.args, "boolean")


def _kind_of(value: Any) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "time" if isinstance(value, datetime) else "text"


def _check_like(op: str, nodes: list[Node]) -> Call:
    text, pattern = (_expect(node, "text", "LIKE") for node in nodes)
    leaf = pattern
    while isinstance(leaf, Call) and leaf.op in _FOLDS:
        leaf = leaf.args[0]
    if not isinstance(leaf, Value):
        raise UsageError("LIKE needs a pattern in quotes.", "Write name LIKE 'S1%'.")
    if re.fullmatch(r"(?:[^\\]|\\.)*\\", leaf.value, re.DOTALL):
        raise UsageError("A pattern of LIKE ends in a backslash.", "Double it.")
    return Call(op, (text, pattern), "boolean")


def _check_null(op: str, nodes: list[Node]) -> Call:
    return Call(op, tuple(nodes), "boolean")


def _check_number(op: str, nodes: list[Node]) -> Call:
    return Call(op, tuple(_expect(node, "number", op) for node in nodes), "number")


def _check_fold(op: str, nodes: list[Node]) -> Call:
    return Call(op, (_expect(nodes[0], "text", op),), "text")


def _check_spatial(op: str, nodes: list[Node]) -> Call:
    """A footprint and a place, the footprint first; within and contains change places with them."""
    if isinstance(nodes[0], Value) and isinstance(nodes[1], Property):
        nodes, op = nodes[::-1], {"s_within": "s_contains", "s_contains": "s_within"}.get(op, op)
    target, place = nodes
    if (
        not isinstance(target, Property)
        or target.kind != "geometry"
        or not isinstance(place, Value)
        or place.kind != "geometry"
    ):
        remedy = "Write S_INTERSECTS(geometry, POLYGON((...))); sky footprints are armillary:sky_geometry."
        raise UsageError(f"{op} relates a granule's footprint to a place that is written out.", remedy)
    frame = target.frame
    where = place.value if isinstance(place.value, list) else footprint.check(place.value, frame, "filter")
    assert where is not None
    return Call(op, (target, Value("geometry", footprint.shape(where, frame, "filter"))), "boolean")


def _check_temporal(op: str, nodes: list[Node]) -> Call:
    for node in nodes:
        if node.kind not in ("time", "interval", "any", "text"):
            raise UsageError(
                f"{op} needs times and has a {node.kind}.", "Write TIMESTAMP('...') or INTERVAL('...', '..')."
            )
    args = tuple(node if node.kind == "interval" else _expect(node, "time", op) for node in nodes)
    return Call(op, args, "boolean")


def _check_array(op: str, nodes: list[Node]) -> Call:
    if isinstance(nodes[0], Value) and op in _TURNED:
        nodes, op = nodes[::-1], _TURNED[op]
    listed, members = nodes
    if (
        not isinstance(listed, Property)
        or listed.kind != "any"
        or not isinstance(members, Value)
        or members.kind != "array"
    ):
        raise UsageError(f"{op} relates a property to a list.", "Write A_CONTAINS(instruments, ('c-sar', 'x-sar')).")
    if any(isinstance(member, datetime) for member in members.value):
        raise UsageError(f"{op} does not compare times.", "List texts or numbers.")
    return Call(op, (listed, members), "boolean")


# What operators mean -------------------------------------------------------------------------------------------

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

# Each relation in time between intervals 1 and 2: (connective, comparisons of starts s and ends e). OGC 21-065r2, 7.9.
_TIMES: Mapping[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "t_after": ("and", (("s1", ">", "e2"),)),
    "t_before": ("and", (("e1", "<", "s2"),)),
    "t_contains": ("and", (("s1", "<", "s2"), ("e1", ">", "e2"))),
    "t_disjoint": ("or", (("e1", "<", "s2"), ("s1", ">", "e2"))),
    "t_during": ("and", (("s1", ">", "s2"), ("e1", "<", "e2"))),
    "t_equals": ("and", (("s1", "=", "s2"), ("e1", "=", "e2"))),
    "t_finishedBy": ("and", (("s1", "<", "s2"), ("e1", "=", "e2"))),
    "t_finishes": ("and", (("s1", ">", "s2"), ("e1", "=", "e2"))),
    "t_intersects": ("and", (("s1", "<=", "e2"), ("e1", ">=", "s2"))),
    "t_meets": ("and", (("e1", "=", "s2"),)),
    "t_metBy": ("and", (("s1", "=", "e2"),)),
    "t_overlappedBy": ("and", (("s1", ">", "s2"), ("s1", "<", "e2"), ("e1", ">", "e2"))),
    "t_overlaps": ("and", (("s1", "<", "s2"), ("e1", ">", "s2"), ("e1", "<", "e2"))),
    "t_startedBy": ("and", (("s1", "=", "s2"), ("e1", ">", "e2"))),
    "t_starts": ("and", (("s1", "=", "s2"), ("e1", "<", "e2"))),
}
_TURNED = {
    "a_contains": "a_containedBy",
    "a_containedBy": "a_contains",
    "a_equals": "a_equals",
    "a_overlaps": "a_overlaps",
}
_ARITHMETIC = ("+", "-", "*", "/", "div", "%", "^")
_SPATIAL = ("s_intersects", "s_disjoint", "s_within", "s_contains")


def _strip_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


_FOLDS: Mapping[str, Callable[[str], str]] = {"casei": str.casefold, "accenti": _strip_accents}

_CHECKS: Mapping[str, Callable[[str, list[Node]], Call]] = {
    **dict.fromkeys(("and", "or", "not"), _check_logic),
    **dict.fromkeys((*_COMPARE, "between"), _check_comparison),
    **dict.fromkeys(_ARITHMETIC, _check_number),
    **dict.fromkeys(_FOLDS, _check_fold),
    **dict.fromkeys(_SPATIAL, _check_spatial),
    **dict.fromkeys(_TIMES, _check_temporal),
    **dict.fromkeys(_TURNED, _check_array),
    "in": _check_in,
    "like": _check_like,
    "isNull": _check_null,
}
_NAMES = {name.lower(): name for name in _CHECKS}
_MANY = 100_000
_ARITY = {
    "and": (1, _MANY), "or": (1, _MANY), "not": (1, 1), "isNull": (1, 1), "casei": (1, 1), "accenti": (1, 1),
    "between": (3, 3),
}  # fmt: skip


def _walk(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Call):
        for arg in node.args:
            yield from _walk(arg)


def _is_exact(node: Node) -> bool:
    return not any(isinstance(part, Call) and (part.op in _SPATIAL or part.op in _FOLDS) for part in _walk(node))


# In SQL --------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes nodes as SQL and collects the parameters.

    Modes: `exact` is true, false and null as the node is; `upper` is true wherever the node is true; `lower` is true
    only where the node is true, and false wherever it is false. What SQL can decide is exact in every mode, save that
    `upper` may say false for null.
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def param(self, value: Any, kind: str = "") -> str:
        name = f"cql_{len(self.params)}"
        self.params[name] = value
        return f"%({name})s{kind}"

    def condition(self, node: Node, mode: Mode) -> str:
        if isinstance(node, Value):
            return "true" if node.value else "false"
        if isinstance(node, Property):
            return self.typed(node, "boolean")
        if node.op in ("and", "or"):
            return "(" + f" {node.op} ".join(self.condition(arg, mode) for arg in node.args) + ")"
        if node.op == "not":
            turned: Mapping[Mode, Mode] = {"exact": "exact", "upper": "lower", "lower": "upper"}
            # `upper` may be false for null, which `not` would make true: inside a negation all is written out.
            inner: Mode = "exact" if _is_exact(node) else turned[mode]
            return f"(not {self.condition(node.args[0], inner)})"
        if node.op in _SPATIAL:
            return self.spatial(node, mode)
        guards = [self.is_ascii(fold) for fold in _folds(node)]
        if not guards:
            if not _is_exact(node):  # a comparison of conditions that are not exact
                return "true" if mode == "upper" else "false"
            return self.predicate(node, mode)
        decided = self.predicate(node, "exact")
        if mode == "upper":
            return f"({decided} or not ({' and '.join(guards)}))"
        return f"({decided} and {' and '.join(guards)})"

    def predicate(self, node: Call, mode: Mode) -> str:
        args = node.args
        if node.op in _COMPARE:
            return self.comparison(node.op, args[0], args[1], mode)
        if node.op == "between":
            kind = _common_kind(args)
            item, low, high = (self.ordered(arg, kind) for arg in args)
            return f"({item} between {low} and {high})"
        if node.op == "in":
            return self.is_in(args, mode)
        if node.op == "like":
            return f"({self.typed(args[0], 'text')} like {self.typed(args[1], 'text')})"
        if node.op == "isNull":
            return self.is_null(args[0])
        if node.op in _TIMES:
            return self.temporal(node.op, args[0], args[1])
        return self.array(node.op, cast("Property", args[0]), cast("Value", args[1]).value)

    # Comparisons

    def comparison(self, op: str, a: Node, b: Node, mode: Mode) -> str:
        kind = _common_kind((a, b))
        if kind == "any":
            return self.dynamic(op, cast("Property", a), cast("Property", b))
        if op == "=" and mode == "upper" and isinstance(b, Property) and isinstance(a, Value):
            a, b = b, a
        if op == "=" and mode == "upper" and isinstance(a, Property) and isinstance(b, Value) and _is_stored(a, b):
            return self.contains(a, b)
        typed = self.typed if op in ("=", "<>") else self.ordered
        return f"({typed(a, kind)} {op} {typed(b, kind)})"

    def contains(self, a: Property, b: Value) -> str:
        # The form that the index on properties knows; false, not null, for what is missing.
        return f"({a.members} @> {self.param(json_text({a.name: _plain(b.value)}), '::jsonb')})"

    def is_in(self, args: Sequence[Node], mode: Mode) -> str:
        item, members = args[0], cast("tuple[Value, ...]", args[1:])
        if mode == "upper" and isinstance(item, Property) and len(members) <= 20 and _is_stored(item, members[0]):
            return "(" + " or ".join(self.contains(item, member) for member in members) + ")"
        kind = members[0].kind
        cast_to = {"number": "::numeric[]", "text": "::text[]", "time": "::timestamptz[]", "boolean": "::boolean[]"}[
            kind
        ]
        return f"({self.typed(item, kind)} = any({self.param([_bound(member.value) for member in members], cast_to)}))"

    def dynamic(self, op: str, a: Property, b: Property) -> str:
        """Two properties of any kind: unknown unless both are of one, and texts, numbers or (equal or not) booleans."""
        x, y = self.json(a), self.json(b)
        kinds = ("number", "string", "boolean") if op in ("=", "<>") else ("number", "string")
        text = f"({x} #>> '{{}}') collate \"C\" {op} ({y} #>> '{{}}') collate \"C\""
        cases = {
            "number": f"({x})::numeric {op} ({y})::numeric",
            "string": text,
            "boolean": f"({x})::boolean {op} ({y})::boolean",
        }
        whens = " ".join(f"when '{kind}' then {cases[kind]}" for kind in kinds)
        return f"(case when jsonb_typeof({x}) = jsonb_typeof({y}) then case jsonb_typeof({x}) {whens} end end)"

    def is_null(self, node: Node) -> str:
        if isinstance(node, Property) and node.kind == "any":
            return f"(coalesce({self.json(node)}, 'null') = 'null'::jsonb)"
        if isinstance(node, Property) and node.kind == "geometry":
            frame = self.param(node.frame)
            return f"(item.geometry is null or item.frame <> {frame})"
        if node.kind == "boolean":
            return f"({self.condition(node, 'exact')} is null)"
        return f"({self.typed(node, node.kind)} is null)"

    # Values

    def json(self, node: Property) -> str:
        return f"({node.members} -> {self.param(node.name, '::text')})"

    def typed(self, node: Node, kind: Kind) -> str:
        """The node as boolean, numeric, text or timestamptz; null if it is of another kind."""
        if isinstance(node, Value):
            types = {"number": "::numeric", "text": "::text", "time": "::timestamptz", "boolean": "::boolean"}
            return self.param(_bound(node.value), types[kind])
        if isinstance(node, Call):
            if kind == "boolean":
                return self.condition(node, "exact")
            return self.fold(node) if kind == "text" else f"({self.arithmetic(node)})::numeric"
        if node.column is not None:
            return node.column.sql
        value = self.json(node)
        if kind == "time":
            return self.time_of(node)
        if kind == "text":
            return f"(case jsonb_typeof({value}) when 'string' then {value} #>> '{{}}' end)"
        to = "numeric" if kind == "number" else "boolean"
        return f"(case jsonb_typeof({value}) when '{kind}' then ({value})::{to} end)"

    def ordered(self, node: Node, kind: Kind) -> str:
        """The same, where it is asked what comes first: texts in the order of their code points, as in Python."""
        return f'({self.typed(node, kind)} collate "C")' if kind == "text" else self.typed(node, kind)

    def time_of(self, node: Property) -> str:
        """A property that is an RFC 3339 time; days that no month has are found before the cast fails on them."""
        text = f"({node.members} ->> {self.param(node.name, '::text')})"
        first = f"((left({text}, 7) || '-01')::date + (substr({text}, 9, 2)::integer - 1))"
        is_day = f"extract(month from {first}) = substr({text}, 6, 2)::integer"
        cut = f"regexp_replace({text}, '(\\.\\d{{6}})\\d+', '\\1')::timestamptz"
        is_time = f"jsonb_typeof({self.json(node)}) = 'string' and {text} ~ {self.param(_TIME_SQL)}"
        return f"(case when {is_time} then case when {is_day} then {cut} end end)"

    def fold(self, node: Call) -> str:
        """What CASEI and ACCENTI make of ASCII, which is all that SQL decides; literals are folded before."""
        inner = node.args[0]
        if isinstance(literal := _folded(node), str):
            return self.typed(Value("text", literal), "text")
        text = self.typed(inner, "text")
        return f'lower({text} collate "C")' if node.op == "casei" else text

    def is_ascii(self, node: Node) -> str:
        text = self.typed(node, "text")
        return f"octet_length({text}) = char_length({text})"

    def arithmetic(self, node: Node) -> str:
        """A double; null where a result might leave its range, as an error would fail the whole search."""
        if not isinstance(node, Call):
            return _in_range(f"({self.typed(node, 'number')})", "{x}::float8")
        a, b = (_in_range(f"({self.arithmetic(arg)})", "{x}") for arg in node.args)
        if node.op in ("+", "-", "*"):
            return f"({a} {node.op} {b})"
        if node.op == "/":
            return f"({a} / nullif({b}, 0))"
        if node.op == "div":
            return f"trunc({a} / nullif({b}, 0))"
        if node.op == "%":
            return f"({a} - {b} * trunc({a} / nullif({b}, 0)))"
        log = f"abs({b}) * abs(log(nullif(abs({a}), 0)))"
        return (
            f"(case when {b} = 0 then 1::float8 when {a} = 0 then case when {b} > 0 then 0::float8 end"
            f" when ({a} > 0 or {b} = trunc({b})) and {log} < 100 then power({a}, {b}) end)"
        )

    # Functions

    def spatial(self, node: Call, mode: Mode) -> str:
        target, place = cast("Property", node.args[0]), cast("Value", node.args[1])
        frame = target.frame
        if mode != "upper":
            return "false"
        if node.op == "s_disjoint":
            return f"(item.frame = {self.param(frame)} and item.geometry is not null)"
        return f"(item.cells && {self.param(footprint.query_terms(place.value, frame), '::bigint[]')})"

    def temporal(self, op: str, a: Node, b: Node) -> str:
        ends = dict(zip(("s1", "e1", "s2", "e2"), (*self.interval(a), *self.interval(b)), strict=True))
        connective, comparisons = _TIMES[op]
        written = f" {connective} ".join(f"{ends[x]} {compare} {ends[y]}" for x, compare, y in comparisons)
        return f"({written})"

    def interval(self, node: Node) -> tuple[str, str]:
        if isinstance(node, Call):
            return self.end(node.args[0]), self.end(node.args[1])
        if _is_datetime(node):
            return "item.starts_at", "item.ends_at"
        end = self.end(node)
        return end, end

    def end(self, node: Node) -> str:
        if isinstance(node, Value) and node.value in (_EARLIEST, _LATEST):
            return "'-infinity'::timestamptz" if node.value == _EARLIEST else "'infinity'::timestamptz"
        return self.typed(node, "time")

    def array(self, op: str, listed: Property, members: list[Any]) -> str:
        value, wanted = self.json(listed), self.param(json_text(members), "::jsonb")
        overlap = (
            f"exists (select from jsonb_array_elements({value}) as member where"
            f" jsonb_typeof(member) in ('string', 'number', 'boolean') and {wanted} @> member)"
        )
        test = {
            "a_contains": f"{value} @> {wanted}",
            "a_containedBy": f"{value} <@ {wanted}",
            "a_equals": f"{value} = {wanted}",
            "a_overlaps": overlap,
        }[op]
        return f"(case jsonb_typeof({value}) when 'array' then {test} end)"


def _is_datetime(node: Node) -> bool:
    """Whether it is the granule's time, which has two ends."""
    return isinstance(node, Property) and node.column is COLUMNS["datetime"]


def _in_range(x: str, then: str) -> str:
    return f"(case when {x} = 0 or abs({x}) between {_TINY!r} and {_HUGE!r} then {then.format(x=x)} end)"


def _is_stored(a: Property, b: Value) -> bool:
    return a.kind == "any" and b.kind in ("text", "number", "boolean")


def _common_kind(nodes: Sequence[Node]) -> Kind:
    return next((node.kind for node in nodes if node.kind != "any"), "any")


def _folds(node: Node) -> list[Node]:
    """What CASEI and ACCENTI are asked of in this predicate, apart from literals."""
    found: list[Node] = []
    for arg in node.args if isinstance(node, Call) and node.kind == "boolean" else ():
        while isinstance(arg, Call) and arg.op in _FOLDS:
            arg = arg.args[0]
            if isinstance(arg, Property):
                found.append(arg)
    return found


def _folded(node: Node) -> str | None:
    """The folded literal, if it is one."""
    if isinstance(node, Call) and node.op in _FOLDS:
        inner = _folded(node.args[0])
        return None if inner is None else _FOLDS[node.op](inner)
    return node.value if isinstance(node, Value) and isinstance(node.value, str) else None


def _bound(value: Any) -> Any:
    """A value as a parameter: numbers as they are written, not as the double next to them."""
    return Decimal(repr(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _plain(value: Any) -> Any:
    return value


# In Python -----------------------------------------------------------------------------------------------------


def _value(node: Node, kind: Kind, subject: Subject) -> Any:
    """The node's value, None if it is missing or not of the kind."""
    if isinstance(node, Value):
        return node.value
    if isinstance(node, Property):
        value = node.column.read(subject) if node.column else subject.properties.get(node.name)
        if kind == "time" and node.kind == "any":
            return _read_time(value)
        return value if kind == "any" or node.kind != "any" or _json_type(value) == kind else None
    if node.op in _ARITHMETIC:
        return _calculate(node.op, *(_operand(arg, subject) for arg in node.args))
    if node.op in _FOLDS:
        text = _value(node.args[0], "text", subject)
        return None if text is None else _FOLDS[node.op](text)
    return _decide(node, subject)


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else type(value).__name__


def _decide(node: Call, subject: Subject) -> bool | None:
    op, args = node.op, node.args
    if op in ("and", "or", "not"):
        return _logic(op, [cast("bool | None", _value(arg, "boolean", subject)) for arg in args])
    if op == "isNull":
        return _is_missing(args[0], subject)
    if op in _SPATIAL:
        return _spatial(op, cast("Property", args[0]), cast("Value", args[1]).value, subject)
    if op in _TIMES:
        return _temporal(op, _ends(args[0], subject), _ends(args[1], subject))
    if op in _TURNED:
        return _array(op, _value(args[0], "any", subject), cast("Value", args[1]).value)
    if op == "like":
        return _like(*(_value(arg, "text", subject) for arg in args))
    kind = _common_kind(args)
    values = [_value(arg, kind, subject) for arg in args]
    if op == "in":
        return None if values[0] is None else values[0] in values[1:]
    if kind == "any" and not _are_comparable(op, *values):
        return None
    if any(value is None for value in values):
        return None
    if op == "between":
        return bool(values[1] <= values[0] <= values[2])
    return bool(_COMPARE[op](*values))


def _are_comparable(op: str, a: Any, b: Any) -> bool:
    kind = _json_type(a)
    return kind == _json_type(b) and kind in (
        ("number", "text", "boolean") if op in ("=", "<>") else ("number", "text")
    )


def _logic(op: str, values: Sequence[bool | None]) -> bool | None:
    if op == "not":
        return None if values[0] is None else not values[0]
    decisive = op == "or"
    if decisive in values:
        return decisive
    return None if None in values else not decisive


def _is_missing(node: Node, subject: Subject) -> bool:
    if isinstance(node, Property) and node.kind == "geometry":
        return subject.geometry is None or subject.frame != node.frame
    return _value(node, node.kind, subject) is None


def _like(text: str | None, pattern: str | None) -> bool | None:
    if text is None or pattern is None:
        return None
    tokens = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    expression = "".join(wild.get(token) or re.escape(token[-1]) for token in tokens)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _operand(node: Node, subject: Subject) -> float | None:
    value = _value(node, "number", subject)
    if value is None or not (value == 0 or _TINY <= abs(value) <= _HUGE):
        return None
    return float(value)


def _calculate(op: str, a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return None
    if op in ("+", "-", "*"):
        return {"+": a + b, "-": a - b, "*": a * b}[op]
    if op == "^":
        return _power(a, b)
    if b == 0:
        return None
    return {"/": a / b, "div": float(math.trunc(a / b)), "%": a - b * math.trunc(a / b)}[op]


def _power(a: float, b: float) -> float | None:
    if b == 0:
        return 1.0
    if a == 0:
        return 0.0 if b > 0 else None
    if (a < 0 and b != math.trunc(b)) or abs(b) * abs(math.log10(abs(a))) >= 100:
        return None
    return float(a**b)


def _spatial(op: str, target: Property, place: footprint.Shape, subject: Subject) -> bool | None:
    if subject.geometry is None or subject.frame != target.frame:
        return None
    if op == "s_within":
        return footprint.covers([place], subject.shape)
    if op == "s_contains":
        return footprint.covers([subject.shape], place)
    return footprint.intersects(subject.shape, place) == (op == "s_intersects")


def _ends(node: Node, subject: Subject) -> tuple[datetime | None, datetime | None]:
    if isinstance(node, Call):
        start, end = (_value(arg, "time", subject) for arg in node.args)
        return start, end
    if _is_datetime(node):
        return subject.starts_at, subject.ends_at
    time = _value(node, "time", subject)
    return time, time


def _temporal(op: str, one: tuple[Any, Any], two: tuple[Any, Any]) -> bool | None:
    ends = {"s1": one[0], "e1": one[1], "s2": two[0], "e2": two[1]}
    connective, comparisons = _TIMES[op]
    decided = [
        None if ends[x] is None or ends[y] is None else bool(_COMPARE[compare](ends[x], ends[y]))
        for x, compare, y in comparisons
    ]
    return _logic(connective, decided)


def _array(op: str, value: Any, members: list[Any]) -> bool | None:
    if not isinstance(value, list):
        return None
    held, wanted = [_key(member) for member in value], [_key(member) for member in members]
    if op == "a_contains":
        return all(member in held for member in wanted)
    if op == "a_containedBy":
        return all(member in wanted for member in held)
    return held == wanted if op == "a_equals" else any(member in wanted for member in held)


def _key(value: Any) -> tuple[str, Any]:
    """Equal for what JSON calls equal: 1 and 1.0, but not 1 and true."""
    return _json_type(value), value
