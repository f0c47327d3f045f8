"""The SQL of accounts."""

from datetime import timedelta
from uuid import UUID

from armillary.accounts.token import Purpose, Token
from armillary.base.db import Transaction


async def insert_owner(tx: Transaction, account: str, group: str) -> None:
    """Make the first group and its owner, if they are not there."""
    await tx.execute(
        "insert into user_group (id, title) values (%s, 'Owners of this instance') on conflict do nothing",
        [group],
    )
    await tx.execute(
        'insert into account (id, "group", is_owner) values (%s, %s, true) on conflict do nothing',
        [account, group],
    )


async def insert_token(
    tx: Transaction,
    token_hash: bytes,
    account: str,
    purpose: Purpose,
    lasts: timedelta | None,
    pool: str | None = None,
    worker_id: UUID | None = None,
) -> None:
    """Store a token's hash."""
    await tx.execute(
        """insert into token (hash, account, purpose, expires_at, pool, worker_id)
           values (%s, %s, %s, armillary_now() + %s, %s, %s)""",
        [token_hash, account, purpose, lasts, pool, worker_id],
    )


async def find(tx: Transaction, token_hash: bytes) -> Token | None:
    """A token that is neither expired nor revoked."""
    return await tx.one(
        Token,
        """select account, account."group", is_owner, purpose, pool, worker_id from token
           join account on account.id = token.account
           where hash = %s and revoked_at is null and (expires_at is null or expires_at > armillary_now())""",
        [token_hash],
    )


async def revoke(tx: Transaction, token_hash: bytes) -> bool:
    """Whether the token was good until now."""
    return bool(
        await tx.execute(
            """update token set revoked_at = armillary_now()
               where hash = %s and revoked_at is null and (expires_at is null or expires_at > armillary_now())""",
            [token_hash],
        )
    )


async def revoke_worker(tx: Transaction, worker_id: UUID) -> None:
    """Revoke every token of a worker."""
    await tx.execute(
        "update token set revoked_at = armillary_now() where worker_id = %s and revoked_at is null",
        [worker_id],
    )
