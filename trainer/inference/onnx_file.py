"""ONNX export of a trained model: cropped gray images to logits and probabilities.

Preparation and calibration are part of the model, so that users of the file cannot get them wrong. Shapes: N images, P pixels of
a side, K findings.
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
from trainer.data.packs.records import RESIZE_FILTER
from trainer.errors import JobFailedError
from trainer.evaluation.calibration import Calibrator
from trainer.evaluation.metrics import probability
from trainer.evaluation.scores import LOG_ODDS
from trainer.models.load import LoadedModel

TOLERANCE: Final = 1e-4
"""Largest accepted difference between the file's and the network's output."""

OPSET: Final = 17
"""Version of ONNX's operators: the newest that torch's older exporter, used here, writes natively."""

_INPUT: Final = "images"
_OUTPUTS: Final = ("logits", "probabilities")

_BATCH: Final = 16

_VGG_STRIDE: Final = 32
_VGG_CELLS: Final = 7
"""Image pixels per cell of VGG16's last feature map, and cells per side that its head takes."""

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Checked:
    """Comparison of the file's output with the network's."""

    largest_difference: float
    """Over logits and probabilities."""
    images: int
    version: str
    """Version of onnxruntime."""


def missing() -> list[str]:
    """Missing packages of the extra `onnx`."""
    return [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]


def obstacle(trained: LoadedModel) -> str | None:
    """Why ONNX cannot represent the model at this size; None when it can."""
    if trained.model == "vgg16" and trained.crop_px // _VGG_STRIDE % _VGG_CELLS:
        return (
            f"it pools {trained.crop_px} pixels to {_VGG_CELLS} x {_VGG_CELLS} cells, which ONNX supports only for a multiple of "
            f"{_VGG_STRIDE * _VGG_CELLS}"
        )
    return None


def onnx_file(trained: LoadedModel, about: dict[str, str]) -> bytes:
    """The file: input `images` uint8 [N, 1, P, P]; outputs `logits` and `probabilities`, both float32 [N, K]; N is free.

    Probabilities are calibrated if the model has a calibration. `about` becomes the file's metadata. The model must have no
    `obstacle`.
    """
    import onnx  # noqa: PLC0415 - optional

    model = onnx.load_from_string(_traced(trained))
    model.doc_string = (
        f"images: uint8 [N, 1, {trained.crop_px}, {trained.crop_px}], gray, resized and cropped as in the metadata; not scaled, not "
        "normalised. probabilities: of the findings in the metadata, in this order. Research only, not for clinical use."
    )
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def checked(content: bytes, trained: LoadedModel, images_NPP: Gray) -> Checked:
    """Run the file with onnxruntime on these images, in batches of different sizes, and compare it with the network.

    Raises: JobFailedError for a difference above TOLERANCE, or a non-finite output of the network.
    """
    import onnxruntime  # noqa: PLC0415 - optional

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = [0.0]
    for first in (0, *range(1, len(images_NPP), _BATCH)):  # one image, then batches
        batch_N1PP = images_NPP[first : first + _BATCH if first else 1, None]
        theirs = session.run(list(_OUTPUTS), {_INPUT: batch_N1PP})
        ours = _own_output(trained, batch_N1PP)
        differences += [float(np.abs(one - other).max()) for one, other in zip(theirs, ours, strict=True)]
    largest = float(np.max(differences))
    if not largest <= TOLERANCE:
        raise JobFailedError(
            f"cannot export to ONNX: onnxruntime {onnxruntime.__version__} differs by {largest:.1e}, where at most "
            f"{TOLERANCE:.0e} is allowed",
            hint="use another version of onnxruntime or torch; the other formats are not affected",
        )
    return Checked(largest, len(images_NPP), onnxruntime.__version__)


def _own_output(trained: LoadedModel, images_N1PP: Gray) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits and probabilities as all other code computes them."""
    with torch.inference_mode():
        logits_NK = trained.network(normalise(torch.from_numpy(images_N1PP))).numpy()
    if not np.isfinite(logits_NK).all():
        raise JobFailedError(f"cannot export `{trained.origin}`: the network's own output for an image is not finite")
    log_odds_NK = LOG_ODDS[trained.loss](logits_NK)
    if trained.calibrator is not None:
        log_odds_NK = trained.calibrator.apply(log_odds_NK)
    return logits_NK, probability(log_odds_NK)


def _traced(trained: LoadedModel) -> bytes:
    """The model from torch's older exporter.

    The newer one takes twenty times as long, and with torch 2.6 cannot write BatchNorm.
    """
    file = io.BytesIO()
    image_11PP = torch.zeros((1, 1, trained.crop_px, trained.crop_px), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the older exporter
        torch.onnx.export(
            _Prepared(trained.network, trained.loss, trained.calibrator).eval(),
            (image_11PP,),
            file,  # type: ignore[arg-type]  # a file object is accepted, too
            dynamo=False,
            input_names=[_INPUT],
            output_names=list(_OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in (_INPUT, *_OUTPUTS)},
            opset_version=OPSET,
        )
    return file.getvalue()


class _Prepared(nn.Module):
    """The network with preparation and calibration."""

    def __init__(self, network: nn.Module, loss: str, calibrator: Calibrator | None) -> None:
        super().__init__()
        self.network = network
        self.classes = loss == "cross_entropy"
        self.slope_K = torch.tensor(calibrator.slope_K if calibrator else 1.0)
        self.intercept_K = torch.tensor(calibrator.intercept_K if calibrator else 0.0)

    def forward(self, images_N1PP: Tensor) -> tuple[Tensor, Tensor]:
        """For classes, the calibration is a temperature: a shared slope."""
        logits_NK: Tensor = self.network(normalise(images_N1PP))
        if self.classes:
            return logits_NK, torch.softmax(logits_NK * self.slope_K, dim=1)
        return logits_NK, torch.sigmoid(logits_NK * self.slope_K + self.intercept_K)


def about(trained: LoadedModel, header: dict[str, str]) -> dict[str, str]:
    """Metadata of the file: the header of `model.safetensors`, the filter of the resizing before it, scale and thresholds."""
    calibrator = trained.calibrator
    scale = "uncalibrated" if calibrator is None else "calibrated"
    metadata = header | {"resize_filter": RESIZE_FILTER, "probability_scale": scale}
    if calibrator is not None:
        metadata |= {
            "calibrated_on": calibrator.fitted_on,
            "threshold_scale": scale,
            "thresholds": json.dumps(calibrator.thresholds),
        }
    return metadata
