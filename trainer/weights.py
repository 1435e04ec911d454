"""Weights to start from, or to use as they are: ImageNet's, a checkpoint's, and those of public CheXNet models.

Files are read as data; nothing in them is executed.
"""

import re
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet121_Weights

from trainer.errors import InputError
from trainer.model import StateDict

_HEAD: Final = {"classifier.weight", "classifier.bias"}

_OLD_NAMES: Final = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
"""torchvision's own file still has `denselayer1.norm.1.`, which its modules now call `denselayer1.norm1.`."""


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
