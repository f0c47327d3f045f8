"""YAML: strict types, refusals with their place, positions of values."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary.base.errors import Conflict, UsageError
from armillary.base.yamlfile import MAX_DEPTH, dump, load, load_all

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


def test_types_are_those_of_yaml_1_2() -> None:
    text = "{on: off, no: NO, octal: 0o17, ten: 010, hex: 0x1F, sixty: 12:30, day: 2026-03-01, big: 1_000, e: 1e3}"
    assert load(text) == {
        "on": "off", "no": "NO", "octal": 15, "ten": 10, "hex": 31, "sixty": "12:30", "day": "2026-03-01",
        "big": "1_000", "e": 1000.0,
    }  # fmt: skip
    assert load("[true, False, ~, null, '', '1', \"null\", +7, -.5]") == [
        True, False, None, None, "", "1", "null", 7, -0.5,
    ]  # fmt: skip


def test_a_mapping_may_begin_with_a_key_that_yaml_1_1_reads_as_true() -> None:
    assert load("retry: {on: [preempted]}") == {"retry": {"on": ["preempted"]}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", r"file\.yaml:4:3: the key 'c' is here twice \(its value is also at line 3\)"),
        ("a: [1, 2\nb: 3", r"file\.yaml:2:\d+: this is not YAML: .*expected ',' or '\]'"),
        ("a: !!python/object/apply:os.system [ls]", r"file\.yaml:1:4: the tag \S*os\.system is not allowed"),
        ("a: !!str 1", r"file\.yaml:1:4: the tag tag:yaml\.org,2002:str is not allowed"),
        ("a: &a [1, *a]", r"file\.yaml:1:11: the alias \*a is of something that is not complete"),
        ("a: *nothing", r"file\.yaml:1:4: the alias \*nothing"),
        (BOMB, r"file\.yaml:\d+:\d+: the document has more than 100,000 values"),
        ("[" * (MAX_DEPTH + 2), rf"file\.yaml:1:{MAX_DEPTH + 2}: values are nested more than {MAX_DEPTH} deep"),
        ("[" * 100_000, r"file\.yaml:1:\d+: "),
        ("base: &b {x: 1}\nc:\n  <<: *b", r"file\.yaml:3:3: merge keys"),
        ("1: one", r"file\.yaml:1:1: the key 1 is not a text"),
        ("? [a, b]\n: c", r"file\.yaml:1:3: a key is not a text"),
        ("x: .inf", r"file\.yaml:1:4: \.inf is not a number that JSON has"),
        ("a:\n\tb: 1", r"file\.yaml:2:1: this is not YAML"),
        ("a: \x00", r"file\.yaml: this is not YAML: control characters"),
        (b"a: \xff", r"file\.yaml: this is not YAML: "),
        ("a: 1\n---\nb: 2", r"file\.yaml:3:1: a second document begins here"),
    ],
)
def test_refusals_name_the_place(text: str | bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load(text, "file.yaml")


def test_an_alias_is_a_copy() -> None:
    loaded = load("a: &x {n: 1}\nb: *x")
    loaded["a"]["n"] = 2
    assert loaded["b"] == {"n": 1}


def test_many_documents_and_empty_ones() -> None:
    documents = load_all("---\nkind: a\n---\n# nothing\n---\nkind: b\n...\n", "two.yaml")
    assert [(document.value, document.where()) for document in documents] == [
        ({"kind": "a"}, "two.yaml:2:1"),
        ({"kind": "b"}, "two.yaml:6:1"),
    ]
    assert load("") is None


def test_a_value_is_found_by_pointer_by_dotted_name_and_by_its_nearest_parent() -> None:
    (document,) = load_all("inputs:\n  orbits:\n    - {collection: x}\n  a/b: 1\n", "f.yaml")
    assert document.where("/inputs/orbits/0/collection") == "f.yaml:3:20"
    assert document.where("inputs.orbits[0].collection") == "f.yaml:3:20"
    assert document.where("inputs.orbits[0].missing.deeper") == "f.yaml:3:7"
    assert document.where("inputs.a/b") == "f.yaml:4:8"
    assert document.where("nowhere") == "f.yaml:1:1"


def test_an_error_of_a_field_gets_its_place_and_stays_of_its_kind() -> None:
    (document,) = load_all("a:\n  b: 1", "f.yaml")
    placed = document.place(Conflict("b is taken.", "Choose another.", field="a.b", holder="x"))
    assert isinstance(placed, Conflict)
    assert (placed.message, placed.remedy, placed.details) == (
        "f.yaml:2:6: b is taken.",
        "Choose another.",
        {"holder": "x"},
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_every_json_document_is_read_as_json(value: object) -> None:
    text = json.dumps(value)
    if "\\ud" in text:  # JSON allows lone surrogates, UTF-8 and YAML do not
        with suppress(UsageError):
            load(text)
    else:
        assert load(text) == value


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_anything_is_read_or_refused(text: str | bytes) -> None:
    with suppress(UsageError):  # anything else that is raised is our bug
        load_all(text)


@given(JSON)
def test_what_is_dumped_is_read_as_the_same(value: object) -> None:
    if "\\ud" not in json.dumps(value):
        assert load(dump(value)) == value


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "010", "on", "12:30", "2026-03-01", "~", "", "a\nb\n", " a\n b", "1_0"]
)
def test_texts_that_look_like_something_else_stay_texts(text: str) -> None:
    assert load(dump({"value": text})) == {"value": text}
