"""Tokens: 256 random bits for whoever holds them, their SHA-256 for the database."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

Purpose = Literal["api", "session", "sign-in", "worker-start", "worker", "pool", "metrics"]

PREFIX = "arm_"
SIGN_IN_LASTS = timedelta(minutes=15)
SESSION_LASTS = timedelta(days=7)


@dataclass(frozen=True)
class Token:
    """What is stored of a token."""

    account: str
    group: str
    is_owner: bool
    purpose: Purpose
    pool: str | None
    worker_id: UUID | None
    id: UUID | None = None  # of a pool's token, so that it can be named without being known


def make() -> str:
    """A new token; whoever asked for it is the only one who ever sees it."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """What is stored and looked up."""
    return hashlib.sha256(token.encode()).digest()
