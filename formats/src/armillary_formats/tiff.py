"""Is a TIFF whole? GDAL opens a file that was cut behind its directory and fails at the pixels; this looks.

The layout is TIFF 6.0's and BigTIFF's: a header and a chain of directories, each with the offsets and sizes
of its strips or tiles.
"""

import io
import struct
from dataclasses import dataclass
from typing import IO

from armillary_formats.refusal import Refused

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
CODES = {3: "H", 4: "L", 16: "Q"}  # the field types that offsets and sizes may have
BLOCK_TAGS = {273: 279, 324: 325}  # offsets of strips, tiles: their sizes
MOST_DIRECTORIES = 256
MOST_BLOCKS = 4_000_000


def check(stream: IO[bytes], size_bytes: int, name: str) -> None:
    """Refuse a file that is no TIFF or whose directories or pixels lie beyond its end.

    A stream that cannot seek cheaply (a compressed member of a zip) is checked in its header alone.
    """
    header = stream.read(16)
    layout = _layout(header)
    if layout is None:
        raise Refused(f"{name} is empty." if size_bytes == 0 else f"{name} is not a TIFF.")
    if not isinstance(stream, io.BufferedReader):
        return
    offset = layout.first(header)
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) > MOST_DIRECTORIES:
            raise Refused(f"{name} is not a TIFF that can be read: its directories run in a circle.")
        seen.add(offset)
        entries, offset = _directory(stream, layout, offset, size_bytes, name)
        _check_values(layout, entries, size_bytes, name)
        _check_blocks(stream, layout, entries, size_bytes, name)
    if not seen:
        raise Refused(f"{name} is not a whole TIFF: it has no directory.")


@dataclass(frozen=True)
class _Layout:
    order: str
    big: bool

    def first(self, header: bytes) -> int:
        (offset,) = struct.unpack_from(self.order + ("Q" if self.big else "L"), header, 8 if self.big else 4)
        return int(offset)

    def offset(self, entry: "_Entry") -> int:
        (offset,) = struct.unpack(self.order + ("Q" if self.big else "L"), entry.value)
        return int(offset)


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    value: bytes


def _layout(header: bytes) -> _Layout | None:
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    if order is None or len(header) < 16:
        return None
    (version,) = struct.unpack_from(order + "H", header, 2)
    return _Layout(order, version == 43) if version in (42, 43) else None


def _directory(
    stream: IO[bytes], layout: _Layout, offset: int, size_bytes: int, name: str
) -> tuple[dict[int, _Entry], int]:
    count_code, entry_code, next_code = ("Q", "HHQ8s", "Q") if layout.big else ("H", "HHL4s", "L")
    count_size = struct.calcsize("<" + count_code)
    entry_size = struct.calcsize("<" + entry_code)
    stream.seek(offset)
    start = stream.read(count_size)
    if len(start) < count_size:
        raise _cut(name, offset + count_size, size_bytes)
    (count,) = struct.unpack(layout.order + count_code, start)
    end = offset + count_size + count * entry_size + struct.calcsize("<" + next_code)
    if end > size_bytes or count > 65_535:
        raise _cut(name, end, size_bytes)
    body = stream.read(end - offset - count_size)
    fields = (struct.unpack_from(layout.order + entry_code, body, i * entry_size) for i in range(count))
    entries = {tag: _Entry(kind, number, value) for tag, kind, number, value in fields}
    (following,) = struct.unpack_from(layout.order + next_code, body, count * entry_size)
    return entries, following


def _check_values(layout: _Layout, entries: dict[int, _Entry], size_bytes: int, name: str) -> None:
    """A value that does not fit into its entry stands elsewhere in the file."""
    for entry in entries.values():
        length = SIZES.get(entry.kind, 1) * entry.count
        if length > len(entry.value) and layout.offset(entry) + length > size_bytes:
            raise _cut(name, layout.offset(entry) + length, size_bytes)


def _check_blocks(stream: IO[bytes], layout: _Layout, entries: dict[int, _Entry], size_bytes: int, name: str) -> None:
    for offsets_tag, sizes_tag in BLOCK_TAGS.items():
        if offsets_tag in entries and sizes_tag in entries:
            offsets = _numbers(stream, layout, entries[offsets_tag], name)
            sizes = _numbers(stream, layout, entries[sizes_tag], name)
            end = max((at + size for at, size in zip(offsets, sizes, strict=False) if at and size), default=0)
            if end > size_bytes:
                raise _cut(name, end, size_bytes)


def _numbers(stream: IO[bytes], layout: _Layout, entry: _Entry, name: str) -> tuple[int, ...]:
    if entry.kind not in CODES or entry.count > MOST_BLOCKS:
        raise Refused(f"{name} is not a TIFF that can be read: its table of pixel blocks is malformed.")
    length = SIZES[entry.kind] * entry.count
    data = entry.value[:length]
    if length > len(entry.value):
        stream.seek(layout.offset(entry))
        data = stream.read(length)
    return struct.unpack(f"{layout.order}{entry.count}{CODES[entry.kind]}", data)


def _cut(name: str, needed_bytes: int, size_bytes: int) -> Refused:
    return Refused(f"{name} is cut short: it refers to byte {needed_bytes} and has {size_bytes}.")
