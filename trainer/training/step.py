"""One optimiser step, and the learning rate it takes.

Shapes: N images, K findings.
"""

from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor

from trainer.data.loader import Batch
from trainer.models.architectures import in_backward
from trainer.training.run import Run
from trainer.training.schedule import rate_factor
from trainer.training.state import Training
from trainer.training.step_inputs import StepInputs


@dataclass(frozen=True)
class StepResult:
    """Loss and gradient norm of one step, still on the device: reading them synchronises, which is left to the caller."""

    loss: Tensor
    grad_norm: Tensor


def train_step(run: Run, training: Training, batch: Batch, inputs: StepInputs) -> StepResult:
    """One optimiser step on this rank's share of the batch."""
    loss = add_gradients(run, training, batch.x_N1SS, inputs)
    return StepResult(loss, update(run, training))


def add_gradients(run: Run, training: Training, x_N1SS: Tensor, inputs: StepInputs) -> Tensor:
    """The loss of a batch of images or features, after its gradients have been added to those of the parameters."""
    view = training.feed.view(x_N1SS, inputs.draws_DN)
    y_NK, weights_NK = run.labels_NK[inputs.samples_N], None
    if run.label_weights is not None:
        weights_NK = run.label_weights.of(inputs.samples_N, *divmod(training.step, run.steps_per_epoch))
    with run.device.autocast(run.precision):
        logits_NK = training.parallel(view)
    loss = run.loss(logits_NK.float(), y_NK, weights_NK)
    with in_backward(training.network) if run.config.recomputes else nullcontext():
        loss.backward()
    run.device.flush()
    return loss.detach()


def update(run: Run, training: Training) -> Tensor:
    """Take the optimiser's step with the clipped gradients, and remove them; returns their norm before clipping."""
    grad_norm = run.device.clip(list(training.network.parameters()), run.config.clip_norm)
    training.optimizer.step()
    run.device.flush()
    training.optimizer.zero_grad(set_to_none=True)
    return grad_norm


def set_rate(run: Run, training: Training) -> None:
    """Set the learning rate of the next step."""
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
