"""Features of a frozen backbone: computed while images are decoded, then by all workers, with the same result in any order."""

import copy
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from gated_decoders import gated_decoders  # noqa: F401 - a fixture
from PIL import Image
from torchvision.models import DenseNet

from trainer.data.loader import Loader
from trainer.data.locks import locked
from trainer.data.packs import unfinished
from trainer.data.packs.records import Geometry
from trainer.data.packs.unfinished import building as unfinished_pack
from trainer.data.packs.verify import attach
from trainer.devices import cpu
from trainer.errors import InputError, JobFailedError
from trainer.models import forward_threads
from trainer.models.architectures import build
from trainer.models.predictor import DistributedPredictor, centre_view
from trainer.runtime import coordination
from trainer.runtime.preemption import StopError
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.watchdog import Watchdog
from trainer.runtime.world import World
from trainer.training.features import FrozenFeatures

STILL = ("--crop", "center", "--no-flip", "--rotate", "0")
GEOMETRY = Geometry(side=36, fit="crop")
IMAGES = 60
"""Of `two_classes`."""


def weights(folder):
    """Of the run of this folder, without its name, which has six letters."""
    return (folder / "model/model.safetensors").read_bytes().replace(f'"{folder.name}"'.encode(), b'"run"')


@pytest.fixture
def forwards(monkeypatch):
    """Notes how many images each forward pass is given, after calling what is put there."""
    forward, noted = DenseNet.forward, []
    before = []

    def note(network, x_NCHW):
        for call in before:
            call()
        noted.append(len(x_NCHW))
        return forward(network, x_NCHW)

    monkeypatch.setattr(DenseNet, "forward", note)
    return noted, before


@pytest.fixture
def copied(two_classes, tmp_path):
    """The data set, to be spoiled; its training images in the order in which they are decoded."""
    shutil.copytree(two_classes, tmp_path / "data")
    return sorted((tmp_path / "data/train").rglob("*.png"))


def test_features_are_computed_while_images_are_decoded(classify, gate, forwards, tmp_path):
    """An accelerator that waits for the last image costs money meanwhile."""
    decoded = []
    forwards[1].extend([lambda: decoded.append(len(gate.decoded)), lambda: gate.allow(100)])
    gate.allow(8)
    classify("r", *STILL, "--cache-dir", str(tmp_path / "cache"))
    assert decoded[0] <= 8 < len(gate.decoded) == IMAGES / 2


@pytest.mark.parametrize("spoiled", [None, "unreadable", "16 bits", "16 bits in test"])
def test_they_are_the_same_bits_as_from_decoded_images(classify, copied, tmp_path, spoiled):
    """A run that resumes on this node finds its pack; on another one it decodes again."""
    if spoiled == "unreadable":
        copied[3].write_bytes(b"no image")
    elif spoiled is not None:
        path = copied[3] if spoiled == "16 bits" else next((tmp_path / "data/test").rglob("*.png"))
        Image.fromarray(np.full((48, 48), 700, np.uint16)).save(path)
    flags = (*STILL, "--data", str(tmp_path / "data"), "--cache-dir", str(tmp_path / "cache"))
    for name in ("beside", "cached"):
        classify(name, *flags, "--on-bad-image", "skip", "--gray-range", "used")
    assert weights(tmp_path / "beside") == weights(tmp_path / "cached")


def test_computing_ends_where_an_unreadable_image_refuses_the_run(classify, copied, forwards, tmp_path):
    """All of them are named, so the others are decoded; the network has nothing to do with it."""
    copied[0].write_bytes(b"no image")
    copied[-1].write_bytes(b"no image")
    places = ("--data", str(tmp_path / "data"), "--cache-dir", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="cannot read 2 of 60 images"):
        classify("r", *STILL, *places, "--batch-size", "2")
    assert sum(forwards[0]) < 20


