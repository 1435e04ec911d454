"""Records that are read while others are being decoded."""

import errno
import math
import multiprocessing
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.trainer.gated_decoders import gated_decoders  # noqa: F401 - a fixture
from trainer.data.dataset import Place, labelled
from trainer.data.decoded_images import decoded
from trainer.data.loader import Loader
from trainer.data.locks import is_free, locked
from trainer.data.packs import building, decoding, index, reading
from trainer.data.packs.records import Geometry
from trainer.data.packs.unfinished import UnfinishedPack, UnknownGrayRangeError
from trainer.data.packs.unfinished import building as unfinished_pack
from trainer.data.packs.verify import open_pack
from trainer.data.synthetic import write_phantoms
from trainer.devices import cpu
from trainer.errors import InputError, TryAgainError
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.watchdog import Watchdog
from trainer.runtime.world import World

GEOMETRY = Geometry(side=16, fit="crop")
COUNT = 9
TASKS = 5


@pytest.fixture
def images(tmp_path):
    """Names and files of images, each full of its own number."""
    paths = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(paths):
        Image.new("L", (20, 20), number + 1).save(path)
    return [path.name for path in paths], paths


@contextmanager
def unfinished(folder, images, geometry=GEOMETRY):
    """As an evaluation does it: the lock is held until the pack is complete or given up."""
    with ExitStack() as held:
        held.enter_context(locked(folder))
        with unfinished_pack(folder, *images, geometry, lock=held.pop_all()) as pack:
            yield pack


def read(records, *rows):
    """The records, which must be of one value each; that value."""
    out = np.full((len(rows), 16, 16), 255, np.uint8)
    records.gather(np.array(rows), out)
    assert (out == out[:, :1, :1]).all()
    return out[:, 0, 0].tolist()


def left(folder):
    """What of a pack there is."""
    return [path.name for path in folder.parent.iterdir() if "pack" in path.name and path.suffix != ".lock"]


def soon(holds):
    end_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_a_record_is_read_before_later_ones_are_decoded(tmp_path, images, gate, monkeypatch):
    """In shards of three records and tasks of two, so that neither ends where the other does."""
    monkeypatch.setattr(index, "SHARD_BYTES", 3 * 16 * 16)
    gate.allow(1)
    with unfinished(tmp_path / "pack", images) as records:
        assert read(records, 0) == [1]
        assert gate.decoded == [0]
        gate.allow(3)
        assert read(records, 4, 2) == [5, 3]
        assert len(gate.decoded) in {3, 4}
        assert not (tmp_path / "pack").exists()
        gate.allow(2)
        assert read(records, *range(COUNT)) == list(range(1, COUNT + 1))
    assert read(open_pack(tmp_path / "pack", images[0], GEOMETRY), *range(COUNT)) == list(range(1, COUNT + 1))


def test_a_record_is_waited_for(tmp_path, images):
    """With the real processes: what is read is never what the file held before it was written, zeros."""
    with unfinished(tmp_path / "pack", images) as records:
        assert read(records, 8, 1) == [9, 2]


def test_an_unreadable_image_is_black_and_listed_at_the_end(tmp_path, images, gate):
    """Which images are unreadable is known when they have been decoded; batches are made before."""
    images[1][5].write_bytes(b"no image")
    gate.allow(TASKS)
    with unfinished(tmp_path / "pack", images) as records:
        assert read(records, 4, 5) == [5, 0]
    assert list(open_pack(tmp_path / "pack", images[0], GEOMETRY).index.unreadable) == ["5.png"]


def test_the_pack_is_complete_and_unlocked_while_its_records_are_still_used(tmp_path, images, gate, monkeypatch):
    """The network may compute for hours after the last image: another command must not wait for it, and an error must not lose the images.

    The shards are opened for each record here, as the later ones of a large pack are: they move with the pack.
    """
    monkeypatch.setattr(reading, "MOST_OPEN", 0)
    gate.allow(TASKS)

    def use():
        with unfinished(tmp_path / "pack", images) as records:
            soon((tmp_path / "pack").exists)
            soon(lambda: is_free(tmp_path / "pack"))
            assert read(records, 3) == [4]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert read(open_pack(tmp_path / "pack", images[0], GEOMETRY), 8) == [9]


