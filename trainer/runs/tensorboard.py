"""Curves of a run as TensorBoard's event files, so that they can be watched while it trains.

Each publication is a new small file: a TensorBoard that is open goes on reading the file it has opened, and would not see another
that took its name. So a run has a file for each epoch (or checkpoint) of each start, and memory holds what came since the last:
30 epochs of 5,000 steps, logged every 20, come to 7,500 events of about 70 bytes, in 30 files.
"""

import io
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from trainer.layout import TENSORBOARD

_VERSION: Final = "brain.Event:2"
"""What each file starts with. Source: TensorBoard's event_file_writer; from version 2 on it heeds SessionLog."""


class Curves:
    """The scalars of one start of a run, gathered until they are taken."""

    def __init__(self, *, first_step: int, started_s: float, clock: Callable[[], float] = time.time) -> None:
        """A start that trains from `first_step` on: what an earlier start wrote of these steps is purged by TensorBoard.

        `started_s`, seconds since 1970, names the files, so that they are read in the order of the starts.
        """
        self._first_step: int | None = first_step
        self._started_s = started_s
        self._clock = clock
        self._files = 0
        self._waiting: list[tuple[float, int, dict[str, float]]] = []

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Note values by tag, those left out that are no number."""
        numbers = {tag: value for tag, value in values.items() if value is not None and math.isfinite(value)}
        if numbers:
            self._waiting.append((self._clock(), step, numbers))

    def take(self) -> tuple[str, bytes] | None:
        """Key and content of a new event file with what was added since the last one; None when nothing was."""
        if not self._waiting:
            return None
        name = f"events.out.tfevents.{self._started_s:010.0f}.{self._files:06d}"
        content = _records(self._waiting, self._first_step)
        self._waiting, self._first_step = [], None
        self._files += 1
        return TENSORBOARD + name, content


def of_epoch(entry: Mapping[str, Any]) -> dict[str, float | None]:
    """Values by tag of an entry of the run's history."""
    values: dict[str, float | None] = {
        "train/epoch_loss": entry["train_loss"],
        "train/images_per_s": entry["images_per_s"],
        "train/data_wait_share": entry["data_wait_share"],
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
    # here, for they take a third of a second to load and only the primary needs them
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