def test_batch_that_does_not_fit_into_memory_is_named(classify, forwards, tmp_path):
    """The images that are decoded meanwhile do not make another error of it."""

    def run_out():
        raise torch.OutOfMemoryError("CUDA out of memory")

    forwards[1].append(run_out)
    with pytest.raises(InputError, match="8 images of 32 x 32") as problem:
        classify("r", *STILL, "--cache-dir", str(tmp_path / "cache"))
    assert "--batch-size 4" in problem.value.hint


def test_feature_that_is_not_finite_ends_the_run_unless_its_image_is_not_used(classify, copied, monkeypatch, tmp_path):
    """Unreadable images are computed as black ones, before it is known that they are unreadable."""
    copied[3].write_bytes(b"no image")
    forward, is_bad = DenseNet.forward, []

    def broken(network, x_NCHW):
        x_NF = forward(network, x_NCHW)
        is_black_N = (x_NCHW.std((1, 2, 3)) - x_NCHW[:, :, 0, 0].std(1)).abs() < 0.05
        is_bad.extend(is_black_N.tolist())
        x_NF[is_black_N if not network.is_strict else ~is_black_N] = float("nan")
        return x_NF

    monkeypatch.setattr(DenseNet, "is_strict", False, raising=False)
    monkeypatch.setattr(DenseNet, "forward", broken)
    flags = (*STILL, "--data", str(tmp_path / "data"), "--on-bad-image", "skip", "--cache-dir", str(tmp_path / "cache"))
    classify("r", *flags, "--max-steps", "1")
    assert True in is_bad
    monkeypatch.setattr(DenseNet, "is_strict", True)
    with pytest.raises(JobFailedError, match="not finite"):
        classify("s", *flags, "--max-steps", "1")


def test_run_that_is_over_computes_no_features(classify, monkeypatch, tmp_path):
    """On a new node it decodes, to evaluate its best checkpoint."""
    classify("r", *STILL)
    monkeypatch.setattr(FrozenFeatures, "compute_beside", None)
    classify("r", *STILL, "--cache-dir", str(tmp_path / "cache"))


def test_state_that_does_not_fit_is_refused_before_images_are_decoded(classify, monkeypatch, tmp_path):
    """It is loaded first, for the network that computes meanwhile."""
    classify("r", *STILL, "--max-steps", "2")
    classify("s", *STILL, "--max-steps", "2", "--head", "linear")
    shutil.rmtree(tmp_path / "r/checkpoints")
    shutil.copytree(tmp_path / "s/checkpoints", tmp_path / "r/checkpoints")

    def refuse(*_args, **_options):
        raise AssertionError("images are decoded")

    monkeypatch.setattr(unfinished, "build", refuse)
    cache = ("--cache-dir", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="another configuration"):
        classify("r", *STILL, *cache)
    with pytest.raises(AssertionError, match="images are decoded"):
        classify("new", *STILL, *cache)


def test_run_is_stopped_while_the_rest_is_computed(classify, forwards, monkeypatch):
    """As between steps: with its reason, and an exit code for which it is started again."""
    classify("a", *STILL)
    monkeypatch.setattr(coordination, "MOST_STEPS", 1)
    forwards[1].append(lambda: None if forwards[0] else os.kill(os.getpid(), signal.SIGTERM))
    forwards[0].clear()
    with pytest.raises(StopError):
        classify("r", *STILL)
    assert len(forwards[0]) < 6


def test_all_of_it_is_watched(classify, monkeypatch):
    """A peer that hangs while the features are exchanged would block the others for hours."""
    classify("a", *STILL)
    doing, heartbeat, total = [], Watchdog.heartbeat, WorkerGroup.sum
    monkeypatch.setattr(
        Watchdog, "heartbeat", lambda self, what, **how: (doing.append(what), heartbeat(self, what, **how))
    )
    monkeypatch.setattr(Watchdog, "pause", lambda self: doing.append("nothing"))
    monkeypatch.setattr(WorkerGroup, "sum", lambda self, values: (doing.append("sum"), total(self, values))[1])
    classify("r", *STILL, "--max-steps", "1")
    place = doing.index("sum")
    assert doing[place - 1] == doing[place + 1] == "computing features"
    assert doing.count("computing features") > IMAGES * 0.6 / 8


