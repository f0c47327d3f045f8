"""Rules over HTTP; they are defined through `/api/definitions`."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from armillary.accounts.api import SignedIn
from armillary.base.http import Web
from armillary.rules import define, store
from armillary.rules.explain import explain
from armillary.rules.firing import Firing
from armillary.rules.rule import read

router = APIRouter(prefix="/api/rules", tags=["rules"])


@router.get("")
async def rules(web: Web, actor: SignedIn) -> dict[str, Any]:
    """The rules, and how their firings stand."""
    async with web.database.transaction() as tx:
        rows = await store.visible(tx, actor.scope)
    return {"rules": [_shown(row) for row in rows]}


@router.get("/{rule}")
async def rule(web: Web, actor: SignedIn, rule: str) -> dict[str, Any]:
    """One rule."""
    async with web.database.transaction() as tx:
        return _shown(await define.row(tx, actor, rule))


@router.get("/{rule}/firings")
async def firings(web: Web, actor: SignedIn, rule: str, state: str | None = None, limit: int = 100) -> dict[str, Any]:
    """Firings of a rule, newest first, with what each waits for."""
    async with web.database.transaction() as tx:
        await define.row(tx, actor, rule)
        found = await store.firings(tx, rule, state, min(limit, 1000), actor.scope)
        members = await store.members(tx, [firing.id for firing in found])
    return {"firings": [_firing(firing, members) for firing in found]}


@router.get("/{rule}/explain")
async def explain_rule(web: Web, actor: SignedIn, rule: str, granule: str) -> dict[str, Any]:
    """Why the rule did or did not fire for a granule (collection/id)."""
    collection, _, granule_id = granule.partition("/")
    async with web.database.transaction() as tx:
        explanation = await explain(tx, actor, rule, collection, granule_id)
    return {"explanation": explanation.lines, "firings": [_firing(firing, []) for firing in explanation.firings]}


@router.post("/{rule}/backfill")
async def backfill(web: Web, actor: SignedIn, rule: str, dry_run: bool = False) -> dict[str, Any]:
    """Apply the rule to what is catalogued already; `loads` is what that comes to if each granule starts one job."""
    async with web.database.transaction() as tx:
        action = read((await define.row(tx, actor, rule))["spec"]).action
        granules = await define.backfill(tx, actor, rule, dry_run=dry_run)
    load = {"algorithm": action.run, "version": action.version, "pool": action.pool, "jobs": granules}
    return {"granules": granules, "dry_run": dry_run, "loads": [load] if action.run and granules else []}


@router.post("/{rule}/enable", status_code=204)
async def enable(web: Web, actor: SignedIn, rule: str) -> None:
    """Switch it on."""
    async with web.database.transaction() as tx:
        await define.enable(tx, actor, rule, True)


@router.post("/{rule}/disable", status_code=204)
async def disable(web: Web, actor: SignedIn, rule: str) -> None:
    """Switch it off."""
    async with web.database.transaction() as tx:
        await define.enable(tx, actor, rule, False)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "version", "enabled", "spec", "group")}
    return shown | ({"firings": row["firings"]} if "firings" in row else {}) | {"created": row["created_at"]}


def _firing(firing: Firing, members: list[dict[str, Any]]) -> dict[str, Any]:
    bound: dict[str, list[str]] = {}
    for member in members:
        if member["firing"] == firing.id:
            bound.setdefault(member["role"], []).append(f"{member['collection']}/{member['granule']}")
    shown = asdict(firing)
    return {name: value for name, value in shown.items() if name != "key"} | {"granules": bound}
