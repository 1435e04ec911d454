"""Table of the runs of a comparison; `trainer report` computes times, speed-up and quality."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from launcher.jobs import interpreter
from launcher.output import document, size, table
from launcher.spec.job import JobSpec
from trainer.errors import InputError
from trainer.formats.spreadsheet import line
from trainer.limits import parsed_json

Form = Literal["table", "json", "csv"]

COLUMNS: Final = (
    "run",
    "model",
    "workers",
    "global_batch",
    "elapsed_s",
    "images_per_s",
    "speed_up",
    "efficiency",
    "accuracy",
    "mean_auroc",
    "peak_device_memory_bytes",
    "utilisation",
)
"""Columns of CSV and JSON in this order, with the meanings of the trainer's scaling.csv."""

NOTHING: Final = "-"


def numbers(names: Sequence[str], folder: Path) -> dict[str, Mapping[str, Any]]:
    """Numbers of `trainer report` for the runs in `folder` by name; speed-up is relative to the smallest with the same work.

    Raises: InputError when it fails.
    """
    if not names:
        return {}
    command = [sys.executable, "-m", "trainer", "report", *(str(folder / name) for name in names), "--format", "json"]
    environment = os.environ | interpreter.environment()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, env=environment)
    if done.returncode:
        raise InputError(
            f"cannot compare the runs in `{folder}`: `trainer report` failed with exit code {done.returncode}, see the lines above",
            hint="run the same command again to compare them",
        )
    return {str(row["run"]): row for row in parsed_json(done.stdout)}


def shown(members: Sequence[JobSpec], values: Mapping[str, Mapping[str, Any]], form: Form) -> str:
    """One row for each run; a missing value is null, an empty field or `-`."""
    rows = [_row(job, values.get(job.name, {})) for job in members]
    if form == "json":
        return document({"runs": rows}, form)
    if form == "csv":
        return "".join([line(COLUMNS), *(line(row.values()) for row in rows)])
    return table([_cells(row) for row in rows], empty="no runs")


def _row(job: JobSpec, computed: Mapping[str, Any]) -> dict[str, Any]:
    own = {
        "run": job.name,
        "model": job.train.model,
        "workers": job.workers,
        "global_batch": job.train.batch_per_worker(job.workers) * job.workers,
    }
    scores = {key: (computed.get(key) or {}).get("value") for key in ("accuracy", "mean_auroc")}
    values = {**computed, **scores, **own}
    return {key: values.get(key) for key in COLUMNS}


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    def cell(key: str, formatted: Callable[[Any], str]) -> str:
        return NOTHING if row[key] is None else formatted(row[key])

    return {
        "model": row["model"],
        "workers": str(row["workers"]),
        "batch": str(row["global_batch"]),
        "elapsed s": cell("elapsed_s", "{:.2f}".format),
        "speed-up": cell("speed_up", "{:.2f}".format),
        "efficiency": cell("efficiency", "{:.2f}".format),
        "images/s": cell("images_per_s", "{:.1f}".format),
        "accuracy": cell("accuracy", "{:.2%}".format),
        "mean auroc": cell("mean_auroc", "{:.4f}".format),
        "peak memory": cell("peak_device_memory_bytes", size),
        "utilisation": cell("utilisation", "{:.0%}".format),
    }
