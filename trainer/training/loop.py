"""Training: one epoch, the whole run. Start reading with `train` at the end.

Shapes: N images, C channels, H x W pixels, K findings.
"""

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from trainer.config import MIN_CROP_PX, TrainConfig
from trainer.data.loader import Rows, training_batches, training_order
from trainer.errors import InputError, JobFailedError, KnownError, PeerError, TimeLimitError
from trainer.evaluation.scores import LOG_ODDS, Scores, null_if_nan, score
from trainer.layout import METRICS
from trainer.runs import history
from trainer.runs.attempts import deadline_over
from trainer.runs.checkpoints import Scored
from trainer.runs.rank_log import RankLog
from trainer.runs.tensorboard import of_epoch
from trainer.runtime.console import Reporter
from trainer.runtime.coordination import ControlFlags
from trainer.runtime.failure_report import note_step
from trainer.runtime.preemption import StopError, stopped
from trainer.runtime.progress import Advance
from trainer.runtime.torch_errors import translated_torch_errors
from trainer.runtime.watchdog import COMPILING
from trainer.runtime.world import World
from trainer.training.fallbacks import Fallbacks
from trainer.training.feed import of_features
from trainer.training.final_scoring import FINAL_S, SCORING, Results, finish, flush
from trainer.training.parity import check_parity
from trainer.training.run import Run, predicting, why_not_compiled
from trainer.training.setup import opened
from trainer.training.state import LOWER_RATE, Training, averaged_state, prepare_epoch, ranks_of, snapshot
from trainer.training.step import set_rate, train_step
from trainer.training.step_inputs import EpochInputs
from trainer.training.throughput import WARMING_UP_STEPS, Meter

FAILED_S: Final = 12.0
"""How long a run that has failed permanently waits for a bucket: its peers wait for its error message."""


@dataclass(frozen=True)
class EpochResult:
    """Result of an epoch, or of the part trained in this attempt."""

    images_per_s: float = float("nan")
    """Over all workers."""
    data_wait_share: float = 0.0
    """Share of this rank's time spent waiting for data."""
    utilisation: float | None = None
    """Mean utilisation of this rank's device; None where it is not reported."""
    peak_memory_bytes: int | None = None
    """Of this rank's tensors; None where it is not reported."""
    flags: ControlFlags = field(default_factory=ControlFlags)
    """Requests after its last step."""
    seconds: float = 0.0
    """Duration including validation."""


def train_epoch(run: Run, training: Training, advance: Advance) -> EpochResult:
    """Train to the end of the epoch or the run, or until a worker requests a stop; saves checkpoints that are due.

    Raises: JobFailedError for a non-finite gradient; all ranks raise it at the same step.
    """
    epoch, first_step = divmod(training.step, run.steps_per_epoch)
    batches = _batches_of(run, epoch, first_step)[: run.last_step - training.step]
    if first_step == 0:
        training.loss_sum.zero_()
    run.watchdog.heartbeat("preparing an epoch", timeout_scale=COMPILING)  # the first epoch synchronises all devices
    run.device.reset_peak_memory()
    compiles = prepare_epoch(run, training, epoch)
    inputs = _inputs_of(run, training, epoch, batches)
    meter = Meter(training.feed.loader, run.global_batch, compiles=compiles)
    finite, fallbacks = _NonFiniteGuard(run.on, training.step), Fallbacks(run)
    words, flags = "", ControlFlags()
    for number, batch in enumerate(training.feed.loader.batches(batches), start=1):
        run.watchdog.heartbeat(
            f"step {training.step + 1}", timeout_scale=COMPILING if number <= WARMING_UP_STEPS else 1.0
        )
        set_rate(run, training)
        result = train_step(run, training, batch, inputs.of(number - 1))
        training.loss_sum += result.loss
        training.step += 1
        note_step(training.step)
        finite.note(result.grad_norm)
        profiled = training.profiler.after_step()
        fallbacks.after_step(number)
        meter.count(number, measured=not profiled)
        ends = number == len(batches)
        if training.step % run.config.log_every_steps == 0 or ends:
            run.group.all_or_raise(finite.check)
            words = _log(run, training, result.loss, meter)
        advance(1, words)
        flags = run.coordination.after_step()
        if flags.end:
            run.group.all_or_raise(finite.check)
            break
        if not ends and (flags.checkpoint or _is_due(run.config, training.step)):
            run.group.all_or_raise(finite.check)
            take_checkpoint(run, training)
    training.profiler.end()
    fallbacks.report()
    return EpochResult(
        images_per_s=meter.images_per_s(),
        data_wait_share=meter.data_wait_share(),
        utilisation=meter.utilisation(),
        peak_memory_bytes=run.device.peak_memory_bytes(),
        flags=flags,
    )


