"""A checkpoint is there whole or not at all, and is what was committed."""

import json

import pytest
import torch

from trainer.errors import InputError
from trainer.layout import manifest_key, state_key
from trainer.runs import manifest as manifests
from trainer.runs.checkpoints import Scored, commit, manifest_of, newest, prune, read_state
from trainer.runs.manifest import Manifest, best, committed, worth
from trainer.storage import DamagedError, LocalStorage, open_storage
from trainer.training.schedule import Plateau
from trainer.training.snapshot import RankState, TrainState, from_bytes


def state(step):
    weight = torch.arange(4.0) + step
    optimizer = {
        "state": {0: {"step": torch.tensor(1.0), "exp_avg": weight}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0]}],
    }
    ranks = [RankState({"mean": weight + rank}, {"cpu": torch.get_rng_state()}, 0.25 * rank) for rank in range(2)]
    return TrainState(step, {"w": weight}, ranks, optimizer, Plateau(0.1, 0.5))


def put(storage, step, auroc=None):
    one = state(step)
    content = one.to_bytes()
    manifest = manifest_of(content, one, epoch=step / 10, scored=Scored(auroc, 0.5) if auroc is not None else None)
    storage.write(state_key(step), content)
    commit(storage, manifest)
    return manifest


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path))


def test_state_survives_serialisation():
    """Everything that decides the next step is in it."""
    loaded = from_bytes(state(3).to_bytes())
    assert loaded.step == 3
    assert loaded.plateau == Plateau(0.1, 0.5)
    torch.testing.assert_close(loaded.ranks[1].buffers["mean"], torch.arange(4.0) + 4)
    assert loaded.ranks[1].loss_sum == 0.25
    torch.testing.assert_close(loaded.ranks[0].random["cpu"], torch.get_rng_state())
    torch.testing.assert_close(loaded.optimizer["state"][0]["exp_avg"], torch.arange(4.0) + 3)


def test_same_state_gives_the_same_bytes():
    """Hashes are compared across runs."""
    assert state(3).to_bytes() == state(3).to_bytes()


def test_state_without_a_manifest_is_no_checkpoint(storage):
    """An upload that was cut off."""
    put(storage, 10)
    storage.write(state_key(20), b"half")
    assert [manifest.step for manifest in committed(storage)] == [10]


