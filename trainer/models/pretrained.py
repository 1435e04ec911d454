"""Pretrained weights: ImageNet's, those of a checkpoint, and those of public CheXNet models.

Files are read as data; nothing in them is executed. Shapes: C channels, K findings.
"""

import hashlib
import math
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import DenseNet121_Weights, ResNet50_Weights, VGG16_Weights

from trainer.data.augment import IMAGENET_MEAN, IMAGENET_STD
from trainer.data.labels import FINDINGS
from trainer.errors import InputError, on_one_line
from trainer.formats import documents
from trainer.limits import STATE_BYTES, LimitError, parsed_json, read_at_most
from trainer.models import tensor_file
from trainer.models.architectures import StateDict, build
from trainer.models.networks_in import (
    FoundNetwork,
    backbone_of,
    current_names,
    head_prefix,
    largest_mapping,
    networks_in,
)
from trainer.models.spec import MODELS
from trainer.models.tensor_file import (
    ForeignFormatError,
    ForeignObjectError,
    NoStateError,
    finite_weights,
    is_safetensors,
)
from trainer.storage.cache_folder import cache_folder
from trainer.storage.files import STALE_S, open_regular

IMAGENET: Final = {
    "densenet121": DenseNet121_Weights.IMAGENET1K_V1,
    "vgg16": VGG16_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
}
"""Source: what `pretrained=True` loaded when CheXNet and the pneumonia paper were written."""

_IMAGENET_HEADS: Final = {"densenet121": "classifier.", "vgg16": "classifier.6.", "resnet50": "fc."}

_XRAYVISION: Final = (
    *("Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion"),
    *("Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia"),
    *("Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum"),
)
"""Source: `default_pathologies` of torchxrayvision 1.5."""

_THRESHOLDS: Final = "op_threshs"
"""A buffer of torchxrayvision's models; nan for outputs that were never trained."""

_NUMBERS: Final = ("f2", "f4", "f8", "i4", "i8", "u1", "b1", "?")
"""Type codes of numpy's numbers in pickles."""

_MOST_NAMED: Final = 4

_ANOTHER: Final = "download the file again, or use another one"

_TENSORS: Final = 2
"""Tensors of a head's last layer: weights and bias."""

_FORMATS: Final = "a file of weights must be a state dict (.pt, .pth.tar), or a model.safetensors"


@dataclass(frozen=True)
class PublicWeights:
    """Weights from a file, with torchvision's names, for images as prepared here."""

    state: StateDict
    findings: tuple[str, ...] | None
    """Meaning of the outputs, in order; None where unknown."""
    side: int | None
    """Side of the training images in pixels, resized to it without cropping; None where unknown."""
    note: str | None
    """Conversions and assumptions, for the user."""
    model: str | None = None
    """Architecture; None where no known one was found."""


