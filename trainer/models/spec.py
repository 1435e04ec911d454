"""Metadata needed to use weights: architecture, meaning of the outputs, preparation of images.

It comes from the header of `model.safetensors`, from a run's record, or from the weights themselves.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, cast, get_args

import torch

from trainer.config import MIN_CROP_PX, PackFit, TrainConfig, chexnet
from trainer.data.dicom import FULL_BITS
from trainer.data.labels import FINDINGS
from trainer.data.packs.records import Geometry
from trainer.data.positive_class import earlier_positive_class
from trainer.errors import InputError, on_one_line
from trainer.formats.documents import checked, shown
from trainer.layout import RUN
from trainer.limits import parsed_json
from trainer.models.architectures import StateDict, build
from trainer.models.tensor_file import safetensors_header

Loss = Literal["bce", "cross_entropy"]

FORMAT: Final = "1"
"""Version of what `describe` writes."""

WHERE_HINT: Final = "use a run (OUTPUT/NAME), RUN/checkpoints/step-NNNNNNNN, a model.safetensors, or a file of weights"

MODELS: Final = ("densenet121", "vgg16", "resnet50", "densenet_tiny")
HEADS: Final = ("linear", "hidden")


@dataclass(frozen=True)
class ModelSpec:
    """Metadata needed to use weights."""

    model: str
    head: str
    findings: tuple[str, ...]
    loss: Loss
    geometry: Geometry
    crop_px: int
    notes: tuple[str, ...] = ()
    positive_class: str | None = None
    """Of a single-label model; None for independent findings."""


def describe(
    config: TrainConfig,
    findings: Sequence[str],
    *,
    step: int,
    gray_bits: int | None = None,
    positive_class: str | None = None,
) -> dict[str, str]:
    """Metadata for the header of `model.safetensors`, so that the file can be used without its run."""
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
        "gray_bits": gray_bits_in_header(gray_bits),
        **({} if positive_class is None else {"positive_class": positive_class}),
    }


def gray_bits_in_header(gray_bits: int | None) -> str:
    """The gray range as text; `any` for a model of 8-bit images."""
    return "any" if gray_bits is None else str(gray_bits)


def parse_header(content: bytes) -> dict[str, str]:
    """Metadata written by `describe`; empty for files of other programs."""
    try:
        header = safetensors_header(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return header if "findings" in header else {}


def with_header(content: bytes, header: Mapping[str, str]) -> bytes:
    """A safetensors file with this header, deterministically: the library writes header keys in any order.

    Source: as `parse_header`; the JSON is padded with spaces to a multiple of eight bytes.
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
            f"cannot use `{where}`: its format is {on_one_line(header.get('format', 'unknown')[:60])}, this version reads {FORMAT}",
            hint="use the version that wrote it",
        )
    try:
        return _settings(header, parsed_json(header["findings"].encode()))
    except (ValueError, KeyError, TypeError) as problem:
        reason = on_one_line(str(problem))
        raise InputError(
            f"cannot use `{where}`: its header is damaged ({reason})", hint="download it again"
        ) from problem


def of_record(record: Mapping[str, Any], where: str) -> ModelSpec:
    """Spec from a run's record. Earlier versions had only one head, one loss and one gray range and did not record them."""
    try:
        identity = record["identity"]
        inferred = {"gray_bits": gray_bits_in_header(record.get("gray_bits", FULL_BITS))}
        inferred |= {"positive_class": identity.get("positive_class")}
        return _settings({"head": "linear", "loss": "bce"} | record["config"] | inferred, identity["findings"])
    except (ValueError, KeyError, TypeError) as problem:
        reason = on_one_line(str(problem)[:200])
        raise InputError(
            f"cannot use the run at `{where}`: its {RUN} does not describe the model ({reason})", hint=WHERE_HINT
        ) from problem


