import pytest

from armillary.base.errors import NotFound, UsageError
from armillary.rules import define
from armillary.testing.catalogue import OWNER


def _rule(name, source, algorithm, **more):
    return {"kind": "rule", "id": name, "when": {"one": {"collection": source}}, "then": {"run": algorithm}, **more}


async def _two_ways(catalogue):
    """Algorithms from a to b and from b to a."""
    await catalogue.collections("a", "b")
    for source, product in (("a", "b"), ("b", "a")):
        await catalogue.algorithm(
            id=f"to-{product}", inputs={"one": {"collection": source}}, outputs={"out": {"collection": product}}
        )


async def test_rules_that_would_wake_each_other_for_ever_are_refused_together(catalogue):
    await _two_ways(catalogue)
    with pytest.raises(UsageError, match="back would trigger itself for ever: back → b → there → a → back"):
        await catalogue.apply(_rule("back", "a", "to-b"), _rule("there", "b", "to-a"))
    await catalogue.apply(_rule("there", "b", "to-a"))
    with pytest.raises(UsageError, match="back → b → there → a → back"):
        await catalogue.apply(_rule("back", "a", "to-b"))


async def test_a_rule_is_not_switched_on_where_it_would_wake_itself(catalogue):
    await _two_ways(catalogue)
    await catalogue.apply(_rule("there", "b", "to-a"), _rule("back", "a", "to-b", enabled=False))
    with pytest.raises(UsageError, match="back → b → there → a → back"):
        async with catalogue.database.transaction() as tx:
            await define.enable(tx, OWNER, "back", True)
    async with catalogue.database.transaction() as tx:
        assert [row["id"] for row in await define.store.enabled(tx)] == ["there"]


async def test_a_rule_names_an_algorithm_that_is_there(catalogue):
    await catalogue.collections("a")
    with pytest.raises(NotFound, match="There is no algorithm nowhere") as refused:
        await catalogue.apply(_rule("lost", "a", "nowhere"))
    assert "rule lost" in str(refused.value)


async def test_each_algorithm_is_asked_for_once_however_many_rules_run_it(catalogue, monkeypatch):
    """A thousand rules took minutes when each asked for every other's."""
    await _two_ways(catalogue)
    asked = []
    resolve = define.register.resolve

    async def counted(tx, actor, *key):
        asked.append(key)
        return await resolve(tx, actor, *key)

    monkeypatch.setattr(define.register, "resolve", counted)
    await catalogue.apply(*(_rule(f"rule-{number}", "a", "to-b") for number in range(20)))
    assert len(asked) == 20 + 1
