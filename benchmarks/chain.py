"""How many granules a second go the whole way: ingest, rule, job, product; beside the bare steps in the same run.

One client ingests files of 1 KiB. A rule runs one small program for each, which writes a product of 1 KiB; counted is what
is published, with fsync on, while a bounded backlog keeps every part busy. Beside it: the same with a metadata reader in a
warm process, ingestion without a rule, and the bare steps (two files synced, two rows committed, one program started)
without catalogue, queue, fence or history. CPU time by process says what bounds each.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from harness import Instance, Meter, conclude, table

from armillary.client.ingest import Ingest, Options, Silence

QUICK = ("--seconds", "2", "--warm", "1", "--backlog", "20", "--batch", "10")

PROGRAM = """\
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
    char path[600], bytes[1024];
    DIR *inputs = opendir("inputs/one");
    struct dirent *entry;
    while ((entry = readdir(inputs)) && entry->d_name[0] == '.');
    mkdir("outputs/made", 0777);
    snprintf(path, sizeof path, "outputs/made/%s", entry->d_name);
    mkdir(path, 0777);
    strcat(path, "/data.bin");
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, entry->d_name, strlen(entry->d_name));
    int out = open(path, O_WRONLY | O_CREAT, 0666);
    return write(out, bytes, sizeof bytes) == sizeof bytes ? 0 : 1;
}
"""
SCRIPT = """\
#!/bin/sh
for one in inputs/one/*; do id=${one##*/}; done
mkdir -p "outputs/made/$id" && printf '%-1024s' "$id" > "outputs/made/$id/data.bin"
"""
ALGORITHM = """\
kind: algorithm
id: noop
version: 1.0.0
inputs: {one: {}}
outputs: {made: {collection: made}}
run: {command: [noop]}
environment: {site: true}
resources: {cpu: 0.05, memory: 16MiB, disk: 1MiB, time: 1min}
"""


@dataclass(frozen=True)
class Load:
    """How much of it, and for how long."""

    seconds: float
    warm_seconds: float
    backlog: int
    batch: int


@dataclass(frozen=True)
class Measured:
    """A rate, and the CPU seconds that one granule took, by process."""

    rate: float
    cpu: dict[str, float]


def main() -> None:
    """Measure each chain and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="measured, of each")
    parser.add_argument("--warm", type=float, default=8.0, help="seconds before that")
    parser.add_argument("--backlog", type=int, default=400, help="granules on their way at most")
    parser.add_argument("--batch", type=int, default=100, help="files named in one ingest")
    chosen = parser.parse_args()
    load = Load(chosen.seconds, chosen.warm, chosen.backlog, chosen.batch)
    with tempfile.TemporaryDirectory(prefix="armillary-bench-") as name:
        folder = Path(name)
        with Instance(folder / "home") as instance:
            kind = define(instance, folder)
            measured = {
                "the bare steps, two at once": bare(folder, load),
                "ingest alone": chain(instance, folder, load, "alone", "alone"),
                "ingest to product": chain(instance, folder, load, "raw", "made"),
                "the same with a warm reader": chain(instance, folder, load, "read", "made"),
            }
    report(measured, kind)


# What runs -----------------------------------------------------------------------------------------------------


def define(instance: Instance, folder: Path) -> str:
    """Collections, algorithm and rules; which program it was."""
    algorithm = folder / "noop"
    algorithm.mkdir()
    (algorithm / "algorithm.yaml").write_text(ALGORITHM)
    kind = make_program(algorithm / "noop")
    instance.apply(
        {"kind": "collection", "id": "alone", "recognise": {"name": r"\.alone$"}},
        {"kind": "collection", "id": "raw", "recognise": {"name": r"\.raw$"}},
        {"kind": "collection", "id": "read", "recognise": {"name": r"\.read$"}, "metadata": "geotiff"},
        {"kind": "collection", "id": "made"},
    )
    instance.armillary("apply", str(algorithm))
    instance.apply(
        *(
            {"kind": "rule", "id": one, "when": {"one": {"collection": one}}, "then": {"run": "noop", "version": "1"}}
            for one in ("raw", "read")
        )
    )
    return kind


def make_program(path: Path) -> str:
    """A static program, or a shell script where no compiler is."""
    compiler = shutil.which("cc")
    if compiler is not None:
        source = path.with_suffix(".c")
        source.write_text(PROGRAM)
        done = subprocess.run([compiler, "-Os", "-static", "-o", str(path), str(source)], check=False)
        source.unlink()
        if done.returncode == 0:
            return "a static program"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return "a shell script"


# The chain -----------------------------------------------------------------------------------------------------


def chain(instance: Instance, folder: Path, load: Load, source: str, product: str) -> Measured:
    """Ingest with one client; what is published a second."""
    client = instance.client()
    with (
        Ingest(client, Options(collection=source), Silence()) as ingest,
        psycopg.connect(instance.dsn(), autocommit=True) as connection,
    ):
        batches = files(folder / source, source, load.batch)
        published = counter(connection, product)
        sent, before = 0, published()

        def feed(until: float) -> None:
            nonlocal sent
            while time.monotonic() < until:
                if sent - (published() - before) > load.backlog - load.batch:
                    time.sleep(0.1)
                    continue
                outcomes = ingest.ingest(next(batches))
                bad = [one for one in outcomes if one.state != "created"]
                if bad:
                    raise RuntimeError(f"{bad[0].path}: {bad[0].state}, {bad[0].reason}")
                sent += len(outcomes)

        feed(time.monotonic() + load.warm_seconds)
        meter, count, began = Meter(instance), published(), time.monotonic()
        feed(began + load.seconds)
        made, took = published() - count, time.monotonic() - began
        cpu = {kind: spent / max(made, 1) for kind, spent in meter.read().items()}
        wait_for(lambda: published() - before >= sent)
    client.close()
    if not made:
        raise RuntimeError(f"nothing was published to {product}")
    return Measured(made / took, cpu)


