"""Status, health, findings and doctor over HTTP."""

from dataclasses import asdict
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query

from armillary import __version__
from armillary.accounts.api import SignedIn
from armillary.accounts.permit import administer
from armillary.base import events
from armillary.base import settings as settings_module
from armillary.base.clock import iso
from armillary.base.errors import NotFound
from armillary.base.http import PROTOCOL, Web
from armillary.watchdog import doctor, store
from armillary.watchdog import status as states
from armillary.watchdog.finding import Severity
from armillary.watchdog.sweeps import all_sweeps

router = APIRouter(tags=["watchdog"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether this server answers; needs no token."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(web: Web) -> dict[str, str]:
    """Whether this server can do its work: its database answers; needs no token."""
    async with web.database.transaction() as tx:
        await tx.value("select 1")
    return {"status": "ok"}


@router.get("/api")
async def about(web: Web, actor: SignedIn) -> dict[str, Any]:
    """Which instance this is."""
    return {
        "version": __version__,
        "instance": web.instance,
        "protocol": PROTOCOL,
        "url": web.url(),
        "account": actor.account,
    }


@router.get("/api/status")
async def show_status(web: Web, actor: SignedIn) -> dict[str, Any]:
    """What runs, what waits, what is wrong."""
    async with web.database.transaction() as tx:
        return {"server": {"url": web.url(), "home": str(web.settings.home)}} | await states.status(tx, actor)


@router.get("/api/health")
async def show_health(web: Web, actor: SignedIn) -> dict[str, Any]:
    """How servers, loops, disks, pools, queues and the database are, and what is wrong with any of them."""
    async with web.database.transaction() as tx:
        found = await states.health(tx, actor, all_sweeps())
    return {"version": __version__, "protocol": PROTOCOL, "instance": web.instance} | found


@router.get("/api/findings")
async def findings(
    web: Web,
    actor: SignedIn,
    state: Literal["open", "closed", "all"] = "open",
    sweep: str | None = None,
    severity: Severity | None = None,
    subject: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: UUID | None = None,
) -> dict[str, Any]:
    """What the watchdog found, newest first."""
    is_open = None if state == "all" else state == "open"
    wanted = {"sweep": sweep, "severity": severity, "subject": subject, "open": is_open}
    async with web.database.transaction() as tx:
        found = await store.newest(tx, actor.scope, wanted, after, limit)
    return {
        "findings": [states.shown(one) for one in found],
        "next": str(found[-1].id) if len(found) == limit else None,
    }


@router.get("/api/findings/{finding}")
async def finding(web: Web, actor: SignedIn, finding: UUID) -> dict[str, Any]:
    """One finding with its events."""
    async with web.database.transaction() as tx:
        found = await store.find(tx, actor.scope, finding)
        if found is None:
            raise NotFound(
                f"There is no finding {finding}.", "`armillary finding list --state all` shows those that are."
            )
        history = await events.history(tx, f"finding:{finding}")
    told = [{"at": iso(one["at"]), "kind": one["kind"], "detail": one["detail"]} for one in history]
    return states.shown(found) | {"events": told}


@router.get("/api/doctor")
async def run_doctor(web: Web, actor: SignedIn, checksums: bool = False) -> dict[str, Any]:
    """Every check; with `checksums` every stored byte is read again."""
    administer(actor)
    report = await doctor.examine(web.database, web.store, checksums=checksums)
    return {
        "findings": [asdict(flaw) for flaw in report.flaws],
        "checks": [{"name": name, "looked_at": count} for name, count in report.looked_at.items()],
    }


@router.get("/api/config")
async def config(web: Web, actor: SignedIn) -> dict[str, Any]:
    """The settings of this server."""
    administer(actor)
    return {
        "settings": [
            {"name": name, "value": str(settings_module.value(web.settings, name))} for name in settings_module.names()
        ]
    }
