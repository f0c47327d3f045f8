"""Decisions about a firing: the same question at an arrival and at a time-out."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from armillary.granules.granule import Granule
from armillary.rules.firing import FiringState, decide, key
from armillary.rules.rule import read

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def granule(name, collection="a", revision=1):
    return Granule(
        collection, name, revision, True, "", "none", None, None, None, None, {}, {}, 0, "owners", "owner", NOW, ""
    )


def rule_of(**others):
    when = {"a": {"collection": "a"}} | {name: {"collection": name, **fields} for name, fields in others.items()}
    return read({"kind": "rule", "id": "r", "when": when, "then": {"run": "x"}})


ROLES = st.dictionaries(
    st.sampled_from("bcd"),
    st.fixed_dictionaries(
        {"many": st.just(True), "min": st.integers(1, 2)},
        optional={"optional": st.booleans(), "wait": st.just("PT1H"), "then": st.sampled_from(["proceed", "drop"])},
    ),
)


@given(ROLES, st.dictionaries(st.sampled_from("bcd"), st.integers(0, 3)), st.integers(0, 120))
def test_more_granules_and_more_time_never_undo_a_decision(others, counts, minutes):
    rule, bound = rule_of(**others), {"a": granule("one")}
    members = {name: [granule(f"{n}", name) for n in range(count)] for name, count in counts.items()}
    decision = decide(rule, bound, members, NOW, NOW + timedelta(minutes=minutes))
    full = {name: [granule(f"{n}", name) for n in range(3)] for name in "bcd"}
    assert decide(rule, bound, full, NOW, NOW).state == FiringState.SUBMITTED
    if decision.state == FiringState.WAITING:
        assert decision.missing
        assert decision.due_at is None or decision.due_at > NOW + timedelta(minutes=minutes)
    elif decision.state == FiringState.SUBMITTED:
        later = decide(rule, bound, members, NOW, NOW + timedelta(minutes=minutes, days=1))
        assert later.state != FiringState.WAITING


def test_only_the_single_roles_make_the_key():
    rule = rule_of(b={"many": True}, c={"optional": True})
    bare = key(rule, {"a": granule("one")})
    assert bare == key(rule, {"a": granule("one", revision=2), "c": granule("two", "c")})
    assert bare != key(rule, {"a": granule("other")})