def wait_for(ready: Callable[[], bool]) -> None:
    """Let what is under way end, so that the next measurement begins with an empty queue."""
    deadline = time.monotonic() + 120
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError("the backlog did not end within 120 s")
        time.sleep(0.1)


def counter(connection: psycopg.Connection[Any], collection: str) -> Callable[[], int]:
    """How many granules a collection has."""

    def count() -> int:
        row = connection.execute(
            "select count(*) from granule where collection = %s and revision > 0", [collection]
        ).fetchone()
        assert row is not None
        return int(row[0])

    return count


def files(folder: Path, ending: str, batch: int) -> Iterator[list[Path]]:
    """New files of 1 KiB, a batch at a time; those of the last batch are removed."""
    number = 0
    made: list[Path] = []
    folder.mkdir()
    while True:
        for old in made:
            old.unlink()
        made = [folder / f"{ending}-{n:08}.{ending}" for n in range(number, number + batch)]
        for path in made:
            path.write_bytes(content(path.name))
        number += batch
        yield made


def content(name: str) -> bytes:
    """1 KiB that differs from all others: a TIFF of one black 16 by 16 pixel strip where a reader is to read it."""
    if not name.endswith(".read"):
        return name.encode().ljust(1024, b".")
    return tiff().ljust(1024 - 64, b"\0") + name.encode().ljust(64, b".")


def tiff() -> bytes:
    """A GeoTIFF in degrees: nine plain tags, the scale, the tie point and two keys."""
    import struct

    tags: list[tuple[int, int, int, int]] = []
    extra = b""
    start = 8 + 2 + 12 * 13 + 4

    def put(tag: int, kind: int, values: tuple[float, ...]) -> None:
        nonlocal extra
        letter = {3: "H", 4: "I", 12: "d"}[kind]
        data = struct.pack(f"<{len(values)}{letter}", *values)
        if len(data) <= 4:
            tags.append((tag, kind, len(values), int.from_bytes(data.ljust(4, b"\0"), "little")))
        else:
            tags.append((tag, kind, len(values), start + len(extra)))
            extra += data

    for tag, value in ((256, 16), (257, 16), (258, 8), (259, 1), (262, 1), (273, 600), (277, 1), (278, 16), (279, 256)):
        put(tag, 4 if tag in (273, 279) else 3, (value,))
    put(33550, 12, (0.1, 0.1, 0.0))
    put(33922, 12, (0.0, 0.0, 0.0, 10.0, 50.0, 0.0))
    put(34735, 3, (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326))
    put(339, 3, (1,))
    tags.sort()
    body = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (body + struct.pack("<I", 0) + extra).ljust(600, b"\0") + bytes(256)


# The bound -----------------------------------------------------------------------------------------------------


def bare(folder: Path, load: Load) -> Measured:
    """What any such chain does: write, sync, commit, start, write, sync, commit; two threads, no bookkeeping."""
    place = folder / "bare"
    program = folder / "noop" / "noop"
    with Instance(folder / "bare-home") as instance:
        dsn = instance.dsn()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create table bare (id text primary key, path text, sha256 text)")
        end = time.monotonic() + min(load.seconds, 15.0)
        done = [0, 0]

        def work(which: int) -> None:
            with psycopg.connect(dsn, autocommit=True) as connection:
                while time.monotonic() < end:
                    name = f"{which}-{done[which]}"
                    one = place / name
                    (one / "inputs" / "one" / name).mkdir(parents=True)
                    (one / "outputs").mkdir()
                    synced(one / "inputs" / "one" / name / "data.bin", b"x" * 1024)
                    connection.execute("insert into bare values (%s, %s, '')", [name, str(one)])
                    subprocess.run([str(program)], cwd=one, check=True)
                    product = one / "outputs" / "made" / name / "data.bin"
                    synced(place / f"{name}.product", product.read_bytes())
                    connection.execute("insert into bare values (%s, %s, '')", [f"{name}-made", str(product)])
                    done[which] += 1

        place.mkdir()
        began = time.monotonic()
        threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Measured(sum(done) / (time.monotonic() - began), {})


def synced(path: Path, data: bytes) -> None:
    """A file whose bytes and name are on disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def report(measured: dict[str, Measured], kind: str) -> None:
    bound = measured["the bare steps, two at once"].rate
    parts = ("client", "server", "PostgreSQL", "worker", "jobs")
    print(f"The job is {kind}.")
    rows = []
    for name, one in measured.items():
        cpu = [f"{1000 * one.cpu[part]:.2f}" if part in one.cpu else "" for part in parts]
        rows.append([name, f"{one.rate:.0f}", f"{one.rate / bound:.0%}", *cpu])
    table(["", "a second", "of bare", *(f"{part} ms" for part in parts)], rows)
    conclude(
        rates={name: round(one.rate, 1) for name, one in measured.items()},
        cpu_ms={
            name: {part: round(1000 * spent, 3) for part, spent in one.cpu.items()} for name, one in measured.items()
        },
    )


if __name__ == "__main__":
    main()
