"""Training on processors: ours against a bare loop, and against an earlier commit.

    python benchmarks/cpu.py [--crop-px 224 64] [--threads 1] [--rounds 5] [--before REF]

Ways, each a process of its own, on the same phantoms with the same recipe (DenseNet-121, resized crops, mirroring, Adam, clipped
gradients):

- ours: `train` itself, with data, augmentation, logging, metrics and watchdog; in fp32 and, where the processor has units for it, bf16
- a bare loop: about 30 lines with torch and torchvision only, images in memory, in the same precision and memory format
- before: `train` of an earlier commit, in fp32, from a temporary copy of its files

The processes take turns of a few steps in an order that changes, and wait in between; the first steps are not counted, and no epoch
ends. A round is one turn of each. The table has the medians over the rounds, and median and range of the ratios within a round, by the clock and by
processor time, which counts less of what other programs do. Shares are those of the first way named: less than 1 is faster.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

import numpy as np
import torch
from arguments import commit, positive
from PIL import Image
from torch import nn
from torchvision.models import DenseNet, densenet121
from torchvision.transforms import v2

from trainer.config import from_argv
from trainer.data.layouts import read_labels
from trainer.data.synthetic import write_phantoms
from trainer.devices import cpu
from trainer.errors import InputError
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.training.loop import train

Precision = Literal["fp32", "bf16"]

BEFORE: Final = "d345fe778f8e5632f2b45e296e9e5cd4954a1786"
"""The last commit that trained in NCHW on processors."""

ROOT: Final = Path(__file__).parents[1]
WARM_UP: Final = 3
"""Steps that are not counted: the first ones start threads and allocate memory."""

OURS, BARE, OLD = "ours", "bare loop", "before"
AIMS: Final = ((OURS, "fp32", BARE, "fp32", 1.02), (OURS, "bf16", BARE, "bf16", 1.02))
SPEED_UPS: Final = ((OURS, "fp32", OLD, "fp32", 1.15), (OURS, "bf16", OLD, "fp32", 1.8))
"""Times as fast as the other, at least."""

Step = Callable[[], None]
Seconds = tuple[float, float]
"""By the clock, and of the processor."""


@dataclass(frozen=True)
class Work:
    """What every way trains."""

    data: Path
    model: str
    crop_px: int
    batch: int
    precision: Precision

    @property
    def side(self) -> int:
        """Of the decoded images, as in the presets: 256 for a crop of 224."""
        return self.crop_px * 8 // 7


def bare(work: Work, after_step: Step) -> None:
    """Train without end as a script does that does nothing else."""
    labels = read_labels(work.data).table
    squares = [
        np.array(Image.open(work.data / "images" / name).convert("L").resize((work.side, work.side)))
        for name in labels.images
    ]
    x_N1SS, y_NK = torch.from_numpy(np.stack(squares))[:, None], torch.from_numpy(labels.labels_NK)
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    augment = v2.Compose([v2.RandomResizedCrop(work.crop_px), v2.RandomHorizontalFlip()])
    network = network_of(work.model, y_NK.shape[1]).to(memory_format=torch.channels_last).train()
    loss_of, parameters = nn.BCEWithLogitsLoss(), list(network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-4, weight_decay=1e-5)
    while True:
        for rows in torch.randperm(len(x_N1SS)).split(work.batch):
            if len(rows) < work.batch:
                break
            gray = torch.stack([augment(x_N1SS[row]) for row in rows])
            view = ((gray.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=work.precision == "bf16"):
                logits_NK = network(view)
            loss_of(logits_NK.float(), y_NK[rows]).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            after_step()


def network_of(model: str, findings: int) -> nn.Module:
    """The network of the product of that name, untrained."""
    if model == "densenet_tiny":
        return DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=findings)
    return densenet121(num_classes=findings)


class Paced(Reporter):
    """Calls a function after each training step, from where progress is reported."""

    def __init__(self, after_step: Step) -> None:
        super().__init__(0)
        self._after_step = after_step

    @contextmanager
    def progress(self, what: str, total: int, *unit: object) -> Iterator[Callable[..., None]]:  # noqa: ARG002 - shows nothing
        """See `Reporter`."""

        def advance(_done: int, _words: str = "", /) -> None:
            if what == "training":
                self._after_step()

        yield advance


def ours(work: Work, after_step: Step) -> None:
    """A run of `train`, which ends after more steps than anyone waits for."""
    with tempfile.TemporaryDirectory() as output:
        flags = (
            f"--data {work.data} --output {output} --name r --device cpu --precision {work.precision} --weights none --no-report"
            f" --model {work.model} --crop-px {work.crop_px} --pack-side {work.side} --batch-size {work.batch} --epochs 1000"
            f" --crop resized --flip --lr 1e-4 --weight-decay 1e-5 --clip-norm 1 --schedule constant --split patients:90/5/5"
        )
        train(from_argv(flags.split()), World(), Paced(after_step), RankLog(0))


def serve(way: str, work: Work) -> None:
    """Train; for each number on stdin take that many steps, and print the seconds they took. Ends with its stdin."""
    asked = sys.stdin
    left, started = WARM_UP, (time.perf_counter(), time.process_time())

    def after_step() -> None:
        nonlocal left, started
        left -= 1
        if left == 0:
            print(time.perf_counter() - started[0], time.process_time() - started[1], flush=True)
            line = asked.readline()
            if not line:
                os._exit(0)  # the parent has ended, or needs no more
            left, started = int(line), (time.perf_counter(), time.process_time())

    (bare if way == BARE else ours)(work, after_step)


class Worker:
    """A way in its own process, past its first steps."""

    def __init__(self, way: str, work: Work, *, code: Path, threads: int, log: IO[bytes]) -> None:
        words = [work.data, work.model, work.crop_px, work.batch, work.precision]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", way, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": str(threads)},
        )
        self._answer()

    def _answer(self) -> Seconds:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a way ended with code {self._process.wait()}; its messages are above")
        wall_s, processor_s = map(float, line.split())
        return wall_s, processor_s

    def take(self, steps: int) -> Seconds:
        """Take this many steps; returns their duration in seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def code_of(ref: str, folder: Path) -> Path:
    """The files of a commit, without building anything."""
    archive = folder / "before.tar"
    subprocess.run(["git", "-C", str(ROOT), "archive", "--output", str(archive), ref, "trainer"], check=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "before", filter="data")
    return folder / "before"


