"""Training: one step, one epoch, the whole run. Read it from `train` at the end upwards.

Shapes: N images, C channels, H x W pixels, K findings.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from trainer import checkpoint, history
from trainer.checkpoint import BrokenError, Scored
from trainer.config import TrainConfig
from trainer.console import Advance, Reporter
from trainer.data.augment import training_view
from trainer.data.loader import Batch, training_batches, training_order
from trainer.errors import InputError, JobFailedError, KnownError, PeerError, TimeLimitError
from trainer.failures import failures_named
from trainer.layout import METRICS, MODEL, RESULTS, predictions_key, state_key
from trainer.manifests import Manifest, best, committed
from trainer.meter import WARMING_UP_STEPS, Meter
from trainer.model import StateDict, finding_loss
from trainer.pulse import Wishes
from trainer.ranklog import RankLog
from trainer.run import Run, opened
from trainer.schedule import rate_factor
from trainer.scoring import Scores, null_if_nan, predictions_csv, score
from trainer.starts import deadline_over
from trainer.stop import StopError, stopped
from trainer.training import LOWER_RATE, Training, averaged_state, begin, ranks_of, snapshot
from trainer.watchdog import COMPILING
from trainer.world import World

FINAL_S: Final = 600.0
"""How long the end of a run waits for a bucket that does not take its last checkpoint."""

FAILED_S: Final = 12.0
"""The same for a run that has failed for good: its peers wait for the one that says why."""


@dataclass(frozen=True)
class StepResult:
    """Loss and gradient norm of one step, still on the device: reading them is the caller's choice of when to wait."""

    loss: Tensor
    grad_norm: Tensor


@dataclass(frozen=True)
class EpochResult:
    """How an epoch, or the part of it that this start trained, went."""

    images_per_s: float = float("nan")
    """Over all workers."""
    data_wait_share: float = 0.0
    """Share of this rank's time spent waiting for data."""
    wishes: Wishes = field(default_factory=Wishes)
    """What was wanted after its last step."""


@dataclass(frozen=True)
class Results:
    """What a run has come to."""

    step: int
    """The checkpoint that was scored: the best."""
    checkpoint: str
    results: str
    scores: Mapping[str, Scores]
    """By split; a split without images is not there."""


def train_step(run: Run, training: Training, batch: Batch, epoch: int) -> StepResult:
    """Take one optimiser step on this rank's part of the batch."""
    config = run.config
    view_NCHW = training_view(
        batch.x_N1SS,
        batch.samples_N,
        seed=config.seed,
        epoch=epoch,
        crop=config.crop,
        crop_px=config.crop_px,
        flip=config.flip,
        rotate=config.rotate,
    )
    y_NK = run.labels_NK[torch.from_numpy(batch.samples_N).to(run.on)]
    with run.device.autocast(run.precision):
        logits_NK = training.parallel(view_NCHW.contiguous(memory_format=run.device.memory_format))
    loss = finding_loss(logits_NK.float(), y_NK)
    loss.backward()
    run.device.flush()
    grad_norm = clip_grad_norm_(training.network.parameters(), config.clip_norm)
    training.optimizer.step()
    run.device.flush()
    training.optimizer.zero_grad(set_to_none=True)
    return StepResult(loss.detach(), grad_norm)


