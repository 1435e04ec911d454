"""Run a network over images of a data set while they are being decoded.

Where the run's own pack is in the cache, nothing is decoded. Shapes: N images of the whole data set, V views, K findings.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainer import devices
from trainer.config import Mode, Precision
from trainer.data.augment import Tta
from trainer.data.dataset import Place
from trainer.data.decoded_images import decoded, note_turned
from trainer.data.layouts import Source
from trainer.data.loader import Loader
from trainer.data.locate import locate_images
from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.key import pack_key
from trainer.data.packs.reading import Pack, Records
from trainer.data.packs.verify import open_pack
from trainer.devices import Arithmetic, Device
from trainer.errors import InputError
from trainer.evaluation.scores import Logits
from trainer.inference.evaluation_set import EvaluationSet
from trainer.models.forward_threads import naming_batch
from trainer.models.load import LoadedModel
from trainer.models.predictor import DistributedPredictor, check_finite
from trainer.models.tta import OverViews, views_of
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.progress import USUALLY_FEW
from trainer.runtime.watchdog import Watchdog

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a network has computed for images of a data set, by row of its table."""

    logits_NVK: Logits
    """NaN for images that were not computed."""
    sizes_N2: NDArray[np.int32]
    """Original width and height of each image; 0 and 0 for those that were not computed, and unreadable ones."""

    def readable(self, rows_N: Rows) -> Rows:
        """Those of these rows whose image was computed, and could be read."""
        is_readable_N: NDArray[np.bool_] = self.sizes_N2[rows_N, 0] > 0
        return rows_N[is_readable_N]


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """A model on a device."""

    network: OverViews
    outputs_per_image: int
    """V x K."""
    device: Device
    mode: Mode
    precision: Arithmetic
    batch: int
    group: WorkerGroup
    """Of one worker."""
    reporter: Reporter

    def outputs(self, subset: EvaluationSet, rows_N: Rows, what: str) -> Outputs:
        """The network's outputs for the images of these rows, which are `what`.

        Raises: InputError; JobFailedError for a non-finite output.
        """
        table, needed_N = subset.table, np.unique(rows_N)
        pack = _in_cache(subset.place, replace(subset.source, table=table.used()), self.reporter)
        if pack is not None:
            in_pack_N = np.searchsorted(np.flatnonzero(table.split_N >= 0), needed_N)
            needed_NVK = self._logits(pack, in_pack_N, what)
        else:
            in_pack_N, computed = np.arange(len(needed_N)), []
            pack = decoded(
                subset.place,
                _only(subset.source, needed_N),
                self.group,
                self.reporter,
                Watchdog(math.inf, self.reporter.line),
                beside=lambda records: computed.append(self._logits(records, in_pack_N, what)),
            )
            needed_NVK = computed[0] if computed else self._logits(pack, in_pack_N, what)
        logits_NVK = np.full((len(table), self.outputs_per_image), np.nan, np.float32)
        sizes_N2 = np.zeros((len(table), 2), np.int32)
        logits_NVK[needed_N], sizes_N2[needed_N] = needed_NVK, pack.sizes_N2[in_pack_N]
        outputs = Outputs(logits_NVK=logits_NVK, sizes_N2=sizes_N2)
        check_finite(logits_NVK[outputs.readable(needed_N)])
        return outputs

    def _logits(self, records: Records, rows_N: Rows, what: str) -> Logits:
        """Of these rows of the records."""
        predictor = DistributedPredictor(
            view=lambda x_N1SS: x_N1SS,
            device=self.device,
            group=self.group,
            precision=self.precision,
            batch=self.batch,
            findings=self.outputs_per_image,
            mode=self.mode,
            side_by_side=True,
        )
        loader, batches = Loader(records, self.device, self.batch), -(-len(rows_N) // self.batch)
        with naming_batch(self.batch), self.reporter.progress(f"evaluating {what}", batches) as advance:
            return predictor.logits(self.network, loader, rows_N, lambda: advance(1, "batches"))


def evaluator(
    trained: LoadedModel,
    device: Device,
    group: WorkerGroup,
    reporter: Reporter,
    *,
    tta: Tta,
    batch: int | None,
    precision: Precision,
) -> Evaluator:
    """The model on the device; in fp32 its outputs are the same on all devices but for rounding.

    Raises: InputError for a precision that the device lacks units for.
    """
    on = device.open(0, 1)
    network = OverViews(trained, tta, device.memory_format)
    network.to(on).to(memory_format=device.memory_format)
    return Evaluator(
        network=network,
        outputs_per_image=len(trained.findings) * views_of(tta),
        device=device,
        mode=device.inference_mode(),
        precision=devices.arithmetic(device, precision),
        batch=batch or device.inference_batch(trained.crop_px),
        group=group,
        reporter=reporter,
    )


def _only(source: Source, rows_N: Rows) -> Source:
    """The data set with the images of these rows only."""
    table = source.table
    is_needed_N = np.isin(np.arange(len(table)), rows_N)
    split_N = np.where(is_needed_N, table.split_N, -1).astype(np.int8)
    return replace(source, table=replace(table, split_N=split_N).used())


def _in_cache(place: Place, used: Source, reporter: Reporter) -> Pack | None:
    """The pack of all images in any split, if it is cached and undamaged and the images are unchanged."""
    packs = place.cache / "packs"
    if not packs.is_dir():
        return None
    try:
        paths = locate_images(used)
        key = pack_key(used.table.images, paths, place.geometry)
    except InputError:  # images of other splits may be missing
        return None
    try:
        images = used.table.images
        with reporter.progress("verifying the decoded images", len(images), USUALLY_FEW) as advance:
            pack = open_pack(packs / key, images, place.geometry, progress=advance)
    except DamagedPackError as damage:
        reporter.line(f"the pack at `{packs / key}` is damaged: {damage}; decoding the evaluated images again")
        return None
    if pack is None or (not pack.index.is_without_16_bits and place.geometry.gray_bits is None):
        return None
    note_turned(pack, reporter)
    return pack
