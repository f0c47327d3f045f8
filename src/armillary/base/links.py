"""Signed links: a path that works without a token until it expires."""

import hmac
import time
from datetime import timedelta
from hashlib import sha256
from urllib.parse import quote

from armillary.base.errors import NotAllowed


class Links:
    """Makes and checks links with this instance's key; what was signed with a former one is still good."""

    def __init__(self, key: bytes, *former: bytes) -> None:
        self._key = key
        self._accepted = (key, *former)

    def sign(self, path: str, expires: timedelta) -> str:
        """`path?expires=…&signature=…` for GET and HEAD; the path is percent-encoded already."""
        until = int(time.time() + expires.total_seconds())
        return f"{path}?expires={until}&signature={_signature(self._key, path, until)}"

    def check(self, path: str, expires: str | None, signature: str | None) -> bool:
        """Whether the link is good; without a signature it is simply no link. A bad or old one is refused."""
        if signature is None:
            return False
        until = int(expires) if (expires or "").isdecimal() and expires else None
        if until is None or not any(
            hmac.compare_digest(signature, _signature(key, path, until)) for key in self._accepted
        ):
            raise NotAllowed("This link was changed.", "Take a new one from where you found it.")
        if until < time.time():
            raise NotAllowed("This link has expired.", "Take a new one from where you found it.")
        return True


def _signature(key: bytes, path: str, until: int) -> str:
    return hmac.digest(key, f"GET\n{path}\n{until}".encode(), sha256).hex()


def file_path(key: str) -> str:
    """The server's path of a stored object. The key is percent-encoded once more, as it holds percent signs."""
    return f"/api/files/{quote(key)}"
