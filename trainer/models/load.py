"""A model that has been trained, with what is known of it: for evaluating, predicting, explaining and exporting.

It is read from a run (a directory, s3://, or what `launcher pull` made of one), one of its checkpoints, a `model.safetensors`,
or a file of weights in a public format. All of it is loaded as data.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import nn

from trainer.data.download import fetch_file
from trainer.data.labels import SPLITS
from trainer.data.records import Geometry
from trainer.errors import InputError, on_one_line
from trainer.evaluation import calibration
from trainer.evaluation.calibration import Calibrator
from trainer.formats import documents, spreadsheet, tables
from trainer.layout import CALIBRATION, MODEL, RUN, SPLIT, STEP_DIGITS, state_key, step_of
from trainer.limits import STATE_BYTES, TEXT_BYTES, LimitError
from trainer.models import tensor_file
from trainer.models.architectures import StateDict, build
from trainer.models.pretrained import checkpoint_weights, read_weights
from trainer.models.spec import (
    WHERE_HINT,
    Loss,
    ModelSpec,
    describe,
    guessed,
    of_header,
    of_record,
    parse_header,
    shapes_of,
)
from trainer.models.tensor_file import NoStateError
from trainer.runs import checkpoints
from trainer.runs.manifest import Manifest, best, committed
from trainer.storage import AbsentError, Storage, open_storage

__all__ = ["LoadedModel", "describe", "load_model"]

_STEP_FOLDER: Final = re.compile(
    rf"(?P<run>.*?)/?checkpoints/step-(?P<step>[0-9]{{8,{STEP_DIGITS}}})(?:/state\.pt)?", re.DOTALL
)

_FILES: Final = (".safetensors", ".pt", ".pth", ".tar", ".ckpt", ".bin")
"""How files of weights are named; in a bucket it is the name that tells a file from a run."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained network, on the processor and in eval mode."""

    origin: str
    """Where it was read, for people: path or address, and step."""
    network: nn.Module
    model: str
    head: str
    findings: tuple[str, ...]
    loss: Loss
    geometry: Geometry
    """How images became the records it was trained on."""
    crop_px: int
    calibrator: Calibrator | None
    trained_on: Mapping[str, str] | None
    """Split (`train`, `val`, `test`) by image name, as `split.csv.gz` of the run says; None where that is unknown."""
    record: Mapping[str, Any] | None
    """run.json of its run."""
    step: int | None
    notes: tuple[str, ...] = ()
    """What nothing says of it, and was assumed."""


def load_model(place: str, *, step: str = "best", cache: Path | None = None) -> LoadedModel:
    """The model at `place`: a run, `RUN/checkpoints/step-…`, a `.safetensors` file, or a file of weights.

    `step` is `best`, `last` or a number, of a run. What must be downloaded to a file goes to `cache`.

    Raises: InputError, RemoteError.
    """
    if not (place and place.isprintable()):
        raise InputError(f"cannot open a model: its place can't be used, got `{on_one_line(place)}`", hint=WHERE_HINT)
    folder = _STEP_FOLDER.fullmatch(place.rstrip("/"))
    if folder:
        _refuse_step(step, place)
        return _of_checkpoint(open_storage(folder["run"] or "."), folder["step"])
    if _is_file(place):
        _refuse_step(step, place)
        return _of_file(place, cache)
    return _of_run(open_storage(place), step)


def _is_file(place: str) -> bool:
    if "://" in place:
        return place.lower().endswith(_FILES)
    try:
        return Path(place).is_file() or (place.lower().endswith(_FILES) and not Path(place).is_dir())
    except OSError:  # a name that no file can have
        return False


def _refuse_step(step: str, place: str) -> None:
    if step != "best":
        raise InputError(
            f"cannot look for step {on_one_line(step)} in `{place}`: it is one model, not a run (from `--step`)",
            hint="leave --step out, or give the run",
        )


