"""Network architectures, freezing of backbones, and losses.

Shapes: N images, K findings, F features, H x W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torchvision.models import VGG, DenseNet, ResNet, densenet121, resnet50, vgg16

StateDict = dict[str, Tensor]


def build(model: str, head: str, findings: int, *, recomputes: bool = False) -> nn.Module:
    """An untrained network: images [N, 3, H, W] to logits [N, K]; all parameters are trainable until `freeze`.

    DenseNet-121 with a linear head for 14 findings has 6,968,206 parameters; with the hidden head for two classes DenseNet-121
    has 7,610,498 and VGG16 136,359,234. A DenseNet that `recomputes` keeps fewer activations, and computes them again in the
    backward pass, which must be `in_backward`.
    """
    if model == "vgg16":
        network: nn.Module = vgg16(num_classes=findings)
    elif model == "resnet50":
        network = resnet50(num_classes=findings)
    elif model == "densenet121":
        network = densenet121(num_classes=findings, memory_efficient=recomputes)
    else:
        assert model == "densenet_tiny", model
        network = DenseNet(
            growth_rate=8,
            block_config=(2, 2, 2, 2),
            num_init_features=16,
            num_classes=findings,
            memory_efficient=recomputes,
        )
    if head == "hidden":
        stem, name = _place_of_head(network)
        setattr(stem, name, _hidden_head(model, getattr(stem, name).in_features, findings))
    return network


def head_of(network: nn.Module) -> nn.Module:
    """The layers that turn features into logits: the trainable part when the backbone is frozen."""
    stem, name = _place_of_head(network)
    head: nn.Module = getattr(stem, name)
    return head


def freeze(network: nn.Module) -> None:
    """Make only the head trainable."""
    network.requires_grad_(requires_grad=False)
    head_of(network).requires_grad_()


def unfreeze(network: nn.Module) -> None:
    """Make all weights trainable."""
    network.requires_grad_()


def to_training(network: nn.Module, *, frozen: bool) -> None:
    """Set training mode, with a frozen backbone of the head only: the backbone then keeps its BatchNorm statistics and uses no
    dropout.
    """
    network.train(not frozen)
    head_of(network).train()


@contextmanager
def in_backward(network: nn.Module) -> Iterator[None]:
    """The block of a backward pass that computes activations again: BatchNorm's statistics are not updated a second time.

    The layers must save the same tensors as in the forward pass, so they still compute the statistics, but with momentum 0.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, batches) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, batches


@contextmanager
def headless(network: nn.Module) -> Iterator[nn.Module]:
    """The network without its head for the block: images [N, 3, H, W] to features [N, F]."""
    stem, name = _place_of_head(network)
    head = getattr(stem, name)
    setattr(stem, name, nn.Identity())
    try:
        yield network
    finally:
        setattr(stem, name, head)


def features_of(network: nn.Module) -> int:
    """Number of features per image that the head receives."""
    first = next(module for module in head_of(network).modules() if isinstance(module, nn.Linear))
    return first.in_features


def _place_of_head(network: nn.Module) -> tuple[nn.Module, str]:
    """The module that contains the head, and the head's name there."""
    if isinstance(network, VGG):
        return network.classifier, "6"
    return (network, "fc") if isinstance(network, ResNet) else (network, "classifier")


def _hidden_head(model: str, features: int, findings: int) -> nn.Sequential:
    """Source: the classifiers of Kumar & Moghal, whose log-softmax is in the loss here; ResNet-50's is like VGG16's."""
    if model.startswith("densenet"):
        return nn.Sequential(
            nn.Linear(features, 512),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(512, 256),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(256, findings),
        )
    return nn.Sequential(nn.Linear(features, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, findings))
