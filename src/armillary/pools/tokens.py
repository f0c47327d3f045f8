"""Tokens of a pool: each registers workers from anywhere, for this pool alone, until it expires or is revoked."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from armillary.accounts import authenticate
from armillary.accounts.actor import Actor
from armillary.accounts.permit import permit
from armillary.base.db import Transaction
from armillary.base.errors import NotFound
from armillary.pools import define, worker


async def make(tx: Transaction, actor: Actor, pool: str, title: str, lasts: timedelta | None) -> tuple[UUID, str]:
    """A new token and its id; whoever asked is the only one who ever sees it."""
    permit(actor, "administer", (await define.row(tx, actor, pool))["group"])
    return await authenticate.make_pool_token(tx, pool, title, actor.account, lasts)


async def those_of(tx: Transaction, actor: Actor, pool: str) -> list[dict[str, Any]]:
    """The tokens of a pool, newest first, without what is secret about them."""
    permit(actor, "administer", (await define.row(tx, actor, pool))["group"])
    return await authenticate.pool_tokens(tx, pool)


async def revoke(tx: Transaction, actor: Actor, pool: str, token: UUID) -> list[UUID]:
    """From now on the token and its workers are nobody; what they ran goes on elsewhere. Returns those workers."""
    permit(actor, "administer", (await define.row(tx, actor, pool))["group"])
    workers = await authenticate.revoke_pool_token(tx, pool, token)
    if workers is None:
        raise NotFound(
            f"Pool {pool} has no token {token} that is in force.", f"`armillary pool token list {pool}` shows them."
        )
    await worker.end(tx, workers, "The pool token that it came with was revoked.", died=False)
    return workers
