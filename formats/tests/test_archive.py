"""Archives from strangers: what is listed is safe to extract, and extracting gives back what was packed."""

import contextlib
import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armillary_formats.archive import Limits, extract, members, open_tree, read_bytes, safe_name
from armillary_formats.refusal import Refused

UNSAFE = {
    "../up": "leads out of the archive",
    "a/../../up": "leads out of the archive",
    "a/..": "leads out of the archive",
    "/etc/passwd": "is an absolute path",
    "C:/windows": "is an absolute path",
    "a//b": "has an empty part",
    "": "has an empty part",
    "line\nbreak": "holds a control character",
    "nul\0byte": "holds a control character",
    "escape\x1b[2J": "holds a control character",
    "separator\u2028": "holds a control character",
    "folder\\file": "holds a backslash",
    "x" * 256: "longer than 255 bytes",
}
good_parts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20)


def zip_of(path: Path, names: list[str], data: bytes = b"data") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            # ZipInfo's own constructor would clean the name.
            info.filename = info.orig_filename = name
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def tar_of(path: Path, entries: list[tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"d" * entry.size))
    return path


def tar_entry(name: str, size: int = 4, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = size if kind == tarfile.REGTYPE else 0, kind, "/etc/passwd"
    return entry


@pytest.mark.parametrize(("name", "reason"), UNSAFE.items())
def test_unsafe_names_are_refused_everywhere(tmp_path, name, reason) -> None:
    with pytest.raises(Refused, match=reason):
        safe_name(name)
    if name and "\0" not in name:  # neither format keeps these two
        with pytest.raises(Refused, match=reason):
            members(tar_of(tmp_path / "a.tgz", [tar_entry(name)]))
        archive = zip_of(tmp_path / "a.zip", [name])
        for refuses in (members, lambda path: extract(path, tmp_path / "out")):
            with pytest.raises(Refused, match=reason):
                refuses(archive)
        assert not (tmp_path / "out").exists()


@given(st.text(max_size=40))
def test_a_name_that_passes_stays_inside_the_folder(name: str) -> None:
    try:
        safe = safe_name(name)
    except Refused:
        return
    assert Path("/folder", safe).resolve().is_relative_to("/folder")
    assert safe_name(safe) == safe if safe else name.strip("/.") == ""
    assert safe.isprintable() or not any(ord(c) < 32 for c in safe)


@given(st.lists(good_parts, min_size=1, max_size=4))
def test_ordinary_names_pass_whatever_their_script(parts: list[str]) -> None:
    parts = [part for part in parts if part not in (".", "..") and "/" not in part and "\\" not in part]
    name = "/".join(parts)
    if parts and name[1:2] != ":":
        assert safe_name(name)


def test_what_was_packed_is_what_is_extracted(tmp_path) -> None:
    names = ["a b.txt", "folder/ünï.txt", "folder/deep/x"]
    for archive in (
        zip_of(tmp_path / "a.zip", names),
        tar_of(tmp_path / "a.tar.gz", [tar_entry("folder", kind=tarfile.DIRTYPE), *map(tar_entry, names)]),
        tar_of(tmp_path / "a.tar.xz", [tar_entry(name) for name in names], "w:xz"),
        tar_of(tmp_path / "a.tar", [tar_entry(name) for name in names], "w"),
    ):
        out = tmp_path / f"{archive.name}.out"
        written = extract(archive, out)
        assert sorted(path.relative_to(out).as_posix() for path in written) == sorted(names)
        assert all(path.stat().st_size == 4 for path in written)


def test_a_folder_that_exists_is_not_extracted_into(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        extract(zip_of(tmp_path / "a.zip", ["a"]), tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind) -> None:
    with pytest.raises(Refused, match="neither a file nor a folder"):
        members(tar_of(tmp_path / "a.tgz", [tar_entry("link", kind=kind)]))


def test_links_in_a_zip_are_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(Refused, match="neither a file nor a folder"):
        members(tmp_path / "a.zip")


def test_too_many_members_are_refused(tmp_path) -> None:
    names = [f"f{i}" for i in range(20)]
    for archive in (zip_of(tmp_path / "a.zip", names), tar_of(tmp_path / "a.tgz", [tar_entry(n) for n in names])):
        with pytest.raises(Refused, match=r"at most 10|more than 10"):
            members(archive, Limits(members=10))


def test_a_bomb_is_refused_before_it_unpacks(tmp_path) -> None:
    limits = Limits(expansion=10, always_allowed_bytes=1000)
    bombs = [
        zip_of(tmp_path / "a.zip", ["zeros"], b"\0" * 1_000_000),
        tar_of(tmp_path / "a.tgz", [tar_entry("zeros", 1_000_000)]),
    ]
    for bomb in bombs:
        for refuses in (members, lambda path, limits: extract(path, tmp_path / "out", limits)):
            with pytest.raises(Refused, match="looks like a bomb"):
                refuses(bomb, limits)
    assert not (tmp_path / "out").exists()
    assert sum(member.size_bytes for member in members(bombs[0])) == 1_000_000, "small ones may compress well"


def test_members_that_overlap_count_each_time(tmp_path) -> None:
    """A zip whose entries share one piece of compressed data unpacks to far more than its size."""
    data = zip_of(tmp_path / "one.zip", ["a"], b"\0" * 500_000).read_bytes()
    at = data.index(b"PK\x01\x02")
    entry, end = data[at : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    entries = b"".join(entry[:46] + name.encode() + entry[47:] for name in "abcdefghij")
    bomb = tmp_path / "overlap.zip"
    bomb.write_bytes(data[:at] + entries + end[:8] + struct.pack("<HHLL", 10, 10, len(entries), at) + b"\0\0")
    with pytest.raises(Refused, match="looks like a bomb"):
        members(bomb, Limits(expansion=100, always_allowed_bytes=1_000_000))


def test_a_member_that_lies_about_its_size_is_refused(tmp_path) -> None:
    path = zip_of(tmp_path / "a.zip", ["a"], b"\0" * 5000)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<L", 10)
    path.write_bytes(data)
    with pytest.raises(Refused):
        extract(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with open_tree(path) as tree, pytest.raises(Refused):
        read_bytes(tree, "a", 100)


def test_damaged_bytes_are_noticed(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"abcdef" * 100)
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"abcdefabc", b"abcdeFabc", 1))
    with pytest.raises(Refused, match="damaged"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_a_name_twice_is_refused(tmp_path) -> None:
    decomposed, composed = "e\u0301.txt", "\u00e9.txt"
    for names in (["a", "a"], [decomposed, composed], ["a", "./a"]):
        with pytest.raises(Refused, match="twice"):
            members(tar_of(tmp_path / "a.tgz", [tar_entry(name) for name in names]))


def test_a_file_that_is_also_a_folder_is_refused(tmp_path) -> None:
    with pytest.raises(Refused, match="as a file and as a folder"):
        members(zip_of(tmp_path / "a.zip", ["a", "a/b"]))


def test_a_header_of_any_size_does_not_fill_the_memory(tmp_path) -> None:
    header = tar_entry("x", 200 * 1024**2)
    header.type = tarfile.XHDTYPE
    (tmp_path / "a.tar").write_bytes(header.tobuf() + b"\0" * 4096)
    with pytest.raises(Refused, match="header larger"):
        members(tmp_path / "a.tar")


def test_a_tar_cut_between_two_members_is_refused(tmp_path) -> None:
    whole = tar_of(tmp_path / "a.tar", [tar_entry("a"), tar_entry("b")], "w").read_bytes()
    (tmp_path / "short.tar").write_bytes(whole[:1024])
    with pytest.raises(Refused, match="cut short"):
        members(tmp_path / "short.tar")


@pytest.mark.parametrize("cut", [0, 1, 10, 60, 100])
def test_archives_cut_anywhere_are_refused(tmp_path, cut) -> None:
    for whole in (
        zip_of(tmp_path / "a.zip", ["a", "b"], b"12345" * 50),
        tar_of(tmp_path / "a.tgz", [tar_entry("a", 999)]),
    ):
        short = tmp_path / f"short-{whole.name}"
        short.write_bytes(whole.read_bytes()[: len(whole.read_bytes()) * cut // 101])
        with pytest.raises(Refused):
            members(short)


def test_an_encrypted_member_is_refused(tmp_path) -> None:
    data = bytearray(zip_of(tmp_path / "a.zip", ["a"]).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(Refused, match="encrypted"):
        members(tmp_path / "a.zip")


@given(st.binary(max_size=400))
def test_junk_is_refused_and_nothing_else(tmp_path_factory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "a.zip"
    path.write_bytes(b"PK\x03\x04" + junk + b"PK\x05\x06" + junk[:30])
    with contextlib.suppress(Refused):
        members(path)
