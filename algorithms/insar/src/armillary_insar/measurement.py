"""Reads lines of a measurement file: straight from its bytes where it is laid out as the Sentinel-1 processor writes it."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.windows import Window as RasterWindow

from armillary_insar.errors import Refusal
from armillary_insar.safe import Burst, Product, Swath

Complexes = npt.NDArray[np.complex64]


class Measurement:
    """The samples of one subswath. Threads may share it: each read opens the file anew."""

    def __init__(self, product: Product, swath: Swath) -> None:
        self.name = f"{product.name}/{swath.measurement}"
        self.path = product.files.gdal_path(swath.measurement)
        self.shape = (swath.lines_per_burst * len(swath.bursts), swath.samples_per_burst)
        self._first_byte = None if product.files.zipped else _plain_layout(Path(self.path), self.shape)

    def lines(self, first: int, count: int) -> Complexes:
        """Lines [first, first + count) as complex64."""
        if self._first_byte is not None:
            # Read, not mapped: pages of a map would count as this process's memory for as long as it runs.
            width = self.shape[1] * 4
            block = np.fromfile(self.path, "<i2", count * width // 2, offset=self._first_byte + first * width)
            return block.astype(np.float32).view(np.complex64).reshape(count, self.shape[1])
        with self._open() as file:
            window = RasterWindow(0, first, self.shape[1], count)
            try:
                return np.asarray(file.read(1, window=window)).astype(np.complex64, copy=False)
            except RasterioError as error:
                raise self._truncated() from error

    def _open(self) -> Any:
        try:
            return rasterio.open(self.path)
        except RasterioIOError as error:
            raise Refusal(
                f"{self.name} cannot be opened as a TIFF.", "Fetch the product again.", "input missing"
            ) from error

    def _truncated(self) -> Refusal:
        return Refusal(f"{self.name} is truncated or damaged.", "Fetch the product again and compare its checksum.")

    def check(self, bursts: list[Burst], lines_per_burst: int) -> None:
        """Refuse a file of the wrong size, one that ends early, and bursts of nothing but zeros."""
        if self._first_byte is None:
            with self._open() as file:
                if (file.height, file.width) != self.shape:
                    raise Refusal(
                        f"{self.name} is {file.height} × {file.width}, its annotation says "
                        f"{self.shape[0]} × {self.shape[1]}.",
                        "Fetch the product again.",
                    )
        self.lines(self.shape[0] - 1, 1)
        for burst in bursts:
            top, bottom = burst.valid_lines
            probes = [burst.first_line + top + (bottom - top) * k // 4 for k in (1, 2, 3)]
            if bottom - top < lines_per_burst // 4 or not any(np.any(self.lines(p, 1)) for p in probes):
                raise Refusal(
                    f"Burst {burst.index + 1} of {self.name} holds only zeros.",
                    "The product is a placeholder or was not filled; fetch it again or leave the burst out.",
                )


def _plain_layout(path: Path, shape: tuple[int, int]) -> int | None:
    """First byte of the samples if the file is uncompressed complex int16 in one run of strips; None otherwise."""
    if not path.is_file():
        raise Refusal(f"{path.name} is missing from the product.", "Fetch the product again.", "input missing")
    tags = _tags(path)
    if tags.get(259) != [1] or tags.get(258) != [32] or tags.get(339) != [5]:
        return None
    offsets = np.array(tags.get(273, []))
    width = shape[1] * 4
    if tags.get(256) != [shape[1]] or tags.get(257) != [shape[0]] or tags.get(278, [1]) != [1]:
        return None
    if len(offsets) != shape[0] or np.any(np.diff(offsets) != width):
        return None
    needed = int(offsets[0]) + width * shape[0]
    if path.stat().st_size < needed:
        raise Refusal(
            f"{path.name} is truncated: {path.stat().st_size} of {needed} bytes.",
            "Fetch the product again and compare its checksum.",
        )
    return int(offsets[0])


def _tags(path: Path) -> dict[int, list[int]]:
    """The integer tags of the first directory of a little-endian classic TIFF (TIFF 6.0, section 2)."""
    kinds = {3: ("H", 2), 4: ("I", 4)}
    found: dict[int, list[int]] = {}
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"II*\0":
            return {}
        file.seek(struct.unpack("<I", head[4:])[0])
        first = file.read(2)
        table = file.read(12 * struct.unpack("<H", first)[0]) if len(first) == 2 else b""
        for at in range(0, len(table) - 11, 12):
            tag, kind, count, value = struct.unpack_from("<HHII", table, at)
            if kind not in kinds:
                continue
            letter, size = kinds[kind]
            if count * size <= 4:
                data = table[at + 8 : at + 8 + count * size]
            else:
                file.seek(value)
                data = file.read(count * size)
            if len(data) == count * size:
                found[tag] = list(struct.unpack(f"<{count}{letter}", data))
    return found
