"""NASA's Cloud Notification Mechanism 1.6.1: submission messages out (CNM-S), responses in (CNM-R). Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from armillary.base import clock
from armillary.base.errors import UsageError

VERSION = "1.6.1"
TYPES = {"data": "data", "metadata": "metadata", "overview": "browse", "thumbnail": "browse"}


def submission(
    identifier: str,
    product: Mapping[str, Any],
    files: Sequence[Mapping[str, Any]],
    notify: Mapping[str, Any],
    submitted_at: datetime,
) -> dict[str, Any]:
    """A CNM-S message for a product and the files that were sent: {name, uri, size, sha256, roles} each."""
    return {
        "version": VERSION,
        "provider": notify["provider"],
        "collection": notify.get("collection") or product["collection"],
        "submissionTime": clock.iso(submitted_at),
        "identifier": identifier,
        **({"trace": notify["trace"]} if notify.get("trace") else {}),
        "product": {
            "name": product["id"],
            "dataVersion": str(notify.get("data_version") or product["revision"]),
            "files": [
                {
                    "type": _type(file.get("roles", ())),
                    "uri": file["uri"],
                    "name": file["name"],
                    "checksumType": "SHA256",
                    "checksum": file["sha256"],
                    "size": file["size"],
                }
                for file in files
            ],
        },
    }


def read_response(message: Mapping[str, Any]) -> tuple[str, bool, str]:
    """A CNM-R message as (identifier, whether it succeeded, the reason given)."""
    response = message.get("response")
    identifier = message.get("identifier")
    if not isinstance(identifier, str) or not isinstance(response, Mapping):
        raise UsageError("This is no CNM-R message.", "It needs an identifier and a response.", field="response")
    status = response.get("status")
    if status not in ("SUCCESS", "FAILURE"):
        raise UsageError(f"response.status is {status!r}.", "It is SUCCESS or FAILURE.", field="response.status")
    code, text = response.get("errorCode"), response.get("errorMessage")
    return identifier, status == "SUCCESS", ": ".join(str(part) for part in (code, text) if part)


def _type(roles: Any) -> str:
    return next((TYPES[role] for role in roles if role in TYPES), "data")
