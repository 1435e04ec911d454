"""One row of benchmarks/gpu.py: a workload, timed on the device of this process. No row needs another one.

Shapes: N images, C channels, H x W pixels, K findings.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainer import devices
from trainer.config import TrainConfig, from_argv
from trainer.data.labels import FINDINGS
from trainer.devices import Arithmetic, Device
from trainer.errors import KnownError
from trainer.models import architectures
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.progress import Advance
from trainer.runtime.world import World
from trainer.training.loop import EpochResult, train_epoch
from trainer.training.run import Run
from trainer.training.setup import opened
from trainer.training.state import Training

Kind = Literal["bandwidth", "ours", "amp", "fp32", "inference"]

NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""Of CUDA and the trainer, of Gaudi's bridge, and of the CPU's allocator."""

COPIES = 10
INFERENCE_STEPS = 30
PLAIN_STEPS = 16
"""Most steps of a round of a loop that is not compared round by round."""


@dataclass(frozen=True)
class Row:
    """A workload; `ours` also times the bar, in turns, and `inference` both ways of execution."""

    kind: Kind
    batch: int


@dataclass(frozen=True)
class Sizes:
    """What all rows share."""

    device: str
    compile: Literal["auto", "on", "off"]
    model: str
    px: int
    images: int
    """Training images: an epoch of them is a round."""
    rounds: int
    copied_bytes: int

    @property
    def side(self) -> int:
        """Of the decoded images, as in the presets: 256 for a crop of 224."""
        return self.px * 8 // 7


@dataclass(frozen=True)
class Result:
    """A line of the table."""

    what: str
    batch: int
    seconds: tuple[float, ...] = ()
    """Of a step, in each round."""
    to_bar: tuple[float, ...] = ()
    """The bar's seconds of a step divided by these, round by round."""
    precision: str = ""
    peak_bytes: int | None = None
    """Of tensors on the device; None where it is not known."""
    logged_images_per_s: tuple[float, ...] = ()
    """Of each round, as in metrics.json: without the first steps of an epoch."""
    bytes_per_s: float = 0.0
    """Bandwidth of the device's memory, where this is measured."""
    hardware: str = ""
    remark: str = ""

    @property
    def rates(self) -> list[float]:
        """Images per second of each round."""
        return [self.batch / each for each in self.seconds]


class Step:
    """A training step of a bare loop on a batch that stays on the device."""

    def __init__(
        self, device: Device, network: nn.Module, x_NCHW: Tensor, precision: Arithmetic, options: dict[str, Any]
    ) -> None:
        self._device, self._network, self._x_NCHW, self._precision = device, network, x_NCHW, precision
        self._y_NK = torch.randint(0, 2, (len(x_NCHW), len(FINDINGS)), device=x_NCHW.device).float()
        self._loss_of = nn.BCEWithLogitsLoss()
        self._optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, **options)

    def __call__(self) -> Tensor:
        """The loss, on the device."""
        self._optimizer.zero_grad(set_to_none=True)
        with self._device.autocast(self._precision):
            logits_NK = self._network(self._x_NCHW)
        loss: Tensor = self._loss_of(logits_NK.float(), self._y_NK)
        loss.backward()
        self._device.flush()
        self._optimizer.step()
        self._device.flush()
        return loss.detach()


def step_s(step: Callable[[], Tensor], steps: int) -> float:
    """Seconds of a step, until a value that depends on the last has been read; the device has nothing to do before."""
    start_s = time.perf_counter()
    last = [step() for _ in range(steps)][-1]
    last.sum().item()
    return (time.perf_counter() - start_s) / steps


