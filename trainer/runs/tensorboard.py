"""Curves of a run as TensorBoard event files, to watch during training.

Each write makes a new small file: TensorBoard keeps reading a file that it has opened, and would miss a replacement
of the same name. So a run has one file per epoch (or checkpoint) of each attempt, and only events since the last one
are in memory: 30 epochs of 5,000 steps, logged every 20 steps, give 7,500 events of about 70 bytes, in 30 files.
"""

import io
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from trainer.layout import TENSORBOARD

_VERSION: Final = "brain.Event:2"
"""First record of each file. Source: TensorBoard's event_file_writer; from version 2 on it observes SessionLog."""


class Curves:
    """Scalars of one attempt, collected until they are taken."""

    def __init__(self, *, first_step: int, started_s: float, clock: Callable[[], float] = time.time) -> None:
        """An attempt that trains from `first_step` on: TensorBoard purges what an earlier attempt wrote for later steps.

        `started_s`, Unix time, names the files, so that they are read in the order of the attempts.
        """
        self._first_step: int | None = first_step
        self._started_s = started_s
        self._clock = clock
        self._files = 0
        self._collected: list[tuple[float, int, dict[str, float]]] = []

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Add values by tag; missing and non-finite ones are dropped."""
        numbers = {tag: value for tag, value in values.items() if value is not None and math.isfinite(value)}
        if numbers:
            self._collected.append((self._clock(), step, numbers))

    def take(self) -> tuple[str, bytes] | None:
        """Key and content of a new event file with the values added since the last one; None without any."""
        if not self._collected:
            return None
        name = f"events.out.tfevents.{self._started_s:010.0f}.{self._files:06d}"
        content = _records(self._collected, self._first_step)
        self._collected, self._first_step = [], None
        self._files += 1
        return TENSORBOARD + name, content


def of_epoch(entry: Mapping[str, Any]) -> dict[str, float | None]:
    """Values by tag of an entry of the run's history."""
    values: dict[str, float | None] = {
        "train/epoch_loss": entry["train_loss"],
        "train/images_per_s": entry["images_per_s"],
        "train/data_wait_share": entry["data_wait_share"],
        "train/peak_memory_bytes": entry.get("peak_memory_bytes"),
    }
    val = entry["val"]
    if val is None:
        return values
    values |= {"val/loss": val["loss"], "val/auroc": val["mean_auroc"]}
    values |= {f"auroc/{finding}": value for finding, value in val["auroc"].items()}
    if "accuracy" in val:
        values["val/accuracy"] = val["accuracy"]["value"]
    return values


def _records(scalars: list[tuple[float, int, dict[str, float]]], first_step: int | None) -> bytes:
    # imported here: takes 0.3 s, and only rank 0 needs it
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # noqa: PLC0415
    from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415
    from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

    start_s = scalars[0][0]
    events = [Event(wall_time=start_s, file_version=_VERSION)]
    if first_step is not None:
        events.append(Event(wall_time=start_s, step=first_step, session_log=SessionLog(status=SessionLog.START)))
    for at_s, step, numbers in scalars:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        events.append(Event(wall_time=at_s, step=step, summary=Summary(value=values)))
    content = io.BytesIO()
    writer = RecordWriter(content)
    for event in events:
        writer.write(event.SerializeToString())
    return content.getvalue()
