"""Find the server and the token: named outright, in the environment, or left by `armillary up` in its home."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from armillary.base.errors import UsageError


@dataclass(frozen=True)
class SignIn:
    """Whom to speak to, and as whom."""

    url: str
    token: str


def find(
    url: str | None = None,
    token: str | None = None,
    home: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> SignIn:
    """The sign-in that is meant: an argument beats the environment, which beats the files of the home.

    A token from the home's file goes only to the server that the same home names: never to another URL.
    """
    home = home or default_home(environment)
    given_url = url or environment.get("ARMILLARY_URL")
    given_token = token or environment.get("ARMILLARY_TOKEN")
    if given_token:
        return SignIn(_checked(given_url or _served_url(home)), given_token)
    served = _served_url(home) if given_url is None or (home / "run" / "server.json").exists() else None
    if given_url is not None and _checked(given_url) != served:
        raise UsageError(f"There is no token for {given_url}.", "Set ARMILLARY_TOKEN, or give --token.", field="token")
    assert served is not None
    return SignIn(served, _owner_token(home))


def default_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Where `armillary up` keeps its data unless told otherwise."""
    return Path(environment.get("ARMILLARY_HOME") or Path("~/.armillary").expanduser())


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not the URL of a server.", "Write it as http://HOST:PORT.", field="url")
    return url.rstrip("/")


def _served_url(home: Path) -> str:
    file = home / "run" / "server.json"
    try:
        return _checked(str(json.loads(file.read_bytes())["url"]))
    except FileNotFoundError as error:
        raise UsageError(
            f"No server runs on {home}.",
            "Start one with `armillary up`, or name one by ARMILLARY_URL and ARMILLARY_TOKEN.",
            field="url",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.", "Start the server again.", field="home") from error


def _owner_token(home: Path) -> str:
    file = home / "owner-token"
    try:
        return file.read_text().strip()
    except OSError as error:
        raise UsageError(
            f"The owner's token {file} cannot be read: {error.strerror}.",
            "Set ARMILLARY_TOKEN to a token of your own.",
            field="token",
        ) from error