def train_epoch(run: Run, training: Training, advance: Advance) -> EpochResult:
    """Train to the end of the epoch, or of the run, or until a worker wants to stop; checkpoints that are due are taken.

    Raises: JobFailedError when the gradient is no longer finite; all ranks see it at the same step.
    """
    config, world = run.config, run.gang.world
    epoch, first_step = divmod(training.step, run.steps_per_epoch)
    order = training_order(run.rows["train"], seed=config.seed, epoch=epoch, global_batch=run.global_batch)
    batches = training_batches(order, rank=world.rank, world=world.size, first_step=first_step)
    batches = batches[: run.last_step - training.step]
    if first_step == 0:
        training.loss_sum.zero_()
    meter, finite = Meter(run.loader, run.global_batch), _Finite(run.on, training.step)
    words, wishes = "", Wishes()
    training.network.train()
    for number, batch in enumerate(run.loader.batches(batches), start=1):
        run.watchdog.sees(f"step {training.step + 1}", patience=COMPILING if number <= WARMING_UP_STEPS else 1.0)
        _set_rate(run, training)
        result = train_step(run, training, batch, epoch)
        training.loss_sum += result.loss
        training.step += 1
        finite.note(result.grad_norm)
        meter.count(number)
        ends = number == len(batches)
        if training.step % config.log_every_steps == 0 or ends:
            run.gang.together(finite.check)
            words = (
                f"epoch {epoch + 1}/{config.epochs} loss {result.loss.item():.4f} {meter.images_per_s():.1f} images/s"
            )
        advance(1, words)
        wishes = run.pulse.after_step()
        if wishes.end:
            run.gang.together(finite.check)
            break
        if not ends and (wishes.checkpoint or _is_due(config, training.step)):
            run.gang.together(finite.check)
            keep(run, training)
    return EpochResult(meter.images_per_s(), meter.data_wait_share(), wishes)


def _is_due(config: TrainConfig, step: int) -> bool:
    return config.checkpoint_every_steps is not None and step % config.checkpoint_every_steps == 0


def _set_rate(run: Run, training: Training) -> None:
    config = run.config
    factor = rate_factor(
        config.schedule,
        training.step,
        warmup_steps=round(config.warmup_epochs * run.steps_per_epoch),
        total_steps=run.total_steps,
        plateau=training.plateau,
    )
    for group in training.optimizer.param_groups:
        group["lr"] = config.lr * factor


class _Finite:
    """The first step whose gradient was no number, found on the device without waiting for it."""

    def __init__(self, on: torch.device, step: int) -> None:
        self._step = torch.full((), step, dtype=torch.int64, device=on)
        self._bad_step = torch.zeros((), dtype=torch.int64, device=on)

    def note(self, grad_norm: Tensor) -> None:
        """Look at the next step's; always the same few operations, so that a device that compiles them does it once."""
        self._step += 1
        is_first = ~grad_norm.isfinite() & (self._bad_step == 0)
        self._bad_step = torch.where(is_first, self._step, self._bad_step)

    def check(self) -> None:
        """Raises: JobFailedError with the step."""
        step = int(self._bad_step.item())
        if step:
            raise JobFailedError(f"cannot go on training: the gradient is not finite at step {step}", hint=LOWER_RATE)


def validate(run: Run, training: Training) -> Scores | None:
    """Scores of the averaged network on the validation images, None without any; on all ranks."""
    rows = run.rows["val"]
    if len(rows) == 0:
        return None
    logits_NK = run.evaluator.predict(training.averaged, rows, lambda: _between_batches(run, training.step))
    return score(logits_NK, run.table.labels_NK[rows], run.table.findings)


def _between_batches(run: Run, step: int) -> None:
    run.watchdog.sees("scoring", patience=COMPILING)
    if run.pulse.after_step().stop:
        raise stopped(step)


def fit(run: Run, training: Training) -> None:
    """Train to the last step; a checkpoint and validation after each epoch, and checkpoints in between as told.

    Raises: on all ranks at the same step StopError when one was told to stop, TimeLimitError at the deadline.
    """
    entries = run.gang.on_primary(lambda: history.read(run.prefix.storage, training.step))
    result = EpochResult()
    with run.say.progress("training", run.last_step - training.step) as advance:
        while training.step < run.last_step or training.validated_step != training.step:
            if training.validated_step == training.step:
                result = train_epoch(run, training, advance)
                if training.saved_step != training.step:
                    keep(run, training)
                _end_if_wished(run, training.step, result.wishes)
            scores = validate(run, training) if training.step % run.steps_per_epoch == 0 else None
            if scores is not None:
                training.plateau = training.plateau.after_epoch(scores.loss)
            training.validated_step = training.step
            entries = _note_epoch(run, training, result, scores, entries)


