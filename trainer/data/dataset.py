"""A data set on this node: downloaded, and its labels read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.config import Layout, OnMissingImage
from trainer.data import gray_range
from trainer.data.download import fetch, folder_of
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import Source, read_labels
from trainer.data.packs import staging
from trainer.data.packs.open_prepared import geometry_for
from trainer.data.packs.records import Geometry
from trainer.label_choices import AS_READ, LabelChoices
from trainer.runtime.console import Reporter
from trainer.runtime.progress import BYTES
from trainer.runtime.watchdog import COMPILING, Shown, Watchdog
from trainer.storage.waiting import Waiting


@dataclass(frozen=True, kw_only=True)
class Place:
    """A data set and how it is read."""

    data: str
    """A directory, or s3://BUCKET/PREFIX."""
    layout: Layout
    split: str
    val_list: str | None
    geometry: Geometry
    """How images become records."""
    cache: Path
    """Folder for downloads and decoded images."""
    gray_range: str | None = None
    """Value of `--gray-range`."""
    on_missing_image: OnMissingImage = "fail"
    choices: LabelChoices = AS_READ
    of_run: LabelChoices | None = None
    """Choices of a model's run, as for `read_labels`."""

    def with_bits(self, bits: int | None) -> "Place":
        """The place with this gray range."""
        return replace(self, geometry=replace(self.geometry, gray_bits=bits))

    def in_requested_range(self) -> "Place":
        """The place with its gray range, or the requested one as far as it is known before images are decoded."""
        return self if self.geometry.gray_bits is not None else self.with_bits(gray_range.preliminary(self.gray_range))


def fetched(place: Place, reporter: Reporter, watchdog: Watchdog) -> None:
    """Copy a data set to this node where it is in a bucket, or prepared and on a mount; called by the first worker of each node.

    Raises: InputError, also before anything is copied where the cache has no room; DamagedError; RemoteError.
    """
    waiting = waiting_for(reporter, watchdog, "another process is downloading the data set")
    if staging.is_staged(place.data):
        shown: Shown = partial(reporter.progress, unit=BYTES)
        staging.stage(
            place.data,
            place.cache,
            lambda size: watchdog.progress(shown, "fetching the prepared set", size),
            waiting,
            check=lambda index: geometry_for(index, place.data, place.in_requested_range().geometry),
        )
    elif "://" in place.data:
        staging.forget(place.data, place.cache)
        fetch(
            place.data, place.cache, lambda files: watchdog.progress(reporter.progress, "downloading", files), waiting
        )
    watchdog.pause()


def folder_on_node(place: Place) -> Path:
    """The directory of the data set on this node, once `fetched` has returned on it."""
    staged = staging.staged_folder(place.data, place.cache)
    if staged is not None and ("://" in place.data or staging.is_staged(place.data)):
        return staged
    return folder_of(place.data, place.cache) if "://" in place.data else Path(place.data)


def labelled(place: Place, kept_split: Mapping[str, str] | None = None) -> Source:
    """The labels of all images in a split; `kept_split` as in `read_labels`. Raises: InputError."""
    source = labels_of(folder_on_node(place), place, kept_split)
    return replace(source, table=source.table.used())


def labels_of(folder: Path, place: Place, kept_split: Mapping[str, str] | None = None) -> Source:
    """The labels of all images of the place, which is in this folder; as `read_labels`. Raises: InputError."""
    return read_labels(
        folder,
        layout=place.layout,
        split=place.split,
        val_list=place.val_list,
        kept_split=kept_split,
        choices=place.choices,
        of_run=place.of_run,
    )


def waiting_for(reporter: Reporter, watchdog: Watchdog, why: str) -> Waiting:
    """How to wait for another process: each minute is logged, and the watchdog hears of it."""
    return Waiting(reporter.line, lambda: watchdog.heartbeat(f"waiting: {why}", timeout_scale=COMPILING))


def rows_without(table: LabelTable, skipped: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Rows of each split without those of skipped images."""
    dropped = set(skipped)
    return {
        split: np.array([row for row in table.rows(split).tolist() if table.images[row] not in dropped], np.int64)
        for split in SPLITS
    }
