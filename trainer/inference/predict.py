"""Predictions for image files: probability of each finding, or a class; unusable files are reported.

Shapes: N images, S pack side, K findings.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.data.augment import Tta
from trainer.data.decode import BadImageError, is_turned, open_xray, why_not
from trainer.data.image_files import ImageFile
from trainer.data.packs.records import Geometry, Gray, to_square
from trainer.devices import Device
from trainer.errors import InputError, JobFailedError
from trainer.evaluation.metrics import probability
from trainer.evaluation.scores import LogOdds
from trainer.models.load import LoadedModel
from trainer.models.tta import OverViews, log_odds_of
from trainer.runtime.progress import Advance

READERS: Final = 8
"""Threads that decode images; Pillow decodes several in parallel."""


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
    """A model on a device; in full precision, so that predictions are the same on all devices."""

    trained: LoadedModel
    network: nn.Module
    device: Device
    rule: str
    batch: int

    def predictions(self, files: Sequence[ImageFile], advance: Advance) -> Iterator[Prediction]:
        """A prediction for each file, in order.

        Raises: JobFailedError for a non-finite output.
        """
        batch = min(self.batch, max(1, len(files)))
        side = self.trained.geometry.side
        host = self.device.host_buffer((batch, 1, side, side))
        with ThreadPoolExecutor(READERS) as pool:
            all_read = _ahead(pool, files, self.trained.geometry, 2 * batch)
            while chunk := list(islice(all_read, batch)):
                squares = [read.square for _, read in chunk if isinstance(read, _Read)]
                log_odds = iter(self._log_odds(squares, host) if squares else ())
                for file, read in chunk:
                    if isinstance(read, str):
                        yield _bad(file, read)
                    else:
                        yield self._prediction(file, next(log_odds), turned=read.turned)
                advance(len(chunk), "")

    def _log_odds(self, records: Sequence[Gray], host: torch.Tensor) -> LogOdds:
        """All batches have one shape, for graph compilers; unused rows of the last one are ignored."""
        host.numpy()[: len(records), 0] = records
        with torch.inference_mode(), self.device.autocast("fp32"):
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


def predictor(trained: LoadedModel, device: Device, *, tta: Tta, rule: str, batch: int) -> Predictor:
    on = device.open(0, 1)
    network = OverViews(trained, tta, device.memory_format)
    network.to(on).to(memory_format=device.memory_format)
    return Predictor(trained, device.compiled(network, device.inference_mode()), device, rule, batch)


def _ahead(
    pool: ThreadPoolExecutor, files: Sequence[ImageFile], geometry: Geometry, most: int
) -> Iterator[tuple[ImageFile, "_Read | str"]]:
    """Each file with its record, or with the reason why there is none; at most `most` are read ahead."""
    pending: list[tuple[ImageFile, Future[_Read | str]]] = []
    rest = iter(files)
    while True:
        pending += [(file, pool.submit(_record, file, geometry)) for file in islice(rest, most - len(pending))]
        if not pending:
            return
        file, record = pending.pop(0)
        yield file, record.result()


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
