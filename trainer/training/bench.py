"""Time per batch of a model on several devices.

A batch is a training step or a prediction: from bytes in host memory through augmentation to the output, without data set and
peers. Each step ends when a value that depends on all its work has been read back.

Shapes: N images, K findings, S pack side.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainer import devices
from trainer.config import MIN_CROP_PX, MOST, Precision, flag_of
from trainer.data.augment import Augmentation, evaluation_view, training_view
from trainer.data.labels import FINDINGS
from trainer.devices import Arithmetic, Device
from trainer.errors import InputError, JobFailedError
from trainer.models import architectures
from trainer.models.losses import LOSSES
from trainer.runtime.console import Reporter
from trainer.runtime.torch_errors import is_out_of_memory
from trainer.training.throughput import WARMING_UP_STEPS

Mode = Literal["train", "predict"]

_NAMES: Final = ("auto", "cpu", "cuda", "hpu")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The work of each device.

    Raises: InputError, on construction, for values that no device can use.
    """

    model: str
    head: str
    """`linear` for the 14 findings, `hidden` for the two classes of the pneumonia data."""
    frozen: bool
    """Train only the head."""
    mode: Mode
    batch_size: int
    crop_px: int
    steps: int
    """Timed steps, after the warm-up."""

    def __post_init__(self) -> None:
        # With one image of the smallest size, BatchNorm has one value per channel and no variance.
        ranges = {
            "batch_size": (2 if self.mode == "train" else 1, 2**16),
            "crop_px": (MIN_CROP_PX, MOST["pack_side"]),
            "steps": (1, 10_000),
        }
        for field, (least, most) in ranges.items():
            value = getattr(self, field)
            if not least <= value <= most:
                flag = flag_of(field)
                raise InputError(
                    f"cannot use {flag} {value}: it must be from {least} to {most:g}",
                    hint="remove it to use the default",
                )
        if self.frozen and self.mode == "predict":
            raise InputError(
                "cannot freeze the backbone of a prediction: got --backbone frozen and --mode predict",
                hint="remove --backbone",
            )

    @property
    def findings(self) -> int:
        """Number of the model's outputs."""
        return 2 if self.head == "hidden" else len(FINDINGS)

    @property
    def pack_side(self) -> int:
        """Side of the decoded images, as in the presets: 256 for a crop of 224."""
        return self.crop_px * 8 // 7


@dataclass(frozen=True)
class Timing:
    """Times of one device."""

    device: str
    hardware: str
    precision: Arithmetic
    batch_size: int
    seconds: tuple[float, ...]
    """Of each timed batch, in order."""
    peak_memory_bytes: int | None
    """None where the device does not report it."""

    @property
    def median_s(self) -> float:
        """Seconds per batch."""
        return median(self.seconds)

    @property
    def images_per_s(self) -> float:
        """At the median time."""
        return self.batch_size / self.median_s


