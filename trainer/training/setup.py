"""Sets up a run: joins the workers, reads the labels, claims the prefix, prepares the images; cheap checks first.

Labels, settings and weights are checked before images are decoded, and images before the first step.
"""

import gzip
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor

from trainer import devices
from trainer.config import TrainConfig, parse_duration
from trainer.data.dataset import Place, decoded, fetched, labelled, left_out, rows_without
from trainer.data.download import fetch_file
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import Source
from trainer.data.loader import Loader, steps_per_epoch
from trainer.data.pack import Pack
from trainer.data.records import Geometry
from trainer.devices import Arithmetic, Device
from trainer.errors import InputError, KnownError, PeerError
from trainer.evaluation.label_file import caveats
from trainer.formats.spreadsheet import line
from trainer.layout import SPLIT
from trainer.models.architectures import StateDict
from trainer.models.losses import LOSSES, Loss
from trainer.models.predictor import DistributedPredictor, centre_view
from trainer.models.pretrained import first_weights
from trainer.runs import record
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.coordination import Coordination
from trainer.runtime.preemption import Stop, stopped
from trainer.runtime.process_group import WorkerGroup, join
from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.runtime.world import World
from trainer.training.claim import Prefix, claim_run

JOINING_S: Final = 120.0
"""Time limit for joining workers that torchrun has started: after a restart with its static rendezvous they may have read
addresses of processes that no longer exist, and gloo would wait for ever."""