def _end_if_wished(run: Run, step: int, wishes: Wishes) -> None:
    if wishes.failure:
        run.gang.on_primary(run.prefix.publisher.check)
    if wishes.stop:
        raise stopped(step)
    if wishes.deadline and step < run.last_step:
        raise deadline_over(run.config, step)


def keep(run: Run, training: Training) -> None:
    """Take a snapshot of all ranks, which the primary publishes beside training. All ranks call it."""
    run.watchdog.sees("taking a checkpoint", patience=COMPILING)
    start_s = time.perf_counter()
    ranks = ranks_of(run, training)
    model_state = averaged_state(run, training, ranks)
    if run.is_primary:
        run.prefix.publisher.offer(snapshot(training, ranks, model_state), training.step / run.steps_per_epoch)
    if training.step % run.steps_per_epoch == 0:
        training.averaged.load_state_dict(model_state)
    training.saved_step = training.step
    training.snapshots_s.append(time.perf_counter() - start_s)
    run.pulse.saved()


def _note_epoch(
    run: Run, training: Training, result: EpochResult, scores: Scores | None, entries: list[history.Entry]
) -> list[history.Entry]:
    """Tell how the epoch went, and publish it with the outcome of its validation; all entries so far."""
    steps = (training.step - 1) % run.steps_per_epoch + 1
    train_loss = float(run.gang.mean(training.loss_sum.cpu()[None] / steps))
    entry: dict[str, Any] = {
        "step": training.step,
        "epoch": round(training.step / run.steps_per_epoch, 4),
        "train_loss": train_loss,
        "images_per_s": null_if_nan(result.images_per_s),
        "data_wait_share": result.data_wait_share,
        "snapshot_ms": round(1e3 * max(training.snapshots_s, default=0.0), 1),
        "val": scores.as_json() if scores else None,
    }
    training.snapshots_s.clear()
    entries = history.with_entry(entries, entry)
    if run.is_primary:
        run.prefix.publisher.put(METRICS, history.to_bytes(entries))
        if training.step % run.steps_per_epoch == 0:
            scored = Scored(null_if_nan(scores.mean_auroc), null_if_nan(scores.loss)) if scores else Scored(None, None)
            run.prefix.publisher.validated(training.step, scored)
        run.say.line(_in_words(entry, scores, result))
    return entries


def _in_words(entry: history.Entry, scores: Scores | None, result: EpochResult) -> str:
    words = f"epoch={entry['epoch']:g} step={entry['step']} train_loss={entry['train_loss']:.4f}"
    if scores:
        words += f" val_loss={scores.loss:.4f} val_auroc={scores.mean_auroc:.4f}"
    return f"{words} images_per_s={result.images_per_s:.1f} data_wait={result.data_wait_share:.1%}"


def finish(run: Run, training: Training) -> Results:
    """Score the best checkpoint on validation and test images, and write predictions, results and its weights."""
    run.watchdog.rests()
    manifest, model_state = _best_of_all(run)
    training.averaged.load_state_dict(model_state)
    scores = {}
    for split in ("val", "test"):
        rows = run.rows[split]
        if len(rows):
            logits_NK = run.evaluator.predict(training.averaged, rows, lambda: _between_batches(run, training.step))
            scores[split] = score(logits_NK, run.table.labels_NK[rows], run.table.findings)
            names = [run.table.images[row] for row in rows.tolist()]
            _put(run, predictions_key(split), predictions_csv(names, logits_NK, run.table.findings))
    document = {
        "name": run.config.name,
        "checkpoint": {"step": manifest.step, "epoch": manifest.epoch, "sha256": manifest.sha256},
        "last_step": training.step,
        "world_size": run.gang.world.size,
        "device": run.device.name,
        "peak_device_memory_bytes": run.device.peak_memory_bytes(),
        **{split: one.as_json() for split, one in scores.items()},
    }
    _put(run, MODEL, to_safetensors(model_state))
    run.watchdog.rests()
    run.gang.on_primary(lambda: _flush(run))
    _put(run, RESULTS, json.dumps(document, indent=1).encode())  # last: a run with results is over
    run.gang.on_primary(lambda: _flush(run))
    root = run.prefix.storage.url.rstrip("/")
    return Results(manifest.step, f"{root}/{state_key(manifest.step)}", f"{root}/{RESULTS}", scores)


