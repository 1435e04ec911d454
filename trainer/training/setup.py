"""Sets up a run: joins the workers, reads the labels, claims the prefix, loads the weights, prepares the images; cheap checks first.

Labels, settings and weights are checked before images are decoded, and images before the first step.
"""

import gzip
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
import torch
import torchvision

from trainer import card_file, devices
from trainer.config import Mode, TrainConfig, parse_duration
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.loader import Loader, steps_per_epoch
from trainer.data.packs.unfinished import UnfinishedPack
from trainer.devices import Arithmetic, Device, inductor
from trainer.errors import KnownError, PeerError
from trainer.formats.documents import run_record
from trainer.formats.spreadsheet import line
from trainer.layout import SPLIT
from trainer.models.losses import LOSSES
from trainer.models.predictor import DistributedPredictor, centre_view
from trainer.runs import record
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.coordination import Coordination
from trainer.runtime.cores import usable_cores
from trainer.runtime.preemption import Stop
from trainer.runtime.process_group import WorkerGroup, join
from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.runtime.world import World
from trainer.storage.cache_folder import cache_folder
from trainer.training import preflight
from trainer.training.claim import Prefix, claim_run
from trainer.training.features import TASK, FrozenFeatures
from trainer.training.initial_state import LOADING, InitialState, load_initial_state
from trainer.training.label_weights import label_weights
from trainer.training.memory_format import FORMATS, format_to_use
from trainer.training.preflight import Preflight
from trainer.training.run import Run
from trainer.training.run_data import Images, Labels, cache_of, prepare_images, read_run_labels
from trainer.training.state import Training, begin

T = TypeVar("T")

JOINING_S: Final = 120.0
"""Time limit for joining workers that torchrun has started: after a restart with its static rendezvous they may have read
addresses of processes that no longer exist, and gloo would wait for ever."""


@dataclass(frozen=True)
class _Workers:
    """The workers of the run, joined, and what this one trains on."""

    group: WorkerGroup
    device: Device
    on: torch.device
    mode: Mode
    precision: Arithmetic
    watchdog: Watchdog
    batch: int
    """Images per step of this worker."""
    preflight: Preflight


@contextmanager
def opened(config: TrainConfig, world: World, reporter: Reporter, log: RankLog) -> Iterator[tuple[Run, Training]]:
    """The run and its training state, ready for the first step; all workers enter it together.

    Raises: KnownError on the worker that failed, PeerError on the others.
    """
    with ExitStack() as held:
        workers = _join_workers(config, world, reporter, log, held)
        labels = read_run_labels(
            config,
            workers.group,
            reporter,
            workers.watchdog,
            precision=workers.precision,
            global_batch=workers.batch * world.size,
        )
        added_bytes = 0 if labels.source.placement == "records" else len(labels.source.table) * config.pack_side**2
        preflight.check_disk(workers.preflight, config, workers.group, reporter.line, added_bytes=added_bytes)
        prefix = held.enter_context(
            claim_run(config, workers.group, reporter, log, cache=cache_of(config), identity=labels.identity)
        )
        yield _prepared(config, reporter, workers, labels, prefix)


def _prepared(
    config: TrainConfig, reporter: Reporter, workers: _Workers, labels: Labels, prefix: Prefix
) -> tuple[Run, Training]:
    """The weights first, as they may be refused; then the images."""
    group, watchdog, table = workers.group, workers.watchdog, labels.source.table
    memory_format = group.on_rank0(lambda: _memory_format(prefix, workers.device))
    initial = load_initial_state(config, group, reporter, watchdog, labels=labels, prefix=prefix)
    initial.network.to(workers.on).to(memory_format=FORMATS[memory_format])
    evaluator = _evaluator(config, workers, len(table.findings), FORMATS[memory_format])
    features = _features(table, initial, evaluator) if config.caches_features else None
    beside = None
    if features is not None and not _is_over(config, workers, table, initial):
        beside = _beside(features, config, reporter, watchdog)
    watchdog.pause()
    images = prepare_images(config, labels, group, reporter, watchdog, beside=beside)
    facts = _facts(workers, labels, images, memory_format)
    group.on_rank0(lambda: _check_and_write_record(prefix, config, images.identity, facts, table, report=reporter.line))
    preflight.note_nodes(workers.preflight, group, prefix.storage)
    watchdog.heartbeat(LOADING, timeout_scale=COMPILING)
    run = _assembled(
        config,
        reporter,
        workers,
        labels=labels,
        images=images,
        prefix=prefix,
        evaluator=evaluator,
        memory_format=FORMATS[memory_format],
    )
    return run, begin(run, initial, features)


def _features(table: LabelTable, initial: InitialState, evaluator: DistributedPredictor) -> FrozenFeatures:
    """Of all training and validation images: which of them are unreadable is not known yet."""
    return FrozenFeatures(initial.network, evaluator, np.concatenate([table.rows("train"), table.rows("val")]))


def _is_over(config: TrainConfig, workers: _Workers, table: LabelTable, initial: InitialState) -> bool:
    """Whether nothing is left to train, if all images are readable."""
    global_batch = workers.batch * workers.group.world.size
    steps = steps_per_epoch(len(table.rows("train")), global_batch) * config.epochs
    return initial.state is not None and initial.state.step >= min(steps, config.max_steps or steps)


def _beside(
    features: FrozenFeatures, config: TrainConfig, reporter: Reporter, watchdog: Watchdog
) -> Callable[[UnfinishedPack], None]:
    """What the first worker of a node does while its images are decoded."""

    def compute(records: UnfinishedPack) -> None:
        with watchdog.progress(reporter.progress, f"decoding, {TASK}", len(features.share_of_node)) as advance:
            features.compute_beside(records, lambda: advance(1, ""), skips_unreadable=config.on_bad_image == "skip")

    return compute