@dataclass(frozen=True)
class Run:
    """Everything that a run needs and that does not change while it trains."""

    config: TrainConfig
    group: WorkerGroup
    device: Device
    on: torch.device
    precision: Arithmetic
    reporter: Reporter
    source: Source
    """Labels of the data set, and their location."""
    rows: Mapping[str, NDArray[np.int64]]
    """Samples of each split, without unreadable images."""
    pack: Pack
    """The images."""
    loader: Loader
    evaluator: DistributedPredictor
    labels_NK: Tensor
    """float32, on the device."""
    loss: Loss
    """Of logits and labels, both [N, K]."""
    first_weights: StateDict | None
    """Initial weights; on rank 0 only."""
    prefix: Prefix
    """Prefix of the run, and the state that earlier attempts left there."""
    coordination: Coordination
    stop: Stop
    watchdog: Watchdog

    @property
    def table(self) -> LabelTable:
        """Labels and split of all images."""
        return self.source.table

    @property
    def global_batch(self) -> int:
        """Images per optimiser step over all workers."""
        return self.config.batch_per_worker(self.group.world.size) * self.group.world.size

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the training images."""
        return steps_per_epoch(len(self.rows["train"]), self.global_batch)

    @property
    def total_steps(self) -> int:
        """Optimiser steps until the end, as the schedule sees it."""
        return self.steps_per_epoch * self.config.epochs

    @property
    def last_step(self) -> int:
        """Where this start of the run stops."""
        return min(self.total_steps, self.config.max_steps or self.total_steps)

    @property
    def is_rank0(self) -> bool:
        """Whether this worker writes and reports."""
        return self.group.world.is_rank0


@dataclass(frozen=True)
class _Workers:
    """The workers of the run, joined, and what this one trains on."""

    group: WorkerGroup
    device: Device
    on: torch.device
    precision: Arithmetic
    watchdog: Watchdog
    batch: int
    """Images per step of this worker."""


@dataclass(frozen=True)
class _Labels:
    """The labels of the data set, and what of config and labels decides the numbers of the run."""

    place: Place
    source: Source
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class _Images:
    """The decoded images, and the rows of each split that are used."""

    pack: Pack
    rows: Mapping[str, NDArray[np.int64]]
    identity: Mapping[str, Any]
    """With the hash of the pack and the skipped images."""


@contextmanager
def opened(config: TrainConfig, world: World, reporter: Reporter, log: RankLog) -> Iterator[Run]:
    """The run, ready for its first step; all workers enter it together.

    Raises: KnownError on the worker that failed, PeerError on the others.
    """
    with ExitStack() as held:
        workers = _join_workers(config, world, reporter, log, held)
        labels = _read_labels(config, workers, reporter)
        prefix = held.enter_context(
            claim_run(config, workers.group, reporter, log, cache=_cache(config), identity=labels.identity)
        )
        is_new = prefix.newest is None and world.is_rank0
        weights = workers.group.all_or_raise(lambda: _first_weights(config) if is_new else None)
        images = _prepare_images(config, workers, labels, reporter)
        facts = {
            "world_size": world.size,
            "device": workers.device.name,
            "layout": labels.source.layout,
            "images": len(labels.source.table),
        }
        workers.group.on_rank0(
            lambda: _check_and_write_record(prefix, config, images.identity, facts, labels.source.table)
        )
        yield _assembled(
            config, reporter, workers=workers, labels=labels, images=images, prefix=prefix, weights=weights
        )


def _join_workers(config: TrainConfig, world: World, reporter: Reporter, log: RankLog, held: ExitStack) -> _Workers:
    """Open the device and join the other workers, under the watchdog."""
    device = _device(config, world)
    on = device.open(world.local_rank, world.local_size)
    watchdog = Watchdog(
        parse_duration(config.hang_after, "--hang-after"), reporter.line, leave=_close_log_and_exit(log)
    )
    held.enter_context(watchdog.watching())
    watchdog.heartbeat("joining the other workers", timeout_scale=COMPILING, most_s=JOINING_S)
    group = held.enter_context(join(world, device.backend))
    watchdog.pause()
    return _Workers(
        group=group,
        device=device,
        on=on,
        precision=device.native_precision if config.precision == "auto" else config.precision,
        watchdog=watchdog,
        batch=group.all_or_raise(lambda: config.batch_per_worker(world.size)),
    )


def _read_labels(config: TrainConfig, workers: _Workers, reporter: Reporter) -> _Labels:
    """Download the data set where it is in a bucket, and read its labels."""
    place = _place(config)
    workers.group.on_local_rank0(lambda: fetched(place, reporter, workers.watchdog))
    workers.watchdog.pause()
    source = workers.group.all_or_raise(lambda: _labelled(config, place))
    for note in workers.group.all_or_raise(lambda: caveats(source) if workers.group.world.is_rank0 else ()):
        reporter.line(note)
    global_batch = workers.batch * workers.group.world.size
    identity = record.describe(config, source.table, precision=workers.precision, global_batch=global_batch)
    return _Labels(place, source, identity)


def _prepare_images(config: TrainConfig, workers: _Workers, labels: _Labels, reporter: Reporter) -> _Images:
    """Decode the images, once per node; all nodes must see the same ones."""
    group, table = workers.group, labels.source.table
    pack = decoded(labels.place, labels.source, group, reporter, workers.watchdog)
    workers.watchdog.pause()
    skipped = group.all_or_raise(lambda: left_out(labels.place, pack, config.on_bad_image))
    identity = {**labels.identity, "pack_sha256": pack.sha256, "skipped": skipped}
    group.all_or_raise(lambda: _check_alike(group, identity))
    return _Images(pack, group.all_or_raise(lambda: _readable_rows(table, skipped)), identity)


def _assembled(
    config: TrainConfig,
    reporter: Reporter,
    *,
    workers: _Workers,
    labels: _Labels,
    images: _Images,
    prefix: Prefix,
    weights: StateDict | None,
) -> Run:
    device, table = workers.device, labels.source.table
    loader, stop = Loader(images.pack, device, workers.batch), Stop()
    return Run(
        config=config,
        group=workers.group,
        device=device,
        on=workers.on,
        precision=workers.precision,
        reporter=reporter,
        source=labels.source,
        rows=images.rows,
        pack=images.pack,
        loader=loader,
        evaluator=DistributedPredictor(
            loader=loader,
            view=partial(centre_view, crop_px=config.crop_px, memory_format=device.memory_format),
            device=device,
            group=workers.group,
            precision=workers.precision,
            batch=workers.batch,
            findings=len(table.findings),
        ),
        labels_NK=torch.from_numpy(table.labels_NK.astype(np.float32)).to(workers.on),
        loss=LOSSES[config.loss],
        first_weights=weights,
        prefix=prefix,
        coordination=_coordination(config, workers.group, stop, prefix),
        stop=stop,
        watchdog=workers.watchdog,
    )


def heartbeat_or_stop(run: Run, step: int, doing: str) -> None:
    """Call on all ranks after each batch outside training: resets the watchdog and stops if a rank received a signal.

    Raises: StopError, on all ranks.
    """
    run.watchdog.heartbeat(doing, timeout_scale=COMPILING)
    if run.coordination.after_step().stop:
        raise stopped(step)


def _labelled(config: TrainConfig, place: Place) -> Source:
    source = labelled(place)
    if config.classes:
        source.table.check_classes()
    return source


def _coordination(config: TrainConfig, group: WorkerGroup, stop: Stop, prefix: Prefix) -> Coordination:
    return Coordination(
        group,
        stop,
        ends_at_s=prefix.ends_at_s,
        checkpoint_every_s=60.0 * (config.checkpoint_every_minutes or math.inf),
        failed=lambda: prefix.has_failed,
    )


def _close_log_and_exit(log: RankLog) -> Callable[[int], object]:
    def leave(code: int) -> None:
        log.close()
        os._exit(code)

    return leave


def _device(config: TrainConfig, world: World) -> Device:
    """The device. The workers are not joined yet; a device that is missing is missing on all, so local rank 0 reports it."""
    try:
        return devices.find(config.device)
    except KnownError as problem:
        if world.is_local_rank0:
            raise
        raise PeerError(problem.exit_code) from problem


def _check_alike(group: WorkerGroup, identity: Mapping[str, Any]) -> None:
    """Refuse nodes with different data: their workers would take different numbers of steps, and wait for each other for ever."""
    seen = group.all_gather(json.dumps(identity, sort_keys=True).encode())
    odd = [rank for rank, mine in enumerate(seen) if mine != seen[0]]
    if odd:
        theirs, ours = json.loads(seen[odd[0]]), json.loads(seen[0])
        keys = ", ".join(key for key in ours if ours[key] != theirs.get(key))
        raise InputError(
            f"cannot train: rank {odd[0]} differs from rank 0 in {keys}",
            hint="all workers need the same flags, labels and images",
        )


def _check_and_write_record(
    prefix: Prefix, config: TrainConfig, identity: Mapping[str, Any], facts: Mapping[str, Any], table: LabelTable
) -> None:
    """Write run.json, when only training can still fail; before a resume, check that the images are the same."""
    if prefix.newest is not None:
        record.check_same(prefix.storage, identity)
    libraries = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    record.write(prefix.storage, config, identity, facts, libraries)
    prefix.storage.write(SPLIT, _split_csv(table))


def _first_weights(config: TrainConfig) -> StateDict | None:
    weights = config.weights
    if "://" in weights:
        weights = str(fetch_file(weights, _cache(config)))
    return first_weights(weights, config.model, _cache(config))


def _readable_rows(table: LabelTable, skipped: list[str]) -> dict[str, NDArray[np.int64]]:
    rows = rows_without(table, skipped)
    if len(rows["train"]) == 0:
        raise InputError(
            f"cannot train: none of the {len(table.rows('train')):,} training images can be read", hint="check --data"
        )
    return rows


def _place(config: TrainConfig) -> Place:
    return Place(
        data=config.data,
        layout=config.layout,
        split=config.split,
        val_list=config.val_list,
        geometry=Geometry(side=config.pack_side, fit=config.pack_fit),
        cache=_cache(config),
    )


def _cache(config: TrainConfig) -> Path:
    return Path(config.cache_dir or Path(config.output) / "cache")


def _split_csv(table: LabelTable) -> bytes:
    """Names of the images of each split: what later scoring must know of training."""
    rows = ((table.images[row], split) for split in SPLITS for row in table.rows(split).tolist())
    return gzip.compress("".join(map(line, [("Image Index", "split"), *rows])).encode(), mtime=0)
