"""Rule: the roles that it waits for, the relations between them, and what follows when they are filled."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from cronsim import CronSim, CronSimError

from armillary.base import units
from armillary.base.errors import UsageError
from armillary.base.ids import check_name
from armillary.granules import cql2

RULE_FIELDS = {"kind", "id", "title", "when", "then", "enabled", "schedule", "again_on_revision", "group"}
ROLE_FIELDS = {"collection", "filter", "same", "before", "after", "overlaps", "covers", "spans", "many", "optional",
               "min", "wait", "then", "last"}  # fmt: skip
THEN_FIELDS = {"run", "version", "pool", "priority", "parameters", "twins", "deliver", "role", "deadline", "on_deadline",
               "hold"}  # fmt: skip
SHORTHANDS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


@dataclass(frozen=True)
class Offset:
    """The role starts `by` before (or after) another role's start, give or take `within`."""

    role: str
    by: timedelta  # positive: later than the other
    within: timedelta


@dataclass(frozen=True)
class Overlap:
    """The footprints share at least this fraction of the other role's."""

    role: str
    at_least: float


@dataclass(frozen=True)
class Role:
    """One hole of the query."""

    name: str
    collection: str
    filter: cql2.Expression | None = None
    same: tuple[str, ...] = ()  # properties equal to those of every single role
    offset: Offset | None = None
    overlaps: Overlap | None = None
    covers: str | None = None  # the union of the role's footprints covers that of the named one
    spans: tuple[str, ...] = ()  # each named role's time lies within that of one granule of this role
    many: bool = False
    optional: bool = False
    min: int = 1
    wait: timedelta | None = None
    on_timeout: Literal["proceed", "drop"] = "proceed"
    last: timedelta | None = None  # scheduled rules: only what was added since

    @property
    def is_key(self) -> bool:
        """Whether its granule makes the firing what it is: not if it is many, optional or awaited."""
        return not (self.many or self.optional or self.wait is not None)

    @property
    def names(self) -> set[str]:
        """The roles that its relations name."""
        related = {self.covers, self.offset and self.offset.role, self.overlaps and self.overlaps.role, *self.spans}
        return {name for name in related if name}


@dataclass(frozen=True)
class Action:
    """What a complete firing does: submit a job, or deliver the granules of a role."""

    run: str | None = None
    version: str | None = None
    pool: str = "default"
    priority: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    twins: Literal["share", "reuse", "again"] = "reuse"
    hold: bool = False
    deadline: timedelta | None = None  # from the firing
    on_deadline: Literal["fail", "warn"] = "fail"
    deliver: str | None = None
    role: str | None = None


@dataclass(frozen=True)
class Rule:
    """A query with holes."""

    id: str
    roles: tuple[Role, ...]
    action: Action
    enabled: bool = True
    schedule: str | None = None
    again_on_revision: bool = False
    title: str = ""

    @property
    def keys(self) -> tuple[Role, ...]:
        return tuple(role for role in self.roles if role.is_key)

    @property
    def others(self) -> tuple[Role, ...]:
        return tuple(role for role in self.roles if not role.is_key)

    def role(self, name: str) -> Role:
        return next(role for role in self.roles if role.name == name)


def read(document: Mapping[str, Any]) -> Rule:
    """Check a document of kind `rule`; errors name the field."""
    _only(document, RULE_FIELDS, "rule")
    when = document.get("when")
    if not isinstance(when, Mapping) or not when:
        raise UsageError("A rule waits for something.", "Write when: {role: {collection: …}}.", field="when")
    schedule = _schedule(document.get("schedule"))
    rule = Rule(
        id=check_name(str(document.get("id", ""))),
        roles=tuple(_role(name, spec) for name, spec in when.items()),
        action=_action(document.get("then")),
        enabled=bool(document.get("enabled", True)),
        schedule=schedule,
        again_on_revision=bool(document.get("again_on_revision", False)),
        title=str(document.get("title", "")),
    )
    _check_relations(rule)
    return rule


def _role(name: str, spec: Any) -> Role:
    where = f"when.{name}"
    if not isinstance(spec, Mapping) or not isinstance(spec.get("collection"), str):
        raise UsageError(f"Role {name!r} names no collection.", "Write {collection: ID}.", field=where)
    _only(spec, ROLE_FIELDS, where)
    if spec.get("then", "proceed") not in ("proceed", "drop"):
        raise UsageError(f"{where}.then is {spec['then']!r}.", "It is proceed or drop.", field=f"{where}.then")
    same = spec.get("same") or []
    return Role(
        name=check_name(name, where),
        collection=spec["collection"],
        filter=cql2.parse(spec["filter"]) if spec.get("filter") else None,
        same=tuple([same] if isinstance(same, str) else same),
        offset=_offset(spec, where),
        overlaps=_overlap(spec.get("overlaps"), where),
        covers=spec.get("covers"),
        spans=tuple([spec["spans"]] if isinstance(spec.get("spans"), str) else spec.get("spans") or ()),
        many=bool(spec.get("many")),
        optional=bool(spec.get("optional")),
        min=_count(spec.get("min", 1), where),
        wait=units.duration(spec["wait"], f"{where}.wait") if spec.get("wait") else None,
        on_timeout=spec.get("then", "proceed"),
        last=units.duration(spec["last"], f"{where}.last") if spec.get("last") else None,
    )