def _batches_of(run: Run, epoch: int, first_step: int) -> list[Rows]:
    """This rank's samples of the epoch's steps from `first_step` on."""
    world = run.group.world
    order = training_order(run.rows["train"], seed=run.config.seed, epoch=epoch, global_batch=run.global_batch)
    return training_batches(order, rank=world.rank, world=world.size, first_step=first_step)


def _inputs_of(run: Run, training: Training, epoch: int, batches: list[Rows]) -> EpochInputs:
    """What the steps of these batches need beside images, on the device."""
    if run.label_weights is not None:
        run.label_weights.of_steps(epoch)  # copied now, not in a step
    return EpochInputs(batches, epoch, training.feed.draws, run.on)


def _log(run: Run, training: Training, device_loss: Tensor, meter: Meter) -> str:
    """Record this step's loss, which waits for the device; returns a short status text."""
    loss = device_loss.item()
    meter.note_utilisation(run.device.utilisation())
    if run.is_rank0:
        training.curves.add(training.step, {"train/loss": loss, "train/lr": training.optimizer.param_groups[0]["lr"]})
    epoch = (training.step - 1) // run.steps_per_epoch
    rate = meter.images_per_s()
    words = f"epoch {epoch + 1}/{run.config.epochs} loss {loss:.4f}"
    return words if math.isnan(rate) else f"{words} {rate:.1f} images/s"


def _is_due(config: TrainConfig, step: int) -> bool:
    return config.checkpoint_every_steps is not None and step % config.checkpoint_every_steps == 0


class _NonFiniteGuard:
    """The first step with a non-finite gradient, tracked on the device without synchronising."""

    def __init__(self, on: torch.device, step: int) -> None:
        self._step = torch.full((), step, dtype=torch.int64, device=on)
        self._bad_step = torch.zeros((), dtype=torch.int64, device=on)

    def note(self, grad_norm: Tensor) -> None:
        """Check the next step's norm; always the same operations, so that a compiling device compiles them once."""
        self._step += 1
        is_first = ~grad_norm.isfinite() & (self._bad_step == 0)
        self._bad_step = torch.where(is_first, self._step, self._bad_step)

    def check(self) -> None:
        """Raises: JobFailedError with the step."""
        step = int(self._bad_step.item())
        if step:
            raise JobFailedError(f"cannot continue training: non-finite gradient at step {step}", hint=LOWER_RATE)


def validate(run: Run, training: Training) -> Scores | None:
    """Scores of the averaged network on the validation images, None without any; on all ranks."""
    rows = run.rows["val"]
    if len(rows) == 0:
        return None
    part = training.feed.part(training.eval_network)
    with predicting(run, len(rows), training.step, f"{SCORING} val") as after_batch:
        logits_NK = training.feed.evaluator.predict(part, training.feed.loader, rows, after_batch)
    log_odds_NK = LOG_ODDS[run.config.loss](logits_NK)
    return score(
        log_odds_NK,
        run.table.labels_NK[rows],
        run.table.patients_N[rows],
        run.table.findings,
        classes=run.config.classes,
    )


