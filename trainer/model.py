"""The classifier and its loss.

Shapes: N images, K findings, H x W pixels.
"""

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VGG, DenseNet, ResNet, densenet121, resnet50, vgg16

StateDict = dict[str, Tensor]


def build(model: str, head: str, findings: int) -> nn.Module:
    """An untrained network: images [N, 3, H, W] to logits [N, K]; all parameters are trained until `freeze`.

    DenseNet-121 with a linear head for 14 findings has 6,968,206 parameters; with the hidden head for two classes DenseNet-121 has
    7,610,498 and VGG16 136,359,234.
    """
    if model == "vgg16":
        network: nn.Module = vgg16(num_classes=findings)
    elif model == "resnet50":
        network = resnet50(num_classes=findings)
    elif model == "densenet121":
        network = densenet121(num_classes=findings)
    else:
        assert model == "densenet_tiny", model
        network = DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=findings)
    if head == "hidden":
        stem, name = _place_of_head(network)
        setattr(stem, name, _hidden_head(model, getattr(stem, name).in_features, findings))
    return network


def head_of(network: nn.Module) -> nn.Module:
    """The layers that turn features into logits: what is trained when the backbone is frozen."""
    stem, name = _place_of_head(network)
    head: nn.Module = getattr(stem, name)
    return head


def _place_of_head(network: nn.Module) -> tuple[nn.Module, str]:
    """The module that holds the head, and its name there."""
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


def finding_loss(logits_NK: Tensor, labels_NK: Tensor) -> Tensor:
    """Mean binary cross-entropy over images and findings.

    Source: CheXNet, arXiv:1711.05225, without class weights. Differs: the paper sums over findings; the mean keeps the
    gradient's norm, and so what clipping means, independent of how many there are.
    """
    return functional.binary_cross_entropy_with_logits(logits_NK, labels_NK)