def _offset(spec: Mapping[str, Any], where: str) -> Offset | None:
    given = [name for name in ("before", "after") if spec.get(name)]
    if not given:
        return None
    if len(given) == 2:
        raise UsageError(f"{where} is both before and after.", "Keep one.", field=where)
    relation, field_name = spec[given[0]], f"{where}.{given[0]}"
    if not isinstance(relation, Mapping) or "role" not in relation or "by" not in relation:
        raise UsageError(
            f"{field_name} is not understood.", "Write {role: NAME, by: P12D, within: PT1H}.", field=field_name
        )
    by = units.duration(relation["by"], f"{field_name}.by")
    within = units.duration(relation.get("within", "PT0S"), f"{field_name}.within")
    return Offset(relation["role"], -by if given[0] == "before" else by, within)


def _overlap(relation: Any, where: str) -> Overlap | None:
    if relation is None:
        return None
    if isinstance(relation, str):
        relation = {"role": relation}
    at_least = relation.get("at_least", 0.0) if isinstance(relation, Mapping) else None
    if not isinstance(at_least, int | float) or not 0 <= at_least <= 1 or "role" not in relation:
        remedy = "Write {role: NAME, at_least: 0.8}, a fraction of that role's footprint."
        raise UsageError(f"{where}.overlaps is not understood.", remedy, field=f"{where}.overlaps")
    return Overlap(relation["role"], float(at_least))


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{where}.min is {value!r}.", "Give a whole number from 1.", field=f"{where}.min")
    return value


def _action(then: Any) -> Action:
    if not isinstance(then, Mapping) or bool(then.get("run")) == bool(then.get("deliver")):
        remedy = "Write then: {run: ALGORITHM} or then: {deliver: DESTINATION, role: ROLE}."
        raise UsageError("A rule runs an algorithm or delivers.", remedy, field="then")
    _only(then, THEN_FIELDS, "then")
    version = then.get("version")
    if version is not None and not isinstance(version, str):
        raise UsageError(
            f"then.version is the number {version}.", 'Put it in quotes: version: "1".', field="then.version"
        )
    if then.get("on_deadline", "fail") not in ("fail", "warn"):
        raise UsageError(
            f"then.on_deadline is {then['on_deadline']!r}.", "It is fail or warn.", field="then.on_deadline"
        )
    given = {name: value for name, value in then.items() if value is not None}
    if "deadline" in given:
        given["deadline"] = units.duration(str(given["deadline"]), "then.deadline")
    return Action(**given)


def _schedule(text: Any) -> str | None:
    if text is None:
        return None
    text = SHORTHANDS.get(text, text)
    try:
        if not isinstance(text, str) or len(text.split()) != 5:
            raise CronSimError("it has not five fields")
        CronSim(text, units.EPOCH)
    except CronSimError as error:
        remedy = "Write five fields of cron in UTC, as in '0 3 * * *', or @daily."
        raise UsageError(f"schedule {text!r}: {error}.", remedy, field="schedule") from error
    return text


def _check_relations(rule: Rule) -> None:
    names = {role.name for role in rule.roles}
    keys = {role.name for role in rule.keys}
    for role in rule.roles:
        for name in sorted(role.names):
            field_name = f"when.{role.name}"
            if name not in names or name == role.name:
                raise UsageError(
                    f"Role {role.name!r} refers to {name!r}, which is no other role.",
                    "Mend the name.",
                    field=field_name,
                )
            if name not in keys:
                remedy = "Relate it to a role that is neither many, optional nor awaited."
                raise UsageError(
                    f"Role {role.name!r} refers to {name!r}, which may be empty.", remedy, field=field_name
                )
    if rule.schedule and keys:
        remedy = "Let every role of a scheduled rule be many."
        raise UsageError(f"Role {min(keys)!r} of a scheduled rule is single.", remedy, field=f"when.{min(keys)}.many")
    if not rule.schedule and not keys:
        remedy = "Leave one role neither many, optional nor awaited, or give the rule a schedule."
        raise UsageError("Nothing makes two firings of this rule different.", remedy, field="when")
    if rule.action.role and rule.action.role not in names:
        raise UsageError(f"then.role {rule.action.role!r} is no role.", "Mend the name.", field="then.role")


def _only(spec: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(spec) - known)
    if unknown:
        remedy = f"Known: {', '.join(sorted(known))}."
        raise UsageError(f"Field {unknown[0]!r} of {where} is unknown.", remedy, field=f"{where}.{unknown[0]}")
