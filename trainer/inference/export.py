"""A trained model in the formats that other programs read, with a card that says what it is.

OUT/model.safetensors  OUT/model.pt  OUT/model.onnx  OUT/calibration.json  OUT/card.md

Shapes: N images, P pixels of a side.
"""

import io
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from trainer.data.augment import center_boxes, cut
from trainer.data.decode import BadImageError, why_not
from trainer.data.image_files import ImageFile, image_files
from trainer.data.records import Geometry, to_gray_square
from trainer.data.synthetic import phantoms
from trainer.errors import InputError, listing, on_one_line
from trainer.evaluation import calibration, document
from trainer.evaluation.document import FORMAT as EVIDENCE_FORMAT
from trainer.evaluation.document import Evaluation
from trainer.formats import documents
from trainer.formats.documents import Results
from trainer.inference import onnx_file
from trainer.inference.onnx_file import Checked, Gray
from trainer.layout import CALIBRATION, CARD, EVALUATION, MODEL, RESULTS
from trainer.limits import parsed_json
from trainer.models.architectures import StateDict, head_of
from trainer.models.load import LoadedModel
from trainer.models.spec import FORMAT
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
"""Drawn images to try the ONNX file on when no others are given."""

MOST_IMAGES: Final = 64
"""Images of the user's that it is tried on."""


_File = tuple[str, bytes, str]
"""Name, content, and what it is, for people."""


@dataclass(frozen=True)
class Written:
    """One file that was written."""

    name: str
    size_bytes: int
    says: str
    """What it is, for people."""


@dataclass(frozen=True)
class Known:
    """What the model's run has said of itself; None where it has not."""

    results: dict[str, Any] | None = None
    evaluation: Evaluation | None = None


def wanted(to: Sequence[str]) -> tuple[str, ...]:
    """The formats named, each once; without any, all that can be written here.

    Raises: InputError for an unknown one, and for ONNX where its packages are missing.
    """
    named = [name.strip() for part in to for name in part.split(",") if name.strip()]
    unknown = [name for name in named if name not in FORMATS]
    if unknown:
        raise InputError(
            f"cannot export: unknown format, got `{on_one_line(unknown[0])}` (from `--to`)",
            hint=f"--to takes {', '.join(FORMATS)}",
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
    formats: Sequence[str], trained: LoadedModel, *, asked: bool, report: Callable[[str], None]
) -> tuple[str, ...]:
    """The formats that this model can have; that one is left out is told. Raises: InputError when it was asked for."""
    obstacle = onnx_file.obstacle(trained) if "onnx" in formats else None
    if obstacle is None:
        return tuple(formats)
    if asked:
        raise InputError(
            f"cannot export `{trained.model}` to ONNX: {obstacle}, got {trained.crop_px}",
            hint="the model must be trained with such a --crop-px; --to safetensors,torch",
        )
    report(f"no ONNX file of `{trained.model}`: {obstacle}")
    return tuple(name for name in formats if name != "onnx")


def export(
    trained: LoadedModel, out: Storage, formats: Sequence[str], known: Known, images_NPP: Gray | None
) -> list[Written]:
    """Write the model in these formats, its calibration and its card; what was written. The ONNX file is tried on the images.

    Raises: InputError, JobFailedError when the ONNX file answers differently, RemoteError.
    """
    if trained.calibrator is None:
        _refuse_calibration_of_another(out)
    state = {name: tensor.contiguous() for name, tensor in trained.network.state_dict().items()}
    files = [_WRITERS[name](trained, state, images_NPP) for name in formats]
    if trained.calibrator is not None:
        says = f"calibration and thresholds, fitted on {trained.calibrator.fitted_on}"
        files.append((Path(CALIBRATION).name, calibration.to_bytes(trained.calibrator), says))
    files.append((Path(CARD).name, _card(trained, known, files).encode(), "model card"))
    output_files.check(out, [name for name, *_ in files], beside=Path(CARD).name)
    for name, content, _ in reversed(files):  # the card first: it says whose the others are
        out.write(name, content)
    return [Written(name, len(content), says) for name, content, says in files]


