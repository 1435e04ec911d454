"""What must be known of weights to use them: which network, what its answers mean, how images are prepared.

It is told by the header of `model.safetensors`, by the record of a run, or by the weights themselves.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

import torch

from trainer.config import MIN_CROP_PX, PackFit, TrainConfig, chexnet
from trainer.data.labels import FINDINGS
from trainer.data.records import Geometry
from trainer.errors import InputError, on_one_line
from trainer.formats.documents import checked, shown
from trainer.layout import RUN
from trainer.limits import parsed_json
from trainer.models.architectures import StateDict, build
from trainer.models.tensor_file import safetensors_header

Loss = Literal["bce", "cross_entropy"]

FORMAT: Final = "1"
"""Of what `describe` says."""

WHERE_HINT: Final = "give a run (OUTPUT/NAME), RUN/checkpoints/step-NNNNNNNN, a model.safetensors, or a file of weights"

MODELS: Final = ("densenet121", "vgg16", "resnet50", "densenet_tiny")
HEADS: Final = ("linear", "hidden")


@dataclass(frozen=True)
class ModelSpec:
    """What must be known of weights to use them."""

    model: str
    head: str
    findings: tuple[str, ...]
    loss: Loss
    geometry: Geometry
    crop_px: int
    notes: tuple[str, ...] = ()


def describe(config: TrainConfig, findings: Sequence[str], *, step: int) -> dict[str, str]:
    """What the header of `model.safetensors` says of it, so that the file can be used without its run."""
    return {
        "format": FORMAT,
        "name": config.name,
        "step": str(step),
        "model": config.model,
        "head": config.head,
        "loss": config.loss,
        "findings": json.dumps(list(findings)),
        "pack_side": str(config.pack_side),
        "pack_fit": config.pack_fit,
        "crop_px": str(config.crop_px),
    }


def parse_header(content: bytes) -> dict[str, str]:
    """What `describe` has said at the head of a safetensors file; nothing where another program wrote it."""
    try:
        header = safetensors_header(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return header if "findings" in header else {}


def with_header(content: bytes, header: Mapping[str, str]) -> bytes:
    """A safetensors file with this header, the same bytes for the same content: the library writes a header in any order.

    Source: as `parse_header`; the JSON is filled up with spaces to a multiple of eight bytes.
    """
    length = int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8 : 8 + length])
    tensors.pop("__metadata__", None)
    text = json.dumps({"__metadata__": dict(sorted(header.items())), **tensors}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def of_header(header: Mapping[str, str], where: str) -> ModelSpec:
    if header.get("format") != FORMAT:
        raise InputError(
            f"cannot use `{where}`: its format is {on_one_line(header.get('format', 'not told')[:60])}, this version reads {FORMAT}",
            hint="use the version that wrote it",
        )
    try:
        return _settings(header, parsed_json(header["findings"].encode()))
    except (ValueError, KeyError, TypeError) as problem:
        reason = on_one_line(str(problem))
        raise InputError(f"cannot use `{where}`: its header is damaged ({reason})", hint="fetch it again") from problem


def of_record(record: Mapping[str, Any], where: str) -> ModelSpec:
    """Runs of earlier versions say nothing of head and loss: they had one of each."""
    try:
        return _settings({"head": "linear", "loss": "bce"} | record["config"], record["identity"]["findings"])
    except (ValueError, KeyError, TypeError) as problem:
        reason = on_one_line(str(problem)[:200])
        raise InputError(
            f"cannot use the run at `{where}`: its {RUN} does not tell what it trained ({reason})", hint=WHERE_HINT
        ) from problem


def _settings(told: Mapping[str, Any], findings: object) -> ModelSpec:
    """Raises: ValueError, KeyError or TypeError for what can't be."""
    names = tuple(checked(findings, list[str], "findings"))
    if not names or len(set(names)) < len(names):
        raise ValueError(f"findings are {len(names)}")
    unprintable = next((name for name in names if not name.isprintable()), None)
    if unprintable is not None:
        raise ValueError(f"a finding is `{shown(unprintable)}`")
    side, crop_px = _size(told["pack_side"]), _size(told["crop_px"])
    if not MIN_CROP_PX <= crop_px <= side:
        raise ValueError(f"the centre {crop_px} pixels of {side}")
    return ModelSpec(
        model=_one_of(told["model"], MODELS),
        head=_one_of(told["head"], HEADS),
        findings=names,
        loss=cast("Loss", _one_of(told["loss"], get_args(Loss))),
        geometry=Geometry(side=side, fit=cast("PackFit", _one_of(told["pack_fit"], get_args(PackFit)))),
        crop_px=crop_px,
    )


def _one_of(value: object, known: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{shown(value)}` is none of {', '.join(known)}")
    return str(value)


def _size(value: object) -> int:
    text = str(value)
    number = int(text) if re.fullmatch("[0-9]{1,4}", text) else 0
    if not 1 <= number <= 4096:
        raise ValueError(f"a side of {text[:20]} pixels")
    return number


def guessed(
    state: StateDict,
    origin: str,
    *,
    findings: tuple[str, ...] | None = None,
    side: int | None = None,
    note: str | None = None,
) -> ModelSpec:
    """Spec of weights of which little is told but themselves.

    `findings` are what they answer, else the 14; `side` is that of the images they are for, without a margin, else images are
    prepared as CheXNet's. `note` is what else a user should know.

    Raises: InputError where the weights fit no model, or what they answer can't be known.
    """
    known = _architecture(state)
    if known is None:
        raise InputError(
            f"cannot use the weights in `{origin}`: they are of none of the models {', '.join(MODELS)}",
            hint="`python -m trainer train --weights` can start from a backbone",
        )
    model, head, outputs = known
    names = findings or FINDINGS
    if outputs != len(names):
        raise InputError(
            f"cannot use the weights in `{origin}`: they give {outputs} answers, and nothing says which; "
            f"{'the 14' if findings is None else len(names)} findings are known",
            hint=f"give the run they come from, or a directory with its {RUN}",
        )
    notes = [] if note is None else [note]
    if side is None:
        recipe = chexnet()
        side, crop_px = int(recipe["pack_side"]), int(recipe["crop_px"])
        notes.append(
            f"nothing says how images were prepared for these weights: resized to {side} pixels and the centre {crop_px} of them is assumed"
        )
    else:
        crop_px = side
    if findings is None:
        notes.append(
            "nothing says what these weights answer: the findings in the order of the published lists are assumed"
        )
    return ModelSpec(model, head, names, "bce", Geometry(side=side, fit="crop"), crop_px, tuple(notes))


def _architecture(state: StateDict) -> tuple[str, str, int] | None:
    """Model, head and number of answers of weights, by names and shapes of the tensors; None where none fits."""
    shapes = {name: tensor.shape for name, tensor in state.items()}
    for model in MODELS:
        for head in HEADS:
            *_, last = shapes_of(model, head, 1)
            if len(shapes.get(last, ())) == 1 and shapes_of(model, head, shapes[last][0]) == shapes:
                return model, head, int(shapes[last][0])
    return None


def shapes_of(model: str, head: str, findings: int) -> dict[str, torch.Size]:
    """Without memory for the tensors; the last is the head's bias."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in build(model, head, findings).state_dict().items()}
