"""A run as the trainer leaves it in its prefix, small, for tests of what reads runs."""

import gzip
import hashlib
import json
from dataclasses import asdict
from functools import cache

from trainer.config import TrainConfig, from_argv
from trainer.layout import manifest_key, state_key
from trainer.runs.manifest import Manifest
from trainer.runs.record import decisive_settings
from trainer.storage import Storage, open_storage

STATES = {10: b"state of step 10 " * 900, 20: b"state of step 20 " * 1000, 30: b"state of step 30 " * 1100}
AUROC = {10: 0.61, 20: 0.72, 30: 0.7}

TRAIN_FLAGS = ["--preset", "smoke", "--epochs", "3", "--batch-size", "4"]


@cache
def config(*flags: str) -> TrainConfig:
    """The trainer's settings as they are in a container; parsed once, which takes longer than to write a run."""
    places = ["--data=/data", "--output=/output", "--name=demo", "--cache-dir=/cache", "--device=cpu"]
    return from_argv([*places, *TRAIN_FLAGS, *flags])


def record(*flags: str, world_size: int = 2) -> dict:
    """run.json."""
    settings = asdict(config(*flags))
    identity = decisive_settings(config(*flags), precision="fp32", global_batch=4 * world_size)
    return {
        "name": "demo",
        "config": settings,
        "identity": identity | {"labels_sha256": "0" * 64},
        "world_size": world_size,
        "device": "cpu",
    }


def write_checkpoint(storage: Storage, step: int, content: bytes, auroc: float | None = None) -> None:
    """A state, and the manifest that commits it."""
    storage.write(state_key(step), content)
    manifest = Manifest(
        step=step,
        epoch=step / 10,
        world_size=2,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        val_auroc=auroc,
        val_loss=0.5,
    )
    storage.write(manifest_key(step), json.dumps(asdict(manifest)).encode())


def write_run(output: str, name: str = "demo", *, scored: bool = True) -> Storage:
    """A run of three epochs; `scored` with the results that are written at its end."""
    storage = open_storage(f"{output}/{name}")
    for step, content in STATES.items():
        write_checkpoint(storage, step, content, AUROC[step])
    storage.write("run.json", json.dumps(record()).encode())
    storage.write("split.csv.gz", gzip.compress(b"Image Index,split\n", mtime=0))
    storage.write("metrics.jsonl", b'{"epoch": 1}\n')
    storage.write("logs/rank-00000.log", b"training\n")
    if scored:
        storage.write("results.json", b"{}")
        storage.write("predictions/val.csv", b"Image Index\n")
        storage.write("predictions/test.csv", b"Image Index\n")
        storage.write("model/model.safetensors", b"weights " * 500)
    return storage


SECONDS = {1: 100.0, 2: 62.5, 4: 50.0}
"""How long runs took, by their number of workers."""


def leave_results(output, name, config, workers, **results):
    """What a run of these settings leaves at its end."""
    storage = open_storage(f"{output}/{name}")
    settings = json.loads(json.dumps(asdict(config)))
    identity = decisive_settings(config, precision="fp32", global_batch=config.batch_per_worker(workers) * workers)
    record = {"name": name, "config": settings, "identity": identity, "world_size": workers, "device": "cpu"}
    write_checkpoint(storage, 30, b"state", 0.7)
    storage.write("run.json", json.dumps(record).encode())
    document = {"model": config.model, "training_s": SECONDS[workers], "test": {"mean_auroc": 0.8}} | results
    storage.write("report/index.html", b"x")
    storage.write("results.json", json.dumps(document).encode())
