"""The sanity check itself: it must tell a map that depends on weights from one that doesn't."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torchvision.models import VGG
from torchvision.models.vgg import make_layers

from trainer.explanation import randomisation
from trainer.explanation.cam import activate
from trainer.models.architectures import build


def _tiny():
    return build("densenet_tiny", "linear", 2)


@pytest.fixture(scope="module")
def images():
    """Four images of 160 pixels: maps of 5 x 5."""
    return torch.randn(4, 3, 160, 160, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(11)
    return _tiny().eval()


def test_rank_correlation_is_spearmans():
    """Ties included."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.integers(0, 6, 25).astype(float), rng.integers(0, 6, 25).astype(float)
        assert randomisation.rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert np.isnan(randomisation.rank_correlation(np.ones(5), np.arange(5.0)))


def test_maps_of_a_network_change_as_its_weights_are_randomised(images, network):
    """The trained network is like itself; without any of its weights its maps are others."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    stages = randomisation.check(
        network, lambda one: activate(one, images, [0, 1]).maps_NMhw, fresh=_tiny, draws=3, seed=0
    )
    names = ["-", "classifier", "denseblock4", "denseblock3", "denseblock2", "denseblock1", "conv0"]
    assert [stage["redrawn"] for stage in stages] == names
    assert stages[0]["similarity"] == pytest.approx(1)
    for stage in stages[1:]:
        assert stage["lowest"] <= stage["similarity"] <= stage["highest"]
        assert abs(stage["similarity"]) < 0.6, stage
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_maps_that_ignore_the_network_do_not_change(images, network):
    """What the check is for: a method that shows edges of the image passes for an explanation until weights are redrawn."""
    edges = images.numpy()[:, :1, ::32, ::32]
    stages = randomisation.check(network, lambda _: edges, fresh=_tiny, draws=2, seed=0)
    assert [stage["similarity"] for stage in stages] == pytest.approx([1.0] * 7)


def test_the_same_seed_draws_the_same_weights(images, network):
    """A report can be made again; and the program's own random numbers go on as if nothing were drawn."""
    state = torch.get_rng_state()
    maps_of = lambda one: activate(one, images[:1], [0]).maps_NMhw  # noqa: E731
    first, second = (randomisation.check(network, maps_of, fresh=_tiny, draws=1, seed=3) for _ in range(2))
    assert first == second
    assert first != randomisation.check(network, maps_of, fresh=_tiny, draws=1, seed=4)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("model", ["densenet121", "densenet_tiny", "resnet50", "vgg16"])
@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_every_weight_belongs_to_one_randomised_stage(model, head):
    """After the last stage nothing that was learned may be left."""
    with torch.device("meta"):
        network = build(model, head, 3)
    parts = randomisation.stages(network)
    for name in network.state_dict():
        owners = [part for part, beginnings in parts if name.startswith(tuple(beginnings))]
        assert len(owners) == 1, (name, owners)
    assert all(any(name.startswith(tuple(begin)) for name in network.state_dict()) for _, begin in parts)


def test_blocks_of_a_small_vgg_end_at_its_poolings():
    """Stages follow the network, not a table of layer numbers."""
    with torch.device("meta"):
        network = VGG(make_layers([4, "M", 8, 8, "M"]), init_weights=False)
    assert randomisation.stages(network)[1:] == [
        ("block2", ["features.3.", "features.4.", "features.5.", "features.6."]),
        ("block1", ["features.0.", "features.1."]),
    ]
