"""Records that are read while others are being decoded."""

import errno
import os
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from tests.trainer.lazy_decoders import lazy_decoders  # noqa: F401 - a fixture
from trainer.data.dataset import Place, decoded_beside, labelled
from trainer.data.packs import building, index
from trainer.data.packs.records import Geometry
from trainer.data.packs.unfinished import UnfinishedPack, UnknownGrayRangeError
from trainer.data.packs.verify import open_pack
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError, TryAgainError
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.world import World

GEOMETRY = Geometry(side=16, fit="crop")
COUNT = 9


@pytest.fixture
def images(tmp_path):
    """Names and files of images, each full of its own number."""
    paths = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(paths):
        Image.new("L", (20, 20), number).save(path)
    return [path.name for path in paths], paths


def unfinished(folder, images, geometry=GEOMETRY):
    return building.building(folder, *images, geometry, progress=lambda: nullcontext(lambda *_: None))


def read(records, *rows):
    """The records, which must be of one value each; that value."""
    out = np.full((len(rows), 16, 16), 255, np.uint8)
    records.gather(np.array(rows), out)
    assert (out == out[:, :1, :1]).all()
    return out[:, 0, 0].tolist()


def test_a_record_is_read_before_later_ones_are_decoded(tmp_path, images, lazy, monkeypatch):
    """In shards of three records and tasks of two, so that neither ends where the other does."""
    monkeypatch.setattr(index, "SHARD_BYTES", 3 * 16 * 16)
    with unfinished(tmp_path / "pack", images) as records:
        assert lazy == []
        assert read(records, 0) == [0]
        assert lazy == ["decoded 0"]
        assert read(records, 4, 2) == [4, 2]
        assert len(lazy) == 3
        assert not (tmp_path / "pack").exists()
        assert read(records, *range(COUNT)) == list(range(COUNT))
    assert len(lazy) == 6
    assert read(open_pack(tmp_path / "pack", images[0], GEOMETRY), *range(COUNT)) == list(range(COUNT))


def test_a_record_is_waited_for(tmp_path, images):
    """With the real processes: what is read is never what the file held before it was written, zeros."""
    with unfinished(tmp_path / "pack", images) as records:
        assert read(records, 8, 1) == [8, 1]


def test_an_unreadable_image_is_black_and_listed_at_the_end(tmp_path, images, lazy):
    """Which images are unreadable is known when they have been decoded; batches are made before."""
    images[1][5].write_bytes(b"no image")
    with unfinished(tmp_path / "pack", images) as records:
        assert read(records, 4, 5) == [4, 0]
    assert list(open_pack(tmp_path / "pack", images[0], GEOMETRY).index.unreadable) == ["5.png"]


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), InputError("no"), OSError(errno.EIO, "of the reader")])
def test_an_error_of_the_reader_leaves_no_pack_and_stays_what_it_is(tmp_path, images, problem):
    """An error of the model is not one of the cache."""

    def use():
        with unfinished(tmp_path / "pack", images) as records:
            read(records, 0)
            raise problem

    with pytest.raises(type(problem)) as caught:
        use()
    assert caught.value is problem
    assert not [path.name for path in tmp_path.iterdir() if "pack" in path.name]


def test_full_disk_is_reported_to_the_reader(tmp_path, images, lazy, monkeypatch):
    """The decoder that cannot write is another process, and the reader is the one that waits for it."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(building, "decode", full)
    with (
        pytest.raises(InputError, match="no space left on device") as refusal,
        unfinished(tmp_path / "pack", images) as records,
    ):
        read(records, 0)
    assert "GiB are needed" in refusal.value.hint
    assert not [path.name for path in tmp_path.iterdir() if "pack" in path.name]


def test_a_record_that_is_not_what_was_decoded_is_refused(tmp_path, images, lazy):
    """A disk that loses writes gives zeros."""
    with unfinished(tmp_path / "pack", images) as records:
        assert read(records, 3) == [3]
        shard = next(records.folder.glob("shard-*"))
        shard.write_bytes(bytes(shard.stat().st_size))
        with pytest.raises(TryAgainError, match="damaged while in use"):
            read(records, 3)


@pytest.mark.parametrize(("bits", "is_known"), [(None, False), (12, True)])
def test_16_bit_images_wait_for_their_gray_range(tmp_path, images, lazy, bits, is_known):
    """Whether they use all of their 16 bits is known when the last one has been decoded."""
    Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(images[1][3])
    geometry = Geometry(side=16, fit="crop", gray_bits=bits)
    with unfinished(tmp_path / "pack", images, geometry) as records:
        assert read(records, 0) == [0]
        if is_known:
            assert read(records, 3) == [255]
        else:
            with pytest.raises(UnknownGrayRangeError):
                read(records, 3)


@pytest.fixture
def place(tmp_path):
    """Phantoms, and an empty cache."""
    write_phantoms(tmp_path / "data", images=30, side=32)
    return Place(
        data=str(tmp_path / "data"),
        layout="auto",
        split="patients:60/20/20",
        val_list=None,
        geometry=GEOMETRY,
        cache=tmp_path / "cache",
    )


def beside(place, seen):
    """Decode, and sum the records; what was read is appended to `seen`."""
    source = labelled(place)

    def use(records):
        seen.append(type(records))
        out = np.empty((30, 16, 16), np.uint8)
        records.gather(np.arange(30), out)
        return out

    pack, result = decoded_beside(place, source, WorkerGroup(World(), None), Reporter(None), use)
    whole = np.empty_like(result)
    pack.gather(np.arange(30), whole)
    return pack, result, whole


def test_images_are_used_while_they_are_decoded_and_from_the_cache_afterwards(place):
    seen = []
    for _ in range(2):
        _, result, whole = beside(place, seen)
        np.testing.assert_array_equal(result, whole)
    assert seen[0] is UnfinishedPack
    assert seen[1] is not UnfinishedPack


def make_16_bit(place, value):
    path = next(path for path in sorted(place.cache.parent.rglob("*.png")))
    Image.fromarray(np.full((20, 20), value, np.uint16)).save(path)


def test_where_the_gray_range_must_be_found_the_result_is_that_of_the_right_one(place, tmp_path):
    """The first result would be of nearly black images."""
    make_16_bit(place, 1023)
    used = Place(**vars(place) | {"gray_range": "used"})
    seen = []
    pack, result, whole = beside(used, seen)
    np.testing.assert_array_equal(result, whole)
    assert whole.max(axis=(1, 2)).max() == 255
    assert pack.index.geometry.bits == 10
    assert len(seen) == 2


def test_a_gray_range_that_must_be_chosen_is_asked_for(place):
    make_16_bit(place, 1023)
    with pytest.raises(InputError, match="they use 10 of 16 bits"):
        beside(place, [])
