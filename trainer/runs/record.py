"""run.json: what a run was told, what it ran on, and whether a later start may go on with it."""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import trainer
from trainer.config import TrainConfig
from trainer.data.labels import LabelTable
from trainer.errors import InputError, listing
from trainer.formats.documents import run_record, shown
from trainer.layout import RUN
from trainer.redaction import cleaned
from trainer.storage import Storage

FREE_TO_CHANGE: Final = frozenset(
    {
        *(
            "name",
            "data",
            "output",
            "cache_dir",
            "resume",
            "max_steps",
            "deadline",
            "log_every_steps",
            "preset",
            "device",
        ),
        *("checkpoint_every_steps", "checkpoint_every_minutes", "keep_last", "hang_after", "gallery", "report"),
        # the same numbers but for rounding
        "cache_features",
        # what they lead to is compared: names and labels of each split, images left out, the global batch
        *("layout", "split", "val_list", "on_bad_image", "batch_size", "global_batch_size"),
    }
)
"""Settings that a later start of the same run may give differently; all others decide the numbers."""

BEFORE: Final = {"head": "linear", "backbone": "trained", "unfreeze_after": None, "loss": "bce", "rotate": 0.0}
"""What runs were that do not say it: they were started before these could be chosen."""


def describe(config: TrainConfig, table: LabelTable, *, precision: str, global_batch: int) -> dict[str, Any]:
    """What decides the numbers of a run, flat; two starts with equal descriptions are the same run."""
    settings = {key: value for key, value in cleaned(asdict(config)).items() if key not in FREE_TO_CHANGE}
    return settings | {
        "precision": precision,
        "global_batch": global_batch,
        "findings": list(table.findings),
        "labels_sha256": table.labels_sha256(),
        "split_sha256": table.split_sha256(),
    }


def check_same(storage: Storage, description: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose record says otherwise of any of these; a prefix without a record is fine.

    Raises: InputError with every difference.
    """
    there = run_record(storage, hint="give another --name")
    if there is None:
        return
    if "identity" not in there:
        raise InputError(f"cannot read `{storage.url}/{RUN}`: it is no record of a run", hint="give another --name")
    before, now = BEFORE | cleaned(there["identity"]), cleaned(dict(description))  # earlier versions redacted nothing
    differences = [
        f"{key}: {shown(before.get(key))} there, {shown(now.get(key))} now"
        for key in sorted(now)
        if before.get(key) != now.get(key)
    ]
    if differences:
        raise InputError(
            f"cannot go on with the run at `{storage.url}`: it was started with other settings:{listing(differences)}",
            hint="give another --name for another run, or the same settings to go on",
        )


def write(
    storage: Storage,
    config: TrainConfig,
    identity: Mapping[str, Any],
    facts: Mapping[str, Any],
    libraries: Mapping[str, str],
) -> None:
    """Write run.json: settings, what decides the numbers, versions (those of `libraries` too), and facts about this start."""
    record = {
        "name": config.name,
        "config": cleaned(asdict(config)),
        "identity": dict(identity),
        "versions": {
            "trainer": trainer.__version__,
            "git_commit": git_commit(),
            "python": platform.python_version(),
            **libraries,
        },
        **facts,
    }
    storage.write(RUN, json.dumps(record, indent=1).encode())


def git_commit() -> str | None:
    """The commit of this program's own checkout, None where it is installed without one."""
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
