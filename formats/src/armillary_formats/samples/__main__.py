"""The command that writes the samples and prints their paths."""

import argparse
from pathlib import Path

from armillary_formats.samples.scene import BURSTS, ORBITS_PER_CYCLE
from armillary_formats.samples.write import write


def main() -> None:
    """Write the samples and print the paths to ingest."""
    parser = argparse.ArgumentParser(
        prog="python -m armillary_formats.samples",
        description="Write small synthetic Sentinel-1 scenes, their orbit files and an elevation model.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--pairs", type=_count, default=1, metavar="N", help="of two dates, 12 days apart")
    parser.add_argument("--samples", type=_size, default=(512, 240), metavar="WxH", help="of each of three swaths")
    arguments = parser.parse_args()
    for path in write(arguments.folder, arguments.pairs, *arguments.samples):
        print(path)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= ORBITS_PER_CYCLE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pairs from 1 to {ORBITS_PER_CYCLE}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()) or int(width) < 16 or int(height) < 4 * BURSTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512x240 (at least 16x{4 * BURSTS})")
    return int(width), int(height)


if __name__ == "__main__":
    main()
