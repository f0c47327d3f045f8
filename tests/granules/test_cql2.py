"""Filters: what is refused, what they mean, and that SQL and Python give the same answers."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from armillary.base.db import jsonb
from armillary.base.errors import UsageError
from armillary.granules import cql2, footprint
from armillary.granules.cql2 import Subject, matches, parse, to_sql

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}
SCENE = Subject(
    id="S1A_x",
    collection="slc",
    frame="earth",
    geometry=SQUARE,
    starts_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    ends_at=datetime(2026, 3, 1, 13, tzinfo=UTC),
    created_at=datetime(2026, 3, 2, tzinfo=UTC),
    size_bytes=1000,
    properties={
        "platform": "sentinel-1a", "eo:cloud_cover": 12.5, "sat:relative_orbit": 124, "good": True, "no": None,
        "instruments": ["c-sar", "aux"], "made": "2026-03-01T10:00:00+01:00", "name": "Île-de-France",
        "day": "2026-02-30T00:00:00Z",
    },
)  # fmt: skip

CASES: list[tuple[str, bool | None]] = [
    ("platform = 'sentinel-1a'", True),
    ("platform <> 'sentinel-1a'", False),
    ("platform = 5", None),
    ("missing = 5", None),
    ("NOT missing = 5", None),
    ("missing = 5 OR good = TRUE", True),
    ("missing = 5 AND good = FALSE", False),
    ("missing = 5 AND good = TRUE", None),
    ("missing IS NULL AND no IS NULL AND platform IS NOT NULL", True),
    ("good", True),
    ("NOT good", False),
    ("TRUE", True),
    ("eo:cloud_cover < 12.6 AND eo:cloud_cover >= 12.5", True),
    ("properties.platform LIKE 'sentinel-%'", True),
    ("platform LIKE 'sentinel-_'", False),
    ("platform NOT LIKE '%1a'", False),
    ("CASEI(platform) = CASEI('SENTINEL-1A')", True),
    ("CASEI(name) LIKE CASEI('île%')", True),
    ("ACCENTI(CASEI(name)) = 'ile-de-france'", True),
    ("ACCENTI(name) = name", False),
    ("eo:cloud_cover BETWEEN 10 AND 20", True),
    ("platform BETWEEN 'a' AND 'b'", False),
    ("sat:relative_orbit IN (1, 124)", True),
    ("sat:relative_orbit NOT IN (1, 2)", True),
    ("sat:relative_orbit * 2 + 1 = 249", True),
    ("sat:relative_orbit DIV 100 = 1 AND sat:relative_orbit % 100 = 24", True),
    ("sat:relative_orbit / 0 = 1", None),
    ("2 ^ 3 = 8", True),
    ("(0 - 8) ^ 0.5 = 1", None),
    ("-sat:relative_orbit < 0", True),
    ("datetime > TIMESTAMP('2026-03-01T11:59:59Z')", True),
    ("datetime >= '2026-03-01T14:00:00+02:00'", True),
    ("datetime < DATE('2026-03-01')", False),
    ("made = TIMESTAMP('2026-03-01T09:00:00Z')", True),
    ("day > TIMESTAMP('2000-01-01T00:00:00Z')", None),
    ("platform > TIMESTAMP('2000-01-01T00:00:00Z')", None),
    ("T_INTERSECTS(datetime, INTERVAL('2026-03-01T12:30:00Z', '..'))", True),
    ("T_DURING(datetime, INTERVAL('2026-03-01', '2026-03-02'))", True),
    ("T_AFTER(datetime, TIMESTAMP('2026-03-01T12:30:00Z'))", False),
    ("T_INTERSECTS(INTERVAL(start_datetime, end_datetime), TIMESTAMP('2026-03-01T13:00:00Z'))", True),
    ("T_BEFORE(made, datetime)", True),
    ("T_BEFORE(missing, datetime)", None),
    ("T_MEETS(INTERVAL('..', '2026-03-01T12:00:00Z'), datetime)", True),
    ("A_CONTAINS(instruments, ('c-sar'))", True),
    ("A_CONTAINEDBY(instruments, ('c-sar'))", False),
    ("A_OVERLAPS(instruments, ('aux', 'x'))", True),
    ("A_EQUALS(instruments, ('c-sar', 'aux'))", True),
    ("A_EQUALS(platform, ('c-sar', 'aux'))", None),
    ("S_INTERSECTS(geometry, POINT(5 5))", True),
    ("S_INTERSECTS(geometry, POINT(10 5))", True),
    ("S_INTERSECTS(geometry, POINT(11 5))", False),
    ("S_INTERSECTS(POINT(5 5), geometry)", True),
    ("S_DISJOINT(geometry, BBOX(20, 20, 30, 30))", True),
    ("NOT S_INTERSECTS(geometry, BBOX(20, 20, 30, 30))", True),
    ("S_WITHIN(geometry, BBOX(-1, -1, 11, 11))", True),
    ("S_CONTAINS(geometry, BBOX(1, 1, 2, 2))", True),
    ("S_WITHIN(BBOX(1, 1, 2, 2), geometry)", True),
    ("S_INTERSECTS(armillary:sky_geometry, POINT(5 5))", None),
    ("geometry IS NOT NULL AND armillary:sky_geometry IS NULL", True),
    ("id = 'S1A_x' AND collection = 'slc'", True),
    ("armillary:size_bytes > 999 AND armillary:revision = 1", True),
    ("platform = name", False),
    ("platform = good", None),
    ("(eo:cloud_cover < 20) = TRUE", True),
    ("(missing < 20) IS NULL", True),
    ("\"name\" = 'it''s'", False),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_filter_means_what_the_standard_says(text: str, expected: bool | None) -> None:
    assert matches(parse(text), SCENE) is expected


def test_text_json_text_and_document_are_one_filter() -> None:
    document = {"op": "=", "args": [{"property": "sat:relative_orbit"}, 124]}
    assert parse("sat:relative_orbit = 124") == parse(document) == parse(json.dumps(document))
    assert parse(document).properties == {"sat:relative_orbit"}


def test_whole_numbers_of_json_keep_all_digits() -> None:
    asked = parse({"op": "=", "args": [{"property": "n"}, 9007199254740993]})
    assert matches(asked, Subject("a", "c", {"n": 9007199254740993})) is True
    assert matches(asked, Subject("a", "c", {"n": 9007199254740992})) is False


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("platform =", "not CQL2 text"),
        ("", "not CQL2 text"),
        ('{"op": "=", ', "not JSON"),
        ("a" * 200_000, "200000 characters"),
        ("(" * 3000 + "a = 1" + ")" * 3000, "too long or too deep"),
        ("NOT " * 5000 + "a = 1", "too long or too deep"),
        (" AND ".join(["a = 1"] * 20_000), "characters"),
        (" AND ".join(["a = 1"] * 400), "too long or too deep"),
        ("1" + "+1" * 4000 + " = 2", "too long or too deep"),
        ("a = 9007199254740993", "rounded"),
        ("FOO(a) = 1", "FOO"),
        ("T_AFTER(datetime)", "2 arguments"),
        ("datetime > TIMESTAMP('soon')", "'soon' is not a time"),
        ("datetime > 'soon'", "'soon' is not a time"),
        ("datetime > DATE('2026-02-30')", "'2026-02-30T00:00:00Z' is not a time"),
        ("datetime > 5", "compares a"),
        ("T_DURING(datetime, INTERVAL('2026-03-02', '2026-03-01'))", "ends before it starts"),
        ("a LIKE 3", "text"),
        ("a LIKE b", "pattern in quotes"),
        ("a LIKE 'x\\'", "backslash"),
        ("a IN ()", ""),
        ("1 = 'x'", "compares a"),
        ("good < TRUE", "order what is true"),
        ("5", "needs a boolean"),
        ("'x' AND TRUE", "needs a boolean"),
        ("a + 'x' = 1", "needs a number"),
        ("geometry = 'x'", "does not compare"),
        ("S_INTERSECTS(a, POINT(1 2))", "footprint to a place"),
        ("S_INTERSECTS(geometry, geometry)", "footprint to a place"),
        ("S_INTERSECTS(geometry, POINT(1 95))", "latitude 95"),
        ("S_INTERSECTS(geometry, POLYGON((0 0, 10 10, 10 0, 0 10, 0 0)))", "crosses"),
        ("S_TOUCHES(geometry, POINT(1 2))", "unknown here"),
        ("A_CONTAINS(a, b)", "property to a list"),
        ({"op": "=", "args": [{"property": "a"}, None]}, "null"),
        ({"op": "="}, "no op or args"),
        ({"op": "=", "args": [{"property": "a"}]}, "2 arguments"),
        ({"property": 5}, "no name"),
        ({"foo": 5}, "object with foo"),
        ({"op": "=", "args": [{"property": "a"}, "zero \0"]}, "zero character"),
        ({"op": "=", "args": [{"property": "a"}, "\ud800"]}, "not Unicode"),
        ({"op": "=", "args": [{"property": "a"}, float("nan")]}, "not finite"),
        ({"op": "in", "args": [{"property": "a"}, [[1]]]}, "something else than values"),
        (["a"], "needs a boolean"),
        (None, "null"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(wrong)
    assert refused.value.field == "filter"
    assert says in refused.value.message
    assert refused.value.remedy


def test_json_nested_without_end_is_refused() -> None:
    nested: Any = {"op": "=", "args": [{"property": "a"}, 1]}
    for _ in range(70):
        nested = {"op": "not", "args": [nested]}
    with pytest.raises(UsageError, match="nested deeper"):
        parse(nested)
    with pytest.raises(UsageError):
        parse('{"op":"not","args":[' * 5000 + "true" + "]}" * 5000)


# In the database -----------------------------------------------------------------------------------------------


@pytest.fixture
def connection(database_dsn: str) -> Any:
    with psycopg.connect(database_dsn, autocommit=True) as opened:
        opened.execute("insert into user_group (id) values ('g') on conflict do nothing")
        opened.execute("""insert into collection (id, spec, "group") values ('slc', '{}', 'g')""")
        # What filters read, without the constraints between tables that they do not.
        opened.execute(
            "alter table item drop constraint item_upload_id_fkey, drop constraint item_collection_granule_fkey"
        )
        yield opened


def add(connection: Any, subject: Subject) -> None:
    cells = footprint.cells(subject.geometry, subject.frame)
    connection.execute(
        """insert into item (collection, granule, revision, upload_id, digest, frame, geometry, cells, starts_at, ends_at,
                             properties, assets, size_bytes, "group", created_by, created_at)
           values (%s, %s, %s, %s, '', %s, %s, %s, %s, %s, %s, '{}', %s, 'g', 'someone', %s)""",
        [
            subject.collection, subject.id, subject.revision, uuid4(), subject.frame,
            jsonb(subject.geometry) if subject.geometry else None, cells, subject.starts_at, subject.ends_at,
            jsonb(subject.properties), subject.size_bytes, subject.created_at or datetime(2026, 1, 1, tzinfo=UTC),
        ],
    )  # fmt: skip


def proposed(connection: Any, expression: cql2.Expression) -> set[str]:
    compiled = to_sql(expression)
    query = f"select granule from item where is_current and {compiled.sql}"
    return {row[0] for row in connection.execute(query.encode(), compiled.params)}


def test_sql_and_python_agree_on_every_case(connection: Any) -> None:
    add(connection, SCENE)
    for text, expected in CASES:
        for written, wanted in ((text, expected is True), (f"NOT ({text})", expected is False)):
            expression = parse(written)
            found = proposed(connection, expression) == {SCENE.id}
            assert found == wanted or (found and not expression.is_exact), written


def test_equality_uses_the_index_on_properties(connection: Any) -> None:
    connection.execute("set enable_seqscan = off")
    compiled = to_sql(parse("platform = 'sentinel-1a' AND sat:relative_orbit IN (1, 124)"))
    query = f"explain select granule from item where is_current and {compiled.sql}"
    plan = "\n".join(row[0] for row in connection.execute(query.encode(), compiled.params))
    assert "item_properties" in plan


names = st.sampled_from(["a", "b", "c"])
texts = st.sampled_from(["", "x", "X", "é", "É", "a%b", "a_b", "\\", "ß", "ss", "K", "K", "2026-03-01T00:00:00Z"])
numbers = st.one_of(st.integers(-3, 3), st.floats(-5, 5).map(lambda x: round(x, 3)), st.sampled_from([1e90, -1e-90]))
times = st.sampled_from(
    ["2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00", "2026-03-01T00:00:00.123456789Z", "2026-02-29T00:00:00Z",
     "2024-02-29T23:59:59Z", "1999-12-31T00:00:00.5-11:30"]
)  # fmt: skip
scalars = st.one_of(texts, numbers, st.booleans(), times)
values = st.one_of(scalars, st.none(), st.lists(scalars, max_size=3), st.dictionaries(names, numbers, max_size=1))
instants = st.sampled_from(
    [datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)]
)
places = st.sampled_from([None, SQUARE, {"type": "Point", "coordinates": [20, 20]}])


@st.composite
def subjects(draw: st.DrawFn) -> Subject:
    geometry = draw(places)
    start, end = sorted([draw(instants), draw(instants)])
    frame = draw(st.sampled_from(["earth", "sky"])) if geometry else "none"
    properties = draw(st.dictionaries(names, values, max_size=3))
    return Subject(draw(st.sampled_from(["x", "X"])), "slc", properties, frame, geometry, start, end)


def call(op: str, *args: Any) -> dict[str, Any]:
    return {"op": op, "args": list(args)}


properties = names.map(lambda name: {"property": name})
good_times = times.filter(lambda text: not text.startswith("2026-02-29"))
moments = st.one_of(
    properties, st.just({"property": "datetime"}), good_times.map(lambda text: {"timestamp": text}),
    st.tuples(good_times.map(lambda text: text.replace("2026", "1998")), st.one_of(good_times, st.just(".."))).map(
        lambda ends: {"interval": list(ends)} if ends[0] < ends[1] or ends[1] == ".." else {"interval": ["..", ends[0]]}
    ),
)  # fmt: skip
texts_asked = st.recursive(
    st.one_of(properties, texts, st.just({"property": "id"})),
    lambda inner: st.builds(call, st.sampled_from(["casei", "accenti"]), inner),
    max_leaves=2,
)
sums = st.recursive(
    st.one_of(properties, numbers), lambda inner: st.builds(call, st.sampled_from(cql2._ARITHMETIC), inner, inner),
    max_leaves=3,
)  # fmt: skip
patterns = st.sampled_from(["%", "_", "x%", "\\%", "a\\_b", "%é%", "\\\\"])
compares = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
zones = st.sampled_from(
    [{"bbox": [5, 5, 20, 20]}, {"type": "Point", "coordinates": [10, 10]}, {"bbox": [-1, -1, 11, 11]}]
)
predicates = st.one_of(
    st.booleans(),
    properties,
    st.builds(call, compares, properties, properties),
    st.builds(call, compares, sums, sums),
    st.builds(call, compares, texts_asked, texts_asked),
    st.builds(call, st.sampled_from(["=", "<>"]), properties, st.booleans()),
    st.builds(call, compares, properties, good_times.map(lambda text: {"timestamp": text})),
    st.builds(call, st.just("like"), texts_asked, patterns),
    st.builds(call, st.just("like"), texts_asked, patterns.map(lambda text: call("casei", text))),
    st.builds(call, st.just("between"), sums, numbers, numbers),
    st.builds(call, st.just("in"), properties, st.lists(texts, min_size=1, max_size=3)),
    st.builds(call, st.just("in"), properties, st.lists(numbers, min_size=1, max_size=3)),
    st.builds(call, st.just("isNull"), st.one_of(properties, st.sampled_from([{"property": "geometry"}]))),
    st.builds(call, st.sampled_from(sorted(cql2._TIMES)), moments, moments),
    st.builds(call, st.sampled_from(sorted(cql2._TURNED)), properties, st.lists(scalars, max_size=3)),
    st.builds(call, st.sampled_from(cql2._SPATIAL), st.just({"property": "geometry"}), zones),
)  # fmt: skip
filters = st.recursive(
    predicates,
    lambda inner: st.one_of(
        st.builds(call, st.sampled_from(["and", "or"]), inner, inner),
        st.builds(call, st.just("not"), inner),
        st.builds(call, st.just("isNull"), inner),
        st.builds(call, st.just("="), inner, st.booleans()),
    ),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(asked=st.lists(filters, min_size=1, max_size=8), subject=subjects())
def test_sql_and_python_agree(connection: Any, asked: list[Any], subject: Subject) -> None:
    """Exact SQL finds what Python finds; other SQL finds at least that."""
    connection.execute("delete from item")
    add(connection, subject)
    for source in asked:
        try:
            expression = parse(source)
        except UsageError:
            continue  # two kinds that cannot be compared
        found, wanted = bool(proposed(connection, expression)), matches(expression, subject) is True
        assert found == wanted or (found and not expression.is_exact), (source, to_sql(expression))
