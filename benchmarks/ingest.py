"""How fast files come in, beside `cp` with `openssl dgst -sha256`, both synced: one large file, and many small ones.

Ours finds, recognises, checksums, copies and catalogues each file, synced before its commit; the peer copies and
checksums, then syncs once. Both read files that the page cache holds, write to the same disk, and take turns. Before each,
as many bytes are written and deleted: on a virtual machine memory that is used for the first time costs several times more.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import Instance, conclude, median, table

from armillary.client.ingest import Ingest, Options, Silence

QUICK = ("--large", "8", "--files", "50", "--rounds", "1")


def main() -> None:
    """Measure both, in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--files", type=int, default=10_000, help="small files, of 10 KiB")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if not shutil.which("openssl"):
        raise SystemExit("This needs openssl, the peer.")
    with tempfile.TemporaryDirectory(prefix="armillary-bench-", dir=os.environ.get("ARMILLARY_BENCH_DISK")) as name:
        folder = Path(name)
        with Instance(folder / "home") as instance:
            instance.apply({"kind": "collection", "id": "raw", "recognise": {"name": r"\.raw$"}})
            large = [compare(instance, folder, f"large-{n}", 1, chosen.large << 20) for n in range(chosen.rounds)]
            small = [compare(instance, folder, f"small-{n}", chosen.files, 10 << 10) for n in range(chosen.rounds)]
    report(large, small, chosen.large, chosen.files)


def compare(instance: Instance, folder: Path, name: str, count: int, size: int) -> tuple[float, float]:
    """Seconds of ours and of the peer's, for fresh files."""
    source = folder / name
    source.mkdir()
    for number in range(count):
        write(source / f"{name}-{number:06}.raw", size)
    os.sync()
    warm(folder, count * size)
    ours = seconds(lambda: ingest(instance, source, count))
    warm(folder, count * size)
    peers = seconds(lambda: peer(source, folder / "copy"))
    shutil.rmtree(source)
    shutil.rmtree(folder / "copy")
    os.sync()
    return ours, peers


def warm(folder: Path, size: int) -> None:
    """Have as much memory in hand as will be written."""
    write(folder / "warm", size)
    os.sync()
    (folder / "warm").unlink()


def write(path: Path, size: int) -> None:
    """A file of random bytes."""
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, 1 << 20)))


def ingest(instance: Instance, source: Path, count: int) -> None:
    """All files of a folder, catalogued."""
    with instance.client() as client, Ingest(client, Options(), Silence()) as run:
        outcomes = run.ingest([source])
    created = sum(one.state == "created" for one in outcomes)
    if created != count:
        raise RuntimeError(f"{created} of {count} files were taken; {outcomes[0]}")


def peer(source: Path, copy: Path) -> None:
    """cp, openssl, sync; a few processes for all files."""
    subprocess.run(["cp", "-r", source, copy], check=True)
    find = subprocess.Popen(["find", source, "-type", "f", "-print0"], stdout=subprocess.PIPE)
    digest = ["xargs", "-0", "openssl", "dgst", "-sha256", "-r"]
    subprocess.run(digest, stdin=find.stdout, stdout=subprocess.DEVNULL, check=True)
    find.wait()
    subprocess.run(["sync", "-f", copy], check=True)


def seconds(work: Callable[[], None]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report(large: list[tuple[float, float]], small: list[tuple[float, float]], megabytes: int, files: int) -> None:
    """A table, and one line of JSON; the ratio is the median over the rounds."""
    ratios = [median([peers / ours for ours, peers in rounds]) for rounds in (large, small)]
    rates = [[amount / median([one[at] for one in rounds]) for at in (0, 1)]
             for amount, rounds in ((megabytes, large), (files, small))]  # fmt: skip
    table(
        ["", "ours", "cp + openssl", "of the peer's"],
        [
            [f"one file of {megabytes} MiB, MiB/s", *(f"{rate:.0f}" for rate in rates[0]), f"{ratios[0]:.2f}"],
            [f"{files:,} files of 10 KiB, files/s", *(f"{rate:.0f}" for rate in rates[1]), f"{ratios[1]:.2f}"],
        ],
    )
    conclude(
        large={"MiB_per_second": round(rates[0][0], 1), "of_peer": round(ratios[0], 2)},
        small={"files_per_second": round(rates[1][0], 1), "of_peer": round(ratios[1], 2)},
    )


if __name__ == "__main__":
    main()