def _of_run(storage: Storage, step: str) -> LoadedModel:
    """The model of a run's checkpoint; where no checkpoint is left, as in what `pull --what model` fetched, the exported one."""
    exported = None
    if not committed(storage):
        exported = next((key for key in (MODEL, Path(MODEL).name) if _has(storage, key)), None)
    if exported is None:
        return _of_checkpoint(storage, step)
    trained = _of_safetensors(storage, exported)
    if step not in {"best", str(trained.step)}:
        raise InputError(
            f"cannot open step {on_one_line(step)} of `{storage.url}`: only the model of "
            f"{'its best checkpoint' if trained.step is None else f'step {trained.step}'} is there (from `--step`)",
            hint="leave --step out, or pull the checkpoint",
        )
    return trained


def _nothing_at(storage: Storage) -> InputError:
    if _has(storage, RUN):
        return InputError(
            f"cannot open a model at `{storage.url}`: the run has no checkpoint",
            hint="one is kept at the end of each epoch; wait for it, or go on with the run",
        )
    return InputError(f"cannot open a model at `{storage.url}`: no run there", hint=WHERE_HINT)


def _has(storage: Storage, key: str) -> bool:
    try:
        storage.stat(key)
    except AbsentError:
        return False
    return True


def _of_checkpoint(storage: Storage, step: str) -> LoadedModel:
    manifest = _chosen(storage, step)
    origin = f"{storage.url.rstrip('/')}, step {manifest.step}"
    content = checkpoints.read_state(storage, manifest)
    where = f"{storage.url.rstrip('/')}/{state_key(manifest.step)}"
    state = checkpoint_weights(content, where, step=manifest.step)
    record = _record(storage)
    settings = _untold(state, record, origin)
    exported = _header_of(storage, MODEL)
    belongs = exported.get("step") == str(manifest.step)
    return LoadedModel(
        origin=origin,
        network=_network(settings, state, origin),
        calibrator=_calibrator(storage, CALIBRATION, settings.findings) if belongs else None,
        trained_on=_trained_on(storage),
        record=record,
        step=manifest.step,
        **vars(settings),
    )


def _chosen(storage: Storage, step: str) -> Manifest:
    """The checkpoint that `step` names. Raises: InputError."""
    damaged: list[str] = []
    manifests = committed(storage, damaged.append)
    if step in {"best", "last"}:
        manifest = best(manifests) if step == "best" else next(reversed(manifests), None)
    else:
        number = step_of(step)
        manifest = next((each for each in manifests if number is not None and each.step == number), None)
    if manifest is not None:
        return manifest
    if not manifests:
        raise InputError(damaged[0]) if damaged else _nothing_at(storage)
    there = ", ".join(str(each.step) for each in manifests)
    raise InputError(
        f"cannot open step {on_one_line(step)} of `{storage.url}`: its checkpoints are {there}",
        hint=f"--step best, --step last or --step {manifests[-1].step}",
    )


def _of_file(place: str, cache: Path | None) -> LoadedModel:
    folder, _, name = place.rpartition("/")
    storage = open_storage(folder or ("/" if place.startswith("/") else "."))
    if not _has(storage, name):
        raise InputError(f"cannot open a model: no such file, got `{place}`", hint=WHERE_HINT)
    if place.lower().endswith(".safetensors"):
        return _of_safetensors(storage, name)
    if "://" in place:
        if cache is None:
            raise InputError(
                f"cannot download `{place}`: nothing says where to (from `--cache-dir`)", hint="--cache-dir DIRECTORY"
            )
        path = fetch_file(place, cache)
    else:
        path = Path(place)
    public = read_weights(path)
    settings = guessed(public.state, place, findings=public.findings, side=public.side, note=public.note)
    return LoadedModel(
        origin=place,
        network=_network(settings, public.state, place),
        calibrator=None,
        trained_on=None,
        record=None,
        step=None,
        **vars(settings),
    )


