"""Resume a run: read its files, restore the settings of its job, and check that it can continue."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from launcher.runs.locate import Report, Run
from launcher.settings.sources import EXAMPLES, OF_A_JOB, PROJECT_FILE
from launcher.spec.accelerators import hardware
from launcher.spec.job import OWNED_FLAGS, JobSpec, without_flag
from trainer.config import Mode, TrainConfig, from_document, to_argv
from trainer.errors import InputError, listing, on_one_line
from trainer.formats.documents import checked, run_record
from trainer.layout import RESULTS, RUN
from trainer.location import Location
from trainer.runs.manifest import Manifest, committed
from trainer.runs.record import decisive_settings
from trainer.runs.record import differences as recorded_differences
from trainer.storage import Storage

ACCELERATORS: Final = {"cpu": "cpu", "cuda": "cuda", "hpu": "gaudi"}
"""Value of `--accelerator` by the trainer's device."""

_RESUME_FLAG: Final = "--resume"


@dataclass(frozen=True)
class EarlierRun:
    """Files of an earlier run that decide whether it can resume."""

    url: str
    record: Mapping[str, Any] | None
    """Its run.json."""
    newest: Manifest | None
    is_scored: bool
    """Whether it has results, which are written last."""

    @property
    def prospect(self) -> str:
        """What a new start does, as the end of a sentence."""
        if self.newest is None:
            return "has no checkpoint and starts from the beginning"
        return f"resumes from step {self.newest.step}"


def read_earlier_run(run: Run, storage: Storage, report: Report) -> EarlierRun:
    """Read the run's files. Raises: InputError, also when all checkpoints are damaged; DamagedError, RemoteError."""
    damaged: list[str] = []
    manifests = committed(storage, damaged.append)
    for each in damaged:
        report(each)
    if damaged and not manifests:  # the trainer refuses to start from the beginning over damaged checkpoints
        raise InputError(
            f"cannot resume `{run.name}`: all its checkpoints are damaged",
            hint="restore their manifests from a copy, or start another run: launcher clone, or submit with another --name",
        )
    return EarlierRun(run.url, _record(storage), manifests[-1] if manifests else None, RESULTS in storage.keys(RESULTS))


def _record(storage: Storage) -> Mapping[str, Any] | None:
    record = run_record(storage)
    if record is not None and not {"config", "identity"} <= record.keys():
        raise InputError(
            f"cannot read `{storage.url}/{RUN}`: it is not a valid record of a run: it lacks `config` or `identity`"
        )
    return record


def settings_of(name: str, earlier: EarlierRun) -> dict[str, str | list[str]]:
    """The settings in a run's record: accelerator, workers, data and trainer flags.

    Raises: InputError without a record, or for one of another version.
    """
    if earlier.record is None:
        raise InputError(
            f"cannot resume `{name}`: its job was deleted, and there is no record of the run at `{earlier.url}/{RUN}`",
            hint=f"launcher submit --name {name}, with its settings",
        )
    try:
        config = from_document(checked(earlier.record["config"], TrainConfig, "config"))  # type: ignore[arg-type]  # its fields
        device, workers = ACCELERATORS[earlier.record["device"]], earlier.record["world_size"]
    except (TypeError, KeyError, ValueError) as problem:
        raise InputError(
            f"cannot resume `{name}`: `{earlier.url}/{RUN}` was written by another version ({on_one_line(str(problem)[:200])})",
            hint=f"resume it with that version, or launcher submit --name {name}, with its settings",
        ) from problem
    flags = [flag for flag in to_argv(config) if flag.partition("=")[0] not in OWNED_FLAGS]
    settings: dict[str, str | list[str]] = {"accelerator": device, "workers": str(workers), "train_flags": flags}
    mode = earlier.record.get("gaudi_mode")
    if mode in get_args(Mode) and mode != hardware("gaudi", "2").mode:
        settings["gaudi_mode"] = str(mode)
    return settings | ({"data": config.data, "data_access": "api"} if Location(config.data).is_bucket else {})


def without_resume_flag(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the trainer's `--resume`, which may require a new run and would refuse this one."""
    kept = without_flag(settings.get("train_flags", ()), _RESUME_FLAG)
    return {key: value for key, value in settings.items() if key != "train_flags"} | (
        {"train_flags": kept} if kept else {}
    )


def check_complete(name: str, given: set[str]) -> None:
    """Check that all required settings are given. Raises: InputError that names all missing ones."""
    missing = [key for key in OF_A_JOB if key not in given and not (key == "data" and "data_pvc" in given)]
    if missing:
        raise InputError(
            f"cannot resume `{name}`: its job was deleted, and neither the run's record nor a setting gives "
            f"{', '.join(f'`{key}`' for key in missing)}",
            hint=f"{' '.join(f'--set {key}={EXAMPLES[key]}' for key in missing)}, or lines `key: value` in {PROJECT_FILE}",
        )


def check(job: JobSpec, earlier: EarlierRun) -> None:
    """Reject a job that the trainer would refuse, or that has nothing to train. Raises: InputError."""
    other = f"start another run: launcher clone {job.name} --set … if its job still exists, else launcher submit"
    other_settings = differences(job, earlier.record) if earlier.record else []
    if other_settings:
        raise InputError(
            f"cannot resume `{job.name}`: its run was started with other settings:{listing(other_settings)}", hint=other
        )
    if earlier.newest and earlier.is_scored and _is_last(earlier.newest, job.train):
        raise InputError(
            f"cannot resume `{job.name}`: there is nothing left to train, it has reached its last step {earlier.newest.step}",
            hint=f"launcher pull {job.name} downloads its results; or {other}",
        )


def differences(job: JobSpec, record: Mapping[str, Any], *, ignored: Collection[str] = ()) -> list[str]:
    """Settings that decide a run's numbers and differ between its record and the job; the trainer compares the same way."""
    train = job.train
    precision = None if train.precision == "auto" else train.precision  # the record has the resolved value
    now = decisive_settings(train, precision=precision, global_batch=train.batch_per_worker(job.workers) * job.workers)
    return recorded_differences(record["identity"], {key: value for key, value in now.items() if key not in ignored})


def _is_last(newest: Manifest, config: TrainConfig) -> bool:
    return newest.epoch >= config.epochs or (config.max_steps is not None and newest.step >= config.max_steps)
