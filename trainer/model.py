"""The classifier, its first weights and its loss.

Shapes: N images, K findings, H x W pixels.
"""

import re
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VGG, DenseNet, DenseNet121_Weights, ResNet, densenet121, resnet50, vgg16

from trainer.errors import InputError

StateDict = dict[str, Tensor]

_HEAD: Final = {"classifier.weight", "classifier.bias"}

_OLD_NAMES: Final = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
"""torchvision's own file still has `denselayer1.norm.1.`, which its modules now call `denselayer1.norm1.`."""


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


def first_weights(weights: str, model: str, cache: Path) -> StateDict | None:
    """The weights to start from, on the processor; None for `none`. A download goes to `cache`.

    Raises: InputError when they can't be had, or are no weights.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return _imagenet(model, cache)
    return _from_file(Path(weights))


def load_first_weights(network: nn.Module, state: StateDict, origin: str) -> None:
    """Load a state dict of this architecture; a head for other findings stays as it was initialised.

    Raises: InputError when it is of another architecture.
    """
    own = network.state_dict()
    state = {_OLD_NAMES.sub(r"\1\2", name): tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if name not in _HEAD or tensor.shape == own[name].shape}
    wrong = sorted((own.keys() ^ state.keys()) - _HEAD) + sorted(
        name for name in own.keys() & state.keys() if own[name].shape != state[name].shape
    )
    if wrong:
        raise InputError(
            f"cannot start from `{origin}`: it holds another architecture, {len(wrong)} tensors differ, the first is `{wrong[0]}`",
            hint="--model must be the one these weights were trained with",
        )
    network.load_state_dict(own | state)


def _imagenet(model: str, cache: Path) -> StateDict:
    if model != "densenet121":
        raise InputError(f"cannot start `{model}` from ImageNet: there are no such weights", hint="--weights none")
    source = DenseNet121_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(source.url).name
    folder = cached.parent if cached.is_file() else cache / "weights"
    try:
        return dict(source.get_state_dict(model_dir=str(folder), progress=False, check_hash=True, weights_only=True))
    except (URLError, OSError, RuntimeError) as problem:  # the last: a file whose hash differs
        raise InputError(
            f"cannot get ImageNet weights: `{source.url}` can't be reached ({problem}) and `{cached}` is not there",
            hint="put the file there, or give --weights PATH, or --weights none to start from nothing",
        ) from problem


def _from_file(path: Path) -> StateDict:
    hint = "--weights takes imagenet, none, or a file with a state dict"
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as problem:
        raise InputError(f"cannot read weights: no such file, got `{path}` (from `--weights`)", hint=hint) from problem
    except Exception as problem:
        raise InputError(
            f"cannot read weights `{path}`: no state dict in it ({type(problem).__name__})", hint=hint
        ) from problem
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(f"cannot read weights `{path}`: it holds no state dict (from `--weights`)", hint=hint)
    return state