def without_bf16() -> str | None:
    """Why bf16 is not measured here; None where it is."""
    try:
        cpu.check_precision("bf16")
    except InputError as problem:
        return str(problem)
    return None


def measured(given: argparse.Namespace, crop_px: int, folder: Path) -> dict[tuple[str, str], list[Seconds]]:
    """Seconds of each way and precision, by round."""
    precisions: list[Precision] = ["fp32"] if without_bf16() else ["fp32", "bf16"]
    ways = [(OLD, "fp32"), *((way, precision) for precision in precisions for way in (OURS, BARE))]
    data, steps = folder / f"data-{crop_px}", given.steps or max(1, 100_000 // crop_px**2)
    # One epoch is longer than all turns: its end, with validation and a checkpoint, is measured elsewhere.
    images = given.batch * (WARM_UP + given.rounds * steps + 2) * 10 // 8
    write_phantoms(data, images=max(60, images), side=crop_px * 8 // 7, progress=lambda _: None)
    seconds: dict[tuple[str, str], list[Seconds]] = {way: [] for way in ways}
    with ExitStack() as held, (folder / "log").open("wb") as log:
        workers = {}
        for way, precision in ways:
            work = Work(data, given.model, crop_px, given.batch, precision)
            code = folder / "before" if way == OLD else ROOT
            try:
                worker = Worker(way, work, code=code, threads=given.threads, log=log)
            except SystemExit:
                sys.stderr.write((folder / "log").read_text())
                raise
            held.callback(worker.end)
            workers[way, precision] = worker
        for number in range(given.rounds):
            for one in random.Random(number).sample(ways, len(ways)):
                seconds[one].append(tuple(each / steps for each in workers[one].take(steps)))
    return seconds


def ratios(first: list[Seconds], second: list[Seconds], index: int) -> str:
    """Median and range of first / second in each round; of the clock with index 0, of the processor with 1."""
    found = [one[index] / other[index] for one, other in zip(first, second, strict=True)]
    return f"{statistics.median(found):.3f} ({min(found):.3f}-{max(found):.3f})"


def show(seconds: dict[tuple[str, str], list[Seconds]], title: str, batch: int) -> None:
    """Print images/s of each way, and what was aimed at."""
    print(f"\n{title}\n{'way':<18}{'images/s':>10}{'images/processor s':>20}")
    for (way, precision), found in seconds.items():
        wall, processor = (batch / statistics.median(each[index] for each in found) for index in (0, 1))
        print(f"{f'{way}, {precision}':<18}{wall:>10.2f}{processor:>20.2f}")
    print(f"\n{'time of the first / the second':<36}{'by the clock':>24}{'by processor time':>24}  aim")
    for way, precision, base, base_precision, most in AIMS:
        if (way, precision) in seconds:
            pair = seconds[way, precision], seconds[base, base_precision]
            print(f"{f'{way} / {base}, {precision}':<36}{ratios(*pair, 0):>24}{ratios(*pair, 1):>24}  at most {most}")
    print(f"\n{'times as fast':<36}{'by the clock':>24}{'by processor time':>24}  aim")
    for way, precision, base, base_precision, least in SPEED_UPS:
        if (way, precision) in seconds:
            pair = seconds[base, base_precision], seconds[way, precision]
            name = f"{way}, {precision} as {base}, {base_precision}"
            print(f"{name:<36}{ratios(*pair, 0):>24}{ratios(*pair, 1):>24}  at least {least}")


def main() -> None:
    """Measure in turns and print the table of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop-px", type=positive, nargs="+", default=[224, 64])
    parser.add_argument("--model", choices=["densenet121", "densenet_tiny"], default="densenet121")
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--steps", type=positive, help="in each turn; by default about a second of work or more")
    parser.add_argument("--before", type=commit, default=BEFORE, help="commit to compare with")
    parser.add_argument("--serve", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        way, data, model, crop_px, batch, precision = given.serve
        serve(way, Work(Path(data), model, int(crop_px), int(batch), precision))
        return
    if problem := without_bf16():
        print(f"bf16 is left out: {problem}")
    for crop_px in given.crop_px:
        with tempfile.TemporaryDirectory() as folder:
            code_of(given.before, Path(folder))
            found = measured(given, crop_px, Path(folder))
        title = f"{given.model}, {crop_px} px, batch {given.batch}, {given.threads} threads, {given.rounds} rounds, torch {torch.__version__}"
        show(found, title, given.batch)


if __name__ == "__main__":
    main()
