"""What all tests of the trainer share."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small networks on a busy machine lose more to threads that wait for each other than they gain."""
    torch.set_num_threads(1)


@dataclass(frozen=True)
class FinishedRun:
    """A run that has trained to its end, with its data set and the cache it used."""

    root: Path
    data: Path
    cache: Path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Eighty phantoms and a tiny network trained on them for one epoch; read it, and copy it to change it."""
    from trainer.config import from_argv
    from trainer.console import Reporter
    from trainer.data.synthetic import write_phantoms
    from trainer.ranklog import RankLog
    from trainer.train import train
    from trainer.world import World

    folder = tmp_path_factory.mktemp("finished")
    run = FinishedRun(folder / "r", folder / "data", folder / "cache")
    write_phantoms(run.data, images=80, side=48)
    recipe = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --epochs 1 --batch-size 8 --device cpu"
    flags = f"--split patients:50/25/25 --data {run.data} --output {folder} --cache-dir {run.cache} --name r"
    train(from_argv([*recipe.split(), *flags.split()]), World(), Reporter(0), RankLog(0))
    return run