def _facts(workers: _Workers, labels: Labels, images: Images, memory_format: str) -> dict[str, Any]:
    """For run.json."""
    return {
        "world_size": workers.group.world.size,
        "device": workers.device.name,
        workers.device.mode_fact: workers.mode,
        "memory_format": memory_format,
        "threads_per_worker": torch.get_num_threads(),
        "layout": labels.source.layout,
        "images": len(labels.source.table),
        **labels.facts,
        **images.facts,
    }


def _join_workers(config: TrainConfig, world: World, reporter: Reporter, log: RankLog, held: ExitStack) -> _Workers:
    """Open the device and join the other workers, under the watchdog."""
    device, mode = _once_per_node(world, lambda: _device(config, world))
    checks = preflight.begin(config, world, device)
    on = device.open(world.local_rank, world.local_size)
    precision = _once_per_node(world, lambda: devices.arithmetic(device, config.precision))
    watchdog = Watchdog(
        parse_duration(config.hang_after, "--hang-after"), reporter.line, leave=_close_log_and_exit(log)
    )
    held.enter_context(watchdog.watching())
    watchdog.heartbeat("joining the other workers", timeout_scale=COMPILING, most_s=JOINING_S)
    group = held.enter_context(join(world, device.backend))
    preflight.check_workers(checks, group, device, on, lambda doing: watchdog.heartbeat(doing, timeout_scale=COMPILING))
    watchdog.pause()
    return _Workers(
        group=group,
        device=device,
        on=on,
        mode=mode,
        precision=precision,
        watchdog=watchdog,
        batch=group.all_or_raise(lambda: config.batch_per_worker(world.size)),
        preflight=checks,
    )


def _assembled(
    config: TrainConfig,
    reporter: Reporter,
    workers: _Workers,
    *,
    labels: Labels,
    images: Images,
    prefix: Prefix,
    evaluator: DistributedPredictor,
    memory_format: torch.memory_format,
) -> Run:
    table, stop = labels.source.table, Stop()
    return Run(
        config=config,
        group=workers.group,
        device=workers.device,
        on=workers.on,
        mode=workers.mode,
        precision=workers.precision,
        memory_format=memory_format,
        reporter=reporter,
        source=labels.source,
        rows=images.rows,
        pack=images.pack,
        loader=Loader(images.pack, workers.device, workers.batch),
        evaluator=evaluator,
        labels_NK=torch.from_numpy(np.nan_to_num(table.labels_NK)).to(workers.on),
        label_weights=label_weights(
            table,
            images.rows["train"],
            seed=config.seed,
            global_batch=workers.batch * workers.group.world.size,
            world=workers.group.world.size,
            on=workers.on,
        ),
        loss=LOSSES[config.loss],
        prefix=prefix,
        coordination=_coordination(config, workers.group, stop, prefix),
        stop=stop,
        watchdog=workers.watchdog,
        positive_class=labels.identity.get("positive_class"),
    )


def _evaluator(
    config: TrainConfig, workers: _Workers, findings: int, memory_format: torch.memory_format
) -> DistributedPredictor:
    return DistributedPredictor(
        view=partial(centre_view, crop_px=config.crop_px, memory_format=memory_format),
        device=workers.device,
        group=workers.group,
        precision=workers.precision,
        batch=workers.batch,
        findings=findings,
        mode=workers.mode,
    )


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


def _device(config: TrainConfig, world: World) -> tuple[Device, Mode]:
    """The device and its mode, with a place for compiled code."""
    device = devices.find(config.device)
    mode = devices.training_mode(device, config)
    if mode == "compile":
        inductor.keep_files_in(cache_folder(cache_of(config), "compiled"), usable_cores() // world.local_size)
    return device, mode


def _memory_format(prefix: Prefix, device: Device) -> str:
    """Name of the memory format that this start trains in."""
    return format_to_use(None if prefix.newest is None else run_record(prefix.storage), device)


def _once_per_node(world: World, act: Callable[[], T]) -> T:
    """The result of an act that fails for all workers of a node alike, before they are joined: then only local rank 0 reports it."""
    try:
        return act()
    except KnownError as problem:
        if world.is_local_rank0:
            raise
        raise PeerError(problem.exit_code) from problem


def _check_and_write_record(
    prefix: Prefix,
    config: TrainConfig,
    identity: Mapping[str, Any],
    facts: Mapping[str, Any],
    table: LabelTable,
    *,
    report: Callable[[str], None],
) -> None:
    """Write run.json, when only training can still fail; before a resume, check that the images are the same."""
    stated = {} if config.card is None else card_file.parsed(config.card)
    if prefix.newest is not None:
        record.check_same(prefix.storage, identity)
        note = record.mode_change(run_record(prefix.storage), facts)
        if note:
            report(note)
        if config.card is None:
            stated = card_file.stated_fields(run_record(prefix.storage))
    facts = {**facts, "card": stated, **record.parity_facts(prefix.storage, identity)}
    libraries = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    record.write(prefix.storage, config, identity, facts, libraries)
    prefix.storage.write(SPLIT, _split_csv(table))


def _split_csv(table: LabelTable) -> bytes:
    """Names of the images of each split: what later scoring must know of training."""
    rows = ((table.images[row], split) for split in SPLITS for row in table.rows(split).tolist())
    return gzip.compress("".join(map(line, [("Image Index", "split"), *rows])).encode(), mtime=0)