def first_weights(
    weights: str,
    model: str,
    cache: Path,
    *,
    findings: Sequence[str] = (),
    all_findings: Sequence[str] = (),
    report: Callable[[str], None] = lambda _: None,
) -> StateDict | None:
    """The initial weights, on the CPU; None for `none`. A download goes to `cache`.

    A file that records its findings gives the head's outputs for `findings`, in their order, or no head. One that records none
    and has an output for each of `all_findings`, those of the data set, is taken to have them in this order. `report` gets
    what is left out.

    Raises: InputError when they are unavailable or invalid.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return _imagenet(model, cache, report)
    try:
        read = read_weights(Path(weights), model=model)
    except InputError as problem:
        raise InputError(f"{problem.args[0]} (from `--weights`)", hint=problem.hint) from problem
    if read.model not in {None, model}:
        raise InputError(
            f"cannot start from `{weights}` (from `--weights`): it has another architecture, {read.model} in place of {model}",
            hint=f"--model {read.model}",
        )
    if read.note:
        report(f"weights `{weights}`: {read.note}")
    if not findings or read.findings == tuple(findings):
        return read.state
    known = read.findings or _taken_for(read.state, model, findings, all_findings)
    if known is None:
        return read.state
    if read.findings is None:
        report(f"the outputs of `{weights}` are not recorded: its head is taken for {', '.join(known)}, in this order")
    return _for_findings(read.state, model, known, findings)


def load_first_weights(network: nn.Module, state: StateDict, origin: str) -> None:
    """Load a state dict of this architecture; a head of another shape keeps its initialisation.

    Raises: InputError for another architecture.
    """
    network.load_state_dict(network.state_dict() | _fitting(network, state, origin))


def check_first_weights(model: str, head: str, findings: int, state: StateDict, origin: str) -> bool:
    """Check beforehand that the initial weights fit the network; returns whether its head is among them.

    Raises: InputError for another architecture.
    """
    with torch.device("meta"):
        network = build(model, head, findings)
    return any(name.startswith(head_prefix(network)) for name in _fitting(network, state, origin))


def read_weights(path: Path, *, model: str | None = None) -> PublicWeights:
    """The weights in a file: a state dict, a checkpoint with one, a safetensors file, or a public CheXNet format.

    Supported are arnoweng's and zoogzog's `.pth.tar` and state dicts of torchxrayvision's models, whose first layer and outputs
    are converted. Of several networks that of `model` is taken.

    Raises: InputError when the file cannot be read, has no weights that are data, or several networks with different weights.
    """
    try:
        content = _content(path)
    except OSError as problem:
        raise _unreadable(str(path), problem) from problem
    return weights_in(content, str(path), model=model)


def weights_in(content: bytes, where: str, *, model: str | None = None) -> PublicWeights:
    """The weights in a file with this content; `where` is its name.

    Raises: as `read_weights`.
    """
    try:
        loaded, findings = _from_safetensors(content) if is_safetensors(content, where) else _from_torch(content)
        if not (largest := largest_mapping(loaded)):
            raise NoStateError("it has no tensors by name")
    except ValueError as problem:
        raise _unreadable(where, problem) from problem
    networks = networks_in(loaded, MODELS)
    network = _only([each for each in networks if each.model == model] or networks, where)
    if network is None:  # refused where it is known what it should be
        return PublicWeights(current_names(largest), findings, None, None)
    public = _public(network, findings, where)
    bad = next((name for name, tensor in public.state.items() if not bool(tensor.float().isfinite().all())), None)
    if bad is not None:
        raise InputError(f"cannot read weights `{where}`: `{on_one_line(bad)}` is not finite", hint=_ANOTHER)
    return public


def _only(networks: Sequence[FoundNetwork], where: str) -> FoundNetwork | None:
    """The network to use, if any. Raises: InputError when there are several."""
    if len(networks) > 1:
        places = [f"`{on_one_line(each.where)}`" if each.where else "one without prefix" for each in networks]
        more = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
        raise InputError(
            f"cannot use weights `{where}`: it has {len(networks)} networks with different weights: {', '.join(places[:_MOST_NAMED])}{more}",
            hint="save the tensors of one of them to a file of their own: torch.save(tensors, 'weights.pt')",
        )
    return networks[0] if networks else None


def _public(network: FoundNetwork, findings: tuple[str, ...] | None, where: str) -> PublicWeights:
    """The network's weights for our images. Raises: InputError for gray images of unknown scale."""
    head, stem = backbone_of(network.model).head, next(iter(backbone_of(network.model).shapes))
    state = _plain_head(network.state, head)
    if state[stem].shape[1] == 1:
        gray = _from_xrayvision(state, network.unused.get(_THRESHOLDS), stem, where)
        return replace(gray, model=network.model)
    notes = []
    if findings is None and _is_chexnet(network.state, state):
        findings = FINDINGS
        notes.append(
            "findings are assumed to be in the order of the published lists, as in arnoweng's and zoogzog's files"
        )
    if network.unused:
        unused = sorted(network.unused)
        notes.append(
            f"{len(unused)} tensor{'s' * (len(unused) > 1)} in it not part of {network.model} and not used, the first is `{on_one_line(unused[0])}`"
        )
    return PublicWeights(state, findings, None, "; ".join(notes) or None, network.model)


