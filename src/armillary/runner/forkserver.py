"""The parent of warm functions: it imports an algorithm's module once and forks a child for each job.

It is a program of its own, run as `python forkserver.py DESCRIPTOR module:function` by the algorithm's Python, which need
not know Armillary: the standard library is all that it uses. It has one thread, so that forking is safe, and does what it
is asked over the socket that it inherits; when the runner goes, the socket closes and it ends.
"""

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import socket
import sys
import tempfile
import threading
import traceback
from typing import Any

MARK = "ARMILLARY_JOB_FOLDER"
MAX_BYTES = 1 << 17
# Where this process's first environment lies: what the kernel shows of a child's, see `_mark`.
_libc = ctypes.CDLL(None)
_libc.getenv.restype = ctypes.c_void_p
_PLACE = _libc.getenv(MARK.encode())
_ROOM = len(ctypes.string_at(_PLACE)) + 1 if _PLACE else 0


def main() -> None:
    """Import the module, say so, and fork until the runner goes; a child returns from here with its exit code."""
    line = socket.socket(fileno=int(sys.argv[1]))
    target = sys.argv[2]
    # What fails here fails again in the job, where it is seen.
    with contextlib.suppress(BaseException):
        importlib.import_module(target.partition(":")[0])
    # What is imported stays: collectors of the children need not look at it, which would copy its pages into each.
    gc.collect()
    gc.freeze()
    line.send(b'{"ready": true}')
    while True:
        request, descriptors = receive(line)
        if request is None:
            return
        reading, writing = os.pipe()
        middle = os.fork()
        if middle == 0:
            # Forked twice, and the one between ends: the job's process belongs to the runner, the reaper of orphans.
            if (child := os.fork()) != 0:
                os.write(writing, str(child).encode())
                os._exit(0)
            for descriptor in (reading, writing, line.detach()):
                os.close(descriptor)
            os.setsid()
            if "line" in request:
                serve(socket.socket(fileno=descriptors[0]), target)
            else:
                begin(request, descriptors[0])
                sys.exit(call(target))
            return
        os.waitpid(middle, 0)
        os.close(writing)
        line.send(json.dumps({"pid": int(os.read(reading, 32))}).encode())
        for descriptor in (reading, *descriptors):
            os.close(descriptor)


def serve(line: socket.socket, target: str) -> None:
    """Run one job after another, as the runner sends them."""
    while True:
        request, descriptors = receive(line)
        if request is None:
            os._exit(0)
        _forget_peak_memory()
        before = _used()
        begin(request, descriptors[0])
        code = _exit_code(target)
        _libc.fflush(None)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.close(nothing)
        after = _used()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        said = {"code": code, "cpu_seconds": after - before, "memory_bytes": memory}
        # A thread that it left behind could disturb the next job.
        said["is_clean"] = threading.active_count() == 1
        line.send(json.dumps(said).encode())


def receive(line: socket.socket) -> "tuple[dict[str, Any] | None, list[int]]":
    """A request and the descriptors that come with it; nothing when the runner is gone."""
    try:
        data, extra, _, _ = line.recvmsg(MAX_BYTES, socket.CMSG_SPACE(array.array("i").itemsize))
    except ConnectionError:
        return None, []
    if not data:
        return None, []
    descriptors = array.array("i")
    for _, _, given in extra:
        descriptors.frombytes(given)
    return json.loads(data), list(descriptors)


def begin(request: dict[str, Any], output: int) -> None:
    """Become a job's process: its folder, its variables, its output."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _mark(request["folder"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)
    tempfile.tempdir = None  # it remembers that of the parent
    random.seed()
    # Children of one parent would all draw the same numbers.
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def call(target: str) -> Any:
    """Call the function with the job, as its own process would."""
    module, _, name = target.partition(":")
    with open("job.json", encoding="utf-8") as file:  # noqa: PTH123  (quicker)
        job = json.load(file)
    return getattr(importlib.import_module(module), name)(job)


def _exit_code(target: str) -> int:
    """What `sys.exit(call(target))` would have made of it."""
    try:
        said = call(target)
    except SystemExit as leaving:
        said = leaving.code
    except BaseException:  # noqa: BLE001  (any failure is the job's)
        traceback.print_exc()
        said = 1
    if said is not None and not isinstance(said, int):
        print(said, file=sys.stderr)
        said = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return int(said or 0) & 0xFF


def _mark(folder: str) -> None:
    """Let the kernel show the job's folder as a variable of this process, so that what it leaves can be told.

    `/proc/<pid>/environ` shows the memory that the program was started with: the place was made long enough for it.
    """
    mark = os.fsencode(folder) + b"\0"
    if len(mark) <= _ROOM:
        ctypes.memmove(_PLACE, mark, len(mark))


def _used() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _forget_peak_memory() -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, b"5")
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    # What is imported as the job's must not find this folder's modules.
    sys.path.pop(0)
    main()
