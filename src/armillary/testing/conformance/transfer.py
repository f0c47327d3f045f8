"""What every transfer promises: inherit `TransferConformance`, give it a `place`, and let pytest collect it."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from armillary.base.errors import ArmillaryError, Conflict
from armillary.client.transfer import Bytes, Content, LocalFile, Ticket, Transfer
from armillary.granules.granule import File

AWKWARD_PATHS = ["plain.tif", "with spaces.tif", "tree.SAFE/measurement/a.tiff", "90% #1?&=+.dat", "Ångström/мир.txt"]


@dataclass(frozen=True)
class Place:
    """A transfer under test, how to get a ticket for it, and how to see what arrived."""

    transfer: Transfer
    ticket: Callable[[], Ticket]
    read: Callable[[Ticket, str], bytes]

    def put(self, ticket: Ticket, content: Content) -> tuple[File, int]:
        """Send one file; what was sent, and how many bytes were counted on the way."""
        counted: list[int] = []
        self.transfer.prepare(ticket, [content.path])
        sent = self.transfer.put(ticket, content, counted.append)
        self.transfer.settle()
        return sent, sum(counted)


def local_file(source: Path, path: str = "data.bin") -> LocalFile:
    """A file as a listing would describe it."""
    status = source.stat()
    return LocalFile(path, source, status.st_size, status.st_mtime_ns, status.st_ino)


class TransferConformance:
    """The suite; a subclass provides the fixture `place`."""

    @pytest.mark.parametrize("path", AWKWARD_PATHS)
    def test_bytes_arrive_under_their_path(self, place: Place, path: str) -> None:
        ticket = place.ticket()
        sent, _ = place.put(ticket, Bytes(path, b"measured"))
        assert place.read(ticket, path) == b"measured"
        assert sent == File(path, 8, hashlib.sha256(b"measured").hexdigest())

    @pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (9 << 20) + 7])
    def test_a_file_of_any_size_is_read_once_and_counted_once(self, place: Place, tmp_path: Path, size: int) -> None:
        source = tmp_path / "source"
        source.write_bytes(data := os.urandom(size))
        ticket = place.ticket()
        sent, counted = place.put(ticket, local_file(source))
        assert (sent.size, sent.sha256) == (size, hashlib.sha256(data).hexdigest())
        assert counted == size
        assert place.read(ticket, "data.bin") == data

    def test_two_tickets_never_share_bytes(self, place: Place) -> None:
        first, second = place.ticket(), place.ticket()
        place.put(first, Bytes("a", b"one"))
        place.put(second, Bytes("a", b"two"))
        assert (place.read(first, "a"), place.read(second, "a")) == (b"one", b"two")

    def test_a_source_that_changed_since_it_was_listed_is_refused(self, place: Place, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"before")
        listed = local_file(source)
        source.write_bytes(b"after it")
        with pytest.raises(Conflict, match="changed while it was read"):
            place.put(place.ticket(), listed)

    def test_a_source_that_grows_while_it_is_read_is_refused(self, place: Place, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(bytes(3 << 20))
        ticket, listed = place.ticket(), local_file(source)
        place.transfer.prepare(ticket, [listed.path])

        def grow(_: int) -> None:
            with source.open("ab") as stream:
                stream.write(b"more")

        with pytest.raises(Conflict, match="changed while it was read"):
            place.transfer.put(ticket, listed, grow)

    def test_a_source_that_is_gone_is_named(self, place: Place, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x")
        listed = local_file(source)
        source.unlink()
        with pytest.raises(ArmillaryError, match="source"):
            place.put(place.ticket(), listed)
