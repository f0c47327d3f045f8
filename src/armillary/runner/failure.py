"""A step of an attempt that did not succeed: its class decides whether another attempt is worth it."""

import errno

from armillary.algorithms.algorithm import ErrorClass
from armillary.base.errors import ArmillaryError, TransientError


class AttemptError(Exception):
    """The attempt ends here, for this reason."""

    def __init__(self, error_class: ErrorClass, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.error_class = error_class
        self.reason = reason
        self.remedy = remedy


class StoppedError(Exception):
    """Somebody asked for the attempt to stop."""


def from_os_error(error: OSError, doing: str) -> AttemptError:
    """A full disk is told from all else that can be wrong with one."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AttemptError(
            ErrorClass.OUT_OF_DISK, f"The worker's disk is full: {doing} failed.", "Give the worker a larger disk."
        )
    return AttemptError(ErrorClass.INFRASTRUCTURE, f"{doing} failed: {error}.", "Look at the worker's disk.")


def from_error(error: ArmillaryError, doing: str) -> AttemptError:
    """What the server or the network would not do."""
    if isinstance(error, TransientError) and "disk is full" in error.message:
        return AttemptError(ErrorClass.INFRASTRUCTURE, f"{doing} failed: {error.message}", error.remedy)
    return AttemptError(ErrorClass.INFRASTRUCTURE, f"{doing} failed: {error.message}", error.remedy)
