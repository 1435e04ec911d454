"""A data set, ready to be read in batches: brought to this node, its labels read, its images decoded once.

Labels come before images, for they cost nothing; all workers call what is here together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.config import Layout, OnBadImage
from trainer.data.download import fetch, folder_of
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import Source, locate_images, read_labels
from trainer.data.locks import locked
from trainer.data.pack import DamagedPackError, Pack, attach, open_pack, pack_key
from trainer.data.packing import build
from trainer.data.records import Geometry
from trainer.errors import InputError, listing
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.storage.waiting import Waiting


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which data set, and how it is read."""

    data: str
    """A directory, or s3://BUCKET/PREFIX."""
    layout: Layout
    split: str
    val_list: str | None
    geometry: Geometry
    """How images become records."""
    cache: Path
    """Where downloads and decoded images are kept."""


def fetched(place: Place, reporter: Reporter, watchdog: Watchdog) -> None:
    """Bring a data set that lies in a bucket to this node; the first worker of each calls it."""
    if "://" in place.data:
        waiting = _waiting(reporter, watchdog, "another process downloads the data set")
        fetch(
            place.data, place.cache, lambda files: watchdog.progress(reporter.progress, "downloading", files), waiting
        )
        watchdog.pause()


def labelled(place: Place) -> Source:
    """The labels of all images that are in a split. Raises: InputError."""
    folder = folder_of(place.data, place.cache) if "://" in place.data else Path(place.data)
    source = read_labels(folder, layout=place.layout, split=place.split, val_list=place.val_list)
    return replace(source, table=source.table.used())


def decoded(place: Place, source: Source, group: WorkerGroup, reporter: Reporter, watchdog: Watchdog) -> Pack:
    """The decoded images, from this node's cache or made by one worker while the node's others wait."""
    names, geometry = source.table.images, place.geometry
    key = ""

    def decode() -> None:
        nonlocal key
        paths = locate_images(source)
        key = pack_key(names, paths, geometry)
        folder = place.cache / "packs" / key
        with locked(folder, _waiting(reporter, watchdog, "another process decodes the images")):
            if not _is_whole(folder, names, geometry, reporter, watchdog):
                reporter.line(f"decoding {len(names):,} images to {geometry.side} x {geometry.side} pixels, once")
                with watchdog.progress(reporter.progress, "decoding", len(names)) as advance:
                    build(folder, names, paths, geometry, progress=lambda done: advance(done, ""))

    group.on_local_rank0(decode)
    keys = [content.decode() for content in group.all_gather(key.encode())]
    mine = keys[group.world.rank - group.world.local_rank]
    return group.all_or_raise(lambda: attach(place.cache / "packs" / mine, names, geometry))


def _is_whole(folder: Path, names: Sequence[str], geometry: Geometry, reporter: Reporter, watchdog: Watchdog) -> bool:
    """Whether the pack at `folder` is there and what was written; it is said where it is not."""
    doing = "verifying the decoded images"
    watchdog.heartbeat(doing, timeout_scale=COMPILING)
    try:
        return (
            open_pack(folder, names, geometry, progress=lambda _: watchdog.heartbeat(doing, timeout_scale=COMPILING))
            is not None
        )
    except DamagedPackError as damage:
        reporter.line(f"the pack at `{folder}` is damaged: {damage}; building it again")
        return False


def _waiting(reporter: Reporter, watchdog: Watchdog, why: str) -> Waiting:
    return Waiting(reporter.line, lambda: watchdog.heartbeat(f"waiting: {why}", timeout_scale=COMPILING))


def left_out(place: Place, pack: Pack, on_bad_image: OnBadImage) -> list[str]:
    """Names of the images that can't be read, once `--on-bad-image skip` allows it. Raises: InputError."""
    unreadable = pack.manifest.unreadable
    if unreadable and on_bad_image == "fail":
        problems = listing(f"{place.data}: {name}: {reason}" for name, reason in unreadable.items())
        raise InputError(
            f"cannot read {len(unreadable)} of {pack.manifest.count:,} images:{problems}",
            hint="replace them, or --on-bad-image skip leaves them out and lists them in run.json",
        )
    return list(unreadable)


def rows_without(table: LabelTable, skipped: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Rows of each split, those of skipped images left out."""
    dropped = set(skipped)
    return {
        split: np.array([row for row in table.rows(split).tolist() if table.images[row] not in dropped], np.int64)
        for split in SPLITS
    }