def fit(run: Run, training: Training) -> list[history.Entry]:
    """Train to the last step, with a checkpoint and validation after each epoch and checkpoints in between as configured; returns
    the history.

    Raises: on all ranks at the same step StopError after SIGTERM, TimeLimitError at the deadline.
    """
    entries = run.group.on_rank0(lambda: history.read(run.prefix.storage, training.step))
    result, since_s = EpochResult(), time.perf_counter()
    if _has_work(run, training) and training.features is not None:
        training.feed, training.features = of_features(run, training.features, training.step), None
    with run.reporter.progress("training", run.last_step - training.step) as advance:
        while _has_work(run, training):
            if training.recorded_step == training.step:
                result = train_epoch(run, training, advance)
                if training.saved_step != training.step:
                    take_checkpoint(run, training)
                _end_if_requested(run, training.step, result.flags)
            scores = validate(run, training) if training.step % run.steps_per_epoch == 0 else None
            if scores is not None:
                training.plateau = training.plateau.after_epoch(scores.loss)
            training.recorded_step = training.step
            result = replace(result, seconds=time.perf_counter() - since_s)
            entries = _note_epoch(run, training, result, scores, entries)
            since_s += result.seconds
    training.profiler.report_missing()
    counters = sorted(run.device.counters().items()) if run.is_rank0 else []
    for name, number in counters:
        run.reporter.line(f"{run.device.name} counted in this start: {name} {number}")
    return entries


def _has_work(run: Run, training: Training) -> bool:
    return training.step < run.last_step or training.recorded_step != training.step


def _end_if_requested(run: Run, step: int, flags: ControlFlags) -> None:
    if flags.failure:
        run.group.on_rank0(run.prefix.check)
    if flags.stop:
        raise stopped(step)
    if flags.deadline and step < run.last_step:
        raise deadline_over(run.config, step)


def take_checkpoint(run: Run, training: Training) -> None:
    """Take a snapshot of all ranks; rank 0 writes it in the background. Collective: all ranks call it."""
    run.watchdog.heartbeat("taking a checkpoint", timeout_scale=COMPILING)
    start_s = time.perf_counter()
    ranks = ranks_of(run, training)
    model_state = averaged_state(run, training, ranks)
    if run.is_rank0:
        _write_curves(run, training)  # first: a run that resumes from the state does not write them again
        run.prefix.writer.queue_state(snapshot(training, ranks, model_state), training.step / run.steps_per_epoch)
    if training.step % run.steps_per_epoch == 0:
        training.eval_network.load_state_dict(model_state)
    training.saved_step = training.step
    training.snapshots_s.append(time.perf_counter() - start_s)
    run.coordination.saved()


def _write_curves(run: Run, training: Training) -> None:
    file = training.curves.take()
    if file is not None:
        run.prefix.writer.queue_file(*file)


def _note_epoch(
    run: Run, training: Training, result: EpochResult, scores: Scores | None, entries: list[history.Entry]
) -> list[history.Entry]:
    """Log the epoch's result and write it with the validation scores; returns all entries so far."""
    steps = (training.step - 1) % run.steps_per_epoch + 1
    train_loss = float(run.group.mean(training.loss_sum.cpu()[None] / steps))
    entry: dict[str, Any] = {
        "step": training.step,
        "epoch": round(training.step / run.steps_per_epoch, 4),
        "train_loss": train_loss,
        "images_per_s": null_if_nan(result.images_per_s),
        "data_wait_share": result.data_wait_share,
        "seconds": round(result.seconds, 3),
        "utilisation": result.utilisation,
        "peak_memory_bytes": result.peak_memory_bytes,
        "snapshot_ms": round(1e3 * max(training.snapshots_s, default=0.0), 1),
        "val": scores.as_json() if scores else None,
    }
    counters = run.device.counters()
    if counters:
        entry["device_counters"] = dict(counters)
    training.snapshots_s.clear()
    entries = history.with_entry(entries, entry)
    if run.is_rank0:
        training.curves.add(training.step, of_epoch(entry))
        _write_curves(run, training)
        run.prefix.writer.queue_file(METRICS, history.to_bytes(entries))
        if training.step % run.steps_per_epoch == 0:
            scored = Scored(null_if_nan(scores.mean_auroc), null_if_nan(scores.loss)) if scores else Scored(None, None)
            run.prefix.writer.queue_scores(training.step, scored)
        run.reporter.line(_in_words(entry, scores, result))
    return entries


