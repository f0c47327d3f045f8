"""The YAML of a rule: what is understood, and how a mistake is named."""

from datetime import timedelta

import pytest

from armillary.base.errors import UsageError
from armillary.rules.define import cycle
from armillary.rules.rule import read

PAIR = {
    "kind": "rule",
    "id": "pair",
    "when": {
        "reference": {"collection": "slc"},
        "secondary": {
            "collection": "slc",
            "same": ["track"],
            "before": {"role": "reference", "by": "P12D", "within": "PT1H"},
            "overlaps": {"role": "reference", "at_least": 0.8},
        },
        "elevation": {"collection": "dem", "covers": "reference", "many": True},
        "orbits": {"collection": "orbit", "spans": ["reference", "secondary"], "many": True, "wait": "PT3H"},
    },
    "then": {"run": "insar", "version": "1"},
}


def test_the_two_scene_rule_is_understood():
    rule = read(PAIR)
    assert [role.name for role in rule.keys] == ["reference", "secondary"]
    assert rule.role("secondary").offset.by == -timedelta(days=12)
    assert rule.role("orbits").wait == timedelta(hours=3)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("when",), {}, "when"),
        (("when", "reference"), {}, "when.reference"),
        (("when", "reference"), {"collection": "slc", "filtr": "a = 1"}, "when.reference.filtr"),
        (("when", "secondary", "overlaps"), {"role": "reference", "at_least": 80}, "when.secondary.overlaps"),
        (("when", "secondary", "before"), {"role": "reference", "by": "P1M"}, "when.secondary.before.by"),
        (("when", "secondary", "before"), {"role": "nobody", "by": "P12D"}, "when.secondary"),
        (("when", "secondary", "before"), {"role": "elevation", "by": "P12D"}, "when.secondary"),
        (("when", "elevation", "min"), 0, "when.elevation.min"),
        (("then",), {}, "then"),
        (("then",), {"run": "insar", "version": 1}, "then.version"),
        (("then",), {"run": "insar", "deliver": "there"}, "then"),
        (("schedule",), "whenever", "schedule"),
        (("schedule",), "0 3 * * *", "when.reference.many"),
        (("colour",), "red", "rule.colour"),
    ],
)
def test_a_mistake_is_named_by_its_field(path, value, field):
    import copy

    document = copy.deepcopy(PAIR)
    part = document
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(UsageError) as caught:
        read(document)
    assert caught.value.field == field
    assert caught.value.remedy


def test_recursion_is_found_through_other_rules():
    edges = {
        "a": (frozenset({"raw"}), frozenset({"level-1"})),
        "b": (frozenset({"level-1"}), frozenset({"level-2"})),
        "c": (frozenset({"level-2"}), frozenset({"raw"})),
    }
    assert cycle(edges, "a") == ["a", "level-1", "b", "level-2", "c", "raw", "a"]
    assert cycle({name: edges[name] for name in "ab"}, "a") is None
