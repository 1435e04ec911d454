"""Reading of tar archives: what other programs write, and what none would."""

import io
import tarfile

import pytest

from trainer.data.preparing import tar
from trainer.data.preparing.tar import BLOCK, DamagedArchiveError, TarStream


def archive(members, format_=tarfile.GNU_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as made:
        for name, content, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content)
            if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE}:
                member.linkname = "elsewhere"
            made.addfile(member, io.BytesIO(content))
    return file.getvalue()


def read(content, *, take=lambda member: True):
    stream = TarStream(io.BytesIO(content))
    return [(member.name, member.is_file, member.read() if take(member) else None) for member in stream.members()]


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_each_format_are_read(format_):
    """Long names and names in other scripts are written in three ways."""
    long = "a" * 90 + "/" + "b" * 90 + ".png"
    names = ["x.png", long, "äöü/日本.png"]
    members = [(name, name.encode() * 100, tarfile.REGTYPE) for name in names]
    assert read(archive(members, format_)) == [(name, True, content) for name, content, _ in members]


def test_name_longer_than_any_field_is_read():
    name = "d/" * 200 + "x.png"
    for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert read(archive([(name, b"1", tarfile.REGTYPE), ("y", b"2", tarfile.REGTYPE)], format_)) == [
            (name, True, b"1"),
            ("y", True, b"2"),
        ]


def test_members_that_are_no_files_have_no_content():
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
    members = [(f"{number}", b"", kind) for number, kind in enumerate(kinds)]
    got = read(archive([*members, ("file", b"content", tarfile.REGTYPE)]), take=lambda member: member.is_file)
    assert [is_file for _, is_file, _ in got] == [False] * 5 + [True]
    assert got[-1][2] == b"content"


def test_members_that_are_not_read_are_skipped():
    members = [(str(number), bytes([number]) * (BLOCK * number + 7), tarfile.REGTYPE) for number in range(5)]
    got = read(archive(members), take=lambda member: member.name == "3")
    assert [content for *_, content in got] == [None, None, None, members[3][1], None]


@pytest.mark.parametrize("kept", [0, 100, 512, 700, 1024, 2048])
def test_archive_that_ends_early_is_refused(kept):
    """At a header, in one, in a member, in its padding, between two."""
    whole = archive([("a", b"x" * 600, tarfile.REGTYPE), ("b", b"y" * 10, tarfile.REGTYPE)])
    with pytest.raises(DamagedArchiveError, match=r"incomplete|ends in the middle"):
        read(whole[:kept])


def test_damaged_header_is_refused():
    spoilt = bytearray(archive([("a", b"x", tarfile.REGTYPE)]))
    spoilt[3] ^= 1
    with pytest.raises(DamagedArchiveError, match="it is damaged"):
        read(bytes(spoilt))


def test_header_that_would_fill_the_memory_is_refused():
    """The standard library would read it."""
    header = tarfile.TarInfo("x")
    header.type, header.size = b"x", 1 << 40
    with pytest.raises(DamagedArchiveError, match="a header of 1,099,511,627,776 bytes"):
        read(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


@pytest.mark.parametrize("content", [b"no length", b"99 path=x\n", b"5 a=", b"0 path=x\n", b"-3 a=b\n"])
def test_extended_header_that_is_none_is_refused(content):
    header = tarfile.TarInfo("x")
    header.type, header.size = b"x", len(content)
    block = header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)
    with pytest.raises(DamagedArchiveError, match="an extended header is none"):
        read(block + bytes(1024))


def test_archive_with_endless_bytes_after_its_end_is_refused(monkeypatch):
    """A few kilobytes of gzip inflate to it."""

    class Zeros(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    monkeypatch.setattr(tar, "_MOST_AFTER_END_BYTES", 5 << 20)
    with pytest.raises(DamagedArchiveError, match="more than 1 GiB after its end"):
        list(TarStream(Zeros()).members())
