"""Status and doctor over HTTP."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from armillary import __version__
from armillary.accounts.api import SignedIn
from armillary.accounts.permit import administer
from armillary.base import settings as settings_module
from armillary.base.http import PROTOCOL, Web
from armillary.watchdog import doctor
from armillary.watchdog.status import status

router = APIRouter(tags=["watchdog"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether this server answers; needs no token."""
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
async def show_status(web: Web, _actor: SignedIn) -> dict[str, Any]:
    """What runs, what waits, what is wrong."""
    async with web.database.transaction() as tx:
        return {"server": {"url": web.url(), "home": str(web.settings.home)}} | await status(tx, web.settings)


@router.get("/api/doctor")
async def run_doctor(web: Web, actor: SignedIn, checksums: bool = False) -> dict[str, Any]:
    """Every check; with `checksums` every stored byte is read again."""
    administer(actor)
    report = await doctor.examine(web.database, web.store, checksums=checksums)
    return {
        "findings": [asdict(finding) for finding in report.findings],
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