def _fitting(network: nn.Module, state: StateDict, origin: str) -> StateDict:
    """The tensors for this network, without a head of another shape. Raises: InputError for another architecture."""
    own, head = network.state_dict(), head_prefix(network)
    state = _plain_head(current_names(state), head)
    if _shapes(state, head) != _shapes(own, head):
        state = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
    wrong = sorted(name for name in own.keys() ^ state.keys() if not name.startswith(head)) + sorted(
        name for name in own.keys() & state.keys() if own[name].shape != state[name].shape
    )
    if wrong:
        raise InputError(
            f"cannot start from `{origin}`: it has another architecture, {len(wrong)} tensors differ, the first is `{on_one_line(wrong[0])}`",
            hint="set --model to the architecture of these weights",
        )
    return state


def _taken_for(
    state: StateDict, model: str, findings: Sequence[str], all_findings: Sequence[str]
) -> tuple[str, ...] | None:
    """The findings that a head is taken to have whose outputs are not recorded; None where it has another number of them."""
    fitting = (known for known in (findings, all_findings) if len(_last_layer(state, model, len(known))) == _TENSORS)
    return next((tuple(known) for known in fitting), None)


def _last_layer(state: StateDict, model: str, outputs: int) -> list[str]:
    """Names of the tensors of the head's last layer, if it has this many outputs as far as shapes tell."""
    head = backbone_of(model).head
    return [name for name, tensor in state.items() if name.startswith(head) and tensor.ndim and len(tensor) == outputs]


def _for_findings(state: StateDict, model: str, known: Sequence[str], findings: Sequence[str]) -> StateDict:
    """The weights with the rows of these findings from a head that has `known`, or without the head if it lacks one of them."""
    last = _last_layer(state, model, len(known))
    if len(last) != _TENSORS or not set(findings) <= set(known):
        return {name: tensor for name, tensor in state.items() if not name.startswith(backbone_of(model).head)}
    rows = torch.tensor([known.index(name) for name in findings])
    return state | {name: state[name][rows] for name in last}


def checkpoint_weights(content: bytes, where: str, *, step: int) -> StateDict:
    """The weights in one of our `state.pt`, committed by the checkpoint manifest of `step`; `where` is its name.

    Raises: InputError for anything else: another program may have written a file with the right hash.
    """
    try:
        return _weights_of_step(documents.checked(tensor_file.load(content), dict[str, Any]), step)
    except ValueError as problem:
        raise InputError(
            f"cannot read `{where}`: it is not a training state of this program: {on_one_line(str(problem))}",
            hint="use state.pt and manifest.json from the same run",
        ) from problem


def _weights_of_step(state: Mapping[str, Any], step: int) -> StateDict:
    if state.get("step") != step:
        raise ValueError(f"it is of step {state.get('step')!s:.20}, but its manifest of step {step}")
    return finite_weights(state.get("model"))


def _imagenet(model: str, cache: Path, report: Callable[[str], None]) -> StateDict:
    source = IMAGENET.get(model)
    if source is None:
        raise InputError(f"there are no ImageNet weights for `{model}`", hint="--weights none")
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(source.url).name
    folder = cached.parent if cached.is_file() else cache_folder(cache, "weights")
    if folder != cached.parent:
        _remove_partial(folder, cached.name)
    _check_hash(folder / cached.name)
    if not (folder / cached.name).exists():
        report(f"downloading ImageNet weights from `{source.url}`")
    try:
        state = dict(source.get_state_dict(model_dir=str(folder), progress=False, check_hash=True, weights_only=True))
    except (URLError, OSError, RuntimeError) as problem:  # RuntimeError: a download with a wrong hash
        raise InputError(
            f"cannot get ImageNet weights: `{source.url}` is unreachable ({problem}) and `{cached}` does not exist",
            hint="put the file there, use --weights PATH, or --weights none for random initialisation",
        ) from problem
    head = _IMAGENET_HEADS[model]
    return {name: tensor for name, tensor in current_names(state).items() if not name.startswith(head)}