DAMAGE = [
    pytest.param(lambda content: content + b"x", id="longer"),
    pytest.param(lambda content: content[:-1], id="shorter"),
    pytest.param(lambda content: b"\0" + content[1:], id="other"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_state_is_named_and_not_loaded(storage, damage):
    """Going on from damaged weights wastes every minute after it."""
    manifest = put(storage, 10)
    storage.write(state_key(10), damage(storage.read(state_key(10))))
    with pytest.raises(InputError, match=r"step-00000010/state.pt` is damaged"):
        read_state(storage, manifest)


def test_missing_state_is_named(storage):
    """A manifest alone, after a careless copy."""
    manifest = put(storage, 10)
    storage.delete(state_key(10))
    with pytest.raises(InputError, match="is missing"):
        read_state(storage, manifest)


@pytest.mark.parametrize("content", [b"{", b"[]", json.dumps({"format": 2}).encode()])
def test_invalid_manifest_is_named_and_left_out(storage, content):
    """It commits nothing; the one before it does."""
    put(storage, 10)
    storage.write(manifest_key(20), content)
    told = []
    assert [manifest.step for manifest in committed(storage, told.append)] == [10]
    assert [line for line in told if "step-00000020/manifest.json" in line]


def break_state(storage, step):
    storage.write(state_key(step), b"torn")


def lose_state(storage, step):
    storage.delete(state_key(step))


def break_manifest(storage, step):
    storage.write(manifest_key(step), b"{")


@pytest.mark.parametrize("damage", [break_state, lose_state, break_manifest])
def test_damaged_newest_is_named_and_the_one_before_is_used(storage, damage):
    """A night's training must not end with one bad object."""
    put(storage, 10)
    put(storage, 20)
    damage(storage, 20)
    told = []
    manifest, content = newest(storage, told.append)
    assert manifest.step == from_bytes(content).step == 10
    assert len(told) == 1
    assert "step-00000020" in told[0]


def test_damaged_checkpoint_is_no_longer_committed(storage):
    """What training goes on to write is older than it, and pruning keeps the newest."""
    put(storage, 10)
    put(storage, 20)
    break_state(storage, 20)
    newest(storage, lambda _: None)
    assert [manifest.step for manifest in committed(storage)] == [10]


def test_run_with_only_damaged_checkpoints_is_not_taken_for_a_new_one(storage):
    """Starting afresh in its place would be a night lost without a word."""
    put(storage, 10)
    break_state(storage, 10)
    with pytest.raises(InputError, match="all its checkpoints are damaged"):
        newest(storage, lambda _: None)


def test_disk_that_does_not_answer_is_not_taken_for_damage(storage, monkeypatch):
    """The newest checkpoint would be given up for an older one because of one bad moment of a mount."""
    put(storage, 10)
    put(storage, 20)
    read = storage.read

    def stale(key, **how):
        if key == state_key(20):
            raise InputError("cannot read: stale file handle")
        return read(key, **how)

    monkeypatch.setattr(storage, "read", stale)
    with pytest.raises(InputError, match="stale file handle"):
        newest(storage, lambda _: None)
    assert [manifest.step for manifest in committed(storage)] == [10, 20]


def test_manifest_whose_hash_is_wrong_is_named_and_left_out(storage, monkeypatch):
    """A bucket knows hashes of all objects; a bad manifest must not stop every start."""
    put(storage, 10)
    put(storage, 20)
    read = storage.read

    def damaged(key, **how):
        if key == manifest_key(20):
            raise DamagedError("its SHA-256 begins with 0, that of the written content with 1")
        return read(key, **how)

    monkeypatch.setattr(storage, "read", damaged)
    told = []
    assert [manifest.step for manifest in committed(storage, told.append)] == [10]
    assert "step-00000020" in told[0]


def test_run_without_checkpoints_has_no_newest(storage):
    """A new run."""
    assert newest(storage, lambda _: None) is None


def test_read_that_failed_once_is_retried(storage, monkeypatch):
    """The bytes in the bucket are good; one read of them was not."""
    put(storage, 10)
    read, answers = storage.read, [b"torn"]
    monkeypatch.setattr(
        storage, "read", lambda key, **how: answers.pop() if key == state_key(10) and answers else read(key, **how)
    )
    told = []
    manifest, _ = newest(storage, told.append)
    assert (manifest.step, told) == (10, [])


def test_best_is_the_highest_validated_and_the_earlier_of_equals(storage):
    """Undefined must not win, nor lose to nothing."""
    for step, auroc in [(10, 0.6), (20, 0.8), (30, 0.8), (40, None)]:
        put(storage, step, auroc)
    assert best(committed(storage)).step == 20


def test_among_equal_scores_the_lower_loss_is_best():
    """Few validation images tie often; manifests without a loss, and an undefined score whatever its loss, come last."""
    known = {"epoch": 1.0, "world_size": 1, "bytes": 1, "sha256": "0" * 64}
    scores = {10: (0.9, None), 20: (0.9, 0.4), 30: (0.9, 0.3), 40: (0.9, 0.3), 50: (0.8, 0.1), 60: (None, 0.0)}
    manifests = [Manifest(step=step, val_auroc=auroc, val_loss=loss, **known) for step, (auroc, loss) in scores.items()]
    assert best(manifests).step == 30
    assert best(manifests[:1]).step == 10
    assert max(worth(None, 0.0), worth(0.0, None)) == worth(0.0, None)


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
    prune(storage, {manifest.step: manifest for manifest in committed(storage)}, keep_last=2)
    kept = [20, 40, 50]
    assert storage.keys("checkpoints/") == sorted(key for step in kept for key in (manifest_key(step), state_key(step)))
    for manifest in committed(storage):
        assert from_bytes(read_state(storage, manifest)).step == manifest.step


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_pruning_leaves_foreign_files(kind, storage, request):
    """Whoever keeps other files below `checkpoints/` lost them without a word."""
    if kind == "bucket":
        request.getfixturevalue("s3")
        storage = open_storage("s3://cxr/runs/one")
    foreign = [
        "epoch=3-step=100.ckpt",
        "old/best.pt",
        "step-00000010/notes.txt",
        "step-10/state.pt",
        "step-00000010.pt",
    ]
    for name in foreign:
        storage.write(f"checkpoints/{name}", b"theirs")
    for step in (10, 20, 30):
        put(storage, step)
    prune(storage, {manifest.step: manifest for manifest in committed(storage)}, keep_last=1)
    assert [manifest.step for manifest in committed(storage)] == [30]
    kept = {f"checkpoints/{name}" for name in foreign} | {state_key(30), manifest_key(30)}
    assert set(storage.keys("checkpoints/")) == kept


def test_pruning_removes_manifests_before_their_states(storage, monkeypatch):
    """Cut off in between, it must not leave a manifest without its state."""
    for step in (10, 20, 30):
        put(storage, step)
    deleted = []
    monkeypatch.setattr(storage, "delete", deleted.append)
    prune(storage, {manifest.step: manifest for manifest in committed(storage)}, keep_last=2)
    assert deleted == [manifest_key(10), state_key(10)]


def test_checkpoint_of_a_later_format_is_refused(storage):
    """An old program must not half-understand a new state, nor take it for absent."""
    content = json.loads(manifests.to_bytes(put(storage, 10))) | {"format": 3}
    storage.write(manifest_key(10), json.dumps(content).encode())
    with pytest.raises(InputError, match="format is 3"):
        committed(storage)
