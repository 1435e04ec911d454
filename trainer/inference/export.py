"""Export of trained models to formats of other programs, with a model card.

OUT/model.safetensors  OUT/model.pt  OUT/model.onnx  OUT/calibration.json  OUT/card.md

Shapes: N images, P pixels of a side.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from trainer.data.augment import center_boxes, cut
from trainer.data.decode import BadImageError, why_not
from trainer.data.image_files import ImageFile, image_files
from trainer.data.packs.records import Geometry, to_gray_square
from trainer.data.synthetic import phantoms
from trainer.errors import InputError, listing, on_one_line
from trainer.evaluation import calibration, document
from trainer.evaluation.document import READ, Evaluation
from trainer.formats import documents
from trainer.formats.documents import Results
from trainer.inference import onnx_file
from trainer.inference.onnx_file import Checked, Gray
from trainer.layout import CALIBRATION, CARD, EVALUATION, MODEL, RESULTS
from trainer.limits import parsed_json
from trainer.models.architectures import StateDict, head_of
from trainer.models.load import LoadedModel
from trainer.models.spec import FORMAT, gray_bits_in_header
from trainer.report import model_card
from trainer.report.model_card import Subject
from trainer.storage import AbsentError, Storage, open_storage, output_files

FORMATS: Final = ("safetensors", "torch", "onnx")

SAFETENSORS: Final = Path(MODEL).name
TORCH: Final = "model.pt"
ONNX: Final = "model.onnx"

ONNX_HINT: Final = "pip install 'chexnet-jobs[onnx]', or pip install onnx onnxruntime onnxscript"

_INSIDE_RUN: Final = re.compile(r"(?:^|/)(?:checkpoints/step-\d{8,}(?:/state\.pt)?|model/model\.safetensors)$")

PHANTOMS: Final = 8
"""Synthetic images to check the ONNX file on by default."""

MOST_IMAGES: Final = 64
"""Limit of the user's images for the check."""


_File = tuple[str, bytes, str]
"""Name, content, and description."""


@dataclass(frozen=True)
class Written:
    """A written file."""

    name: str
    size_bytes: int
    description: str
    """What it contains, for the user."""


@dataclass(frozen=True)
class Known:
    """What is known of a model: results of its run, None where missing, and fields of its card that the owner states."""

    results: dict[str, Any] | None = None
    evaluation: Evaluation | None = None
    stated: Mapping[str, str] = field(default_factory=dict)
    """In addition to those in the run's record, and instead of them."""


def wanted(to: Sequence[str]) -> tuple[str, ...]:
    """The named formats without duplicates; by default all that are available.

    Raises: InputError for an unknown format, or for ONNX without its packages.
    """
    named = [name.strip() for part in to for name in part.split(",") if name.strip()]
    unknown = [name for name in named if name not in FORMATS]
    if unknown:
        raise InputError(
            f"cannot export: unknown format, got `{on_one_line(unknown[0])}` (from `--to`)",
            hint=f"choose from {', '.join(FORMATS)}",
        )
    missing = onnx_file.missing()
    if "onnx" in named and missing:
        raise InputError(
            f"cannot export to ONNX: the package{'s' * (len(missing) > 1)} {' and '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing (from `--to`)",
            hint=ONNX_HINT,
        )
    return tuple(name for name in FORMATS if name in named or (not named and not (name == "onnx" and missing)))


def fitting(
    formats: Sequence[str], trained: LoadedModel, *, requested: bool, report: Callable[[str], None]
) -> tuple[str, ...]:
    """The formats that this model supports; skipped ones are reported. Raises: InputError for a requested one."""
    obstacle = onnx_file.obstacle(trained) if "onnx" in formats else None
    if obstacle is None:
        return tuple(formats)
    if requested:
        raise InputError(
            f"cannot export `{trained.model}` to ONNX: {obstacle}, got {trained.crop_px}",
            hint="train the model with such a --crop-px, or use --to safetensors,torch",
        )
    report(f"no ONNX file of `{trained.model}`: {obstacle}")
    return tuple(name for name in formats if name != "onnx")