@pytest.mark.parametrize(
    "problem", [KeyboardInterrupt(), InputError("no"), OSError(errno.EIO, "the reader's"), OSError("x")]
)
def test_an_error_of_the_reader_gives_the_pack_up_and_stays_what_it_is(tmp_path, images, gate, problem):
    """An error of the model is none of the cache or of a decoder."""
    gate.allow(1)

    def use():
        with unfinished(tmp_path / "pack", images) as records:
            read(records, 0)
            raise problem

    with pytest.raises(type(problem)) as caught:
        use()
    assert caught.value is problem
    assert left(tmp_path / "pack") == []
    assert is_free(tmp_path / "pack")


def test_a_consumer_that_stops_does_not_wait_for_decoders(tmp_path, images, gate):
    """Ctrl-C during a batch of 256 large images waited for all of them, and for ever where a decoder hung."""
    gate.allow(1)

    def use():
        with unfinished(tmp_path / "pack", images) as records:
            loader = Loader(records, cpu, 1)
            batches = loader.batches([np.array([row]) for row in range(COUNT)])
            assert next(batches).samples_N == [0]
            batches.close()
            assert len(gate.decoded) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    soon(lambda: not [thread for thread in threading.enumerate() if thread.name in {"loader", "pack"}])


def test_a_pack_is_given_up_though_each_image_is_decoded_at_once(tmp_path, images, monkeypatch):
    """Small images, or many cores: a pause in which nothing is done may never come."""
    names, paths = (list(many) * 20 for many in images)
    names = [f"{number}-{name}" for number, name in enumerate(names)]
    done, first = [], threading.Event()

    def decode_slowly(shard, *task):
        time.sleep(0.02)
        done.append(task)
        first.set()
        return decoding.decode(shard, *task)

    @contextmanager
    def pool(count, image_of):
        with ThreadPoolExecutor(1) as threads:
            try:
                yield threads
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    monkeypatch.setattr(building, "decoders", pool)
    monkeypatch.setattr(building, "decode", decode_slowly)
    monkeypatch.setattr(building, "_TASK_IMAGES", 1)
    monkeypatch.setattr(decoding, "note_image", lambda number: None)

    def use():
        with unfinished(tmp_path / "pack", (names, paths)):
            first.wait(30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert len(done) < len(names)
    assert left(tmp_path / "pack") == []


def test_a_failure_is_reported_before_its_row_is_read(tmp_path, images, gate):
    """The network may be hours behind the decoders."""
    images[1][8].unlink()
    gate.allow(TASKS)

    def use():
        with unfinished(tmp_path / "pack", images) as records:
            soon(records.built.done)
            read(records, 0)

    with pytest.raises(TryAgainError, match=r"8\.png.*No such file"):
        use()
    assert left(tmp_path / "pack") == []


def test_a_folder_that_is_no_packs_is_refused_before_anything_is_decoded(tmp_path, images, gate):
    """Before there is a pack that could be read."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/mine.txt").touch()
    with pytest.raises(InputError, match="files that are not a pack's"), unfinished(tmp_path / "pack", images):
        pytest.fail("there is no pack to read")
    assert left(tmp_path / "pack") == ["pack"]
    assert is_free(tmp_path / "pack")


def test_full_disk_is_reported_to_the_reader(tmp_path, images, gate, monkeypatch):
    """The decoder that cannot write is another process, and the reader is the one that waits for it."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(building, "decode", full)
    gate.allow(TASKS)
    with (
        pytest.raises(InputError, match="no space left on device") as refusal,
        unfinished(tmp_path / "pack", images) as records,
    ):
        read(records, 0)
    assert "GiB are needed" in refusal.value.hint
    assert left(tmp_path / "pack") == []


def test_decoder_that_is_killed_is_reported_to_the_reader(tmp_path, images):
    """With the real processes, killed while they start: the reason must not be lost on its way through two threads."""

    def use():
        with unfinished(tmp_path / "pack", images) as records:
            soon(multiprocessing.active_children)
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)
            read(records, 0)

    with pytest.raises(InputError, match="its decoder was killed, probably for lack of memory") as caught:
        use()
    assert caught.value.hint.startswith("give the pod or machine more memory")
    assert left(tmp_path / "pack") == []