def _remove_partial(folder: Path, name: str) -> None:
    """Remove partial files of killed downloads. Source: torch.hub.download_url_to_file writes to NAME.UUID.partial."""
    pattern = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{32}}\.partial")
    for path in [path for path in folder.iterdir() if pattern.fullmatch(path.name)]:
        with suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > STALE_S:
                path.unlink()


def _check_hash(path: Path) -> None:
    """Check the hash of the file, if it exists; torchvision checks only downloads. Raises: InputError."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    expected = path.stem.rpartition("-")[2]
    if not digest.hexdigest().startswith(expected):
        raise InputError(
            f"cannot use ImageNet weights: `{path}` is damaged, its sha256 is {digest.hexdigest()[:8]}…, its name says {expected}…",
            hint="replace it by an undamaged file",
        )


def _from_torch(content: bytes) -> tuple[object, None]:
    """The object saved by torch, read as data; such files record no findings. Raises: ValueError."""
    return tensor_file.load(content, objects=tensor_file.WEIGHTS_OBJECTS, trusted=_numpy_scalars()), None


def _from_safetensors(content: bytes) -> tuple[object, tuple[str, ...] | None]:
    """Tensors, and the findings in the header of our own files. Raises: ValueError."""
    state, header = tensor_file.load_safetensors(content)
    findings = header.get("findings")
    return state, tuple(documents.checked(parsed_json(findings.encode()), list[str])) if findings else None


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        return read_at_most(file, STATE_BYTES)


def _numpy_scalars() -> list[Any]:
    """Replacements for numpy's functions that rebuild numbers: checkpoints contain their best loss as one."""
    kinds = {type(np.dtype(code)) for code in _NUMBERS}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [*kinds, (_number_type, "numpy.dtype"), *((_number, f"{module}.scalar") for module in modules)]


def _number_type(code: object, *_: object) -> np.dtype[Any]:
    """Types of numbers only: others can have any size, which numpy would fill with zeros."""
    if code not in _NUMBERS:
        raise ValueError("not a type of numbers")
    return np.dtype(str(code), copy=True)


def _number(kind: np.dtype[Any], content: bytes) -> Any:  # noqa: ANN401 - a number of any type
    if kind.itemsize > 8 or len(content) != kind.itemsize:
        raise ValueError("not a number")
    return np.frombuffer(content, kind)[0]


def _unreadable(where: str, problem: Exception) -> InputError:
    if isinstance(problem, FileNotFoundError):
        return InputError(f"cannot read weights: no such file, got `{where}`", hint=_FORMATS)
    if isinstance(problem, OSError):
        return InputError(f"cannot read weights `{where}`: {problem.strerror}", hint=_FORMATS)
    if isinstance(problem, ForeignObjectError):
        return InputError(
            f"cannot read weights `{where}`: it contains an object of `{on_one_line(problem.name)}` instead of a state dict, and files are read as data, "
            "never executed",
            hint="in the program with that class: torch.save(model.state_dict(), 'weights.pt'), then use weights.pt",
        )
    if isinstance(problem, LimitError):
        return InputError(f"cannot read weights `{where}`: {problem}", hint=_FORMATS)
    reason = f": {problem}" if isinstance(problem, NoStateError) else f" ({type(problem).__name__})"
    hint = problem.hint if isinstance(problem, ForeignFormatError) else _FORMATS
    return InputError(f"cannot read weights `{where}`: it has no state dict{reason}", hint=hint)