def export(
    trained: LoadedModel, out: Storage, formats: Sequence[str], known: Known, images_NPP: Gray | None
) -> list[Written]:
    """Write the model in these formats, its calibration and its card; returns the written files. The ONNX file is checked on the
    images.

    Raises: InputError, JobFailedError when the ONNX file gives other results, RemoteError.
    """
    if trained.calibrator is None:
        _refuse_foreign_calibration(out)
    state = {name: tensor.contiguous() for name, tensor in trained.network.state_dict().items()}
    files = [_WRITERS[name](trained, state, images_NPP) for name in formats]
    if trained.calibrator is not None:
        description = f"calibration and thresholds, fitted on {trained.calibrator.fitted_on}"
        files.append((Path(CALIBRATION).name, calibration.to_bytes(trained.calibrator), description))
    files.append((Path(CARD).name, _card(trained, known, files).encode(), "model card"))
    output_files.check(out, [name for name, *_ in files], beside=Path(CARD).name)
    for name, content, _ in reversed(files):  # the card first, as it marks the directory as ours
        out.write(name, content)
    return [Written(name, len(content), description) for name, content, description in files]


def _refuse_foreign_calibration(out: Storage) -> None:
    """Raises: InputError for an existing calibration, when this model has none: it would be taken for this model's."""
    name = Path(CALIBRATION).name
    with suppress(AbsentError):
        out.stat(name)
        raise InputError(
            f"cannot export to `{out.url}`: it has a {name}, and this model has none",
            hint="choose an empty --out, or remove that file",
        )


def header(trained: LoadedModel) -> dict[str, str]:
    """The metadata of `spec.describe`, for any model."""
    name = str(trained.record["name"]) if trained.record else ""
    named = {"name": name, "step": "" if trained.step is None else str(trained.step)}
    return {key: value for key, value in named.items() if value} | {
        "format": FORMAT,
        "model": trained.model,
        "head": trained.head,
        "loss": trained.loss,
        "findings": json.dumps(list(trained.findings)),
        "pack_side": str(trained.geometry.side),
        "pack_fit": trained.geometry.fit,
        "crop_px": str(trained.crop_px),
        "gray_bits": gray_bits_in_header(trained.geometry.gray_bits),
        **({} if trained.positive_class is None else {"positive_class": trained.positive_class}),
    }


def known_of(place: str, trained: LoadedModel, stated: Mapping[str, str]) -> Known:
    """Results and evaluation of the run at this place, if they are of this checkpoint. Raises: InputError for damaged ones."""
    nothing = Known(stated=stated)
    if trained.record is None:
        return nothing
    run = open_storage(_INSIDE_RUN.sub("", place.rstrip("/")) or ".")
    try:
        results = documents.read(run, RESULTS, Results)
    except AbsentError:
        return nothing
    if results.get("checkpoint", {}).get("step") != trained.step:
        return nothing
    return Known(cast("dict[str, Any]", results), _evaluation_of(run), stated)


def _evaluation_of(run: Storage) -> Evaluation | None:
    """The run's evaluation; None when missing or of another version: the card is useful without it."""
    try:
        content = documents.content_of(run, EVALUATION)
        return document.from_json(content, f"{run.url.rstrip('/')}/{EVALUATION}") if _is_ours(content) else None
    except AbsentError:
        return None


def _is_ours(content: bytes) -> bool:
    try:
        document = parsed_json(content)
    except ValueError:
        return True  # to be reported as damaged
    written_format = document.get("format") if isinstance(document, dict) else None
    return not isinstance(written_format, int) or written_format in READ


def images_of(trained: LoadedModel, folder: Path | None, report: Callable[[str], None]) -> Gray:
    """Images as input of the model, uint8 [N, P, P]: the first of a folder, or synthetic ones. Unreadable images are reported.

    Raises: InputError when the folder has no readable image.
    """
    side, crop_px = trained.geometry.side, trained.crop_px
    squares_NSS = phantoms(PHANTOMS, side=side) if folder is None else np.stack(_squares(trained, folder, report))
    x_N1SS = torch.from_numpy(squares_NSS)[:, None]
    cut_NPP: Gray = cut(x_N1SS, center_boxes(len(x_N1SS), side, crop_px), crop_px)[:, 0].numpy()
    return cut_NPP


