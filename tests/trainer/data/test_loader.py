"""Which samples a rank sees, and that what it sees is what the pack holds."""

import queue

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import loader as loader_module
from trainer.data.loader import BUFFERS, Loader, evaluation_batches, training_batches, training_order
from trainer.data.packs.checksums import checksums_of
from trainer.data.packs.index import PackIndex
from trainer.data.packs.reading import Pack, Shard
from trainer.data.packs.records import Geometry
from trainer.devices import cpu


@given(
    images=st.integers(1, 300),
    world=st.sampled_from([1, 2, 4]),
    batch=st.integers(1, 8),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 99),
)
def test_ranks_share_each_step_and_no_image_is_seen_twice_in_an_epoch(images, world, batch, seed, epoch):
    """A rank that sees another's images, or fewer steps, trains something else or hangs the others."""
    rows = np.arange(1000, 1000 + images)
    order = training_order(rows, seed=seed, epoch=epoch, global_batch=world * batch)
    per_rank = [training_batches(order, rank=rank, world=world, first_step=0) for rank in range(world)]
    assert {len(steps) for steps in per_rank} == {max(1, images // (world * batch))}
    assert all(len(samples) == batch for steps in per_rank for samples in steps)
    seen = np.concatenate([samples for steps in per_rank for samples in steps])
    assert set(seen) <= set(rows)
    if images >= world * batch:
        assert len(set(seen)) == len(seen)


@given(st.integers(0, 12), st.sampled_from([1, 2, 3, 6]))
def test_order_of_images_is_the_same_with_another_number_of_workers(first_step, world):
    """A run that resumes on fewer cards must neither repeat nor skip images."""
    order = training_order(np.arange(100), seed=1, epoch=2, global_batch=6)
    rest = [training_batches(order, rank=rank, world=world, first_step=first_step) for rank in range(world)]
    all_or_raise = [sorted(np.concatenate(parts).tolist()) for parts in zip(*rest, strict=True)]
    assert all_or_raise == [sorted(step.tolist()) for step in order[first_step:]]


def test_epochs_differ_and_repeat_exactly():
    """Order is a function of seed and epoch, which is why no order is saved."""
    orders = [training_order(np.arange(64), seed=0, epoch=epoch, global_batch=8) for epoch in (0, 1, 0)]
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])


@given(st.integers(0, 50), st.integers(1, 5), st.integers(1, 7))
def test_evaluation_counts_every_image_once_in_batches_of_one_shape(images, world, batch):
    """Padding by repetition, the usual way, moves every score a little."""
    batches = [evaluation_batches(np.arange(images), rank=rank, world=world, batch=batch) for rank in range(world)]
    assert all(len(samples) == batch for mine in batches for samples in mine)
    real = [sample for mine in batches for samples in mine for sample in samples.tolist() if sample >= 0]
    assert sorted(real) == list(range(images))


@pytest.fixture
def pack(tmp_path):
    """Twenty records, each filled with its own number, in one shard."""
    records = np.repeat(np.arange(20, dtype=np.uint8), 16).reshape(20, 4, 4)
    records.tofile(tmp_path / "shard-00000.bin")
    checksums_N = np.array(checksums_of(records), np.uint32)
    geometry = Geometry(side=4, fit="crop")
    index = PackIndex(format=2, geometry=geometry, count=20, pillow="", files={}, unreadable={})
    return Pack(
        folder=tmp_path,
        side=4,
        shards=[Shard(tmp_path / "shard-00000.bin")],
        checksums_N=checksums_N,
        records_N=np.arange(20),
        first_S=np.zeros(1, np.int64),
        index=index,
        sizes_N2=np.full((20, 2), 8, np.int32),
    )


def test_batches_hold_the_requested_records(pack):
    """More batches than buffers: a buffer written again too early would show here."""
    wanted = [np.array([step, (step * 7) % 20, 3]) for step in range(BUFFERS * 5)]
    loader = Loader(pack, cpu, 3)
    batches = list(loader.batches(wanted))
    assert len(batches) == len(wanted)
    for batch, samples in zip(batches, wanted, strict=True):
        np.testing.assert_array_equal(batch.samples_N, samples)
        assert batch.x_N1SS[:, 0, 0, 0].tolist() == samples.tolist()
        assert batch.x_N1SS.shape == (3, 1, 4, 4)
    assert loader.waited_s > 0


class Ahead:
    """A device that copies ahead; notes when copies start and when they are taken."""

    uploads_ahead = True
    host_buffer = staticmethod(cpu.host_buffer)

    def __init__(self):
        self.events = []

    def start_upload(self, host):
        number = sum(event.startswith("start") for event in self.events)
        self.events.append(f"start {number}")
        uploaded = host.clone()
        return lambda: (self.events.append(f"take {number}"), uploaded)[1], lambda: None


def test_copy_of_the_next_batch_starts_before_the_step_of_this_one(pack, monkeypatch):
    """A step that reads its loss waits for the device; a copy that starts afterwards is waited for, too."""
    monkeypatch.setattr(loader_module, "_filled_now", filled_soon)
    device = Ahead()
    for number, batch in enumerate(Loader(pack, device, 1).batches([np.array([number]) for number in range(7)])):
        assert batch.x_N1SS.flatten()[0] == batch.samples_N[0] == number
        device.events.append(f"step {number}")
    order = [event for number in range(7) for event in (f"start {number + 1}", f"take {number}", f"step {number}")]
    assert device.events == ["start 0", *(event for event in order if event != "start 7")]


def filled_soon(filled):
    """As the loader's, but patient: what is filled by then would depend on timing."""
    item = filled.get(timeout=60)
    if isinstance(item, tuple):
        return item
    filled.put(item)
    return None


def test_batch_that_is_not_filled_yet_is_not_waited_for(pack):
    """The step of this batch is worth more than the copy of the next."""
    filled = queue.Queue()
    assert loader_module._filled_now(filled) is None
    for last in (None, ValueError("read")):
        filled.put(last)
        assert loader_module._filled_now(filled) is None
        assert filled.get_nowait() is last
    device = Ahead()
    with pytest.raises(IndexError):
        list(Loader(pack, device, 1).batches([np.array([0]), np.array([999])]))


def test_copies_under_way_are_waited_for_when_the_loop_is_broken_off(pack, monkeypatch):
    """The next loop fills the same buffers."""
    device, ended = Ahead(), []
    monkeypatch.setattr(loader_module, "_filled_now", filled_soon)
    start = device.start_upload
    monkeypatch.setattr(device, "start_upload", lambda host: (start(host)[0], lambda: ended.append(host.data_ptr())))
    loader = Loader(pack, device, 1)
    for _ in loader.batches([np.array([0]), np.array([1])]):
        break
    assert len(set(ended)) == 2


def test_loader_can_be_iterated_again_after_a_broken_off_loop(pack):
    """Validation follows an epoch that `--max-steps` cut short."""
    loader = Loader(pack, cpu, 1)
    for _ in loader.batches([np.array([number]) for number in range(20)]):
        break
    assert [int(batch.samples_N[0]) for batch in loader.batches([np.array([5])])] == [5]


def test_error_while_gathering_reaches_the_training_loop(pack):
    """A thread that dies silently leaves the loop waiting for ever."""
    with pytest.raises(IndexError):
        list(Loader(pack, cpu, 1).batches([np.array([999])]))
