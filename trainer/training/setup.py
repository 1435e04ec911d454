"""Sets up a run: joins the workers, reads the labels, claims the prefix, prepares the images; cheap checks first.

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
from numpy.typing import NDArray
from torch import Tensor

from trainer import card_file, devices
from trainer.config import Mode, TrainConfig, parse_duration
from trainer.data.download import fetch_file
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import Source
from trainer.data.loader import Loader, steps_per_epoch
from trainer.data.packs.reading import Pack
from trainer.devices import Arithmetic, Device, inductor
from trainer.errors import KnownError, PeerError
from trainer.formats.documents import run_record
from trainer.formats.spreadsheet import line
from trainer.layout import SPLIT
from trainer.models.architectures import StateDict
from trainer.models.losses import LOSSES, Loss
from trainer.models.predictor import DistributedPredictor, centre_view
from trainer.models.pretrained import check_first_weights, first_weights
from trainer.runs import record
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.coordination import Coordination
from trainer.runtime.cores import usable_cores
from trainer.runtime.preemption import Stop, stopped
from trainer.runtime.process_group import WorkerGroup, join
from trainer.runtime.progress import BYTES, USUALLY_FEW
from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.runtime.world import World
from trainer.storage.cache_folder import cache_folder
from trainer.training import preflight
from trainer.training.claim import Prefix, claim_run
from trainer.training.label_weights import LabelWeights, label_weights
from trainer.training.memory_format import FORMATS, format_to_use
from trainer.training.preflight import Preflight
from trainer.training.run_data import Images, Labels, cache_of, prepare_images, read_run_labels

T = TypeVar("T")

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
    mode: Mode
    """Mode of the device."""
    precision: Arithmetic
    memory_format: torch.memory_format
    """Of the network and its input; of a run that resumes, the one it began with."""
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
    """float32, on the device; 0 where unknown."""
    label_weights: LabelWeights | None
    """Weights of labels in the loss; None where all training labels are known."""
    loss: Loss
    """Of logits and labels, both [N, K], and weights of the labels where some are unknown."""
    first_weights: StateDict | None
    """Initial weights; on rank 0 only."""
    prefix: Prefix
    """Prefix of the run, and the state that earlier attempts left there."""
    coordination: Coordination
    stop: Stop
    watchdog: Watchdog
    positive_class: str | None
    """Of a single-label model; None for independent findings."""

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
    def executed_on(self) -> str:
        """Device, mode and precision in words."""
        return f"{devices.in_mode(self.device, self.mode)} in {self.precision}"

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
    mode: Mode
    precision: Arithmetic
    watchdog: Watchdog
    batch: int
    """Images per step of this worker."""
    preflight: Preflight


@contextmanager
def opened(config: TrainConfig, world: World, reporter: Reporter, log: RankLog) -> Iterator[Run]:
    """The run, ready for its first step; all workers enter it together.

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
        is_new = prefix.newest is None and world.is_rank0
        weights = workers.group.all_or_raise(lambda: _first_weights(config, labels, reporter) if is_new else None)
        memory_format = workers.group.on_rank0(lambda: _memory_format(prefix, workers.device))
        images = prepare_images(config, labels, workers.group, reporter, workers.watchdog)
        facts = {
            "world_size": world.size,
            "device": workers.device.name,
            workers.device.mode_fact: workers.mode,
            "memory_format": memory_format,
            "threads_per_worker": torch.get_num_threads(),
            "layout": labels.source.layout,
            "images": len(labels.source.table),
            **labels.facts,
            **images.facts,
        }
        workers.group.on_rank0(
            lambda: _check_and_write_record(
                prefix, config, images.identity, facts, labels.source.table, report=reporter.line
            )
        )
        preflight.note_nodes(workers.preflight, workers.group, prefix.storage)
        yield _assembled(
            config,
            reporter,
            workers=workers,
            labels=labels,
            images=images,
            prefix=prefix,
            weights=weights,
            memory_format=FORMATS[memory_format],
        )


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
    *,
    workers: _Workers,
    labels: Labels,
    images: Images,
    prefix: Prefix,
    weights: StateDict | None,
    memory_format: torch.memory_format,
) -> Run:
    device, table = workers.device, labels.source.table
    loader, stop = Loader(images.pack, device, workers.batch), Stop()
    return Run(
        config=config,
        group=workers.group,
        device=device,
        on=workers.on,
        mode=workers.mode,
        precision=workers.precision,
        memory_format=memory_format,
        reporter=reporter,
        source=labels.source,
        rows=images.rows,
        pack=images.pack,
        loader=loader,
        evaluator=DistributedPredictor(
            loader=loader,
            view=partial(centre_view, crop_px=config.crop_px, memory_format=memory_format),
            device=device,
            group=workers.group,
            precision=workers.precision,
            batch=workers.batch,
            findings=len(table.findings),
            mode=workers.mode,
        ),
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
        first_weights=weights,
        prefix=prefix,
        coordination=_coordination(config, workers.group, stop, prefix),
        stop=stop,
        watchdog=workers.watchdog,
        positive_class=labels.identity.get("positive_class"),
    )


def why_not_compiled(run: Run) -> str | None:
    """Why `--compile auto` does not compile on a device that gains by it; None where it does, or gains nothing."""
    config = run.config
    if config.compile != "auto" or run.mode == "compile":
        return None
    if config.recomputes and run.device.choose_mode(config.gaudi_mode, "auto") == "compile":
        return "what `--activation-memory low` computes again is not compiled"
    return run.device.cannot_compile()


@contextmanager
def predicting(run: Run, images: int, step: int, doing: str) -> Iterator[Callable[[], None]]:
    """Progress of predictions for this many images; yields a function to call on all ranks after each batch.

    It resets the watchdog and stops if a rank received a signal. Raises: StopError, on all ranks.
    """
    batches = -(-images // (run.evaluator.batch * run.group.world.size))
    with run.reporter.progress(doing, batches, USUALLY_FEW) as advance:

        def after_batch() -> None:
            advance(1, "batches")
            heartbeat_or_stop(run, step, doing)

        yield after_batch


def heartbeat_or_stop(run: Run, step: int, doing: str) -> None:
    """Call on all ranks after each batch outside training: resets the watchdog and stops if a rank received a signal.

    Raises: StopError, on all ranks.
    """
    run.watchdog.heartbeat(doing, timeout_scale=COMPILING)
    if run.coordination.after_step().stop:
        raise stopped(step)


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


def _first_weights(config: TrainConfig, labels: Labels, reporter: Reporter) -> StateDict | None:
    """The initial weights, checked against the network before images are decoded."""
    weights, findings = config.weights, labels.source.table.findings
    if "://" in weights:
        shown = partial(reporter.progress, "downloading weights", unit=BYTES)
        weights = str(fetch_file(weights, cache_of(config), shown))
    state = first_weights(
        weights,
        config.model,
        cache_of(config),
        findings=findings,
        all_findings=labels.all_findings,
        report=reporter.line,
    )
    if state is None:
        return None
    has_head = check_first_weights(config.model, config.head, len(findings), state, config.weights)
    if not has_head and weights != "imagenet":
        reporter.line(
            f"the backbone is from `{config.weights}`; it has no head for these {len(findings)} outputs, which starts untrained"
        )
    return state


def _split_csv(table: LabelTable) -> bytes:
    """Names of the images of each split: what later scoring must know of training."""
    rows = ((table.images[row], split) for split in SPLITS for row in table.rows(split).tolist())
    return gzip.compress("".join(map(line, [("Image Index", "split"), *rows])).encode(), mtime=0)
