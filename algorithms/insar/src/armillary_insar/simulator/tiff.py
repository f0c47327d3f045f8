"""Writes measurement files laid out as the Sentinel-1 processor does: one uncompressed strip of complex int16 a line."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def data_offset(lines: int) -> int:
    """First byte of the samples: after the header, two tables of one number a line, and 307 bytes for the tags."""
    return 8 + 8 * lines + 307


def create(path: Path, lines: int, samples: int, description: str) -> "np.memmap[Any, np.dtype[np.int16]]":
    """A file of zeros, sparse where the file system can, returned as a writable (lines, samples, 2) map."""
    first, width = data_offset(lines), samples * 4
    offsets = (first + width * np.arange(lines, dtype=np.uint64)).astype("<u4").tobytes()
    counts = np.full(lines, width, "<u4").tobytes()
    text = description.encode()[:80] + b"\0"
    ifd_at = 8 + len(offsets) + len(counts)
    tags = [
        (256, 4, 1, samples),
        (257, 4, 1, lines),
        (258, 3, 1, 32),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (270, 2, len(text), 0),
        (273, 4, lines, 8),
        (277, 3, 1, 1),
        (278, 4, 1, 1),
        (279, 4, lines, 8 + len(offsets)),
        (284, 3, 1, 1),
        (339, 3, 1, 5),
    ]  # SampleFormat 5: complex integer
    text_at = ifd_at + 2 + 12 * len(tags) + 4
    packed = b"".join(
        struct.pack("<HHII", tag, kind, count, text_at if tag == 270 else value) for tag, kind, count, value in tags
    )
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, ifd_at) + offsets + counts)
        file.write(struct.pack("<H", len(tags)) + packed + struct.pack("<I", 0) + text)
        file.truncate(first + width * lines)
    return np.memmap(path, np.int16, "r+", offset=first, shape=(lines, samples, 2))


def quantise(samples: npt.NDArray[np.complex64], scale: float) -> npt.NDArray[np.int16]:
    """Rounded and clipped 16-bit real and imaginary parts, (..., 2)."""
    pairs = samples.view(np.float32).reshape(*samples.shape, 2) * np.float32(scale)
    return np.asarray(np.clip(np.rint(pairs), -32767, 32767), np.int16)