def _settings(values: Mapping[str, Any], findings: object) -> ModelSpec:
    """Raises: ValueError, KeyError or TypeError for invalid values."""
    names = tuple(checked(findings, list[str], "findings"))
    if not names or len(set(names)) < len(names):
        raise ValueError(f"there are {len(names)} findings, or duplicates")
    unprintable = next((name for name in names if not name.isprintable()), None)
    if unprintable is not None:
        raise ValueError(f"a finding is `{shown(unprintable)}`")
    side, crop_px = _size(values["pack_side"]), _size(values["crop_px"])
    if not MIN_CROP_PX <= crop_px <= side:
        raise ValueError(f"a crop of {crop_px} pixels from {side}")
    return ModelSpec(
        model=_one_of(values["model"], MODELS),
        head=_one_of(values["head"], HEADS),
        findings=names,
        loss=cast("Loss", _one_of(values["loss"], get_args(Loss))),
        geometry=Geometry(
            side=side,
            fit=cast("PackFit", _one_of(values["pack_fit"], get_args(PackFit))),
            gray_bits=_gray_bits(values.get("gray_bits", str(FULL_BITS))),
        ),
        crop_px=crop_px,
        positive_class=_positive_class(values, names),
    )


def _gray_bits(value: object) -> int | None:
    return None if value == "any" else int(_one_of(value, [str(bits) for bits in range(1, FULL_BITS + 1)]))


def _positive_class(values: Mapping[str, Any], classes: Sequence[str]) -> str | None:
    """The recorded positive class, or that of earlier versions, which recorded none."""
    if values["loss"] != "cross_entropy":
        return None
    return _one_of(values.get("positive_class") or earlier_positive_class(classes), classes)


def _one_of(value: object, known: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{shown(value)}` is not one of {', '.join(known)}")
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
    """Spec of weights without metadata, inferred from the tensors.

    `findings` are the outputs, by default the 14; `side` is the image size without cropping, by default images are prepared as
    for CheXNet. `note` is further information for the user.

    Raises: InputError where the weights fit no model, or the meaning of their outputs is unknown.
    """
    architecture = _architecture(state)
    if architecture is None:
        raise InputError(
            f"cannot use the weights in `{origin}`: they match none of the models {', '.join(MODELS)}",
            hint="`python -m trainer train --weights` can start from a backbone",
        )
    model, head, outputs = architecture
    names = findings or FINDINGS
    if outputs != len(names):
        raise InputError(
            f"cannot use the weights in `{origin}`: they have {outputs} outputs of unknown meaning; "
            f"{'the 14' if findings is None else len(names)} findings are expected",
            hint=f"use the run they come from, or a directory with its {RUN}",
        )
    notes = [] if note is None else [note]
    if side is None:
        recipe = chexnet()
        side, crop_px = int(recipe["pack_side"]), int(recipe["crop_px"])
        notes.append(
            f"the preparation of images for these weights is not recorded: resizing to {side} pixels and a centre crop of {crop_px} are assumed"
        )
    else:
        crop_px = side
    if findings is None:
        notes.append(
            "the outputs of these weights are not recorded: the findings in the order of the published lists are assumed"
        )
    return ModelSpec(model, head, names, "bce", Geometry(side=side, fit="crop"), crop_px, tuple(notes))


def _architecture(state: StateDict) -> tuple[str, str, int] | None:
    """Model, head and number of outputs, from names and shapes of the tensors; None where none matches."""
    shapes = {name: tensor.shape for name, tensor in state.items()}
    for model in MODELS:
        for head in HEADS:
            *_, last = shapes_of(model, head, 1)
            if len(shapes.get(last, ())) == 1 and shapes_of(model, head, shapes[last][0]) == shapes:
                return model, head, int(shapes[last][0])
    return None


@cache
def shapes_of(model: str, head: str, findings: int) -> Mapping[str, torch.Size]:
    """Shapes of the tensors, without allocating them; the last is the head's bias."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in build(model, head, findings).state_dict().items()}
