"""How much faster epochs are over a frozen backbone whose features are computed once, in one run.

    python benchmarks/features.py

DenseNet-121 with the pneumonia recipe's head, frozen, on phantoms of two classes, centre crops of 96 pixels, one core. Takes turns: an epoch on
images, an epoch on cached features, each with its validation. Prints the times, their ratio pair by pair, how long computing the
features took, and after how many epochs that is won back. A GPU's ratio is another.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainer.config import from_argv
from trainer.data.synthetic import write_phantoms
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.training.features import FrozenFeatures
from trainer.training.feed import Feed, of_features, of_images
from trainer.training.loop import train_epoch, validate
from trainer.training.run import Run
from trainer.training.setup import opened
from trainer.training.state import Training

PAIRS = 5
IMAGES = 320


def write_classes(root: Path, phantoms: Path) -> None:
    """The phantoms as a data set of two folders; which is in which does not matter here."""
    for number, path in enumerate(sorted(phantoms.glob("*.png"))):
        split = "train" if number % 5 else "test"
        target = root / split / ("NORMAL" if number % 2 else "PNEUMONIA") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(target)


def epoch_s(run: Run, training: Training, feed: Feed) -> float:
    """Seconds for an epoch and its validation."""
    training.feed, training.frozen = feed, None  # what is trained is prepared anew
    training.step = 0
    start_s = time.perf_counter()
    train_epoch(run, training, lambda _done, _words: None)
    validate(run, training)
    return time.perf_counter() - start_s


def measure(run: Run, training: Training) -> None:
    """Take turns and print."""
    start_s = time.perf_counter()
    rows_N = np.concatenate([run.rows["train"], run.rows["val"]])
    cached = of_features(run, FrozenFeatures(training.network, run.evaluator, rows_N), 0)
    computing_s = time.perf_counter() - start_s
    pairs = [(epoch_s(run, training, of_images(run)), epoch_s(run, training, cached)) for _ in range(PAIRS)]
    ratios = [images_s / features_s for images_s, features_s in pairs]
    images_s, features_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{len(run.rows['train'])} training and {len(run.rows['val'])} validation images")
    print(f"an epoch on images           {images_s:8.3f} s")
    print(f"an epoch on cached features  {features_s:8.3f} s")
    print(f"ratio                        {statistics.median(ratios):8.0f}   ({min(ratios):.0f}-{max(ratios):.0f})")
    print(
        f"computing the features       {computing_s:8.3f} s, won back after {computing_s / (images_s - features_s):.1f} epochs"
    )


def main() -> None:
    """A data set and a run for a moment."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "phantoms", images=IMAGES, side=128)
        write_classes(Path(folder) / "data", Path(folder) / "phantoms/images")
        flags = "--preset pneumonia --weights none --pack-side 110 --crop-px 96 --crop center --no-flip --rotate 0 --batch-size 16 --device cpu"
        places = f"--data {folder}/data --output {folder}/runs --name r --epochs {2 * PAIRS}"
        config = replace(from_argv([*flags.split(), *places.split()]), checkpoint_every_minutes=None)
        with opened(config, World(), Reporter(0), RankLog(0)) as (run, training), run.prefix.writer.running():
            measure(run, training)


if __name__ == "__main__":
    main()
