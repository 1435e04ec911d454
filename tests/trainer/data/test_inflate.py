"""Gzip files as streams."""

import gzip
import io
import os
import zlib

import pytest

from trainer.data.preparing.inflate import Inflated


def read(packed):
    return io.BufferedReader(Inflated(io.BytesIO(packed))).read()


@pytest.mark.parametrize("sizes", [[0], [1], [1 << 20], [10, 0, 300_000], [1] * 50])
def test_content_of_any_number_of_members_is_read(sizes):
    """bgzip writes one for every 64 KiB."""
    contents = [os.urandom(size) for size in sizes]
    packed = b"".join(map(gzip.compress, contents))
    assert read(packed) == b"".join(contents)
    assert read(packed + bytes(1000)) == b"".join(contents)


@pytest.mark.parametrize("cut", [1, 8, 100, 5000])
def test_truncated_file_is_refused(cut):
    with pytest.raises(EOFError, match="in the middle"):
        read(gzip.compress(os.urandom(10_000))[:-cut])


@pytest.mark.parametrize(
    "packed",
    [b"no gzip", gzip.compress(b"x" * 100)[:-6] + b"abcdef", gzip.compress(b"x") + b"tail"],
    ids=["no gzip", "wrong checksum", "tail"],  # bytes with a time are another name in each process
)
def test_other_bytes_and_wrong_checksums_are_refused(packed):
    with pytest.raises(zlib.error):
        read(packed)


def test_memory_does_not_grow_with_what_a_file_inflates_to(in_memory):
    """100 MiB of zeros are 100 kB of gzip."""
    packed = gzip.compress(bytes(100 << 20), compresslevel=1)
    stream, total = io.BufferedReader(Inflated(io.BytesIO(packed))), 0
    with in_memory(4 << 20):
        while piece := stream.read(1 << 16):
            total += len(piece)
    assert total == 100 << 20