def _of_safetensors(storage: Storage, key: str) -> LoadedModel:
    """The exported model, with what lies beside it and in the run around it, where there is one."""
    where = f"{storage.url.rstrip('/')}/{key}"
    try:
        content = storage.read(key, most_bytes=STATE_BYTES)
        state, header = tensor_file.load_safetensors(content)
    except (LimitError, NoStateError) as problem:
        raise InputError(f"cannot read `{where}`: {problem}", hint="fetch it again") from problem
    header = header if "findings" in header else {}
    run, beside = _surroundings(storage, key)
    record = _record(run) if run else None
    settings = of_header(header, where) if header else _untold(state, record, where)
    step = header.get("step", "")
    return LoadedModel(
        origin=f"{where}, step {step}" if step else where,
        network=_network(settings, state, where),
        calibrator=_calibrator(storage, beside, settings.findings),
        trained_on=_trained_on(run) if run else None,
        record=record,
        step=step_of(step),
        **vars(settings),
    )


def _untold(state: StateDict, record: Mapping[str, Any] | None, where: str) -> ModelSpec:
    """Spec of weights that don't tell them: those of the run, if it is there."""
    return of_record(record, where) if record else guessed(state, where)


def _surroundings(storage: Storage, key: str) -> tuple[Storage | None, str]:
    """The run that an exported model lies in, if it lies in one, and the key of the calibration beside it."""
    if key == MODEL:
        return storage, CALIBRATION
    beside = Path(CALIBRATION).name
    folder = storage.url.rstrip("/") if "://" in storage.url else str(Path(storage.url or "/").resolve())
    above, _, name = folder.rpartition("/")
    return (open_storage(above) if name == Path(MODEL).parent.name else None), beside


def _header_of(storage: Storage, key: str) -> dict[str, str]:
    """What the head of a safetensors file says of it; nothing where there is none."""
    content = b""
    with suppress(AbsentError, LimitError):
        for piece in storage.chunks(key):
            content += piece
            if len(content) >= 8 and len(content) >= 8 + tensor_file.header_bytes(content):
                break
    return parse_header(content)


def _network(settings: ModelSpec, state: StateDict, origin: str) -> nn.Module:
    """Raises: InputError when the weights are of another model, or give another number of answers, than their settings say."""
    expected = shapes_of(settings.model, settings.head, len(settings.findings))
    *_, last = expected
    if last in state and state[last].ndim == 1 and len(state[last]) != len(settings.findings):
        raise InputError(
            f"cannot use the model in `{origin}`: it gives {len(state[last])} answers, and {len(settings.findings)} findings are named for it",
            hint="its weights and what is told of them are of different runs",
        )
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += sorted(name for name in expected.keys() & state.keys() if expected[name] != state[name].shape)
    if wrong:
        raise InputError(
            f"cannot use the model in `{origin}`: it is another model than `{settings.model}` with a {settings.head} head, "
            f"{len(wrong)} tensors differ, the first is `{on_one_line(wrong[0])}`",
            hint="its weights and what is told of them are of different runs",
        )
    network = build(settings.model, settings.head, len(settings.findings))
    network.load_state_dict(state)
    return network.eval()


def _record(storage: Storage) -> dict[str, Any] | None:
    return documents.run_record(storage, hint="fetch it again")


def _calibrator(storage: Storage, key: str, findings: tuple[str, ...]) -> Calibrator | None:
    try:
        content = documents.content_of(storage, key)
    except AbsentError:
        return None
    where = f"{storage.url.rstrip('/')}/{key}"
    fitted = calibration.from_bytes(content, where)
    if fitted.findings != findings:
        raise InputError(
            f"cannot use `{where}`: it is of another model, its findings are {len(fitted.findings)} others",
            hint="remove it to go on without calibration",
        )
    return fitted


def _trained_on(storage: Storage) -> dict[str, str] | None:
    where = f"{storage.url.rstrip('/')}/{SPLIT}"
    try:
        content = tables.unpacked(storage.read(SPLIT, most_bytes=TEXT_BYTES), SPLIT)
        rows = [row for _, row in tables.rows(content)][1:]
    except AbsentError:
        return None
    except ValueError as problem:
        raise InputError(f"cannot read `{where}`: it is damaged: {problem}", hint="fetch it again") from problem
    if any(len(row) != 2 or row[1] not in SPLITS for row in rows):
        raise InputError(f"cannot read `{where}`: it is no table of images and parts", hint="fetch it again")
    return {spreadsheet.read(image): part for image, part in rows}