def measured(row: Row, sizes: Sizes, folder: Path) -> Iterator[Result]:
    """The results of a row, each when it is there. `folder` has the data set. Raises: RuntimeError, KnownError."""
    device = devices.find(sizes.device)
    if row.kind == "ours":
        yield from _ours_and_bar(device, row, sizes, folder)
        return
    on = device.open(0, 1)
    if row.kind == "bandwidth":
        yield Result("bandwidth", 0, bytes_per_s=_bandwidth(on, sizes), hardware=device.hardware())
    elif row.kind == "inference":
        yield from _inference(device, on, row, sizes)
    else:
        yield _plain(device, on, row, sizes)


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether the batch was too large for the device; devices raise different classes, and the trainer its own."""
    text = str(problem).lower()
    return isinstance(problem, (RuntimeError, KnownError)) and any(words in text for words in NO_MEMORY)


def _bandwidth(on: torch.device, sizes: Sizes) -> float:
    """Bytes per second, read and written, of a copy on the device; the fastest of some."""
    source = torch.zeros(sizes.copied_bytes, dtype=torch.uint8, device=on)
    target = torch.empty_like(source)

    def copy() -> Tensor:
        target.copy_(source)
        return target[:1]

    step_s(copy, COPIES)
    return 2 * sizes.copied_bytes / min(step_s(copy, COPIES) for _ in range(sizes.rounds))


def _batch(on: torch.device, row: Row, sizes: Sizes, memory_format: torch.memory_format) -> Tensor:
    x_NCHW = torch.randn(row.batch, 3, sizes.px, sizes.px, device=on)
    return x_NCHW.contiguous(memory_format=memory_format)


def _network(on: torch.device, sizes: Sizes, memory_format: torch.memory_format) -> nn.Module:
    torch.manual_seed(0)
    network = architectures.build(sizes.model, "linear", len(FINDINGS))
    return network.to(on).to(memory_format=memory_format)


def _plain(device: Device, on: torch.device, row: Row, sizes: Sizes) -> Result:
    """A loop without compilation: as the public CheXNet repositories train, or in the device's own precision and format."""
    is_plain = row.kind == "fp32"
    memory_format = torch.contiguous_format if is_plain else device.memory_format
    precision: Arithmetic = "fp32" if is_plain else device.native_precision()
    network = _network(on, sizes, memory_format)
    options = {} if is_plain else device.optimizer_options()
    step = Step(device, network, _batch(on, row, sizes, memory_format), precision, options)
    steps = min(PLAIN_STEPS, max(1, sizes.images // row.batch))
    step_s(step, 3)
    seconds = tuple(step_s(_reading(step) if is_plain else step, steps) for _ in range(sizes.rounds))
    return Result(row.kind, row.batch, seconds, precision=precision, peak_bytes=device.peak_memory_bytes())


def _reading(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The step with its loss read each time, as those repositories do."""

    def read() -> Tensor:
        loss = step()
        loss.item()
        return loss

    return read


def _inference(device: Device, on: torch.device, row: Row, sizes: Sizes) -> Iterator[Result]:
    """Logits of a batch on the device, without and with compilation, in turns."""
    precision, memory_format = device.native_precision(), device.memory_format
    network = _network(on, sizes, memory_format).eval()
    x_NCHW = _batch(on, row, sizes, memory_format)
    mode = device.choose_mode(None, sizes.compile)
    ways = {"inference, eager": network, f"inference, {mode}": device.compiled(network, mode)}

    def of(module: nn.Module) -> Callable[[], Tensor]:
        def predict() -> Tensor:
            with torch.no_grad(), device.autocast(precision):
                logits_NK: Tensor = module(x_NCHW)
            device.flush()
            return logits_NK

        return predict

    steps = {name: of(module) for name, module in ways.items()}
    for step in steps.values():
        step_s(step, 3)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(sizes.rounds):
        for name, step in steps.items():
            seconds[name].append(step_s(step, INFERENCE_STEPS))
    for name, values in seconds.items():
        yield Result(name, row.batch, tuple(values), precision=precision, remark=_uncompiled(device, sizes, mode))


def _uncompiled(device: Device, sizes: Sizes, mode: str) -> str:
    """Why a network that should be compiled is not."""
    if mode != "eager":
        return ""
    if sizes.compile == "off":
        return "not compiled: --compile off"
    return f"not compiled: {device.cannot_compile()}"


def _ours_and_bar(device: Device, row: Row, sizes: Sizes, folder: Path) -> Iterator[Result]:
    """Epochs of the trainer's loop, and as many steps of a bare loop in its precision, memory format and mode, in turns."""
    given = opened(_config(row, sizes, folder), World(), Reporter(0), RankLog(0))
    with given as (run, training), run.prefix.writer.running():
        _, warmed_up = epoch(run, training)
        device.reset_peak_memory()
        bar = _bar(run, row, sizes)
        step_s(bar, 3)
        bar_peak_bytes = device.peak_memory_bytes()
        ours, bare, logged = _turns(run, training, bar, sizes.rounds)
        remark = _uncompiled(device, sizes, run.mode)
        yield Result(
            f"bar, {run.mode}", row.batch, bare, precision=run.precision, peak_bytes=bar_peak_bytes, remark=remark
        )
        yield Result(
            f"ours, {run.mode}",
            row.batch,
            ours,
            precision=run.precision,
            to_bar=tuple(b / o for o, b in zip(ours, bare, strict=True)),
            peak_bytes=warmed_up.peak_memory_bytes,
            logged_images_per_s=logged,
            remark="; ".join(filter(None, [remark, synchronisation(run, training)])),
        )


def _bar(run: Run, row: Row, sizes: Sizes) -> Step:
    """The least that a training of this network must do, with what this device offers to do it fast."""
    network = _network(run.on, sizes, run.memory_format)
    part = run.device.compiled(network, run.mode)
    x_NCHW = _batch(run.on, row, sizes, run.memory_format)
    return Step(run.device, part, x_NCHW, run.precision, run.device.optimizer_options())


def _turns(run: Run, training: Training, bar: Callable[[], Tensor], rounds: int) -> tuple[tuple[float, ...], ...]:
    """Seconds of a step, ours and the bar's, and the images per second that ours logs; who is first changes."""
    ours, bare, logged = [], [], []
    for number in range(rounds):
        if number % 2:
            bare.append(step_s(bar, run.steps_per_epoch))
        seconds, result = epoch(run, training)
        ours.append(seconds / run.steps_per_epoch)
        logged.append(result.images_per_s)
        if not number % 2:
            bare.append(step_s(bar, run.steps_per_epoch))
    return tuple(ours), tuple(bare), tuple(logged)


def epoch(run: Run, training: Training, advance: Advance = lambda _done, _words="": None) -> tuple[float, EpochResult]:
    """Seconds of an epoch, from its first batch in the pack to the last loss on the host, and what is logged of it."""
    start_s = time.perf_counter()
    result = train_epoch(run, training, advance)
    training.recorded_step = training.saved_step = training.step
    return time.perf_counter() - start_s, result


def synchronisation(run: Run, training: Training) -> str:
    """Whether the host waited for the device in an epoch, but for its ends, where loss and checks are read.

    Empty where the device cannot tell. An operation that waits ends the epoch, so nothing can be timed afterwards.
    """
    if not _is_noticed(run):
        return ""
    silent = replace(run, config=replace(run.config, log_every_steps=run.total_steps))
    steps = run.steps_per_epoch
    with ExitStack() as forbidden:
        done = itertools.count(1)

        def advance(_done: int, _words: str = "") -> None:
            number = next(done)
            if number == 1:
                forbidden.enter_context(run.device.forbid_sync())
            elif number == steps - 1:
                forbidden.close()

        try:
            epoch(silent, training, advance)
        except RuntimeError as problem:
            return f"the host waits for the device: {' '.join(str(problem).split())[:120]}"
    return f"no host sync in {steps - 2} steps"


def _is_noticed(run: Run) -> bool:
    """Whether the device refuses an operation that waits for it."""
    try:
        with run.device.forbid_sync():
            torch.zeros(1, device=run.on).item()
    except RuntimeError:
        return True
    return False


def _config(row: Row, sizes: Sizes, folder: Path) -> TrainConfig:
    """Of a run that is long enough for all rounds, and writes no checkpoint in them."""
    flags = {
        "data": folder / "data",
        "output": folder / "runs",
        "cache-dir": folder / "cache",
        "name": f"ours-{row.batch}",
        "layout": "csv",
        "weights": "none",
        "model": sizes.model,
        "device": sizes.device,
        "batch-size": row.batch,
        "crop-px": sizes.px,
        "pack-side": sizes.side,
        "compile": sizes.compile,
        "preflight": "off",
        "epochs": sizes.rounds + 2,
    }
    argv = [f"--{name}={value}" for name, value in flags.items()]
    return replace(from_argv(argv), checkpoint_every_minutes=None)
