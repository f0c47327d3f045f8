"""Signed links: a path that works without a token until it expires."""

import hmac
import time
from datetime import timedelta
from hashlib import sha256
from urllib.parse import quote

from armillary.base.errors import NotAllowed


class Links:
    """Makes and checks links with this instance's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, path: str, expires: timedelta) -> str:
        """`path?expires=…&signature=…` for GET and HEAD; the path is percent-encoded already."""
        until = int(time.time() + expires.total_seconds())
        return f"{path}?expires={until}&signature={self._signature(path, until)}"

    def check(self, path: str, expires: str | None, signature: str | None) -> bool:
        """Whether the link is good; without a signature it is simply no link. A bad or old one is refused."""
        if signature is None:
            return False
        if not (expires or "").isdecimal() or not hmac.compare_digest(
            signature, self._signature(path, int(expires or 0))
        ):
            raise NotAllowed("This link was changed.", "Take a new one from where you found it.")
        if int(expires or 0) < time.time():
            raise NotAllowed("This link has expired.", "Take a new one from where you found it.")
        return True

    def _signature(self, path: str, until: int) -> str:
        return hmac.digest(self._key, f"GET\n{path}\n{until}".encode(), sha256).hex()


def file_path(key: str) -> str:
    """The server's path of a stored object. The key is percent-encoded once more, as it holds percent signs."""
    return f"/api/files/{quote(key)}"
