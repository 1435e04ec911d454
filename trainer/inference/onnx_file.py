"""A trained model as an ONNX file that takes gray images as they are cut out, and gives logits and probabilities.

Preparation and calibration are inside, so that nobody who runs the file can get them wrong.
Shapes: N images, P pixels of a side, K findings.
"""

import importlib.util
import io
import json
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.augment import normalise
from trainer.errors import JobFailedError
from trainer.evaluation.calibration import Calibrator
from trainer.evaluation.metrics import probability
from trainer.evaluation.scores import LOG_ODDS
from trainer.models.load import LoadedModel

TOLERANCE: Final = 1e-4
"""Largest difference between what the file and the network answer."""

OPSET: Final = 17
"""Version of ONNX's operators: the newest that torch's exporter, which is used here, writes as its own."""

_INPUT: Final = "images"
_OUTPUTS: Final = ("logits", "probabilities")

_BATCH: Final = 16

_VGG_STRIDE: Final = 32
_VGG_CELLS: Final = 7
"""Pixels of the image per cell of VGG16's last map, and cells of a side that its head takes."""

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Checked:
    """How the file's answers compare with the network's."""

    largest_difference: float
    """Over logits and probabilities."""
    images: int
    version: str
    """Of onnxruntime."""


def missing() -> list[str]:
    """Packages of the extra `onnx` that are not here."""
    return [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]


def obstacle(trained: LoadedModel) -> str | None:
    """Why ONNX can't express the model at this size; None when it can."""
    if trained.model == "vgg16" and trained.crop_px // _VGG_STRIDE % _VGG_CELLS:
        return (
            f"it pools {trained.crop_px} pixels to {_VGG_CELLS} x {_VGG_CELLS} cells, which ONNX can only for a multiple of "
            f"{_VGG_STRIDE * _VGG_CELLS}"
        )
    return None


def onnx_file(trained: LoadedModel, about: dict[str, str]) -> bytes:
    """The file: input `images` uint8 [N, 1, P, P]; outputs `logits` and `probabilities`, both float32 [N, K]; N is free.

    Probabilities are calibrated where the model has a calibration. `about` becomes the file's metadata.
    The model must have no `obstacle`.
    """
    import onnx  # noqa: PLC0415 - an extra

    model = onnx.load_from_string(_traced(trained))
    model.doc_string = (
        f"images: uint8 [N, 1, {trained.crop_px}, {trained.crop_px}], gray, resized and cut as the metadata say; not scaled, not "
        "normalised. probabilities: of the findings in the metadata, in that order. Research only, not for clinical use."
    )
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def checked(content: bytes, trained: LoadedModel, images_NPP: Gray) -> Checked:
    """Run the file with onnxruntime on these images, in batches of different sizes, and compare it with the network itself.

    Raises: JobFailedError when a difference is larger than TOLERANCE, or the network's own answers are no numbers.
    """
    import onnxruntime  # noqa: PLC0415 - an extra

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = [0.0]
    for first in (0, *range(1, len(images_NPP), _BATCH)):  # one image, then batches
        batch_N1PP = images_NPP[first : first + _BATCH if first else 1, None]
        theirs = session.run(list(_OUTPUTS), {_INPUT: batch_N1PP})
        ours = _split_predictions(trained, batch_N1PP)
        differences += [float(np.abs(one - other).max()) for one, other in zip(theirs, ours, strict=True)]
    largest = float(np.max(differences))
    if not largest <= TOLERANCE:
        raise JobFailedError(
            f"cannot export to ONNX: onnxruntime {onnxruntime.__version__} answers differently, by {largest:.1e} where at most "
            f"{TOLERANCE:.0e} may be",
            hint="another version of onnxruntime or torch; the other formats are not affected",
        )
    return Checked(largest, len(images_NPP), onnxruntime.__version__)


def _split_predictions(trained: LoadedModel, images_N1PP: Gray) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits and probabilities as everything else here computes them."""
    with torch.inference_mode():
        logits_NK = trained.network(normalise(torch.from_numpy(images_N1PP))).numpy()
    if not np.isfinite(logits_NK).all():
        raise JobFailedError(f"cannot export `{trained.origin}`: the network's own answer to an image is not finite")
    log_odds_NK = LOG_ODDS[trained.loss](logits_NK)
    if trained.calibrator is not None:
        log_odds_NK = trained.calibrator.apply(log_odds_NK)
    return logits_NK, probability(log_odds_NK)


def _traced(trained: LoadedModel) -> bytes:
    """What torch's exporter makes of the model.

    Its older one: the newer takes twenty times as long, and with torch 2.6 cannot write BatchNorm.
    """
    file = io.BytesIO()
    image_11PP = torch.zeros((1, 1, trained.crop_px, trained.crop_px), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older one
        torch.onnx.export(
            _Prepared(trained.network, trained.loss, trained.calibrator).eval(),
            (image_11PP,),
            file,  # type: ignore[arg-type]  # it takes an open file too
            dynamo=False,
            input_names=[_INPUT],
            output_names=list(_OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in (_INPUT, *_OUTPUTS)},
            opset_version=OPSET,
        )
    return file.getvalue()


class _Prepared(nn.Module):
    """The network with what comes before and after it."""

    def __init__(self, network: nn.Module, loss: str, calibrator: Calibrator | None) -> None:
        super().__init__()
        self.network = network
        self.classes = loss == "cross_entropy"
        self.slope_K = torch.tensor(calibrator.slope_K if calibrator else 1.0)
        self.intercept_K = torch.tensor(calibrator.intercept_K if calibrator else 0.0)

    def forward(self, images_N1PP: Tensor) -> tuple[Tensor, Tensor]:
        """Of classes, the calibration is a temperature: a slope that they share."""
        logits_NK: Tensor = self.network(normalise(images_N1PP))
        if self.classes:
            return logits_NK, torch.softmax(logits_NK * self.slope_K, dim=1)
        return logits_NK, torch.sigmoid(logits_NK * self.slope_K + self.intercept_K)


def about(trained: LoadedModel, header: dict[str, str]) -> dict[str, str]:
    """What the file's metadata say: the header of `model.safetensors`, thresholds, and whether it is calibrated."""
    told = dict(header)
    if trained.calibrator is not None:
        told |= {"calibrated_on": trained.calibrator.fitted_on, "thresholds": json.dumps(trained.calibrator.thresholds)}
    return told