class Peers:
    """Workers in threads of this process; how a worker group exchanges is what is replaced."""

    def __init__(self, size):
        self.payloads = [b""] * size
        self.barrier = threading.Barrier(size, timeout=30)


class PeerGroup(WorkerGroup):
    def __init__(self, world, peers):
        super().__init__(world, None)
        self._peers = peers

    def all_gather(self, payload):
        self._peers.payloads[self.world.rank] = payload
        self._peers.barrier.wait()
        payloads = list(self._peers.payloads)
        self._peers.barrier.wait()
        return payloads

    def _values(self, values):
        like = values.numpy()
        parts = [np.frombuffer(each, like.dtype).reshape(like.shape) for each in self.all_gather(like.tobytes())]
        return torch.from_numpy(np.stack(parts))

    def sum(self, values):
        return self._values(values).sum(0, dtype=values.dtype)

    def largest(self, values):
        return self._values(values).amax(0)


@pytest.fixture
def images(tmp_path):
    """Names and files of nine images of noise."""
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        Image.effect_noise((40, 40), 10 + 20 * number).save(path)
    return [path.name for path in paths], paths


def features_on(world, group, network, folder, images):
    """The features of seven of the images as this worker has them, which batches were left, and its calls after batches."""
    used_N = np.array([7, 1, 0, 4, 5, 8, 3])
    predictor = DistributedPredictor(
        view=lambda x: centre_view(x, crop_px=32, memory_format=torch.channels_last),
        device=cpu,
        group=group,
        precision="fp32",
        batch=2,
        findings=3,
        mode="eager",
    )
    features = FrozenFeatures(copy.deepcopy(network), predictor, used_N)
    if world.is_local_rank0:
        with ExitStack() as held:
            held.enter_context(locked(folder))
            with unfinished_pack(folder, *images, GEOMETRY, lock=held.pop_all()) as records:
                features.compute_beside(records, records.built.result, skips_unreadable=True)
    group.all_gather(b"")
    pack, calls = attach(folder, images[0], GEOMETRY), []
    left = features.left()
    features.compute_left(left, Loader(pack, cpu, 2), lambda: calls.append(1))
    return features.gathered(used_N, lambda: None), left, len(calls)


@pytest.mark.parametrize(
    ("worlds", "left"),
    [
        ([World()], [1, 2, 3]),
        ([World(0, 2, 0, 2), World(1, 2, 1, 2)], [1, 2, 3]),
        ([World(0, 2, 0, 1), World(1, 2, 0, 1)], [2, 3]),
        ([World(0, 3, 0, 1), World(1, 3, 0, 2), World(2, 3, 1, 2)], [2, 3]),
    ],
    ids=["one worker", "one node", "two nodes", "two unequal nodes"],
)
def test_workers_share_what_is_left_when_images_are_decoded(images, monkeypatch, tmp_path, worlds, left):
    """The first of each node computes while it decodes, here one batch; the accelerators of the others need not stay idle."""
    monkeypatch.setattr(forward_threads, "usable_cores", lambda: 1)
    network, peers = build("densenet_tiny", "linear", 3), Peers(len(worlds))

    def work(world):
        folder = tmp_path / f"pack-{world.node_ranks.start}"
        return features_on(world, PeerGroup(world, peers), network, folder, images)

    with ThreadPoolExecutor(len(worlds)) as pool:
        found = list(pool.map(work, worlds))
    alone = features_on(World(), WorkerGroup(World(), None), network, tmp_path / "alone", images)
    assert alone[0].std() > 0
    for features_NF, left_B, calls in found:
        np.testing.assert_array_equal(features_NF, alone[0])
        assert left_B == left
        assert calls == -(-len(left) // len(worlds))
