"""The few kinds of failure; each says who must act, what happened and what to do about it."""

import errno
from typing import Any, ClassVar


class ArmillaryError(Exception):
    """A failure with a sentence for the person and a remedy; anything else that is raised is our bug."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, remedy: str = "", *, field: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.field = field
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def problem(self) -> dict[str, Any]:
        """The error as RFC 9457 problem details."""
        body: dict[str, Any] = {
            "type": f"urn:armillary:error:{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.message,
        }
        if self.remedy:
            body["remedy"] = self.remedy
        if self.field:
            body["field"] = self.field
        return body | ({"details": self.details} if self.details else {})


class UsageError(ArmillaryError):
    """The request cannot be meant; its author changes it."""

    status = 422
    exit_code = 2
    kind = "usage"


class NotAuthenticated(ArmillaryError):
    """Nobody is signed in; the caller brings a token."""

    status = 401
    exit_code = 3
    kind = "not-authenticated"


class NotAllowed(ArmillaryError):
    """The caller may not do this; an owner grants it."""

    status = 403
    exit_code = 3
    kind = "not-allowed"


class NotFound(ArmillaryError):
    """What was named is not there, or not for this caller to see."""

    status = 404
    exit_code = 4
    kind = "not-found"


class Conflict(ArmillaryError):
    """The request contradicts what is stored."""

    status = 409
    exit_code = 5
    kind = "conflict"


class TransientError(ArmillaryError):
    """Nobody has to act: the same request will work later."""

    status = 503
    exit_code = 6
    kind = "transient"


KINDS: dict[str, type[ArmillaryError]] = {
    cls.kind: cls
    for cls in (ArmillaryError, UsageError, NotAuthenticated, NotAllowed, NotFound, Conflict, TransientError)
}


FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def disk_error(error: OSError, whose: str) -> TransientError:
    """What a disk refused, for whoever can give it space: `whose` is as in "The store"."""
    if error.errno in FULL_DISK:
        return TransientError(f"{whose}'s disk is full.", "Free some space, or give it a larger disk.")
    return TransientError(f"{whose} could not be written: {error}.", "Check its disk and permissions.")


def from_problem(body: dict[str, Any]) -> ArmillaryError:
    """The error that a server described, as the same class here."""
    kind = str(body.get("type", "")).rpartition(":")[2]
    cls = KINDS.get(kind, ArmillaryError)
    return cls(
        str(body.get("detail", "The server gave no reason.")),
        str(body.get("remedy", "")),
        field=body.get("field"),
        **body.get("details", {}),
    )
