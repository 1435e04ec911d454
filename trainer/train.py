"""Training: one step, one epoch, the whole run. Read it from `train` at the end upwards.

Shapes: N images, C channels, H x W pixels, K findings.
"""

import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from trainer import checkpoint, model
from trainer.checkpoint import TrainState, on_cpu
from trainer.config import TrainConfig
from trainer.console import Advance, Reporter
from trainer.data.augment import training_view
from trainer.data.loader import Batch, training_batches, training_order
from trainer.errors import JobFailedError
from trainer.evaluate import Scores, null_if_nan, predictions_csv, score
from trainer.failures import failures_named
from trainer.layout import METRICS, RESULTS, predictions_key, state_key
from trainer.model import StateDict, finding_loss
from trainer.run import Run, opened
from trainer.schedule import Plateau, rate_factor
from trainer.starts import deadline_over
from trainer.storage import AbsentError, Storage
from trainer.world import World

WARMING_UP_STEPS: Final = 3
"""First steps of an epoch left out of images/s: they compile, allocate and start threads."""


_LOWER_RATE: Final = "the last checkpoint is good; start another run with a lower --lr"


@dataclass
class Training:
    """What changes with every step."""

    network: nn.Module
    """Parameters, and this rank's own BatchNorm buffers."""
    parallel: nn.Module
    """The same as DistributedDataParallel, or itself with one worker."""
    averaged: nn.Module
    """A copy with buffers averaged over the ranks: what is validated and exported."""
    optimizer: torch.optim.Optimizer
    plateau: Plateau
    step: int


@dataclass(frozen=True)
class StepResult:
    """Loss and gradient norm of one step, still on the device: reading them is the caller's choice of when to wait."""

    loss: Tensor
    grad_norm: Tensor


@dataclass(frozen=True)
class EpochResult:
    """How an epoch, or the part of it that this start trained, went."""

    train_loss: float
    """Mean over steps and ranks."""
    images_per_s: float
    """Over all workers."""
    data_wait_share: float
    """Share of this rank's time spent waiting for data."""


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
    """Train to the end of the epoch, or of the run.

    Raises: JobFailedError when the gradient is no longer finite; all ranks see it at the same step.
    """
    config, world = run.config, run.gang.world
    epoch, first_step = divmod(training.step, run.steps_per_epoch)
    order = training_order(run.rows["train"], seed=config.seed, epoch=epoch, global_batch=run.global_batch)
    batches = training_batches(order, rank=world.rank, world=world.size, first_step=first_step)
    batches = batches[: run.last_step - training.step]
    meter = _Meter(run)
    loss_sum = torch.zeros((), device=run.on)
    words, number = "", 0
    training.network.train()
    for number, batch in enumerate(run.loader.batches(batches), start=1):
        _set_rate(run, training)
        result = train_step(run, training, batch, epoch)
        loss_sum += result.loss
        training.step += 1
        meter.count(number)
        if training.step % config.log_every_steps == 0 or number == len(batches):
            run.gang.together(lambda: _check_finite(training.step, result))  # noqa: B023 - called at once
            words = (
                f"epoch {epoch + 1}/{config.epochs} loss {result.loss.item():.4f} {meter.images_per_s():.1f} images/s"
            )
            if run.gang.on_primary(lambda: time.time() >= run.ends_at_s):
                break
        advance(1, words)
    mean_loss = run.gang.mean(loss_sum.cpu()[None] / number)
    return EpochResult(float(mean_loss), meter.images_per_s(), meter.data_wait_share())


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


def _check_finite(step: int, result: StepResult) -> None:
    norm = result.grad_norm.item()
    if not math.isfinite(norm):
        raise JobFailedError(
            f"cannot go on training: the gradient is {norm} at step {step}",
            hint=_LOWER_RATE,
        )


