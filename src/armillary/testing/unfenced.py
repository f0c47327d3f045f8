"""A deliberately broken server, for proving that its lies are caught: whoever reports first is believed, dead or alive.

`python -m armillary.testing.unfenced` takes the arguments of `armillary.serve`. Three fences stand behind each other, and
all are off: the number of the lease, the attempt that an upload was opened for, and the token of a worker that is gone.
"""

from typing import Any
from unittest import mock

from armillary import serve


async def _keep(*_: Any) -> None:
    """Revoke nothing."""


def main() -> None:
    """Serve without fences."""
    with (
        mock.patch("armillary.jobs.finish.is_holder", lambda held, _worker, _number: held is not None),
        mock.patch("armillary.granules.ingest._check_open", return_value=None),
        mock.patch("armillary.pools.worker.revoke_worker_tokens", _keep),
    ):
        serve.main()


if __name__ == "__main__":
    main()