def devices_named(text: str) -> list[Device]:
    """The devices of a comma-separated list, all usable and without duplicates.

    Raises: InputError.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in _NAMES:
            raise InputError(
                f"cannot use `{name}`: no such device (from `--device`)", hint=f"devices are {', '.join(_NAMES)}"
            )
    named = [devices.find(name) for name in names]
    duplicate = next((device.name for device in named if named.count(device) > 1), None)
    if duplicate:
        raise InputError(
            f"cannot compare {duplicate} with itself: got `{text}` (from `--device`)", hint="name each device once"
        )
    return named


def timed(device: Device, workload: Workload, precision: Precision, reporter: Reporter) -> Timing:
    """Open the device and time the workload on it.

    Raises: JobFailedError when the batch does not fit into the device's memory.
    """
    on = device.open(0, 1)
    arithmetic = devices.arithmetic(device, precision)
    try:
        step = _step(device, on, workload, arithmetic)
        with reporter.progress(f"timing {device.name}", WARMING_UP_STEPS + workload.steps) as advance:
            seconds = [_timed_step(step, advance) for _ in range(WARMING_UP_STEPS + workload.steps)]
    except RuntimeError as problem:
        if not is_out_of_memory(problem):
            raise
        raise JobFailedError(
            f"cannot time a batch of {workload.batch_size} on {device.name}: it does not fit into memory",
            hint=f"--batch-size {max(1, workload.batch_size // 2)}",
        ) from problem
    peak = device.peak_memory_bytes()
    hardware = f"{device.hardware()}, mode {device.choose_mode(None, 'auto')}"
    return Timing(device.name, hardware, arithmetic, workload.batch_size, tuple(seconds[WARMING_UP_STEPS:]), peak)


def _timed_step(step: Callable[[], Tensor], advance: Callable[[int, str], None]) -> float:
    start_s = time.perf_counter()
    step().item()  # synchronises with the device
    seconds = time.perf_counter() - start_s
    advance(1, f"{seconds:.3f} s")
    return seconds


def _step(device: Device, on: torch.device, workload: Workload, precision: Arithmetic) -> Callable[[], Tensor]:
    """A function that processes one batch, from host memory to a value on the device."""
    torch.manual_seed(0)
    network = architectures.build(workload.model, workload.head, workload.findings)
    network.to(on).to(memory_format=device.memory_format)
    host_N1SS = device.host_buffer((workload.batch_size, 1, workload.pack_side, workload.pack_side))
    host_N1SS.random_(0, 256)
    if workload.mode == "train":
        return _training_step(device, network, host_N1SS, workload, precision)
    network = device.compiled(network.eval(), device.choose_mode(None, "auto"))

    def predict() -> Tensor:
        x_N1SS, _ = device.upload(host_N1SS)
        with torch.inference_mode(), device.autocast(precision):
            view = evaluation_view(x_N1SS, workload.crop_px).contiguous(memory_format=device.memory_format)
            logits_NK: Tensor = network(view).float()
        device.flush()
        return logits_NK.sum()

    return predict


def _training_step(
    device: Device, network: nn.Module, host_N1SS: Tensor, workload: Workload, precision: Arithmetic
) -> Callable[[], Tensor]:
    """As `step.train_step`, with the recipe's crop, mirroring, loss and optimiser."""
    if workload.frozen:
        architectures.freeze(network)
    architectures.to_training(network, frozen=workload.frozen)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4, **device.optimizer_options())
    loss_of = LOSSES["cross_entropy" if workload.head == "hidden" else "bce"]
    samples_N = np.arange(workload.batch_size)
    classes_N = torch.arange(workload.batch_size) % workload.findings
    y_NK = nn.functional.one_hot(classes_N, workload.findings).float().to(trained[0].device)
    network = device.compiled(network, device.choose_mode(None, "auto"))
    augmentation = Augmentation(seed=0, crop="resized", crop_px=workload.crop_px, flip=True, rotate=0.0)
    epochs = itertools.count()  # each batch has its own crops

    def train() -> Tensor:
        x_N1SS, _ = device.upload(host_N1SS)
        view = training_view(x_N1SS, samples_N, augmentation, next(epochs))
        with device.autocast(precision):
            logits_NK = network(view.contiguous(memory_format=device.memory_format))
        loss = loss_of(logits_NK.float(), y_NK)
        loss.backward()
        device.flush()
        norm = device.clip(trained, 1.0)
        optimizer.step()
        device.flush()
        optimizer.zero_grad(set_to_none=True)
        # Depends on the updated weights: the loss is available before the gradient.
        return loss.detach() + norm + trained[-1].detach().sum()

    return train


def as_table(timings: Sequence[Timing], workload: Workload) -> str:
    """Aligned text, with a description of the workload."""
    kind = (
        "prediction" if workload.mode == "predict" else "training, backbone frozen" if workload.frozen else "training"
    )
    side = workload.crop_px
    head = (
        f"{workload.model}, head {workload.head}, {kind}: seconds per batch of {workload.batch_size} images of {side} x {side}, "
        f"median of {workload.steps} after {WARMING_UP_STEPS} of warm-up\n"
    )
    lines = [
        f"{'device':<8}{'precision':<11}{'median':>9}{'min':>9}{'max':>9}{'images/s':>10}{'peak GiB':>10}{'speed':>9}  hardware"
    ]
    for one in timings:
        memory = "-" if one.peak_memory_bytes is None else f"{one.peak_memory_bytes / 2**30:.2f}"
        lines.append(
            f"{one.device:<8}{one.precision:<11}{one.median_s:>9.4f}{min(one.seconds):>9.4f}{max(one.seconds):>9.4f}"
            f"{one.images_per_s:>10.1f}{memory:>10}{timings[0].median_s / one.median_s:>7.1f} x  {one.hardware}"
        )
    return "\n".join([head, *lines])


def as_json(timings: Sequence[Timing], workload: Workload) -> dict[str, Any]:
    """JSON, with the time of each batch."""
    return {
        "model": workload.model,
        "head": workload.head,
        "backbone": "frozen" if workload.frozen else "trained",
        "mode": workload.mode,
        "batch_size": workload.batch_size,
        "crop_px": workload.crop_px,
        "warm_up_steps": WARMING_UP_STEPS,
        "torch": torch.__version__,
        "devices": [
            {
                "device": one.device,
                "hardware": one.hardware,
                "precision": one.precision,
                "seconds": list(one.seconds),
                "median_s": one.median_s,
                "min_s": min(one.seconds),
                "max_s": max(one.seconds),
                "images_per_s": one.images_per_s,
                "peak_memory_bytes": one.peak_memory_bytes,
                "times_as_fast_as_first": timings[0].median_s / one.median_s,
            }
            for one in timings
        ],
    }