class _Meter:
    """Speed of an epoch, its first steps left out."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._restart(0)

    def _restart(self, steps: int) -> None:
        self._skipped, self._steps = steps, steps
        self._start_s, self._waited_s = time.perf_counter(), self._run.loader.waited_s

    def count(self, steps: int) -> None:
        """Note that so many steps are done."""
        self._steps = steps
        if steps == WARMING_UP_STEPS:
            self._restart(steps)

    def images_per_s(self) -> float:
        """Images per second over all workers; nan before there is something to measure."""
        steps = self._steps - self._skipped
        return steps * self._run.global_batch / self._elapsed_s() if steps else float("nan")

    def data_wait_share(self) -> float:
        """Share of the time that this rank waited for data."""
        return (self._run.loader.waited_s - self._waited_s) / self._elapsed_s()

    def _elapsed_s(self) -> float:
        return max(1e-9, time.perf_counter() - self._start_s)


def validate(run: Run, training: Training) -> Scores | None:
    """Scores of the averaged network on the validation images, None without any; on all ranks."""
    rows = run.rows["val"]
    if len(rows) == 0:
        return None
    logits_NK = run.evaluator.predict(training.averaged, rows)
    return score(logits_NK, run.table.labels_NK[rows], run.table.findings)


def fit(run: Run, training: Training) -> None:
    """Train to the last step, with validation and a checkpoint after each epoch."""
    remaining = run.last_step - training.step
    with run.say.progress("training", remaining) as advance:
        while training.step < run.last_step:
            result = train_epoch(run, training, advance)
            _average_buffers(run, training)
            ends_epoch = training.step % run.steps_per_epoch == 0
            scores = validate(run, training) if ends_epoch else None
            if scores is not None:
                training.plateau = training.plateau.after_epoch(scores.loss)
            save(run, training, scores)
            run.gang.on_primary(lambda: _log_epoch(run, training.step, result, scores))  # noqa: B023 - called at once
            run.gang.on_primary(lambda: _check_deadline(run, training.step))


def _check_deadline(run: Run, step: int) -> None:
    if step < run.last_step and time.time() >= run.ends_at_s:
        raise deadline_over(run.config, step)


def _average_buffers(run: Run, training: Training) -> None:
    """Bring `averaged` up to date: parameters as they are, BatchNorm statistics averaged over the ranks."""
    state = {name: tensor.detach().cpu() for name, tensor in training.network.state_dict().items()}
    names = [name for name, buffer in training.network.named_buffers() if buffer.is_floating_point()]
    mean = run.gang.mean(torch.cat([state[name].flatten() for name in names]))
    parts = mean.split([state[name].numel() for name in names])
    state |= {name: part.reshape(state[name].shape) for name, part in zip(names, parts, strict=True)}
    run.gang.together(lambda: _check_weights(training.step, state))
    training.averaged.load_state_dict(state)


def _check_weights(step: int, state: StateDict) -> None:
    """Weights that are no numbers are never saved, nor taken for the best. Raises: JobFailedError."""
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if bad:
        raise JobFailedError(
            f"cannot go on training: after step {step} {len(bad)} tensors are not finite, the first is `{bad[0]}`",
            hint=_LOWER_RATE,
        )


def save(run: Run, training: Training, scores: Scores | None) -> None:
    """Commit a checkpoint of all ranks; the primary writes it."""
    payloads = run.gang.all_gather(checkpoint.tensors_to_bytes(dict(training.network.named_buffers())))

    def publish() -> None:
        state = TrainState(
            step=training.step,
            model=on_cpu(training.averaged.state_dict()),
            buffers_by_rank=[checkpoint.tensors_from_bytes(payload) for payload in payloads],
            optimizer=training.optimizer.state_dict(),
            plateau=training.plateau,
        )
        checkpoint.publish(
            run.storage,
            state,
            epoch=training.step / run.steps_per_epoch,
            val_auroc=scores.mean_auroc if scores else float("nan"),
            val_loss=scores.loss if scores else float("nan"),
        )
        checkpoint.prune(run.storage)

    run.gang.on_primary(publish)


def _log_epoch(run: Run, step: int, result: EpochResult, scores: Scores | None) -> None:
    entry: dict[str, Any] = {
        "step": step,
        "epoch": round(step / run.steps_per_epoch, 4),
        "train_loss": result.train_loss,
        "images_per_s": null_if_nan(result.images_per_s),
        "data_wait_share": result.data_wait_share,
        "val": scores.as_json() if scores else None,
    }
    _append_metrics(run.storage, entry)
    words = f"epoch={entry['epoch']:g} step={step} train_loss={result.train_loss:.4f}"
    if scores:
        words += f" val_loss={scores.loss:.4f} val_auroc={scores.mean_auroc:.4f}"
    run.say.line(f"{words} images_per_s={result.images_per_s:.1f} data_wait={result.data_wait_share:.1%}")


def _append_metrics(storage: Storage, entry: Mapping[str, Any]) -> None:
    """Add an epoch; entries of steps that are trained again give way."""
    try:
        before = [json.loads(line) for line in storage.read(METRICS).splitlines()]
    except AbsentError:
        before = []
    entries = [*(old for old in before if old["step"] < entry["step"]), entry]
    storage.write(METRICS, "".join(json.dumps(one) + "\n" for one in entries).encode())


def begin(run: Run) -> Training:
    """The run's training state: its newest checkpoint where there is one, else the first weights; the same on all ranks.

    Raises: InputError when the checkpoint is damaged, or the weights are another network's.
    """
    newest = run.newest
    state = run.gang.together(lambda: checkpoint.restore(run.storage, newest)) if newest else None
    torch.manual_seed(run.config.seed)
    network = model.build(run.config.model, len(run.table.findings))
    # By ourselves: what DistributedDataParallel copies from rank 0 at its start differs between releases.
    network.load_state_dict(state.model if state else _first_state(run, network))
    network.to(run.on, memory_format=run.device.memory_format)
    optimizer = _optimizer(run, network)
    parallel: nn.Module = network
    if run.gang.world.size > 1:
        parallel = DistributedDataParallel(network, **run.device.ddp_options())
    training = Training(network, parallel, copy.deepcopy(network), optimizer, Plateau(), 0)
    if state is not None:
        _go_on(run, training, state)
    return training


def _first_state(run: Run, network: nn.Module) -> StateDict:
    """Rank 0's state of a network that has not been trained here, on all ranks."""

    def first() -> bytes:
        if run.first_weights is not None:
            model.load_first_weights(network, run.first_weights, run.config.weights)
        return checkpoint.tensors_to_bytes(network.state_dict()) if run.is_primary else b""

    return checkpoint.tensors_from_bytes(run.gang.broadcast(run.gang.together(first)))


