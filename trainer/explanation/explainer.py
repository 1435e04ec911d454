"""Predictions of a trained model for image files, with maps.

Shapes: N images, K findings, S side of a record, P crop side, h x w cells of a map.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from trainer import devices
from trainer.config import Precision
from trainer.data.augment import evaluation_view
from trainer.data.decode import BadImageError, open_xray, why_not
from trainer.data.image_files import ImageFile
from trainer.data.packs.records import Gray, to_square
from trainer.devices import Arithmetic, Device
from trainer.errors import InputError, JobFailedError
from trainer.evaluation.metrics import probability
from trainer.explanation.cam import Activation, activate, cells
from trainer.explanation.placement import Placement, placement
from trainer.limits import MOST_PIXELS
from trainer.models.forward_threads import ForwardThreads, forward_threads, naming_batch
from trainer.models.load import LoadedModel
from trainer.models.tta import log_odds_of

Floats = NDArray[np.float64]
Result = TypeVar("Result")


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
    precision: Arithmetic
    """Of the network up to its last feature maps."""


@dataclass(frozen=True)
class Unusable:
    """An image that cannot be explained."""

    file: ImageFile
    reason: str


@dataclass(frozen=True)
class Explainer:
    """A model on a device."""

    trained: LoadedModel
    device: Device
    on: torch.device
    precision: Arithmetic
    """Of the network up to its last feature maps; what follows is computed in fp32."""
    batch: int | None
    """Images per batch; None for the device's own choice."""

    def explain(
        self, files: Sequence[ImageFile], findings: Sequence[int], finish: Callable[[Explained], Result]
    ) -> Iterator[Result | Unusable]:
        """`finish` of every readable image with maps of these findings; the others with the reason. In the order of the files.

        `finish` is called in several threads at once.

        Raises: JobFailedError for a non-finite output.
        """

        def finished(one: Explained | Unusable) -> Result | Unusable:
            return one if isinstance(one, Unusable) else finish(one)

        with self._threads() as threads:
            batch = threads.batch_of(len(files))
            yield from threads.pipeline(
                files,
                batch,
                self._read,
                lambda read: self._explained(_batches(read, batch, _most_pixels(threads)), findings),
                finished,
                ahead=threads.threads,
            )

    def _explained(
        self, chunks: Iterator[list["_Read | Unusable"]], findings: Sequence[int]
    ) -> Iterator[Explained | Unusable]:
        for chunk in chunks:
            images = [one for one in chunk if isinstance(one, _Read)]
            explained = iter(self._with_maps(images, findings) if images else ())
            for one in chunk:
                yield one if isinstance(one, Unusable) else next(explained)

    def _with_maps(self, images: Sequence["_Read"], findings: Sequence[int]) -> Iterator[Explained]:
        activation = self._activate(self.trained.network, self.view([one.square for one in images]), findings)
        _check_finite(activation.logits_NK, activation.maps_NMhw)
        for one, logits_K, maps_Mhw in zip(images, activation.logits_NK, activation.maps_NMhw, strict=True):
            place = placement(*one.gray.size, self.trained.geometry, self.trained.crop_px)
            probability_K = self._probability(logits_K[None])[0]
            maps = dict(zip(findings, maps_Mhw, strict=True))
            yield Explained(one.file, one.gray, place, probability_K, maps, self.precision)

    def maps(self, network: nn.Module, views: Sequence[Tensor], findings: Sequence[int]) -> NDArray[np.float32]:
        """Maps [N, M, h, w] of these views by such a network, on any device."""
        network = network.to(self.on)
        with self._threads() as threads:
            activations = threads.computed(lambda view: self._activate(network, view, findings), views)
            return np.concatenate([one.maps_NMhw for one in activations])

    def views(self, files: Sequence[ImageFile]) -> list[Tensor]:
        """The model's input for the readable images, in batches."""
        with self._threads() as threads:
            batch = threads.batch_of(len(files))

            def viewed(read: Iterator["_Read | Unusable"]) -> Iterator[Tensor]:
                for chunk in _batches(read, batch, _most_pixels(threads)):
                    images = [one for one in chunk if isinstance(one, _Read)]
                    if images:
                        yield self.view([one.square for one in images])

            return list(threads.pipeline(files, batch, self._read, viewed, _itself, ahead=threads.threads))

    def view(self, squares: Sequence[Gray]) -> Tensor:
        """The model's input for these records, on the device."""
        side = self.trained.geometry.side
        host = self.device.host_buffer((len(squares), 1, side, side))
        host.numpy()[:, 0] = squares
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

    def _activate(self, network: nn.Module, x_NCHW: Tensor, findings: Sequence[int]) -> Activation:
        autocast = partial(self.device.autocast, self.precision)
        return activate(network, x_NCHW, findings, classes=self._classes, autocast=autocast)

    @contextmanager
    def _threads(self) -> Iterator[ForwardThreads]:
        """The network is run in halves, which are not compiled."""
        batch = self.batch or self.device.inference_batch(self.trained.crop_px)
        with naming_batch(batch), forward_threads(self.device, "eager", batch) as threads:
            yield threads

    def _read(self, file: ImageFile) -> "_Read | Unusable":
        """The image, or why there is none."""
        if file.problem:
            return Unusable(file, file.problem)
        try:
            gray = open_xray(file.path, self.trained.geometry.bits)
            return _Read(file, gray, np.array(to_square(gray, self.trained.geometry)))
        except (BadImageError, InputError, OSError, MemoryError) as problem:
            return Unusable(file, why_not(problem))


@dataclass(frozen=True, eq=False)
class _Read:
    """An image that was read."""

    file: ImageFile
    gray: Image.Image
    square: Gray
    """Its record."""


def _most_pixels(threads: ForwardThreads) -> int:
    """How many pixels of images a batch may hold: threads that compute side by side share what may be in memory."""
    return MOST_PIXELS // threads.threads if threads.side_by_side else MOST_PIXELS


def _batches(read: Iterator[_Read | Unusable], batch: int, most_pixels: int) -> Iterator[list[_Read | Unusable]]:
    """Batches of images; of large images they have fewer, as all of a batch are in memory at once."""
    chunk: list[_Read | Unusable] = []
    pixels = 0
    for one in read:
        chunk.append(one)
        pixels += one.gray.width * one.gray.height if isinstance(one, _Read) else 0
        if len(chunk) == batch or pixels > most_pixels:
            yield chunk
            chunk, pixels = [], 0
    if chunk:
        yield chunk


def _itself(view: Tensor) -> Tensor:
    return view


def open_explainer(
    trained: LoadedModel, device: Device, *, batch: int | None = None, precision: Precision = "fp32"
) -> Explainer:
    """The model on the device. Raises: InputError for a precision that the device lacks units for."""
    on = device.open(0, 1)
    chosen = devices.arithmetic(device, precision)
    trained.network.to(on).to(memory_format=device.memory_format)
    return Explainer(trained, device, on, chosen, batch)


def _check_finite(*outputs: NDArray[np.float32]) -> None:
    if not all(np.isfinite(output).all() for output in outputs):
        raise JobFailedError(
            "cannot explain: the network's output is not finite", hint="choose an earlier checkpoint with --step"
        )