def test_a_record_that_is_not_what_was_decoded_is_refused(tmp_path, images, gate):
    """A disk that loses writes gives zeros: neither read nor kept as a pack."""
    gate.allow(1)

    def use():
        with unfinished(tmp_path / "pack", images) as records:
            assert read(records, 1) == [2]
            shard = records.shards[0].path
            content = bytearray(shard.read_bytes())
            content[: 16 * 16] = bytes(16 * 16)
            shard.write_bytes(content)
            with pytest.raises(TryAgainError, match="damaged while in use"):
                read(records, 0)
            gate.allow(TASKS)

    with pytest.raises(TryAgainError, match="1 of 9 records are not what was written"):
        use()
    assert left(tmp_path / "pack") == []


@pytest.mark.parametrize("bits", [None, 12])
def test_16_bit_images_wait_for_their_gray_range(tmp_path, images, gate, bits):
    """Whether they use all of their 16 bits is known when the last one has been decoded; what is computed until then is for nothing."""
    Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(images[1][3])
    gate.allow(1)
    with unfinished(tmp_path / "pack", images, Geometry(side=16, fit="crop", gray_bits=bits)) as records:
        assert read(records, 0) == [1]
        gate.allow(TASKS)
        soon(records.built.done)
        if bits is None:
            for row in (3, 0):
                with pytest.raises(UnknownGrayRangeError):
                    read(records, row)
        else:
            assert read(records, 3) == [255]


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


def decode(place, use):
    """The pack, and what `use` has made of the records while they were decoded, or of the pack."""
    group, watchdog, used = WorkerGroup(World(), None), Watchdog(math.inf, lambda _: None), []
    pack = decoded(
        place, labelled(place), group, Reporter(None), watchdog, beside=lambda records: used.append(use(records))
    )
    return pack, used[0] if used else use(pack)


def beside(place, seen):
    """Decode, and copy the records; what they were read from is appended to `seen`."""

    def use(records):
        seen.append(type(records))
        out = np.empty((30, 16, 16), np.uint8)
        records.gather(np.arange(30), out)
        return out

    pack, result = decode(place, use)
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


def test_where_the_gray_range_must_be_found_the_result_is_that_of_the_right_one(place):
    """The first result would be of nearly black images."""
    make_16_bit(place, 1023)
    seen = []
    pack, result, whole = beside(replace(place, gray_range="used"), seen)
    np.testing.assert_array_equal(result, whole)
    assert whole.max(axis=(1, 2)).max() == 255
    assert pack.index.geometry.bits == 10
    assert len(seen) == 2


def test_a_gray_range_that_must_be_chosen_is_asked_for(place):
    make_16_bit(place, 1023)
    with pytest.raises(InputError, match="they use 10 of 16 bits"):
        beside(place, [])


def test_the_cache_is_free_while_decoded_images_are_still_used(place):
    """Another command that needs the same images must not wait until the network has computed."""

    def use(records):
        soon(records.built.done)
        return [is_free(path) for path in (place.cache / "packs").iterdir() if path.suffix != ".lock"]

    _, free = decode(place, use)
    assert free == [True]


def test_results_are_kept_though_the_pack_is_removed_from_the_cache_meanwhile(place):
    """They have cost an accelerator's time."""

    def use(records):
        soon(records.built.done)
        shutil.rmtree(place.cache)
        out = np.empty((30, 16, 16), np.uint8)
        records.gather(np.arange(30), out)
        return out

    pack, result = decode(place, use)
    assert len(pack.sizes_N2) == len(result) == 30


def test_a_hang_of_the_disk_is_noticed_after_the_last_image(place, gate, monkeypatch):
    """Flushing can take for ever, too. When the pack is there, others may still decode, and nothing is watched."""
    watchdog, hashing = Watchdog(60.0, lambda _: None), building._flushed_and_hashed
    is_used = threading.Event()

    def hang(*args):
        assert is_used.wait(30)
        soon(lambda: watchdog._ends_s < math.inf)
        return hashing(*args)

    def use(records):
        with watchdog.progress(Reporter(None).progress, "using", 1):
            soon(lambda: records.is_decoded)
        is_used.set()

    monkeypatch.setattr(building, "_flushed_and_hashed", hang)
    gate.allow(100)
    decoded(place, labelled(place), WorkerGroup(World(), None), Reporter(None), watchdog, beside=use)
    assert watchdog._ends_s == math.inf
