"""The process that reads files for others: JSON lines on standard input, JSON lines on standard output.

It starts with the standard library alone and loads what a reader needs at that reader's first call. What a
reader prints goes to standard error, so that it cannot be taken for an answer.

    {"call": 1, "read": "sentinel-1-safe", "path": "/…"}             → {"call": 1, "metadata": {…}}
    {"call": 2, "browse": "module:function", "path": "/…", "out": "/…"} → {"call": 2, "browse": "/…"}
    and where it fails → {"call": 1, "error": {"message": "…", "kind": "refused" | "failed", "detail": "…"}}
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

FRAMES = ("earth", "sky", "none")
MOST_DETAIL = 4000
MOST_ANSWER_BYTES = 8 * 1024**2
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Answer requests until standard input ends."""
    requests, answers = _protected_streams()
    _die_with_parent()
    _limit_memory(arguments)
    for line in requests:
        if line.strip():
            answers.write(_line(answer(line)))
            answers.flush()


class CallError(Exception):
    """A call that cannot be answered; `kind` says whether the file or the reader is to blame."""

    def __init__(self, message: str, kind: str = "failed", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.detail = detail[-MOST_DETAIL:]


def answer(line: bytes) -> dict[str, Any]:
    """The answer to one request, whatever the line holds and whatever the reader does."""
    call: int | str | None = None
    try:
        request = _object(line)
        call = _call(request)
        _check(request)
        result = {"metadata": _read(request)} if "read" in request else {"browse": _browse(request)}
    except CallError as failure:
        error = {"message": failure.message, "kind": failure.kind, "detail": failure.detail}
        return {"call": call, "error": error}
    return {"call": call, **result}


def _object(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CallError("The line is not a request: it is not JSON.", detail=str(error)) from error
    if not isinstance(request, dict):
        raise CallError("The line is not a request: it is not a JSON object.")
    return request


def _call(request: dict[str, Any]) -> int | str | None:
    call = request.get("call")
    if call is None or (isinstance(call, int | str) and not isinstance(call, bool)):
        return call
    raise CallError("The field 'call' of a request is a number or a text.")


def _check(request: dict[str, Any]) -> None:
    if ("read" in request) == ("browse" in request):
        raise CallError("A request has either 'read' or 'browse'.")
    for field in ("path", "out") if "browse" in request else ("path",):
        text = request.get(field)
        if not isinstance(text, str) or not text or "\0" in text:
            raise CallError(f"The field '{field}' of a request is a path.")


def _read(request: dict[str, Any]) -> dict[str, Any]:
    reader, path = request["read"], Path(request["path"])
    if isinstance(reader, dict):
        metadata = _run_command(reader, path)
    else:
        metadata = _guarded(reader, _function(reader, "armillary.metadata"), path)
    return _checked(metadata, reader)


def _browse(request: dict[str, Any]) -> str:
    out = Path(request["out"])
    _guarded(request["browse"], _function(request["browse"], "armillary.browse"), Path(request["path"]), out)
    if not out.is_file() or not out.stat().st_size:
        raise CallError(f"{request['browse']} returned without writing a picture.")
    return str(out)


def _guarded(name: str, function: Callable[..., Any], *arguments: Path) -> Any:
    import traceback

    try:
        return function(*arguments)
    except ValueError as error:  # the contract: a reader refuses a file with a ValueError that says why
        message = str(error) or f"{name} refused {arguments[0].name} without a reason."
        raise CallError(message, "refused", traceback.format_exc()) from error
    except MemoryError as error:
        message = f"{name} needed more memory than it may have for {arguments[0].name}."
        raise CallError(message, detail=traceback.format_exc()) from error
    except (Exception, SystemExit) as error:  # whatever a plug-in raises, the worker must answer
        message = f"{name} failed on {arguments[0].name}: {type(error).__name__}: {error}"
        raise CallError(message, detail=traceback.format_exc()) from error


def _function(name: Any, group: str) -> Callable[..., Any]:
    """The function that "module:function" names, or an entry point of the group."""
    import importlib
    from importlib import metadata

    if not isinstance(name, str):
        raise CallError("A reader is a name, 'module:function' or {'command': [program, arguments]}.")
    try:
        if ":" in name:
            module, _, attribute = name.partition(":")
            function = getattr(importlib.import_module(module), attribute)
        else:
            found = tuple(metadata.entry_points(group=group, name=name))
            if not found:
                known = sorted(metadata.entry_points(group=group).names)
                raise CallError(f"No reader is named '{name}'. There are: {', '.join(known) or 'none'}.")
            if len({point.value for point in found}) > 1:
                several = ", ".join(point.value for point in found)
                raise CallError(f"Several distributions bring a reader '{name}': {several}.")
            function = found[0].load()
    except CallError:
        raise
    except (Exception, SystemExit) as error:  # importing runs whatever the module holds
        raise CallError(f"'{name}' cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise CallError(f"'{name}' is not a function.")
    return function  # type: ignore[no-any-return]


def _run_command(reader: dict[str, Any], path: Path) -> Any:
    """What a command prints, as JSON; it gets the path in place of `{path}`."""
    import subprocess

    command = reader.get("command")
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise CallError("The field 'command' of a reader is a list of texts, the program first.")
    words = [word.replace("{path}", str(path)) for word in command]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, check=False, preexec_fn=_die_with_parent
        )
    except (OSError, ValueError) as error:
        raise CallError(f"The command {command[0]} cannot be started: {error}.") from error
    printed, detail = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode:
        reason = (detail.strip() or printed.strip() or "it said nothing").splitlines()[-1]
        message = f"The command {command[0]} ended with code {done.returncode} on {path.name}: {reason[:400]}"
        raise CallError(message, "refused" if done.returncode > 0 else "failed", detail)
    try:
        return json.loads(done.stdout)
    except (ValueError, RecursionError) as error:
        message = f"The command {command[0]} printed {printed[:200]!r}, which is not JSON."
        raise CallError(message, detail=detail) from error


def _checked(metadata: Any, reader: Any) -> dict[str, Any]:
    """The shape of a partial STAC item; what the values mean is the catalogue's to check."""
    name = reader if isinstance(reader, str) else reader["command"][0]
    if not isinstance(metadata, dict):
        raise CallError(f"{name} gave {type(metadata).__name__} where an object with 'properties' is expected.")
    if not isinstance(metadata.get("properties"), dict):
        raise CallError(f"The metadata of {name} have no object 'properties'.")
    geometry = metadata.setdefault("geometry", None)
    frame = metadata.setdefault("frame", "none" if geometry is None else "earth")
    if frame not in FRAMES:
        raise CallError(f"The metadata of {name} have the frame {frame!r}; there are: {', '.join(FRAMES)}.")
    try:
        text = json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CallError(f"The metadata of {name} are not JSON: {error}.") from error
    if len(text) > MOST_ANSWER_BYTES:
        size = f"{len(text)} characters; at most {MOST_ANSWER_BYTES} are taken"
        raise CallError(f"The metadata of {name} have {size}.")
    return metadata


def _line(content: dict[str, Any]) -> bytes:
    # ASCII only: an answer stays one line and valid UTF-8 whatever characters a file's name or text holds.
    return json.dumps(content).encode() + b"\n"


def _protected_streams() -> tuple[BinaryIO, BinaryIO]:
    """The protocol's streams, moved to where no print and no child process reaches them."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _die_with_parent() -> None:
    """On Linux, ask to be killed with whoever started us, so that no reader outlives its client."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit_memory(arguments: list[str]) -> None:
    import resource

    if "--memory-bytes" in arguments:
        limit = int(arguments[arguments.index("--memory-bytes") + 1])
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1:])
