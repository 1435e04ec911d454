"""Class activation maps: exact where the head is linear, otherwise by gradient.

A map is a weighted sum of the last feature maps, with their resolution: 7 x 7 for 224 pixels (VGG16 14 x 14), 2 x 2 for 64
pixels, 16 x 16 for 512 pixels. Shapes: N images, C channels, H x W pixels, F features, K logits, M requested logits, h x w cells
of the map.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VGG, DenseNet, ResNet

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Activation:
    """A network's logits for some images, and their maps."""

    logits_NK: Floats
    maps_NMhw: Floats
    """Maps of the requested logits, in order. For a linear head and independent findings, the mean of a map over its cells
    plus the head's bias is the logit. Negative values lower the logit.
    """


def activate(
    network: nn.Module,
    x_NCHW: Tensor,
    requested: Sequence[int],
    *,
    classes: bool = False,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Activation:
    """Logits of these images, and maps of the logits `requested`; sets the network to eval mode.

    With `classes` an image has one class, by softmax, and a map explains the class's log-odds: what raises another class counts
    against it. Exact maps (CAM) need a linear head after the mean over the last feature maps, as in DenseNet and ResNet. Others
    are Grad-CAM. `autocast` is the context of the network up to its last feature maps; what follows is computed in float32.
    """
    network.eval()
    features_of, logits_of = _halves(network)
    with torch.no_grad(), autocast():
        features_NFhw = features_of(x_NCHW).float()
    head = linear_head(network)
    if head is not None and not classes:
        with torch.no_grad():
            logits_NK, maps_NMhw = logits_of(features_NFhw), _exact(head, features_NFhw, requested)
    else:
        logits_NK, maps_NMhw = _by_gradient(logits_of, features_NFhw, requested, classes=classes)
    return Activation(logits_NK.float().cpu().numpy(), maps_NMhw.float().cpu().numpy())


def class_activation_maps(
    network: nn.Module, x_NCHW: Tensor, requested_N: Sequence[int], *, classes: bool = False
) -> Floats:
    """One map per image, of its requested logit: float32 [N, h, w]. See `activate`."""
    different = sorted(set(requested_N))
    maps_NMhw = activate(network, x_NCHW, different, classes=classes).maps_NMhw
    return maps_NMhw[np.arange(len(requested_N)), [different.index(one) for one in requested_N]]


def gradient_maps(network: nn.Module, x_NCHW: Tensor, requested: Sequence[int], *, classes: bool = False) -> Floats:
    """Grad-CAM for any head: float32 [N, M, h, w]. See `activate`."""
    network.eval()
    features_of, logits_of = _halves(network)
    with torch.no_grad():
        features_NFhw = features_of(x_NCHW).float()
    maps: Floats = _by_gradient(logits_of, features_NFhw, requested, classes=classes)[1].cpu().numpy()
    return maps


def cells(network: nn.Module, crop_px: int) -> tuple[int, int]:
    """Rows and columns of the maps for images of crop_px x crop_px pixels."""
    network.eval()
    features_of, _ = _halves(network)
    parameter = next(network.parameters())
    with torch.no_grad():
        rows, columns = features_of(parameter.new_zeros((1, 3, crop_px, crop_px))).shape[-2:]
    return rows, columns


def linear_head(network: nn.Module) -> nn.Linear | None:
    """The head if logits are linear in the mean over the last feature maps; otherwise None."""
    head = network.classifier if isinstance(network, DenseNet) else getattr(network, "fc", None)
    return head if isinstance(head, nn.Linear) else None


Function = Callable[[Tensor], Tensor]


def _halves(network: nn.Module) -> tuple[Function, Function]:
    """The network as two functions: images to the last, non-negative feature maps, and these to logits.

    Without hooks: torchvision's DenseNet applies ReLU to its features in place, which a hook would observe too late or break.
    """
    if isinstance(network, DenseNet):
        return lambda x: functional.relu(network.features(x)), lambda features: network.classifier(_mean(features))
    if isinstance(network, VGG):
        return network.features[:-1], lambda features: _vgg_logits(network, features)
    assert isinstance(network, ResNet), type(network)
    return lambda x: _resnet_features(network, x), lambda features: network.fc(_mean(features))


def _mean(features_NFhw: Tensor) -> Tensor:
    return features_NFhw.mean(dim=(2, 3))


def _vgg_logits(network: VGG, features_NFhw: Tensor) -> Tensor:
    """From the last convolution on: its map has four times the cells that remain after the following pooling."""
    pooled = network.avgpool(network.features[-1](features_NFhw))
    logits: Tensor = network.classifier(pooled.flatten(1))
    return logits


def _resnet_features(network: ResNet, x_NCHW: Tensor) -> Tensor:
    x = network.maxpool(network.relu(network.bn1(network.conv1(x_NCHW))))
    features: Tensor = network.layer4(network.layer3(network.layer2(network.layer1(x))))
    return features


def _exact(head: nn.Linear, features_NFhw: Tensor, requested: Sequence[int]) -> Tensor:
    """Source: Zhou et al. 2016, arXiv:1512.04150: each feature map times its weight in the logit, summed."""
    weight_MF = head.weight[torch.tensor(list(requested), device=head.weight.device)].float()
    return torch.einsum("mf,nfhw->nmhw", weight_MF, features_NFhw)


def _by_gradient(
    logits_of: Function, features_NFhw: Tensor, requested: Sequence[int], *, classes: bool
) -> tuple[Tensor, Tensor]:
    """Logits and maps. Only the head is differentiated; gradients of parameters are not changed.

    Source: Selvaraju et al. 2017, arXiv:1610.02391: each feature map times its mean gradient, summed. Differs: the sum of the
    gradient instead of its mean, so that a linear head gives exactly CAM; and no rectification, which is left to the display.
    """
    features = features_NFhw.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits_NK = logits_of(features)
        maps = []
        for number in requested:
            target_N = _log_odds(logits_NK, number) if classes else logits_NK[:, number]
            (gradient,) = torch.autograd.grad(target_N.sum(), features, retain_graph=True)
            maps.append((gradient.sum(dim=(2, 3), keepdim=True) * features_NFhw).sum(dim=1))
    return logits_NK.detach(), torch.stack(maps, dim=1)


def _log_odds(logits_NK: Tensor, number: int) -> Tensor:
    others = [column for column in range(logits_NK.shape[1]) if column != number]
    return logits_NK[:, number] - logits_NK[:, others].logsumexp(dim=1)
