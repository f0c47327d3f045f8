"""Tokens in, actors out: the owner's at first start, one-time sign-ins, sessions, and those of workers."""

from uuid import UUID

from armillary.accounts import store, token
from armillary.accounts.actor import Actor
from armillary.base.db import Transaction
from armillary.base.errors import NotAuthenticated

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


async def make_worker_token(tx: Transaction, pool: str, worker_id: UUID, *, start: bool = False) -> str:
    """A token that is good for one pool: to register a worker that was started, or for the worker itself."""
    secret = token.make()
    purpose: token.Purpose = "worker-start" if start else "worker"
    await store.insert_token(tx, token.digest(secret), OWNER, purpose, None, pool, worker_id)
    return secret


async def revoke_worker_tokens(tx: Transaction, worker_id: UUID) -> None:
    """From now on the worker is nobody."""
    await store.revoke_worker(tx, worker_id)
