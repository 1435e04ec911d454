"""What sizes and models have in common and in what they differ: time, speed-up, efficiency and quality as a table; pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from launcher.runs.checkpoints import size
from launcher.spec.job import JobSpec
from launcher.status.tables import document, table
from trainer.formats.spreadsheet import line

Form = Literal["table", "json", "csv"]
Results = Mapping[str, Any]
"""A run's results.json."""

NOTHING: Final = "-"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run, in columns that the trainer's scaling.csv has too; None is what it does not tell."""

    run: str
    model: str
    workers: int
    global_batch: int
    elapsed_s: float | None
    """Training and validation, over all starts."""
    images_per_s: float | None
    speed_up: float | None
    """How many times faster than the smallest size of its model that did as much and has a time."""
    efficiency: float | None
    """Speed-up over how many times more workers; 1 is perfect."""
    accuracy: float | None
    """Of the test images, else of the validation's; so is AUROC."""
    mean_auroc: float | None
    peak_device_memory_bytes: int | None
    utilisation: float | None
    """Of the device, 0 to 1."""


def rows(members: Sequence[JobSpec], found: Mapping[str, Results]) -> list[Row]:
    """One row for each run, in their order."""
    return [_row(job, found.get(job.name, {}), _smallest(job, members, found)) for job in members]


def _smallest(job: JobSpec, members: Sequence[JobSpec], found: Mapping[str, Results]) -> tuple[int, float] | None:
    """Workers and seconds of the run that those which do as much are compared with."""
    timed = (
        (each.workers, seconds)
        for each in members
        if _work(each) == _work(job) and (seconds := _number(found.get(each.name, {}).get("training_s")))
    )
    return min(timed, default=None)


def _work(job: JobSpec) -> tuple[str, int | None]:
    """Equal for runs that do as much: so many steps of larger batches are more."""
    return job.train.model, _global_batch(job) if job.train.max_steps is not None else None


def _global_batch(job: JobSpec) -> int:
    return job.train.batch_per_worker(job.workers) * job.workers


def _row(job: JobSpec, results: Results, smallest: tuple[int, float] | None) -> Row:
    elapsed_s = _number(results.get("training_s"))
    speed_up = smallest[1] / elapsed_s if smallest and elapsed_s else None
    scores = results.get("test") or results.get("val") or {}
    classes = scores.get("classes") or {}
    memory = _number(results.get("peak_device_memory_bytes"))
    return Row(
        run=job.name,
        model=job.train.model,
        workers=job.workers,
        global_batch=_global_batch(job),
        elapsed_s=elapsed_s,
        images_per_s=_number(results.get("images_per_s")),
        speed_up=speed_up,
        efficiency=speed_up * smallest[0] / job.workers if smallest and speed_up else None,
        accuracy=_number((classes.get("accuracy") or {}).get("value")),
        mean_auroc=_number(scores.get("mean_auroc")),
        peak_device_memory_bytes=int(memory) if memory else None,  # a processor tells 0
        utilisation=_number(results.get("utilisation")),
    )


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def shown(found: Sequence[Row], form: Form) -> str:
    """The comparison for people, or for programs, where what is missing is null, or an empty field."""
    if form == "json":
        return document({"runs": [asdict(each) for each in found]}, form)
    if form == "csv":
        return _as_csv(found)
    return table([_words(each) for each in found], empty="no runs")


def _as_csv(found: Sequence[Row]) -> str:
    return "".join([line(Row.__dataclass_fields__), *(line(asdict(each).values()) for each in found)])


def _words(row: Row) -> dict[str, str]:
    return {
        "model": row.model,
        "workers": str(row.workers),
        "batch": str(row.global_batch),
        "elapsed s": _told(row.elapsed_s, "{:.2f}".format),
        "speed-up": _told(row.speed_up, "{:.2f}".format),
        "efficiency": _told(row.efficiency, "{:.2f}".format),
        "images/s": _told(row.images_per_s, "{:.1f}".format),
        "accuracy": _told(row.accuracy, "{:.2%}".format),
        "mean auroc": _told(row.mean_auroc, "{:.4f}".format),
        "peak memory": NOTHING if row.peak_device_memory_bytes is None else size(row.peak_device_memory_bytes),
        "utilisation": _told(row.utilisation, "{:.0%}".format),
    }


def _told(number: float | None, words: Callable[[float], str]) -> str:
    return NOTHING if number is None else words(number)
