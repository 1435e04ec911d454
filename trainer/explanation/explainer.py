"""Predictions of a trained model for image files, with maps.

Shapes: N images, K findings, S side of a record, P crop side, h x w cells of a map.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from trainer.data.augment import evaluation_view
from trainer.data.decode import BadImageError, open_xray, why_not
from trainer.data.image_files import ImageFile
from trainer.data.packs.records import to_square
from trainer.devices import Device
from trainer.errors import InputError, JobFailedError
from trainer.evaluation.metrics import probability
from trainer.explanation.cam import activate, cells
from trainer.explanation.placement import Placement, placement
from trainer.limits import MOST_PIXELS
from trainer.models.load import LoadedModel
from trainer.models.tta import log_odds_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Explained:
    """One image, with the model's prediction and maps."""

    file: ImageFile
    gray: Image.Image
    place: Placement
    probability_K: Floats
    """Calibrated if the model has a calibration."""
    maps: Mapping[int, NDArray[np.float32]]
    """By index of the finding."""


@dataclass(frozen=True)
class Explainer:
    """A model on a device; in full precision, as maps are compared and images are few."""

    trained: LoadedModel
    device: Device
    on: torch.device
    batch: int

    def explain(
        self, files: Sequence[ImageFile], findings: Sequence[int], bad: Callable[[ImageFile, str], None]
    ) -> Iterator[Explained]:
        """Every readable image, with maps of these findings; `bad` gets the others with the reason.

        Raises: JobFailedError for a non-finite output.
        """
        for readable, grays in self._batches(files, bad):
            activation = activate(self.trained.network, self.view(grays), findings, classes=self._classes)
            _check_finite(activation.logits_NK, activation.maps_NMhw)
            for file, gray, logits_K, maps_Mhw in zip(
                readable, grays, activation.logits_NK, activation.maps_NMhw, strict=True
            ):
                place = placement(*gray.size, self.trained.geometry, self.trained.crop_px)
                probability_K = self._probability(logits_K[None])[0]
                yield Explained(file, gray, place, probability_K, dict(zip(findings, maps_Mhw, strict=True)))

    def maps(self, network: nn.Module, views: Sequence[Tensor], findings: Sequence[int]) -> NDArray[np.float32]:
        """Maps [N, M, h, w] of these views by such a network, on any device."""
        network = network.to(self.on)
        activations = [activate(network, view, findings, classes=self._classes) for view in views]
        return np.concatenate([one.maps_NMhw for one in activations])

    def views(self, files: Sequence[ImageFile]) -> list[Tensor]:
        """The model's input for the readable images, in batches."""
        views = []
        for _, grays in self._batches(files, lambda _file, _reason: None):
            views.append(self.view(grays))
        return views

    def view(self, grays: Sequence[Image.Image]) -> Tensor:
        """The model's input for these images, on the device."""
        side = self.trained.geometry.side
        host = self.device.host_buffer((len(grays), 1, side, side))
        for position, gray in enumerate(grays):
            host[position, 0] = torch.from_numpy(np.array(to_square(gray, self.trained.geometry)))
        uploaded, wait = self.device.upload(host)
        x_NCHW = evaluation_view(uploaded, self.trained.crop_px)
        wait()
        return x_NCHW.contiguous(memory_format=self.device.memory_format)

    def notes(self) -> list[str]:
        """Caveats about maps with few cells; none for 7 x 7 cells, as of 224-pixel images, and finer."""
        crop_px = self.trained.crop_px
        rows, columns = cells(self.trained.network, crop_px)
        if rows * columns == 1:
            return [
                f"maps have one cell, so they cannot show a location: the model sees only {crop_px} pixels per side"
            ]
        if min(rows, columns) < 7:
            return [f"maps have only {rows} x {columns} cells: the model sees only {crop_px} pixels per side"]
        return []

    @property
    def _classes(self) -> bool:
        return self.trained.loss == "cross_entropy"

    def _probability(self, logits_NK: NDArray[np.float32]) -> Floats:
        trained = self.trained
        log_odds_NK, fitted = log_odds_of(logits_NK, trained.loss, len(trained.findings)), trained.calibrator
        return probability(fitted.apply(log_odds_NK) if fitted else log_odds_NK)

    def _batches(
        self, files: Sequence[ImageFile], bad: Callable[[ImageFile, str], None]
    ) -> Iterator[tuple[list[ImageFile], list[Image.Image]]]:
        """Readable images in batches; batches of large images are smaller, as all are in memory at once."""
        for start in range(0, len(files), self.batch):
            readable: list[ImageFile] = []
            grays: list[Image.Image] = []
            for file in files[start : start + self.batch]:
                gray = _opened(file, self.trained.geometry.bits)
                if isinstance(gray, str):
                    bad(file, gray)
                    continue
                readable.append(file)
                grays.append(gray)
                if sum(one.width * one.height for one in grays) > MOST_PIXELS:
                    yield readable, grays
                    readable, grays = [], []
            if grays:
                yield readable, grays


def _opened(file: ImageFile, bits: int) -> Image.Image | str:
    """The image, or why there is none."""
    if file.problem:
        return file.problem
    try:
        return open_xray(file.path, bits)
    except (BadImageError, InputError, OSError, MemoryError) as problem:
        return why_not(problem)


def open_explainer(trained: LoadedModel, device: Device, *, batch: int) -> Explainer:
    on = device.open(0, 1)
    trained.network.to(on).to(memory_format=device.memory_format)
    return Explainer(trained, device, on, batch)


def _check_finite(*outputs: NDArray[np.float32]) -> None:
    if not all(np.isfinite(output).all() for output in outputs):
        raise JobFailedError(
            "cannot explain: the network's output is not finite", hint="choose an earlier checkpoint with --step"
        )