def _in_words(entry: history.Entry, scores: Scores | None, result: EpochResult) -> str:
    words = f"epoch={entry['epoch']:g} step={entry['step']} train_loss={entry['train_loss']:.4f}"
    if scores:
        words += f" val_loss={scores.loss:.4f} val_auroc={scores.mean_auroc:.4f}"
        words += f" val_accuracy={scores.accuracy['value']:.4f}" if scores.accuracy else ""
    words += f" images_per_s={result.images_per_s:.1f} data_wait={result.data_wait_share:.1%}"
    return (
        words if result.peak_memory_bytes is None else f"{words} peak_memory={result.peak_memory_bytes / 2**30:.2f}GiB"
    )


def _save_and_raise(run: Run, end: StopError | TimeLimitError) -> None:
    """Commit the training progress, then raise `end`."""
    flush(run, FINAL_S if isinstance(end, TimeLimitError) else run.stop.left_s())
    raise end


def out_of_memory(config: TrainConfig, world: World, words: str) -> InputError:
    """The error when a batch does not fit into memory, with the flags to lower."""
    images = config.batch_per_worker(world.size)
    half = f"--batch-size {images // 2}" if config.batch_size else f"--global-batch-size {images // 2 * world.size}"
    flags = [half] if images > 1 else []
    if config.model.startswith("densenet") and not config.recomputes:
        flags.append("--activation-memory low")
    if config.precision == "fp32":
        flags.append("--precision bf16")
    if config.crop_px > MIN_CROP_PX:
        flags.append(f"a --crop-px below {config.crop_px}")
    return InputError(
        f"cannot train on {images} images of {config.crop_px} x {config.crop_px} pixels per worker and step: out of memory ({words})",
        hint=f"use one or more of {', '.join(flags)}" if flags else "use a device or a pod with more memory",
    )


def train(config: TrainConfig, world: World, reporter: Reporter, log: RankLog) -> Results:
    """A whole run: prepare, train, evaluate the best checkpoint. All workers call it.

    Raises: KnownError.
    """
    with (
        translated_torch_errors(partial(out_of_memory, config, world)),
        opened(config, world, reporter, log) as (run, training),
    ):
        if run.is_rank0:
            images = f"{len(run.rows['train']):,} images, {run.steps_per_epoch} steps per epoch, global batch {run.global_batch}"
            reporter.line(f"training on {world.size} x {run.executed_on} ({run.device.hardware()}): {images}")
            reason = why_not_compiled(run)
            if reason is not None:
                reporter.line(f"training without torch.compile: {reason}")
            if run.positive_class is not None:
                reporter.line(f"the positive class is `{run.positive_class}`: sensitivity and specificity are of it")
            if config.backbone == "frozen" and config.weights == "none":
                reporter.line("the backbone is frozen with random weights: its features are untrained")
        note_step(training.step)
        check_parity(run, training)
        with run.stop.listening(), run.prefix.writer.running():
            try:
                return finish(run, training, fit(run, training))
            except (StopError, TimeLimitError) as problem:
                end = problem
            except (JobFailedError, PeerError):
                run.watchdog.pause()
                with suppress(KnownError):  # keep earlier progress; the original error matters more
                    flush(run, FAILED_S)
                raise
            run.watchdog.pause()
            run.group.on_rank0(lambda: _save_and_raise(run, end))
            raise end
