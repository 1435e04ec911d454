"""Predictions for image files: probability of each finding, or a class; unusable files are reported.

Shapes: N images, S pack side, K findings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer import devices
from trainer.config import Mode, Precision
from trainer.data.augment import Tta
from trainer.data.decode import BadImageError, is_turned, open_xray, why_not
from trainer.data.image_files import ImageFile
from trainer.data.packs.records import Geometry, Gray, to_square
from trainer.devices import Arithmetic, Device
from trainer.errors import InputError, JobFailedError
from trainer.evaluation.metrics import probability
from trainer.evaluation.scores import LogOdds
from trainer.models.forward_threads import forward_threads, naming_batch
from trainer.models.load import LoadedModel
from trainer.models.tta import OverViews, log_odds_of
from trainer.runtime.progress import Advance


@dataclass(frozen=True)
class Prediction:
    """Prediction for one file."""

    image: str
    probability: dict[str, float]
    """By finding, calibrated if the model has a calibration; empty for an unusable file."""
    raw: dict[str, float]
    """Uncalibrated."""
    positive: dict[str, bool | None]
    """By finding, for the requested rule: whether its probability reaches the threshold; None for a finding without threshold. Empty
    without thresholds, and for single-label models.
    """
    error: str | None = None
    """Why the file is unusable."""
    turned: bool = False
    """Whether it has an EXIF orientation, which is ignored."""

    @property
    def best(self) -> tuple[str, float]:
        """The most probable finding and its probability: class and confidence of a single-label model."""
        return max(self.probability.items(), key=lambda item: item[1])


@dataclass(frozen=True)
class Predictor:
    """A model on a device."""

    trained: LoadedModel
    network: nn.Module
    device: Device
    mode: Mode
    precision: Arithmetic
    rule: str
    batch: int | None
    """Images per batch; None for the device's own choice."""

    def predictions(self, files: Sequence[ImageFile], advance: Advance) -> Iterator[Prediction]:
        """A prediction for each file, in order.

        Raises: JobFailedError for a non-finite output.
        """
        most = self.batch or self.device.inference_batch(self.trained.crop_px)
        with naming_batch(most), forward_threads(self.device, self.mode, most) as threads:
            batch = threads.batch_of(len(files))
            for each in threads.pipeline(
                files,
                batch,
                lambda file: (file, _record(file, self.trained.geometry)),
                lambda read: self._predicted(read, batch),
                lambda prediction: prediction,
                ahead=2 * batch,
            ):
                advance(1, "")
                yield each

    def _predicted(self, all_read: Iterator[tuple[ImageFile, "_Read | str"]], batch: int) -> Iterator[Prediction]:
        """The predictions of files that were read, in batches. All batches have one shape, for graph compilers."""
        side = self.trained.geometry.side
        host = self.device.host_buffer((batch, 1, side, side))
        while chunk := list(islice(all_read, batch)):
            squares = [read.square for _, read in chunk if isinstance(read, _Read)]
            log_odds = iter(self._log_odds(squares, host) if squares else ())
            for file, read in chunk:
                if isinstance(read, str):
                    yield _bad(file, read)
                else:
                    yield self._prediction(file, next(log_odds), turned=read.turned)

    def _log_odds(self, records: Sequence[Gray], host: torch.Tensor) -> LogOdds:
        """Log-odds of the records; unused rows of the buffer are ignored."""
        host.numpy()[: len(records), 0] = records
        with torch.inference_mode(), self.device.autocast(self.precision):
            x_N1SS, wait = self.device.upload(host)
            logits = self.network(x_N1SS)
            self.device.flush()
            wait()
        logits_NVK = logits.cpu().numpy()[: len(records)]
        if not np.isfinite(logits_NVK).all():
            raise JobFailedError(
                f"cannot predict: the network in `{self.trained.origin}` has a non-finite output",
                hint="choose another checkpoint with --step",
            )
        return log_odds_of(logits_NVK, self.trained.loss, len(self.trained.findings))

    def _prediction(self, file: ImageFile, log_odds_K: NDArray[np.float64], *, turned: bool) -> Prediction:
        fitted, findings = self.trained.calibrator, self.trained.findings
        raw_K = probability(log_odds_K)
        shown_K = probability(fitted.apply(log_odds_K[None])[0]) if fitted else raw_K
        positive: dict[str, bool | None] = {}
        if fitted and self.trained.loss == "bce":
            thresholds = fitted.thresholds.get(self.rule, {})
            for name, value in zip(findings, shown_K.tolist(), strict=True):
                positive[name] = value >= thresholds[name] if name in thresholds else None
        shown, raw = (dict(zip(findings, values_K.tolist(), strict=True)) for values_K in (shown_K, raw_K))
        return Prediction(file.name, shown, raw, positive, turned=turned)


def predictor(
    trained: LoadedModel,
    device: Device,
    *,
    tta: Tta,
    rule: str,
    batch: int | None = None,
    precision: Precision = "fp32",
) -> Predictor:
    """The model on the device; in fp32 its predictions are the same on all devices but for rounding.

    Raises: InputError for a precision that the device lacks units for.
    """
    on = device.open(0, 1)
    chosen, mode = devices.arithmetic(device, precision), device.inference_mode()
    network = OverViews(trained, tta, device.memory_format)
    network.to(on).to(memory_format=device.memory_format)
    return Predictor(trained, device.compiled(network, mode), device, mode, chosen, rule, batch)


@dataclass(frozen=True)
class _Read:
    """The record of a file."""

    square: Gray
    turned: bool


def _record(file: ImageFile, geometry: Geometry) -> _Read | str:
    if file.problem:
        return file.problem
    try:
        gray = open_xray(file.path, geometry.bits)
        return _Read(np.asarray(to_square(gray, geometry)), is_turned(gray))
    except (BadImageError, InputError, OSError, MemoryError) as problem:
        return why_not(problem)


def _bad(file: ImageFile, problem: str) -> Prediction:
    return Prediction(file.name, {}, {}, {}, error=problem)
