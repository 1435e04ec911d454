"""Comparison of several runs: times, scores and speed-up by number of workers."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from trainer.errors import on_one_line
from trainer.evaluation.document import Interval, Proportion
from trainer.formats.spreadsheet import line
from trainer.report.documents import Documents
from trainer.report.formatting import last_name

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
    "part",
    "data",
    "images",
)
"""Columns of scaling.csv, in order."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """One of the compared runs."""

    run: str
    model: str
    device: str
    workers: int | None
    global_batch: int | None
    elapsed_s: float | None
    """Training and validation over all attempts, without reading data at the start and the final evaluation."""
    images_per_s: float | None
    speed_up: float | None = None
    """Relative to the run with the fewest workers that did the same work."""
    efficiency: float | None = None
    """Speed-up divided by the ratio of workers; 1 is perfect."""
    accuracy: Proportion | None = None
    mean_auroc: Interval | None = None
    part: str | None = None
    """Split of accuracy and AUROC: `test`, otherwise `val`."""
    data: str | None = None
    """Name of the data set."""
    images: int | None = None
    """Number of images of accuracy and AUROC."""
    scored: str = ""
    """Equal for runs evaluated on exactly the same images: only their accuracy and AUROC are comparable."""
    peak_device_memory_bytes: int | None = None
    utilisation: float | None = None


def scaled(runs: Sequence[Documents]) -> list[Size]:
    """A row per run, sorted by model and number of workers; speed-up is relative to the smallest run that did the same work."""
    rows = sorted(
        ((_size(one), _work(one)) for one in runs),
        key=lambda pair: (pair[0].model, pair[1], pair[0].workers or 0, pair[0].run),
    )
    smallest: dict[str, Size] = {}
    rows_scaled = []
    for row, work in rows:
        if row.workers and row.elapsed_s:
            smallest.setdefault(work, row)
        rows_scaled.append(_over(row, smallest.get(work)))
    return rows_scaled


def as_csv(rows: Sequence[Size]) -> str:
    """CSV; empty where a number is unknown."""
    lines = [line(COLUMNS)]
    for row in rows:
        values = asdict(row) | {"accuracy": _value(row.accuracy), "mean_auroc": _value(row.mean_auroc)}
        lines.append(line(on_one_line(cell) if isinstance(cell, str) else cell for cell in map(values.get, COLUMNS)))
    return "".join(lines)


def as_json(rows: Sequence[Size]) -> str:
    """JSON, with intervals."""
    shown = [{key: value for key, value in asdict(row).items() if key != "scored"} for row in rows]
    return json.dumps(shown, indent=1)


def _value(one: Interval | Proportion | None) -> float | None:
    return None if one is None else one["value"]


def _size(one: Documents) -> Size:
    part, accuracy, mean_auroc = _scores(one)
    return Size(
        run=one.name,
        model=str(one.result("model") or one.setting("model") or "unknown"),
        device=str(one.result("device") or one.setting("device") or "unknown"),
        workers=_whole(one.result("world_size")) or _whole(one.run.get("world_size")),
        global_batch=_whole(one.result("global_batch")) or _whole(one.setting("global_batch")),
        elapsed_s=elapsed_s(one),
        images_per_s=_number(one.result("images_per_s")) or _middle(one.entries, "images_per_s"),
        accuracy=accuracy,
        mean_auroc=mean_auroc,
        part=part,
        data=last_name(str(one.setting("data"))) if one.setting("data") else None,
        images=_images(one, part),
        scored=json.dumps([part, _images(one, part), *(one.setting(key) for key in ("labels_sha256", "split_sha256"))]),
        peak_device_memory_bytes=_whole(one.result("peak_device_memory_bytes"))
        or None,  # 0 means that the device does not report it
        utilisation=_number(one.result("utilisation")),
    )


def _images(one: Documents, part: str | None) -> int | None:
    if one.evaluation is not None:
        return one.evaluation["data"]["images"]
    return _whole(one.result(part, "images")) if part else None


def elapsed_s(one: Documents) -> float | None:
    """Seconds of training and validation; None where an epoch has none recorded."""
    total_s = _number(one.result("training_s"))
    if total_s is not None:
        return total_s
    seconds = [_number(entry.get("seconds")) for entry in one.entries]
    known = [value for value in seconds if value is not None]
    return sum(known) if known and len(known) == len(seconds) else None


def _scores(one: Documents) -> tuple[str | None, Proportion | None, Interval | None]:
    """Split, accuracy and mean AUROC: of the evaluation with intervals, otherwise of the run's results."""
    if one.evaluation is not None:
        classes = one.evaluation["classes"]
        return one.evaluation["data"]["part"], classes["accuracy"] if classes else None, one.evaluation["mean_auroc"]
    for part in ("test", "val"):
        if isinstance(one.result(part), Mapping):
            value = _number(one.result(part, "mean_auroc"))
            accuracy = one.result(part, "classes", "accuracy") or one.result(part, "accuracy")
            mean = Interval(value=value, low=None, high=None)
            return part, accuracy if isinstance(accuracy, dict) else None, mean  # type: ignore[return-value] # our own JSON
    return None, None, None


def _work(one: Documents) -> str:
    """Key of runs with comparable elapsed times: same model, data, length and kind of device."""
    keys = ["model", "head", "backbone", "epochs", "max_steps", "crop_px", "precision", "labels_sha256", "split_sha256"]
    work = {key: one.setting(key) for key in keys}
    if work["max_steps"] is not None:
        work["global_batch"] = one.setting("global_batch")  # the same number of steps with larger batches is more work
    device = one.result("device") or one.setting("device")
    return json.dumps([device, one.result("last_step") is None, work], sort_keys=True, default=str)


def _over(row: Size, smallest: Size | None) -> Size:
    if smallest is None or not (row.workers and row.elapsed_s and smallest.workers and smallest.elapsed_s):
        return row
    speed_up = smallest.elapsed_s / row.elapsed_s
    efficiency = speed_up * smallest.workers / row.workers
    return Size(**{**vars(row), "speed_up": speed_up, "efficiency": efficiency})


def _middle(entries: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [value for entry in entries if (value := _number(entry.get(key))) is not None]
    return statistics.median(values) if values else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