def _best_of_all(run: Run) -> tuple[Manifest, StateDict]:
    """The best checkpoint and its weights, as the primary finds them, on all ranks."""
    weights = b""

    def find() -> dict[str, Any]:
        nonlocal weights
        manifest, content = _best(run)
        weights = checkpoint.tensors_to_bytes(checkpoint.from_bytes(content).model)
        return vars(manifest)

    manifest = Manifest(**run.gang.on_primary(find))
    return manifest, checkpoint.tensors_from_bytes(run.gang.broadcast(weights))


def _best(run: Run) -> tuple[Manifest, bytes]:
    """The best checkpoint that is whole, and its state; once all that was trained is committed."""
    _flush(run)
    manifests = committed(run.prefix.storage, run.say.line)
    while (top := best(manifests)) is not None:
        try:
            return top, checkpoint.read_state(run.prefix.storage, top)
        except BrokenError as problem:
            run.say.line(f"{problem.args[0]}; scoring the best of the others")
            manifests.remove(top)
    raise InputError(f"cannot score the run at `{run.prefix.storage.url}`: none of its checkpoints is whole")


def _put(run: Run, key: str, content: bytes) -> None:
    if run.is_primary:
        run.prefix.publisher.put(key, content)


def _flush(run: Run, most_s: float = FINAL_S) -> None:
    """Wait until all is in the run's prefix: for a bounded time, and no longer than a worker that was told to stop may.

    Raises: as `Publisher.flush`.
    """
    end_s = time.monotonic() + most_s
    try:
        run.prefix.publisher.flush(
            lambda: time.monotonic() > end_s or (run.stop.wanted and run.stop.left_s() == 0),
        )
    except KnownError as problem:  # told now, for the peers leave with this, and torchrun ends who is left
        run.say.line(f"not everything that was trained is in the run: {problem.args[0]}")
        raise


def _leave(run: Run, end: StopError | TimeLimitError) -> None:
    """Commit what was trained, then say why it ends. Raises: `end`."""
    _flush(run, FINAL_S if isinstance(end, TimeLimitError) else run.stop.left_s())
    raise end


def train(config: TrainConfig, world: World, say: Reporter, log: RankLog) -> Results:
    """A whole run: prepare, train to the end, score the best checkpoint. All workers call it.

    Raises: KnownError.
    """
    with failures_named(), opened(config, world, say, log) as run:
        if run.is_primary:
            images = f"{len(run.rows['train']):,} images, {run.steps_per_epoch} steps an epoch, global batch {run.global_batch}"
            say.line(f"training on {world.size} x {run.device.name} in {run.precision}: {images}")
        run.watchdog.sees("loading the state", patience=COMPILING)
        training = begin(run)
        with run.stop.listening(), run.prefix.publisher.working():
            try:
                fit(run, training)
                return finish(run, training)
            except (StopError, TimeLimitError) as problem:
                end = problem
            except (JobFailedError, PeerError):
                run.watchdog.rests()
                with suppress(KnownError):  # what was good stays; the error that there is matters more
                    _flush(run, FAILED_S)
                raise
            run.watchdog.rests()
            run.gang.on_primary(lambda: _leave(run, end))
            raise end
