"""Which granules fit which roles: SQL proposes candidates, pure functions decide exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from armillary.granules import cql2, footprint
from armillary.granules.granule import Granule
from armillary.rules.rule import Role, Rule

Bound = Mapping[str, Granule]  # the granules of the single roles, as far as they are bound


@dataclass(frozen=True)
class Proposal:
    """A condition in SQL on `item`, and its parameters; whoever fits the role satisfies it, not the other way round."""

    sql: str
    params: dict[str, Any]


def accepts(role: Role, granule: Granule) -> bool:
    """Whether the granule fits the role as far as the role alone says: collection and filter."""
    if role.collection != granule.collection:
        return False
    return role.filter is None or cql2.matches(role.filter, cql2.Subject.of(granule)) is True


def proposal(rule: Rule, role: Role, bound: Bound) -> Proposal:
    """Candidates for `role` beside what is bound already."""
    conditions, params = ["item.collection = %(collection)s", "is_current"], {"collection": role.collection}
    arguments: dict[str, Any] = dict(params)

    def add(sql: str, **values: Any) -> None:
        conditions.append(sql)
        arguments.update(values)

    if role.filter is not None:
        compiled = cql2.to_sql(role.filter)
        add(f"({compiled.sql})", **compiled.params)
    for other_name, other in bound.items():
        for index, (name, value) in enumerate(_equalities(role, rule.role(other_name), other)):
            key = f"same_{other_name}_{index}"
            add(f"properties @> %({key})s::jsonb", **{key: cql2.json_text({name: value})})
    for index, (earliest, latest) in enumerate(_start_windows(rule, role, bound)):
        add(
            f"starts_at between %(from_{index})s and %(to_{index})s",
            **{f"from_{index}": earliest, f"to_{index}": latest},
        )
    for index, terms in enumerate(_touching(rule, role, bound)):
        add(f"cells && %(cells_{index})s::bigint[]", **{f"cells_{index}": terms})
    if role.spans:
        spans = [f"(starts_at <= %(s_{name})s and ends_at >= %(e_{name})s)" for name in role.spans if name in bound]
        if spans:
            values = {f"s_{name}": bound[name].starts_at for name in role.spans if name in bound}
            values |= {f"e_{name}": bound[name].ends_at for name in role.spans if name in bound}
            add("(" + (" or " if role.many else " and ").join(spans) + ")", **values)
    return Proposal(" and ".join(conditions), arguments)


def fits(rule: Rule, role: Role, candidate: Granule, bound: Bound) -> bool:
    """Whether a granule that the role accepts stands in all its relations to what is bound; exact, on the sphere."""
    if any((other.collection, other.granule) == (candidate.collection, candidate.granule) for other in bound.values()):
        return False
    for name, other in bound.items():
        if not _related(role, candidate, rule.role(name), other):
            return False
        if rule.role(name).is_key and not _related(rule.role(name), other, role, candidate):
            return False
    return not role.spans or _spans(role, candidate, bound)


def is_complete(role: Role, members: Sequence[Granule], bound: Bound) -> bool:
    """Whether these granules are all that a role which is many, optional or awaited needs."""
    if len(members) < role.min:
        return False
    if role.spans and not all(any(_contains(member, bound[name]) for member in members) for name in role.spans):
        return False
    if role.covers:
        target = bound[role.covers]
        shapes = [_shape(member) for member in members if member.geometry and member.frame == target.frame]
        return bool(target.geometry and shapes) and footprint.covers(shapes, _shape(target))
    return True


def _related(role: Role, granule: Granule, other_role: Role, other: Granule) -> bool:
    """The relations that `role` declares, as far as they concern the other."""
    # A granule without the property is the same as nothing, not as every other without it.
    if any(
        value is None or granule.properties.get(name) != value for name, value in _equalities(role, other_role, other)
    ):
        return False
    if role.offset and role.offset.role == other_role.name:
        if granule.starts_at is None or other.starts_at is None:
            return False
        if abs(granule.starts_at - other.starts_at - role.offset.by) > role.offset.within:
            return False
    if role.overlaps and role.overlaps.role == other_role.name and not _overlaps(role, granule, other):
        return False
    if role.covers == other_role.name:
        if not granule.geometry or not other.geometry or granule.frame != other.frame:
            return False
        if not footprint.intersects(_shape(granule), _shape(other)):
            return False
        return role.many or footprint.covers([_shape(granule)], _shape(other))
    return True


def _overlaps(role: Role, granule: Granule, other: Granule) -> bool:
    assert role.overlaps
    if not granule.geometry or not other.geometry or granule.frame != other.frame:
        return False
    if role.overlaps.at_least == 0:
        return footprint.intersects(_shape(granule), _shape(other))
    return footprint.overlap_fraction(_shape(granule), of=_shape(other)) >= role.overlaps.at_least


def _shape(granule: Granule) -> footprint.Shape:
    assert granule.geometry
    return footprint.shape(granule.geometry, granule.frame)


def _equalities(role: Role, other_role: Role, other: Granule) -> list[tuple[str, Any]]:
    """Properties that must be equal between the two roles, with the other's values."""
    names = dict.fromkeys((*role.same, *(other_role.same if role.is_key else ())))
    return [(name, other.properties.get(name)) for name in names if other_role.is_key]


def _start_windows(rule: Rule, role: Role, bound: Bound) -> list[tuple[datetime, datetime]]:
    """When a candidate starts, by the role's own offset and by the offsets of others to it."""
    windows = []
    for name, other in bound.items():
        for offset, sign in ((role.offset, 1), (rule.role(name).offset, -1)):
            named = name if sign == 1 else role.name
            if offset and offset.role == named and other.starts_at:
                centre = other.starts_at + sign * offset.by
                windows.append((centre - offset.within, centre + offset.within))
    return windows


def _touching(rule: Rule, role: Role, bound: Bound) -> list[list[int]]:
    """Index terms that a candidate's cells must share, one list per relation in space."""
    terms = []
    for name, other in bound.items():
        other_role = rule.role(name)
        own = role.covers == name or (role.overlaps and role.overlaps.role == name)
        theirs = other_role.covers == role.name or (other_role.overlaps and other_role.overlaps.role == role.name)
        if (own or theirs) and other.geometry:
            terms.append(footprint.query_terms(other.geometry, other.frame))
    return terms


def _spans(role: Role, candidate: Granule, bound: Bound) -> bool:
    named = [bound[name] for name in role.spans if name in bound]
    together = any if role.many else all
    return not named or together(_contains(candidate, other) for other in named)


def _contains(granule: Granule, other: Granule) -> bool:
    if not (granule.starts_at and granule.ends_at and other.starts_at and other.ends_at):
        return False
    return granule.starts_at <= other.starts_at and other.ends_at <= granule.ends_at
