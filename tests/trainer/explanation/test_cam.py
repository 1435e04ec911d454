"""Maps: exact where the head is linear, the same by gradient, and what the network itself says."""

import numpy as np
import pytest
import torch
from torchvision.models import VGG, ResNet
from torchvision.models.resnet import Bottleneck
from torchvision.models.vgg import make_layers

from trainer.evaluation.metrics import class_log_odds
from trainer.explanation.cam import activate, class_activation_maps, gradient_maps
from trainer.models.architectures import build


def _small_vgg():
    with torch.device("meta"):  # its own head would have 100 million weights
        network = VGG(torch.nn.Sequential())
    torch.manual_seed(0)
    network.features = make_layers([4, "M", 8, "M", 8, "M", 8, "M", 8, "M"])
    network.classifier = torch.nn.Sequential(torch.nn.Linear(8 * 7 * 7, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    return network


def _small_resnet():
    torch.manual_seed(0)
    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=3, width_per_group=8)


def _densenet(head="linear", findings=3):
    torch.manual_seed(0)
    network = build("densenet_tiny", head, findings)
    for module in network.modules():  # as after training: statistics and biases that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def images():
    """Three images of 96 pixels."""
    return torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def test_cam_of_densenet_equals_grad_cam_up_to_scale(images):
    """Two roads to one map: each checks the other."""
    network = _densenet()
    exact = activate(network, images, [0, 1, 2]).maps_NMhw
    gradient = gradient_maps(network, images, [0, 1, 2])
    assert exact.shape == gradient.shape == (3, 3, 3, 3)
    assert exact.dtype == np.float32
    for one, other in zip(exact.reshape(9, -1), gradient.reshape(9, -1), strict=True):
        assert one.std() > 0
        ratio = (one @ other) / (other @ other)
        assert ratio > 0
        np.testing.assert_allclose(one, ratio * other, rtol=1e-4, atol=1e-6 * np.abs(one).max())
        assert np.corrcoef(one, other)[0, 1] > 0.999999


@pytest.mark.parametrize("make", [_densenet, _small_resnet], ids=["densenet", "resnet"])
def test_mean_of_the_map_plus_the_bias_is_the_logit(make, images):
    """A map accounts for all of what the network says."""
    network = make().eval()
    said = activate(network, images, [2, 0])
    head = network.classifier if hasattr(network, "classifier") else network.fc
    bias_K = head.bias.detach().numpy()
    np.testing.assert_allclose(
        said.maps_NMhw.mean(axis=(2, 3)) + bias_K[[2, 0]], said.logits_NK[:, [2, 0]], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "cells"),
    [
        pytest.param(_densenet, 3, id="densenet"),
        pytest.param(lambda: _densenet("hidden"), 3, id="densenet, hidden head"),
        pytest.param(_small_vgg, 6, id="vgg"),
        pytest.param(_small_resnet, 3, id="resnet"),
    ],
)
def test_logits_are_those_of_the_whole_network(make, cells, images):
    """The network is run in two halves, which must be the network: in eval mode, whatever it was in."""
    network = make()
    expected = network.eval()(images).detach().numpy()
    said = activate(network.train(), images, [1])
    np.testing.assert_allclose(said.logits_NK, expected, rtol=1e-5, atol=1e-6)
    assert said.maps_NMhw.shape == (3, 1, cells, cells)
    assert np.isfinite(said.maps_NMhw).all()
    assert said.maps_NMhw.std() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_maps_of_two_classes_are_opposite(images):
    """Under softmax a logit alone means nothing: the map is about the log-odds, whose sum over cells it is."""
    network = _densenet(findings=2)
    said = activate(network, images, [0, 1], classes=True)
    np.testing.assert_allclose(said.maps_NMhw[:, 0], -said.maps_NMhw[:, 1], atol=1e-6)
    bias = network.classifier.bias.detach()
    log_odds = class_log_odds(said.logits_NK)[:, 1]
    np.testing.assert_allclose(
        said.maps_NMhw[:, 1].mean(axis=(1, 2)) + float(bias[1] - bias[0]), log_odds, rtol=1e-4, atol=1e-5
    )


def test_map_of_a_bright_patch_is_highest_on_the_patch():
    """The map is not mirrored or turned: a network that answers to brightness points at the bright quarter."""
    network = _densenet(findings=1)
    image = torch.zeros(1, 3, 128, 128)
    with torch.no_grad():
        dark = network.features(image)
        image[:, :, :64, 64:] = 3  # upper right
        change_F = (torch.relu(network.features(image)) - torch.relu(dark)).mean(dim=(0, 2, 3))
        network.classifier.weight[0] = change_F
    (map_hw,) = (
        activate(network, image, [0]).maps_NMhw[0] - activate(network, torch.zeros_like(image), [0]).maps_NMhw[0]
    )
    assert map_hw.shape == (4, 4)
    assert np.unravel_index(map_hw.argmax(), map_hw.shape)[0] < 2
    assert np.unravel_index(map_hw.argmax(), map_hw.shape)[1] >= 2


def test_each_image_of_a_batch_may_have_another_finding(images):
    """A gallery shows for each image the finding it is there for."""
    network = _densenet()
    maps = class_activation_maps(network, images, [2, 0, 2])
    everything = activate(network, images, [0, 1, 2]).maps_NMhw
    np.testing.assert_array_equal(maps, everything[[0, 1, 2], [2, 0, 2]])
