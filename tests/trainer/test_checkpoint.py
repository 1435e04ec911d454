"""A checkpoint is there whole or not at all, and is what was committed."""

import json

import pytest
import torch

from trainer import checkpoint
from trainer.checkpoint import TrainState, best, committed, from_bytes, prune, publish, restore, to_bytes
from trainer.errors import InputError
from trainer.layout import manifest_key, state_key
from trainer.schedule import Plateau
from trainer.storage import LocalStorage


def state(step):
    weight = torch.arange(4.0) + step
    optimizer = {
        "state": {0: {"step": torch.tensor(1.0), "exp_avg": weight}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0]}],
    }
    return TrainState(step, {"w": weight}, [{"mean": weight}, {"mean": weight + 1}], optimizer, Plateau(0.1, 0.5))


def put(storage, step, auroc=float("nan")):
    return publish(storage, state(step), epoch=step / 10, val_auroc=auroc, val_loss=0.5)


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path))


def test_state_survives_the_way_to_bytes_and_back():
    """Everything that decides the next step is in it."""
    loaded = from_bytes(to_bytes(state(3)))
    assert loaded.step == 3
    assert loaded.plateau == Plateau(0.1, 0.5)
    torch.testing.assert_close(loaded.buffers_by_rank[1]["mean"], torch.arange(4.0) + 4)
    torch.testing.assert_close(loaded.optimizer["state"][0]["exp_avg"], torch.arange(4.0) + 3)


def test_same_state_gives_the_same_bytes():
    """Hashes are compared across runs."""
    assert to_bytes(state(3)) == to_bytes(state(3))


def test_state_without_a_manifest_is_no_checkpoint(storage):
    """An upload that was cut off."""
    put(storage, 10)
    storage.write(state_key(20), b"half")
    assert [manifest.step for manifest in committed(storage)] == [10]


def test_manifest_is_written_last(storage, monkeypatch):
    """Its presence is the commit."""
    written = []
    write = storage.write
    monkeypatch.setattr(storage, "write", lambda key, content: (written.append(key), write(key, content)))
    put(storage, 10)
    assert written == [state_key(10), manifest_key(10)]


@pytest.mark.parametrize(
    "damage", [lambda content: content + b"x", lambda content: content[:-1], lambda content: b"\0" + content[1:]]
)
def test_damaged_state_is_named_and_not_loaded(storage, damage):
    """Going on from damaged weights wastes every minute after it."""
    manifest = put(storage, 10)
    storage.write(state_key(10), damage(storage.read(state_key(10))))
    with pytest.raises(InputError, match=r"step-00000010/state.pt` is damaged") as refusal:
        restore(storage, manifest)
    assert "step-00000010" in refusal.value.hint


def test_missing_state_is_named(storage):
    """A manifest alone, after a careless copy."""
    manifest = put(storage, 10)
    storage.delete(state_key(10))
    with pytest.raises(InputError, match="is missing"):
        restore(storage, manifest)


@pytest.mark.parametrize("content", [b"{", b"[]", json.dumps({"format": 1}).encode()])
def test_manifest_that_cannot_be_understood_is_refused(storage, content):
    """Not taken for absent, which would start the run afresh."""
    storage.write(manifest_key(10), content)
    with pytest.raises(InputError, match=r"manifest.json"):
        committed(storage)


def test_best_is_the_highest_validated_and_the_earlier_of_equals(storage):
    """Undefined must not win, nor lose to nothing."""
    for step, auroc in [(10, 0.6), (20, 0.8), (30, 0.8), (40, float("nan"))]:
        put(storage, step, auroc)
    assert best(committed(storage)).step == 20


def test_newest_is_best_where_nothing_was_validated(storage):
    """`--split patients:80/0/20` has no validation images."""
    put(storage, 10)
    put(storage, 20)
    assert best(committed(storage)).step == 20
    assert best([]) is None


def test_pruning_keeps_the_newest_and_the_best_and_removes_what_nothing_commits(storage):
    """A state is 84 MB; a run has hundreds."""
    for step, auroc in [(10, 0.6), (20, 0.8), (30, 0.7), (40, 0.7), (50, 0.7)]:
        put(storage, step, auroc)
    storage.write(state_key(45), b"left by an interrupted upload")
    prune(storage)
    kept = [20, 40, 50]
    assert storage.keys("checkpoints/") == sorted(key for step in kept for key in (manifest_key(step), state_key(step)))
    for manifest in committed(storage):
        assert restore(storage, manifest).step == manifest.step


def test_pruning_removes_manifests_before_their_states(storage, monkeypatch):
    """Cut off in between, it must not leave a manifest without its state."""
    for step in (10, 20, 30):
        put(storage, step)
    deleted = []
    monkeypatch.setattr(storage, "delete", deleted.append)
    prune(storage)
    assert deleted == [manifest_key(10), state_key(10)]


def test_checkpoint_of_a_later_format_is_refused(storage, monkeypatch):
    """An old program must not half-understand a new state."""
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    put(storage, 10)
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    with pytest.raises(InputError, match="format is 2"):
        committed(storage)