def _squares(trained: LoadedModel, folder: Path, report: Callable[[str], None]) -> list[Gray]:
    files = image_files([folder])
    squares: list[Gray] = []
    problems: list[str] = []
    for file in files:
        if len(squares) == MOST_IMAGES:
            break
        square = _square(file, trained.geometry)
        if isinstance(square, str):
            problems.append(f"{file.name}: {square}")
        else:
            squares.append(square)
    if not squares:
        raise InputError(
            f"cannot check the ONNX file: no image in `{folder}` can be read (from `--check`){listing(problems)}",
            hint="--check needs a directory of PNG, JPEG or DICOM files; without it, synthetic images are used",
        )
    if problems:
        report(f"skipped {len(problems)} of {len(files)} images:{listing(problems)}")
    return squares


def _square(file: ImageFile, geometry: Geometry) -> Gray | str:
    """The record of the file, or why there is none."""
    if file.problem:
        return file.problem
    try:
        return to_gray_square(file.path, geometry)
    except (BadImageError, InputError, OSError, MemoryError) as problem:
        return why_not(problem)


def _safetensors(trained: LoadedModel, state: StateDict, _images: Gray | None) -> _File:
    description = f"weights of {trained.model}, {trained.head} head, {len(trained.findings)} findings; for `--weights` and `evaluate`"
    return SAFETENSORS, to_safetensors(state, metadata=header(trained)), description


def _torch(trained: LoadedModel, state: StateDict, _images: Gray | None) -> _File:
    file = io.BytesIO()
    torch.save(state, file)
    return TORCH, file.getvalue(), f"state dict of {torchvision_code(trained)}"


def _onnx(trained: LoadedModel, _state: StateDict, images_NPP: Gray | None) -> _File:
    assert images_NPP is not None
    content = onnx_file.onnx_file(trained, onnx_file.about(trained, header(trained)))
    result = onnx_file.checked(content, trained, images_NPP)
    return ONNX, content, _onnx_words(trained, result)


def _onnx_words(trained: LoadedModel, result: Checked) -> str:
    calibrated = "calibrated " if trained.calibrator else ""
    return (
        f"gray uint8 [N, 1, {trained.crop_px}, {trained.crop_px}] to logits and {calibrated}probabilities; "
        f"max |Δ| {result.largest_difference:.1e} on {result.images} images with onnxruntime {result.version}"
    )


_Writer = Callable[[LoadedModel, StateDict, Gray | None], _File]

_WRITERS: Final[dict[str, _Writer]] = {"safetensors": _safetensors, "torch": _torch, "onnx": _onnx}


def torchvision_code(trained: LoadedModel) -> str:
    """Code for torchvision that builds the network of `model.pt`."""
    count = len(trained.findings)
    if trained.model == "densenet_tiny":
        code = f"DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes={count})"
    else:
        code = f"{trained.model}(num_classes={count})"
    if trained.head == "linear":
        return code
    head = head_of(trained.network)
    assert isinstance(head, nn.Sequential)
    name = next(name for name, module in trained.network.named_modules() if module is head)
    place = name.replace(".6", "[6]")
    return f"{code}, with {place} = nn.Sequential({', '.join(f'nn.{layer}' for layer in head)})"


def _card(trained: LoadedModel, known: Known, files: Sequence[_File]) -> str:
    subject = Subject(
        header=header(trained),
        parameters=sum(parameter.numel() for parameter in trained.network.parameters()),
        calibrator=trained.calibrator,
        stated=known.stated,
        files=[(name, description) for name, _, description in files],
        notes=trained.notes,
    )
    return model_card.as_markdown(subject, trained.record, known.results, known.evaluation)
