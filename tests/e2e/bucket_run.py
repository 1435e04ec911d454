"""A job of two pods whose run lies in the bucket: what it has reached, and what its results hash to."""

import hashlib
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cluster_site import TINY, Site, wait_until

RECIPE = [*TINY[: TINY.index("--batch-size")], "--batch-size", "2"]
STEPS_AN_EPOCH = 14
"""Of two workers with 2 images each: 56 of the 90 phantoms are for training. A fault comes in the middle of an epoch."""

EPOCHS = 40
LAST_STEP = EPOCHS * STEPS_AN_EPOCH
OFTEN = ("--checkpoint-every-steps", "5")

JOB = ["--accelerator", "cpu", "--workers", "2", "--data-access", "api"]
STANDING = {"LAUNCHER_WORKERS_PER_NODE": "1", "LAUNCHER_ENV": '["OMP_NUM_THREADS=1"]'}
"""Settings that a run does not tell, on which the last bits depend: how many threads add up. One is quickest on a busy machine."""

MODEL = "model/model.safetensors"


@dataclass(frozen=True)
class Training:
    """A job as it looks from outside: its pods, and its run's files on the S3 server's disk."""

    site: Site
    name: str
    folder: Path

    def submit(self, data, *flags, epochs=EPOCHS, job=()):
        """With these flags of the trainer, and of the job."""
        recipe = [*RECIPE, "--epochs", epochs, *flags]
        self.site.launcher("submit", *JOB, *job, "--data", data, "--name", self.name, "--", *recipe, **STANDING)

    @property
    def step(self):
        """The newest checkpoint's; 0 before the first."""
        return max([0, *(int(path.parent.name[5:]) for path in self.folder.glob("checkpoints/*/manifest.json"))])

    def trains(self):
        """Wait until a third is done."""
        wait_until(f"{self.name} trains", lambda: self.step >= LAST_STEP // 3)

    def lines(self):
        """What rank 0 has said in all its starts, with the time of each line."""
        for line in (self.folder / "logs/rank-00000.log").read_text().splitlines():
            moment, _, text = line.partition(" ")
            yield time_of(moment), text

    def said(self, pattern):
        """The groups of each line that matches."""
        return [match[1] for _, text in self.lines() if (match := re.search(pattern, text))]

    def starts(self):
        """When the containers that are there were started."""
        for pod in self.site.pods(self.name):
            for status in pod["status"].get("containerStatuses", []):
                for state in status["state"].values():
                    if "startedAt" in state:
                        yield time_of(state["startedAt"])

    def outcome(self):
        """The run's results by what they hash to; all that a fault may not change."""
        state = f"checkpoints/step-{LAST_STEP:08d}/state.pt"
        keys = [MODEL, "predictions/val.csv", "predictions/test.csv", state]
        return {key: sha256(self.folder / key) for key in keys}

    def tell_how_soon(self, fault):
        """Print how long after the fault, and after the start of the container that came of it, the first step was taken."""
        first = next(moment for moment, text in self.lines() if text.startswith("training 1/") and moment > fault)
        started = max(self.starts())
        soon = f", {(first - started).total_seconds():.0f} s after the new pod's start" if started > fault else ""
        print(
            f"{self.name}: first step {(first - fault).total_seconds():.0f} s after the fault{soon} "
            f"({os.getloadavg()[0]:.0f} processes want {os.cpu_count()} cores)"
        )


def time_of(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def sha256(path):
    """Of the file; of weights without their header, which names the run."""
    content = path.read_bytes()
    if path.name == Path(MODEL).name:
        content = content[
            8 + int.from_bytes(content[:8], "little") :
        ]  # the format's: length of the header, header, tensors
    return hashlib.sha256(content).hexdigest()
