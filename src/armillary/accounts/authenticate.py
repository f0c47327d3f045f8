"""Tokens in, actors out: the owner's at first start, one-time sign-ins, sessions, and those of workers."""

from datetime import timedelta
from uuid import UUID

from armillary.accounts import store, token
from armillary.accounts.actor import Actor
from armillary.base.db import Row, Transaction
from armillary.base.errors import NotAuthenticated
from armillary.base.ids import new_id
from armillary.base.wakes import TOKENS

OWNER = "owner"
OWNERS = "owners"


async def authenticate(tx: Transaction, secret: str) -> Actor:
    """Whose token this is; `NotAuthenticated` if nobody's."""
    found = await store.find(tx, token.digest(secret))
    if found is None or found.purpose == "sign-in":
        raise NotAuthenticated(
            "This token is unknown, expired or revoked.",
            "Take the one in <home>/owner-token, or sign in again.",
        )
    match found.purpose:
        case "worker":
            return Actor(f"worker:{found.worker_id}", found.group, False, "worker", found.pool, found.worker_id)
        case "worker-start":
            return Actor(f"pool:{found.pool}", found.group, False, "worker-start", found.pool, found.worker_id)
        case "pool":
            return Actor(f"pool:{found.pool}", found.group, False, "worker-start", found.pool, token=found.id)
        case "metrics":
            return Actor("metrics", "", kind="metrics")
        case _:
            return Actor(found.account, found.group, found.is_owner)


async def make_owner(tx: Transaction) -> str:
    """The owner and a first token for them."""
    await store.insert_owner(tx, OWNER, OWNERS)
    secret = token.make()
    await store.insert_token(tx, token.digest(secret), OWNER, "api", None)
    return secret


async def make_sign_in(tx: Transaction, account: str = OWNER) -> str:
    """A code that signs in once, soon."""
    secret = token.make()
    await store.insert_token(tx, token.digest(secret), account, "sign-in", token.SIGN_IN_LASTS)
    return secret


async def sign_in(tx: Transaction, code: str) -> str:
    """Exchange a one-time code for a session's token."""
    found = await store.find(tx, token.digest(code))
    if found is None or found.purpose != "sign-in" or not await store.revoke(tx, token.digest(code)):
        raise NotAuthenticated("This sign-in link was used or has expired.", "Run `armillary status` for a new one.")
    session = token.make()
    await store.insert_token(tx, token.digest(session), found.account, "session", token.SESSION_LASTS)
    return session


async def make_worker_token(
    tx: Transaction, pool: str, worker_id: UUID, *, start: bool = False, parent: UUID | None = None
) -> str:
    """A token that is good for one pool: to register a worker that was started, or for the worker itself."""
    secret = token.make()
    purpose: token.Purpose = "worker-start" if start else "worker"
    await store.insert_token(tx, token.digest(secret), OWNER, purpose, None, pool, worker_id, parent)
    return secret


async def make_pool_token(
    tx: Transaction, pool: str, title: str, made_by: str, lasts: timedelta | None
) -> tuple[UUID, str]:
    """A token that registers any number of workers of one pool; its id and itself."""
    secret, id_ = token.make(), new_id()
    await store.insert_pool_token(tx, token.digest(secret), OWNER, id_, pool, title, made_by, lasts)
    return id_, secret


async def make_metrics_token(tx: Transaction, account: str) -> str:
    """The one token that reads the metrics; the one before is revoked."""
    secret = token.make()
    await store.revoke_purpose(tx, "metrics")
    tx.wake(TOKENS)
    await store.insert_token(tx, token.digest(secret), account, "metrics", None)
    return secret


async def check_pool_token(tx: Transaction, id_: UUID) -> None:
    """Refuse a token that was revoked a moment ago: servers remember for a while whose a token is."""
    if not await store.is_in_force(tx, id_):
        raise NotAuthenticated("This token is expired or revoked.", "Ask for another: `armillary pool token make`.")


async def pool_tokens(tx: Transaction, pool: str) -> list[Row]:
    """The tokens of a pool, newest first, each with the number of workers that hold one of its children."""
    return await store.pool_tokens(tx, pool)


async def revoke_pool_token(tx: Transaction, pool: str, id_: UUID) -> list[UUID] | None:
    """Revoke it and those of its workers, whose ids are returned; None if it is not in force."""
    tx.wake(TOKENS)
    return await store.revoke_pool_token(tx, pool, id_)


async def revoke_worker_tokens(tx: Transaction, worker_id: UUID) -> None:
    """From now on the worker is nobody."""
    await store.revoke_worker(tx, worker_id)
