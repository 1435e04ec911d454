"""run.json: settings and versions of a run, and the check that a later start may resume it."""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trainer
from trainer.config import TrainConfig
from trainer.data.positive_class import earlier_positive_class
from trainer.errors import InputError, listing
from trainer.formats.documents import run_record, shown
from trainer.label_choices import NAMES
from trainer.layout import RUN
from trainer.redaction import cleaned
from trainer.storage import Storage

if TYPE_CHECKING:  # the launcher reads records without numpy
    from trainer.data.labels import LabelTable

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
            "gaudi_mode",
            "compile",
            "activation_memory",
            "profile",
            "parity_check",
            "preflight",
        ),
        *("checkpoint_every_steps", "checkpoint_every_minutes", "keep_last", "hang_after", "gallery", "report", "card"),
        # the same numbers except for rounding
        "cache_features",
        # their effect is compared instead: names and labels of each split, skipped images, the global batch
        *("layout", "split", "val_list", "on_bad_image", "on_missing_image", "gray_range"),
        *("batch_size", "global_batch_size"),
    }
)
"""Settings that a later start of the same run may change; all others decide the numbers."""

_COMPARED: Final = NAMES - {"findings"}
"""Choices of labels that a description has where they are made."""

BEFORE: Final = {"head": "linear", "backbone": "trained", "unfreeze_after": None, "loss": "bce", "rotate": 0.0}
"""Settings of runs whose record lacks them: they were started before these could be chosen."""


def describe(config: TrainConfig, table: "LabelTable", *, precision: str, global_batch: int) -> dict[str, Any]:
    """What decides the numbers of a run, flat; two starts with equal descriptions are the same run."""
    return decisive_settings(config, precision=precision, global_batch=global_batch) | {
        "findings": list(table.findings),
        "labels_sha256": table.labels_sha256(),
        "split_sha256": table.split_sha256(),
    }


def decisive_settings(config: TrainConfig, *, precision: str | None, global_batch: int) -> dict[str, Any]:
    """The part of `describe` that is known without the data set; `precision` is None where the device decides it.

    It has only those choices of labels that are made, as records of earlier versions have none. Without
    `--positive-class` a run keeps its own.
    """
    values: dict[str, Any] = cleaned({key: value for key, value in asdict(config).items() if key not in NAMES})
    settings = {key: value for key, value in (values | _label_choices(config)).items() if key not in FREE_TO_CHANGE}
    settings.pop("precision")
    if config.positive_class is None:
        settings.pop("positive_class")
    return settings | {"global_batch": global_batch} | ({} if precision is None else {"precision": precision})


def _label_choices(config: TrainConfig) -> dict[str, Any]:
    """Choices of labels that are made; those of findings are compared by their effect, the outputs of the network."""
    made: dict[str, Any] = cleaned(config.given())
    return {key: value for key, value in made.items() if key in _COMPARED}


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In which of the settings `now` a run with the description `recorded` differs, in words; empty where it may be resumed."""
    before, now = BEFORE | cleaned(recorded), cleaned(dict(now))  # earlier versions redacted nothing
    before["positive_class"] = _positive_class(before)
    return [
        f"{key}: {_shown(before.get(key))} in the run, {_shown(now.get(key))} now"
        for key in sorted(now.keys() | (before.keys() & _COMPARED))
        if before.get(key) != now.get(key)
    ]


def _shown(value: object) -> str:
    """A setting, or the settings of a flag that may be given several times."""
    return ", ".join(map(shown, value)) if isinstance(value, list) else shown(value)


def positive_class(record: Mapping[str, Any], where: str) -> str | None:
    """The positive class of the run of this record, at `where`; None for independent findings.

    Raises: InputError for one that is no class of the run.
    """
    identity = record.get("identity", {})
    recorded = _positive_class(identity)
    if recorded is not None and recorded not in identity.get("findings", []):
        raise InputError(
            f"cannot resume the run at `{where}`: its {RUN} names `{shown(recorded)}` as the positive class, which is "
            "none of its classes",
            hint="give another --name",
        )
    return recorded


def _positive_class(identity: Mapping[str, Any]) -> str | None:
    """The positive class of a run with this description, also of one of an earlier version, which did not record it."""
    recorded: str | None = identity.get("positive_class")
    if recorded is not None or identity.get("loss") != "cross_entropy" or not identity.get("findings"):
        return recorded
    return earlier_positive_class(identity["findings"])


def check_same(storage: Storage, description: Mapping[str, Any]) -> None:
    """Refuse to resume a run whose record differs from this description; a prefix without a record is accepted.

    Raises: InputError with every difference.
    """
    record = run_record(storage, hint="give another --name")
    if record is None:
        return
    if "identity" not in record:
        raise InputError(
            f"cannot read `{storage.url}/{RUN}`: it is not a valid record of a run", hint="give another --name"
        )
    found = differences(record["identity"], description)
    if found:
        raise InputError(
            f"cannot resume the run at `{storage.url}`: it was started with other settings:{listing(found)}",
            hint="give another --name for another run, or the same settings to resume",
        )


def mode_change(record: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> str | None:
    """A line when a run resumes in another mode than its record names; None otherwise, and where either is unknown.

    A warning on Gaudi only: elsewhere modes differ by rounding.
    """
    for key, flag in (("gaudi_mode", "--gaudi-mode"), ("mode", "--compile")):
        before, now = (record or {}).get(key), facts.get(key)
        if before and now and before != now:
            change = f"mode `{shown(before)}` and resumes in `{now}` (`{flag}`): results"
            if key == "mode":
                return f"the run was trained in the {change} differ by rounding"
            return f"warning: the run was trained in Gaudi's {change} may differ by more than rounding; --parity-check N compares it with the CPU"
    return None


def parity_facts(storage: Storage, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The passed parity check of an earlier start with this description; empty without one.

    A start without a checkpoint replaces the record, whatever it is.
    """
    try:
        record = run_record(storage) or {}
    except InputError:
        return {}
    if "parity_passed" not in record or differences(record.get("identity", {}), identity):
        return {}
    return {"parity_passed": record["parity_passed"]}


def note_parity_passed(storage: Storage, passed: Mapping[str, Any]) -> None:
    """Add a passed parity check to the record of the run that this start has written."""
    storage.write(RUN, json.dumps((run_record(storage) or {}) | {"parity_passed": dict(passed)}, indent=1).encode())


def write(
    storage: Storage,
    config: TrainConfig,
    identity: Mapping[str, Any],
    facts: Mapping[str, Any],
    libraries: Mapping[str, str],
) -> None:
    """Write run.json: settings, what decides the numbers, versions (those of `libraries` too), and facts about this start.

    The fields of the model card are among the facts, as a later start without `--card` keeps them.
    """
    record = {
        "name": config.name,
        "config": {key: value for key, value in cleaned(asdict(config)).items() if key != "card"},
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
    folder = Path(trainer.__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
