"""A run that is to go on: what it has left of itself, the settings that make its job again, and what speaks against it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from launcher.runs.locate import Report, Run
from launcher.settings.sources import EXAMPLES, PROJECT_FILE
from launcher.spec.job import OWNED_FLAGS, JobSpec
from trainer.config import TrainConfig, to_argv
from trainer.errors import InputError, listing, on_one_line
from trainer.formats.documents import checked, run_record
from trainer.layout import RESULTS, RUN
from trainer.location import Location
from trainer.runs.manifest import Manifest, committed
from trainer.runs.record import decisive_settings
from trainer.runs.record import differences as recorded_differences
from trainer.storage import Storage

ACCELERATORS: Final = {"cpu": "cpu", "cuda": "cuda", "hpu": "gaudi"}
"""What users ask for, by the trainer's device."""

_WHETHER: Final = "--resume"


@dataclass(frozen=True)
class EarlierRun:
    """What a run has left of itself."""

    url: str
    record: Mapping[str, Any] | None
    """Its run.json."""
    newest: Manifest | None
    is_scored: bool
    """Whether its results are there, which are written last."""

    @property
    def prospect(self) -> str:
        """What a start will do."""
        if self.newest is None:
            return "has no checkpoint and begins anew"
        return f"goes on from step {self.newest.step}"


def read_earlier_run(run: Run, storage: Storage, report: Report) -> EarlierRun:
    """What lies in the run's prefix. Raises: InputError also where no checkpoint is whole; DamagedError, RemoteError."""
    damaged: list[str] = []
    manifests = committed(storage, damaged.append)
    for each in damaged:
        report(each)
    if damaged and not manifests:  # the trainer would not begin anew over them
        raise InputError(
            f"cannot resume `{run.name}`: all its checkpoints are damaged",
            hint="put their manifests there again from a copy; launcher clone, or submit with another --name, starts another run",
        )
    return EarlierRun(run.url, _record(storage), manifests[-1] if manifests else None, bool(storage.keys(RESULTS)))


def _record(storage: Storage) -> Mapping[str, Any] | None:
    record = run_record(storage)
    if record is not None and not {"config", "identity"} <= record.keys():
        raise InputError(f"cannot read `{storage.url}/{RUN}`: it is no record of a run")
    return record


def settings_of(name: str, found: EarlierRun) -> dict[str, str | list[str]]:
    """The settings that a run tells of itself: what it trains on, with how many workers, and its recipe.

    Raises: InputError where there is no record, or one of another version.
    """
    if found.record is None:
        raise InputError(
            f"cannot resume `{name}`: its job is gone, and no record of the run lies at `{found.url}/{RUN}`",
            hint=f"launcher submit --name {name} starts it with the settings that you give",
        )
    try:
        config = TrainConfig(**checked(found.record["config"], TrainConfig, "config"))  # type: ignore[arg-type]  # its fields
        device, workers = ACCELERATORS[found.record["device"]], found.record["world_size"]
    except (TypeError, KeyError, ValueError) as problem:
        raise InputError(
            f"cannot resume `{name}`: `{found.url}/{RUN}` was written by another version ({on_one_line(str(problem)[:200])})",
            hint=f"resume it with that version, or launcher submit --name {name} with the settings that you give",
        ) from problem
    flags = [flag for flag in to_argv(config) if flag.partition("=")[0] not in OWNED_FLAGS]
    settings: dict[str, str | list[str]] = {"accelerator": device, "workers": str(workers), "train_flags": flags}
    return settings | ({"data": config.data, "data_access": "api"} if Location(config.data).is_bucket else {})


def may_go_on(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without `--resume never`, by which a run wanted to be new at its first start."""
    kept, skip = [], False
    for flag in settings.get("train_flags", ()):
        if not skip and flag.partition("=")[0] != _WHETHER:
            kept.append(flag)
        skip = flag == _WHETHER
    return {key: value for key, value in settings.items() if key != "train_flags"} | (
        {"train_flags": kept} if kept else {}
    )


def check_complete(name: str, given: set[str]) -> None:
    """Refuse to resume with less than a job needs. Raises: InputError that names all that is missing."""
    missing = [key for key in EXAMPLES if key not in given and not (key == "data" and "data_pvc" in given)]
    if missing:
        raise InputError(
            f"cannot resume `{name}`: its job is gone, the run does not tell {', '.join(f'`{key}`' for key in missing)}, and no "
            "setting does",
            hint=f"{' '.join(f'--set {key}={EXAMPLES[key]}' for key in missing)}, or lines `key: value` in {PROJECT_FILE}",
        )


def check(job: JobSpec, found: EarlierRun) -> None:
    """Refuse what the trainer would refuse, or could only end at once. Raises: InputError."""
    other = f"launcher clone {job.name} --set … starts another run, where its job is still there; else launcher submit"
    other_settings = differences(job, found.record) if found.record else []
    if other_settings:
        raise InputError(
            f"cannot resume `{job.name}`: its run was started with other settings:{listing(other_settings)}", hint=other
        )
    if found.newest and found.is_scored and _is_last(found.newest, job.train):
        raise InputError(
            f"cannot resume `{job.name}`: there is nothing left to train, it has reached its last step {found.newest.step}",
            hint=f"launcher pull {job.name} fetches its results; {other}",
        )


def differences(job: JobSpec, record: Mapping[str, Any], *, ignored: Collection[str] = ()) -> list[str]:
    """Settings that decide a run's numbers and differ between its record and the job; the trainer compares the same way."""
    train = job.train
    precision = None if train.precision == "auto" else train.precision  # the record has the resolved value
    now = decisive_settings(train, precision=precision, global_batch=train.batch_per_worker(job.workers) * job.workers)
    return recorded_differences(record["identity"], {key: value for key, value in now.items() if key not in ignored})


def _is_last(newest: Manifest, config: TrainConfig) -> bool:
    return newest.epoch >= config.epochs or (config.max_steps is not None and newest.step >= config.max_steps)
