"""The SQL of accounts."""

from datetime import timedelta
from uuid import UUID

from armillary.accounts.token import Purpose, Token
from armillary.base.db import Row, Transaction


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
    parent: UUID | None = None,
) -> None:
    """Store a token's hash."""
    await tx.execute(
        """insert into token (hash, account, purpose, expires_at, pool, worker_id, parent)
           values (%s, %s, %s, armillary_now() + %s, %s, %s, %s)""",
        [token_hash, account, purpose, lasts, pool, worker_id, parent],
    )


async def insert_pool_token(
    tx: Transaction,
    token_hash: bytes,
    account: str,
    id_: UUID,
    pool: str,
    title: str,
    made_by: str,
    lasts: timedelta | None,
) -> None:
    """Store the hash of a pool's token."""
    await tx.execute(
        """insert into token (hash, account, purpose, id, pool, title, made_by, expires_at)
           values (%s, %s, 'pool', %s, %s, %s, %s, armillary_now() + %s)""",
        [token_hash, account, id_, pool, title, made_by, lasts],
    )


async def is_in_force(tx: Transaction, id_: UUID) -> bool:
    """Whether a pool's token is neither expired nor revoked; it cannot be revoked until the transaction ends."""
    return bool(
        await tx.rows(
            """select from token where id = %s and revoked_at is null
               and (expires_at is null or expires_at > armillary_now()) for share""",
            [id_],
        )
    )


async def pool_tokens(tx: Transaction, pool: str) -> list[Row]:
    """The tokens of a pool, newest first, with how many tokens of workers came of each."""
    return await tx.rows(
        """select id, title, made_by, created_at, expires_at, revoked_at,
                  coalesce(expires_at <= armillary_now(), false) as is_expired,
                  (select count(*) from token as child where child.parent = token.id and child.revoked_at is null) as workers
           from token where purpose = 'pool' and pool = %s order by created_at desc, id desc""",
        [pool],
    )


async def revoke_pool_token(tx: Transaction, pool: str, id_: UUID) -> list[UUID] | None:
    """Revoke a token and its children; the workers of those, or None if it was not in force."""
    done = await tx.execute(
        "update token set revoked_at = armillary_now() where id = %s and pool = %s and revoked_at is null", [id_, pool]
    )
    if not done:
        return None
    rows = await tx.rows(
        """update token set revoked_at = armillary_now() where parent = %s and revoked_at is null
           returning worker_id""",
        [id_],
    )
    return [row["worker_id"] for row in rows]


async def find(tx: Transaction, token_hash: bytes) -> Token | None:
    """A token that is neither expired nor revoked."""
    return await tx.one(
        Token,
        """select account, account."group", is_owner, purpose, pool, worker_id, token.id from token
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


async def revoke_purpose(tx: Transaction, purpose: Purpose) -> None:
    """Revoke every token of a purpose."""
    await tx.execute(
        "update token set revoked_at = armillary_now() where purpose = %s and revoked_at is null", [purpose]
    )


async def revoke_worker(tx: Transaction, worker_id: UUID) -> None:
    """Revoke every token of a worker."""
    await tx.execute(
        "update token set revoked_at = armillary_now() where worker_id = %s and revoked_at is null",
        [worker_id],
    )
