"""Wall time of predict, evaluate, explain and of caching features, against that of decoding and the network alone.

    python benchmarks/inference.py [--images 500] [--crop-px 224] [--precision fp32] [--rounds 3] [--png FOLDER] [--cores 2]

Takes the PNG files of a folder, or draws phantoms of 1024 x 1024 pixels, NIH's size, and repeats them under other names (links) up to the
number of images. Decoding alone and DenseNet-121 alone are timed in one thread on one core, in processor time. Their sum over the
cores is the least wall time of the work. Each command is a process on these cores. What it takes for a few images, its start-up, is
reported apart and subtracted. Prints medians over the rounds, with the range of the ratios; and the peak memory of the largest process.

The ratio by processor time, which other processes disturb less, is: (processor time of the command - of its start-up) / (decoding + network).
Pictures of `explain` are left out of its ratio; the last line has them.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from arguments import positive
from safetensors.torch import save_file

from trainer import devices
from trainer.data.decode import open_xray
from trainer.data.labels import FINDINGS
from trainer.data.packs.records import Geometry, to_square
from trainer.data.synthetic import write_phantoms
from trainer.models.architectures import build
from trainer.models.load import load_model
from trainer.models.tta import OverViews

FEW: Final = 16
"""Images of a start-up."""

TIMED: Final = 0.2
"""Share of the images on which decoding and the network are timed alone."""


@dataclass
class Run:
    """A process that has ended."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def run(command: list[str], cores: list[int]) -> Run:
    """Run a command on these cores."""
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryFile() as log:
        start_s = time.perf_counter()
        process = subprocess.Popen(pinned, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start_s
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        assert process.returncode == 0, (command, log.read().decode())
    return Run(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def linked(pictures: list[Path], images: int, folder: Path) -> Path:
    """A data set of this many image files, nearly all for training."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(images):
        name = f"{number:08d}_000.png"
        os.link(pictures[number % len(pictures)], folder / "images" / name)
        split = {0: "val", 1: "test"}.get(number, "train")
        rows.append(f"{name},{split},{number % 2}" + ",0" * (len(FINDINGS) - 1))
    header = f"Image Index,split,{','.join(FINDINGS)}"
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def saved_model(path: Path, crop_px: int) -> Path:
    """DenseNet-121 with random weights."""
    torch.manual_seed(0)
    network = build("densenet121", "linear", len(FINDINGS))
    header = {"format": "1", "name": "random", "step": "1", "model": "densenet121", "head": "linear", "loss": "bce"}
    header |= {"findings": json.dumps(list(FINDINGS)), "pack_fit": "crop", "crop_px": str(crop_px)}
    save_file(network.state_dict(), path, metadata=header | {"pack_side": str(round(crop_px * 256 / 224))})
    return path


def alone_s(pictures: list[Path], images: int, model: Path, precision: str) -> tuple[float, float]:
    """Core-seconds of decoding and of the network alone for this many images; by the clock of this thread's processor time."""
    torch.set_num_threads(1)
    trained, device = load_model(str(model)), devices.load("cpu")
    geometry: Geometry = trained.geometry
    timed = max(1, round(images * TIMED))
    start_s = time.thread_time()
    for number in range(timed):
        np.asarray(to_square(open_xray(pictures[number % len(pictures)], geometry.bits), geometry))
    decode_s = (time.thread_time() - start_s) / timed
    batch = device.inference_batch(trained.crop_px)
    network = OverViews(trained, "none", device.memory_format).to(memory_format=device.memory_format)
    x_N1SS = torch.randint(0, 256, (batch, 1, geometry.side, geometry.side), dtype=torch.uint8)
    with torch.inference_mode(), device.autocast("bf16" if precision == "bf16" else "fp32"):
        network(x_N1SS)
        start_s = time.thread_time()
        for _ in range(-(-timed // batch)):
            network(x_N1SS)
        model_s = (time.thread_time() - start_s) / (-(-timed // batch) * batch)
    return decode_s * images, model_s * images


def commands(work: Path, model: Path, precision: str) -> dict[str, Callable[[Path], list[str]]]:
    """Each command for a data set; all write to folders that do not exist yet."""
    trainer = [sys.executable, "-m", "trainer"]
    flags = ["--device", "cpu", "--precision", precision]

    def out(name: str) -> str:
        shutil.rmtree(work / name, ignore_errors=True)
        return str(work / name)

    def explain(data: Path) -> list[str]:
        return [*trainer, "explain", str(data / "images"), "--model", str(model), "--out", out("maps"), *flags]

    def train(data: Path) -> list[str]:
        recipe = (
            f"--backbone frozen --weights {model} --crop center --no-flip --rotate 0 --epochs 1 --no-report".split()
        )
        header = load_model(str(model))
        sizes = ["--pack-side", str(header.geometry.side), "--crop-px", str(header.crop_px), "--batch-size", "16"]
        places = ["--data", str(data), "--output", out("runs"), "--cache-dir", out("cache"), "--name", "run"]
        return [*trainer, "train", *recipe, *sizes, *places, *flags]

    return {
        "predict": lambda data: [
            *trainer,
            "predict",
            str(data / "images"),
            "--model",
            str(model),
            "--format",
            "csv",
            *flags,
        ],
        "evaluate": lambda data: [
            *[*trainer, "evaluate", str(model), "--data", str(data), "--part", "all", "--resamples", "2"],
            *["--format", "json", "--force", *flags],
        ],
        "explain --no-overlays": lambda data: [*explain(data), "--no-overlays"],
        "train --cache-features": train,
        "explain": explain,
    }


def main() -> None:
    """Print the times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=positive, default=500)
    parser.add_argument("--crop-px", type=positive, default=224)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--cores", type=positive, default=2)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--only", help="commands whose name contains this")
    given = parser.parse_args()
    if given.images <= FEW:
        parser.error(f"--images must be more than the {FEW} of a start-up, got {given.images}")
    with tempfile.TemporaryDirectory() as folder:
        compare(given, Path(folder))


def compare(given: argparse.Namespace, work: Path) -> None:
    """Rounds of all commands in turns."""
    source = given.png
    if source is None:
        write_phantoms(work / "drawn", images=60, side=1024)
        source = work / "drawn/images"
    (work / "pictures").mkdir()
    pictures = [Path(shutil.copy(path, work / "pictures" / path.name)) for path in sorted(source.rglob("*.png"))]
    many, few = (linked(pictures, images, work / str(images)) for images in (given.images, FEW))
    model = saved_model(work / "model.safetensors", given.crop_px)
    cores = sorted(os.sched_getaffinity(0))[: given.cores]
    ways = {name: way for name, way in commands(work, model, given.precision).items() if (given.only or "") in name}
    bounds: list[tuple[float, float]] = []
    runs: dict[str, list[tuple[Run, Run]]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        bounds.append(alone_s(pictures, given.images, model, given.precision))
        for name, way in ways.items():
            runs[name].append((run(way(few), cores), run(way(many), cores)))
    decode_s, model_s = (statistics.median(times) for times in zip(*bounds, strict=True))
    print(
        f"{given.images} images, {given.crop_px} pixels, {given.precision}, {len(cores)} cores, {given.rounds} rounds"
    )
    print(
        f"decoding {decode_s:.1f} core-s, network {model_s:.1f} core-s, together over the cores {(decode_s + model_s) / len(cores):.1f} s"
    )
    print(f"{'':<24}{'start-up s':>11}{'rest s':>9}{'ratio of wall time':>27}{'of processor time':>27}{'MiB':>7}")
    for name, pairs in runs.items():
        least_s = [sum(bound) * (given.images - FEW) / given.images for bound in bounds]
        report(name, pairs, least_s, len(cores))


def report(name: str, pairs: list[tuple[Run, Run]], least_s: list[float], cores: int) -> None:
    """A row; `least_s` are the core-seconds of the images by which the two runs of each pair differ."""
    walls = [
        (whole.wall_s - start.wall_s) / (least / cores) for (start, whole), least in zip(pairs, least_s, strict=True)
    ]
    used = [(whole.cpu_s - start.cpu_s) / least for (start, whole), least in zip(pairs, least_s, strict=True)]
    start_s = statistics.median(start.wall_s for start, _ in pairs)
    rest_s = statistics.median(whole.wall_s - start.wall_s for start, whole in pairs)
    peak = max(whole.peak_mib for _, whole in pairs)
    print(f"{name:<24}{start_s:>11.1f}{rest_s:>9.1f}{_range(walls):>27}{_range(used):>27}{peak:>7.0f}")


def _range(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


if __name__ == "__main__":
    main()
