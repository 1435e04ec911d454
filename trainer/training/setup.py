"""From flags to everything a run needs: data, device and peers, checked in order of what it costs to find out.

Labels, settings and weights come before images are decoded, and images before the first step.
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
from trainer.formats.spreadsheet import line
from trainer.layout import SPLIT
from trainer.models.architectures import LOSSES, Loss, StateDict
from trainer.models.predictor import Evaluator, centre_view
from trainer.models.pretrained import first_weights
from trainer.runs import record
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.coordination import Coordination
from trainer.runtime.preemption import Stop, stopped
from trainer.runtime.process_group import WorkerGroup, join
from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.runtime.world import World
from trainer.training.restore import Prefix, claim_run

JOINING_S: Final = 120.0
"""Longest wait for workers that torchrun has brought together already: after a restart under its static rendezvous they may have
read the addresses of those that are gone, and gloo would wait for ever."""


@dataclass(frozen=True)
class Run:
    """Everything a run needs that does not change while it trains."""

    config: TrainConfig
    group: WorkerGroup
    device: Device
    on: torch.device
    precision: Arithmetic
    reporter: Reporter
    source: Source
    """The data set's labels, and where they were read."""
    rows: Mapping[str, NDArray[np.int64]]
    """Samples of each split, without images that can't be read."""
    pack: Pack
    """The images."""
    loader: Loader
    evaluator: Evaluator
    labels_NK: Tensor
    """float32, on the device."""
    loss: Loss
    """Of logits and labels, both [N, K]."""
    first_weights: StateDict | None
    """What to start from; on the primary only."""
    prefix: Prefix
    """Where the run lies, and what earlier starts have left there."""
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


@contextmanager
def opened(config: TrainConfig, world: World, reporter: Reporter, log: RankLog) -> Iterator[Run]:
    """The run, ready for its first step; all workers enter it together.

    Raises: KnownError on the worker that met it, PeerError on the others.
    """
    device = _device(config, world)
    on = device.open(world.local_rank, world.local_size)
    precision = device.native_precision if config.precision == "auto" else config.precision
    watchdog = Watchdog(parse_duration(config.hang_after, "--hang-after"), reporter.line, leave=_leaving(log))
    with ExitStack() as held:
        held.enter_context(watchdog.watching())
        watchdog.heartbeat("joining the other workers", timeout_scale=COMPILING, most_s=JOINING_S)
        group = held.enter_context(join(world, device.backend))
        watchdog.pause()
        batch = group.all_or_raise(lambda: config.batch_per_worker(world.size))
        place = _place(config)
        group.on_local_rank0(lambda: fetched(place, reporter, watchdog))
        watchdog.pause()
        source = group.all_or_raise(lambda: _labelled(config, place))
        identity = record.describe(config, source.table, precision=precision, global_batch=batch * world.size)
        prefix = held.enter_context(claim_run(config, group, reporter, log, cache=_cache(config), identity=identity))
        fresh = prefix.newest is None and world.is_rank0
        weights = group.all_or_raise(lambda: _first_weights(config) if fresh else None)
        pack = decoded(place, source, group, reporter, watchdog)
        watchdog.pause()
        skipped = group.all_or_raise(lambda: left_out(place, pack, config.on_bad_image))
        identity |= {"pack_sha256": pack.sha256, "skipped": skipped}
        group.all_or_raise(lambda: _check_alike(group, identity))
        rows = group.all_or_raise(lambda: _training_rows(source.table, skipped))
        facts = {"world_size": world.size, "device": device.name, "layout": source.layout, "images": len(source.table)}
        group.on_rank0(lambda: _start_record(prefix, config, identity, facts, source.table))
        loader, stop = Loader(pack, device, batch), Stop()
        yield Run(
            config=config,
            group=group,
            device=device,
            on=on,
            precision=precision,
            reporter=reporter,
            source=source,
            rows=rows,
            pack=pack,
            loader=loader,
            evaluator=Evaluator(
                loader=loader,
                view=partial(centre_view, crop_px=config.crop_px, memory_format=device.memory_format),
                device=device,
                group=group,
                precision=precision,
                batch=batch,
                findings=len(source.table.findings),
            ),
            labels_NK=torch.from_numpy(source.table.labels_NK.astype(np.float32)).to(on),
            loss=LOSSES[config.loss],
            first_weights=weights,
            prefix=prefix,
            coordination=_coordination(config, group, stop, prefix),
            stop=stop,
            watchdog=watchdog,
        )


def between_batches(run: Run, step: int, doing: str) -> None:
    """What is done after each batch of what is no training: the watchdog is told, and a wish to stop obeyed. All ranks call it.

    Raises: StopError on all ranks when one was told to stop.
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


def _leaving(log: RankLog) -> Callable[[int], object]:
    def leave(code: int) -> None:
        log.close()
        os._exit(code)

    return leave


def _device(config: TrainConfig, world: World) -> Device:
    """The device, before there is a gang to agree in: it is missing on all workers alike, so the first of a node tells."""
    try:
        return devices.find(config.device)
    except KnownError as problem:
        if world.is_local_rank0:
            raise
        raise PeerError(problem.exit_code) from problem


def _check_alike(group: WorkerGroup, identity: Mapping[str, Any]) -> None:
    """Refuse nodes that see different data: their workers would take different numbers of steps, and wait for ever."""
    seen = group.all_gather(json.dumps(identity, sort_keys=True).encode())
    odd = [rank for rank, mine in enumerate(seen) if mine != seen[0]]
    if odd:
        theirs, ours = json.loads(seen[odd[0]]), json.loads(seen[0])
        keys = ", ".join(key for key in ours if ours[key] != theirs.get(key))
        raise InputError(
            f"cannot train: rank {odd[0]} sees another data set than rank 0, different are {keys}",
            hint="all nodes must read the same labels and images",
        )


def _start_record(
    prefix: Prefix, config: TrainConfig, identity: Mapping[str, Any], facts: Mapping[str, Any], table: LabelTable
) -> None:
    """Write what the run is, once nothing but training can fail any more; first check that the images are the same."""
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


def _training_rows(table: LabelTable, skipped: list[str]) -> dict[str, NDArray[np.int64]]:
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