def _optimizer(run: Run, network: nn.Module) -> torch.optim.Optimizer:
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[run.config.optimizer](
        network.parameters(),
        lr=run.config.lr,
        weight_decay=run.config.weight_decay,
        **run.device.optimizer_options(),
    )


def _go_on(run: Run, training: Training, state: TrainState) -> None:
    """Put everything but the parameters back; after DistributedDataParallel, which may give all ranks rank 0's buffers."""
    for group in state.optimizer["param_groups"]:
        group.update(run.device.optimizer_options())  # the state may come from another device
    training.optimizer.load_state_dict(state.optimizer)
    training.plateau, training.step = state.plateau, state.step
    if len(state.buffers_by_rank) == run.gang.world.size:
        own: StateDict = state.buffers_by_rank[run.gang.world.rank]
        for name, buffer in training.network.named_buffers():
            buffer.copy_(own[name])
    run.say.line(f"going on from step {state.step}")


def finish(run: Run, training: Training) -> Results:
    """Score the best checkpoint on validation and test images, and write predictions and results."""
    manifest = checkpoint.Manifest(**run.gang.on_primary(lambda: asdict(_best(run.storage))))
    state = run.gang.together(lambda: checkpoint.restore(run.storage, manifest))
    training.averaged.load_state_dict(state.model)
    scores = {}
    for split in ("val", "test"):
        rows = run.rows[split]
        if len(rows):
            logits_NK = run.evaluator.predict(training.averaged, rows)
            scores[split] = score(logits_NK, run.table.labels_NK[rows], run.table.findings)
            content = predictions_csv([run.table.images[row] for row in rows.tolist()], logits_NK, run.table.findings)
            run.gang.on_primary(lambda: run.storage.write(predictions_key(split), content))  # noqa: B023 - called at once
    document = {
        "name": run.config.name,
        "checkpoint": {"step": manifest.step, "epoch": manifest.epoch, "sha256": manifest.sha256},
        "last_step": training.step,
        "world_size": run.gang.world.size,
        "device": run.device.name,
        "peak_device_memory_bytes": run.device.peak_memory_bytes(),
        **{split: one.as_json() for split, one in scores.items()},
    }
    run.gang.on_primary(lambda: run.storage.write(RESULTS, json.dumps(document, indent=1).encode()))
    root = run.storage.url.rstrip("/")
    return Results(manifest.step, f"{root}/{state_key(manifest.step)}", f"{root}/{RESULTS}", scores)


def _best(storage: Storage) -> checkpoint.Manifest:
    top = checkpoint.best(checkpoint.committed(storage))
    assert top is not None, "a run that ended has a checkpoint"
    return top


def train(config: TrainConfig, world: World, say: Reporter) -> Results:
    """A whole run: prepare, train to the end, score the best checkpoint. All workers call it.

    Raises: KnownError.
    """
    with failures_named(), opened(config, world, say) as run:
        if run.is_primary:
            images = f"{len(run.rows['train']):,} images, {run.steps_per_epoch} steps an epoch, global batch {run.global_batch}"
            say.line(f"training on {world.size} x {run.device.name} in {run.precision}: {images}")
        training = begin(run)
        fit(run, training)
        return finish(run, training)