def _refuse_calibration_of_another(out: Storage) -> None:
    """Raises: InputError where a calibration lies that would be taken for that of a model that has none."""
    name = Path(CALIBRATION).name
    with suppress(AbsentError):
        out.stat(name)
        raise InputError(
            f"cannot export to `{out.url}`: a {name} lies there, and this model has none",
            hint="--out names an empty directory, or remove that file",
        )


def header(trained: LoadedModel) -> dict[str, str]:
    """What `described.describe` says of a run's model, of any model."""
    name = str(trained.record["name"]) if trained.record else ""
    told = {"name": name, "step": "" if trained.step is None else str(trained.step)}
    return {key: value for key, value in told.items() if value} | {
        "format": FORMAT,
        "model": trained.model,
        "head": trained.head,
        "loss": trained.loss,
        "findings": json.dumps(list(trained.findings)),
        "pack_side": str(trained.geometry.side),
        "pack_fit": trained.geometry.fit,
        "crop_px": str(trained.crop_px),
    }


def known_of(place: str, trained: LoadedModel) -> Known:
    """Results and evidence of the run at this place, where they are of this very model. Raises: InputError for damaged ones."""
    if trained.record is None:
        return Known()
    run = open_storage(_INSIDE_RUN.sub("", place.rstrip("/")) or ".")
    try:
        results = documents.read(run, RESULTS, Results)
    except AbsentError:
        return Known()
    if results.get("checkpoint", {}).get("step") != trained.step:
        return Known()
    return Known(cast("dict[str, Any]", results), _evidence_of(run))


def _evidence_of(run: Storage) -> Evaluation | None:
    """None where there is none, or one of another version: a card without it is still a card."""
    try:
        content = documents.content_of(run, EVALUATION)
        return document.from_json(content, f"{run.url.rstrip('/')}/{EVALUATION}") if _is_ours(content) else None
    except AbsentError:
        return None


def _is_ours(content: bytes) -> bool:
    try:
        document = parsed_json(content)
    except ValueError:
        return True  # to be told as damaged
    told = document.get("format") if isinstance(document, dict) else None
    return not isinstance(told, int) or told == EVIDENCE_FORMAT


def images_of(trained: LoadedModel, folder: Path | None, report: Callable[[str], None]) -> Gray:
    """Images as the model sees them, uint8 [N, P, P]: the first of a folder, or drawn ones. What can't be read is told.

    Raises: InputError when the folder has none that can be read.
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
            hint="--check takes a directory of PNG, JPEG or DICOM files; without it drawn images are used",
        )
    if problems:
        report(f"left out {len(problems)} of {len(files)} images:{listing(problems)}")
    return squares


def _square(file: ImageFile, geometry: Geometry) -> Gray | str:
    """What the model would be given of the file, or why that can't be had."""
    if file.problem:
        return file.problem
    try:
        return to_gray_square(file.path, geometry)
    except (BadImageError, InputError, OSError, MemoryError) as problem:
        return why_not(problem)


def _safetensors(trained: LoadedModel, state: StateDict, _images: Gray | None) -> _File:
    says = f"weights of {trained.model}, {trained.head} head, {len(trained.findings)} findings; `--weights` and `evaluate` take it"
    return SAFETENSORS, to_safetensors(state, metadata=header(trained)), says


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
    """How torchvision's users build the network that `model.pt` fits strictly."""
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
    return f"{code}, whose {place} is nn.Sequential({', '.join(f'nn.{layer}' for layer in head)})"


def _card(trained: LoadedModel, known: Known, files: Sequence[_File]) -> str:
    subject = Subject(
        header=header(trained),
        parameters=sum(parameter.numel() for parameter in trained.network.parameters()),
        fitted_on=trained.calibrator.fitted_on if trained.calibrator else None,
        files=[(name, says) for name, _, says in files],
        notes=trained.notes,
    )
    return model_card.as_markdown(subject, trained.record, known.results, known.evaluation)
