"""Checksums of records: what they notice."""

import zlib

import numpy as np
import pytest

from trainer.data.packs.checksums import checksums_of

SIDES = [8, 33, 64]
"""Of records shorter than a block, with bytes after the last block, and without."""


def checksum(record):
    return int(checksums_of(np.asarray(record)[None])[0])


def record_of(side):
    return np.random.default_rng(side).integers(0, 256, (side, side), dtype=np.uint8)


@pytest.mark.parametrize("side", SIDES)
def test_every_flipped_bit_is_noticed(side):
    """What memory and disks do most often."""
    record_SS = record_of(side)
    expected = checksum(record_SS)
    flat = record_SS.reshape(-1)
    for position in range(flat.size):
        bit = np.uint8(1 << (position * 5 % 8))
        flat[position] ^= bit
        assert checksum(record_SS) != expected, position
        flat[position] ^= bit
    assert checksum(record_SS) == expected


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_records_that_end_in_zeros_are_noticed(side, keep):
    """A file system that lost its last writes gives zeros from a sector on."""
    record_SS = record_of(side)
    expected = checksum(record_SS)
    record_SS.reshape(-1)[keep * record_SS.size // 4 :] = 0
    assert checksum(record_SS) != expected


@pytest.mark.parametrize("side", SIDES)
def test_another_record_and_a_shorter_one_are_noticed(side):
    """A record read from the wrong place, or cut off."""
    record_SS = record_of(side)
    assert checksum(np.flip(record_SS, 1).copy()) != checksum(record_SS)
    assert checksum(record_SS.reshape(-1)[:-1].copy()) != checksum(record_SS)


def test_bits_of_every_position_in_a_word_are_noticed_where_sums_carry():
    """A flipped bit changes up to 64 bits of a sum."""
    record_SS = np.full((64, 64), 255, np.uint8)
    expected = checksum(record_SS)
    for bit in range(64):
        changed = record_SS.copy()
        changed.reshape(-1)[bit // 8] ^= np.uint8(1 << (bit % 8))
        assert checksum(changed) != expected, bit


@pytest.mark.parametrize("side", SIDES)
def test_several_at_once_are_those_of_each(side):
    """Also where records do not begin at a multiple of eight bytes."""
    records = np.random.default_rng(0).integers(0, 256, (5, side, side), dtype=np.uint8)
    assert checksums_of(records).tolist() == [checksum(record) for record in records]
    assert checksums_of(records[:0]).tolist() == []


def test_checksum_is_the_one_that_the_guide_describes():
    """Other programs compute it: sums of words by position in blocks of 1 KiB, then the rest."""
    record = record_of(33)
    content = record.tobytes()
    sums = [0] * 128
    for position in range(0, 1024, 8):
        sums[position // 8] = int.from_bytes(content[position : position + 8], "little")
    expected = zlib.crc32(content[1024:], zlib.crc32(b"".join(each.to_bytes(8, "little") for each in sums)))
    assert checksum(record) == expected
