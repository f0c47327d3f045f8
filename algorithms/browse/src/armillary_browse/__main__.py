"""Run one job: `python -m armillary_browse job.json`, in the job's directory."""

import errno
import json
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from armillary_browse.failure import Failure
from armillary_browse.process import process

EXIT_CODES = {"input missing": 10, "science error": 11, "out of memory": 12, "out of disk": 13, "preempted": 15}


def main(arguments: list[str]) -> int:
    """Process the job and return its exit code; a failure is explained in error.json beside it."""
    job_file = Path(arguments[0] if arguments else "job.json")
    signal.signal(signal.SIGTERM, _preempted)
    try:
        process(json.loads(job_file.read_text()), job_file.parent)
    except Failure as failure:
        return _explained(failure, job_file.parent)
    except MemoryError:
        remedy = "Run it again with more memory."
        return _explained(Failure("out of memory", "The job needed more memory than it has.", remedy), job_file.parent)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        remedy = "Free some disk, or run it again with more."
        return _explained(Failure("out of disk", "There was no room for the outputs.", remedy), job_file.parent)
    return 0


def _preempted(*_: Any) -> NoReturn:
    raise Failure("preempted", "The job was asked to stop.", "It starts again by itself.")


def _explained(failure: Failure, folder: Path) -> int:
    explanation = {"class": failure.error_class, "message": failure.message, "remedy": failure.remedy}
    try:
        (folder / "error.json").write_text(json.dumps(explanation))
    except OSError:  # a full disk may not even take the reason
        print(json.dumps(explanation), file=sys.stderr)
    return EXIT_CODES[failure.error_class]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