def _plain_head(state: StateDict, head: str) -> StateDict:
    """The tensors with the names of a linear head, where it is the only layer with weights in a sequence, as after dropout."""
    layer = re.compile(rf"{re.escape(head)}\d+\.(weight|bias)")
    found = {name: layer.fullmatch(name) for name in state if name.startswith(head)}
    if len(found) != 2 or not all(found.values()):
        return state
    return {f"{head}{match[1]}" if (match := found.get(name)) else name: tensor for name, tensor in state.items()}


def _is_chexnet(raw: Iterable[str], state: StateDict) -> bool:
    """Whether the head combined a layer and its sigmoid, as in arnoweng's and zoogzog's models, with 14 outputs."""
    in_sequence = "classifier.0.weight" in raw
    weight = state.get("classifier.weight")
    return in_sequence and weight is not None and weight.ndim == 2 and len(weight) == len(FINDINGS)


def _from_xrayvision(state: StateDict, thresholds_K: Tensor | None, stem: str, where: str) -> PublicWeights:
    """Convert weights for gray images from -1024 to 1024 and 18 findings to our three channels and their trained findings among
    the 14.

    Raises: InputError for other weights for gray images, whose scale is unknown.
    """
    head = "fc" if stem == "conv1.weight" else "classifier"
    has_thresholds = thresholds_K is not None
    thresholds_K = torch.zeros(len(_XRAYVISION)) if thresholds_K is None else thresholds_K
    shapes = [tensor.shape[:1] for tensor in _head_of_xrayvision(state, head, thresholds_K)]
    if shapes != [(len(_XRAYVISION),)] * 3:
        raise InputError(
            f"cannot use weights `{where}`: they are for images of one channel, whose scale is known for torchxrayvision's "
            f"{len(_XRAYVISION)} findings only",
            hint=_FORMATS,
        )
    trained = {
        name for name, threshold in zip(_XRAYVISION, thresholds_K.tolist(), strict=True) if not math.isnan(threshold)
    }
    findings = tuple(name for name in FINDINGS if name in trained)
    order = torch.tensor([_XRAYVISION.index(name) for name in findings])
    converted = {
        stem: _for_three_channels(state[stem]),
        f"{head}.weight": state[f"{head}.weight"][order],
        f"{head}.bias": state[f"{head}.bias"][order],
    }
    note = f"torchxrayvision's weights, converted: {len(findings)} of its {len(_XRAYVISION)} findings, in our order"
    if not has_thresholds and head != "fc":  # its only ResNet was trained on all 14
        note += "; the file does not record which were trained: its `chex`, `mimic` and `rsna` models have fewer"
    return PublicWeights(state | converted, findings, 512 if head == "fc" else 224, note)


def _head_of_xrayvision(state: StateDict, head: str, thresholds_K: Tensor) -> list[Tensor]:
    """The existing tensors with a row per finding."""
    return [state[name] for name in (f"{head}.weight", f"{head}.bias") if name in state] + [thresholds_K]


def _for_three_channels(weight_O1HW: Tensor) -> Tensor:
    """Convert a first layer for one channel v in -1024..1024 to one for our normalised channels x, with the same output.

    x_c = (u - mean_c) / std_c for gray u in 0..1, and v = 2048 u - 1024 is sum_c factor_c x_c for any factors with sum factor/std
    = 2048 and sum factor mean/std = 1024; the smallest are used. Padding is 0 in both.

    Source: torchxrayvision's `normalize` for the scale.
    """
    mean_C, std_C = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    factors_C = np.linalg.lstsq(np.stack([1 / std_C, mean_C / std_C]), np.array([2048.0, 1024.0]), rcond=None)[0]
    return (weight_O1HW.double() * torch.from_numpy(factors_C)[:, None, None]).to(weight_O1HW.dtype)


def _shapes(state: StateDict, prefix: str) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items() if name.startswith(prefix)}
