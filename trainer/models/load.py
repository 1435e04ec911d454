"""Loading of trained models with their metadata, for evaluation, prediction, explanation and export.

Sources are a run (a directory, s3://, or a copy made by `launcher pull`), one of its checkpoints, a `model.safetensors`, or a
file of weights in a public format. All files are loaded as data.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import nn

from trainer.data.download import fetch_file
from trainer.data.packs.records import Geometry
from trainer.errors import InputError, on_one_line
from trainer.evaluation import calibration
from trainer.evaluation.calibration import Calibrator
from trainer.formats import documents
from trainer.layout import CALIBRATION, MODEL, RUN, STEP_DIGITS, state_key, step_of
from trainer.limits import STATE_BYTES, LimitError
from trainer.models import tensor_file
from trainer.models.architectures import StateDict, build
from trainer.models.pretrained import PublicWeights, checkpoint_weights, read_weights, weights_in
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
from trainer.models.tensor_file import ForeignFormatError, NoStateError
from trainer.runs import checkpoints
from trainer.runs.earlier_run import split_by_image
from trainer.runs.manifest import Manifest, committed, step_named
from trainer.storage import AbsentError, Storage, open_storage

__all__ = ["LoadedModel", "describe", "load_model", "split_by_image"]

_STEP_FOLDER: Final = re.compile(
    rf"(?P<run>.*?)/?checkpoints/step-(?P<step>[0-9]{{8,{STEP_DIGITS}}})(?:/state\.pt)?", re.DOTALL
)

_FILES: Final = (".safetensors", ".pt", ".pth", ".tar", ".ckpt", ".bin")
"""Suffixes of weight files; in a bucket, the name distinguishes a file from a run."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained network, on the CPU and in eval mode."""

    origin: str
    """Source for messages: path or URL, and step."""
    network: nn.Module
    model: str
    head: str
    findings: tuple[str, ...]
    loss: Loss
    geometry: Geometry
    """How images became the records of its training."""
    crop_px: int
    calibrator: Calibrator | None
    trained_on: Mapping[str, str] | None
    """Split (`train`, `val`, `test`) by image name, from the run's `split.csv.gz`; None where unknown."""
    record: Mapping[str, Any] | None
    """run.json of its run."""
    step: int | None
    notes: tuple[str, ...] = ()
    """Assumptions about properties that are not recorded."""
    positive_class: str | None = None
    """Of a single-label model, the class of which sensitivity and specificity are reported."""


def load_model(place: str, *, step: str = "best", cache: Path | None = None) -> LoadedModel:
    """The model at `place`: a run, `RUN/checkpoints/step-…`, a `.safetensors` file, or a file of weights.

    `step` selects a run's checkpoint: `best`, `last` or a number. Downloads go to `cache`.

    Raises: InputError, RemoteError.
    """
    if not (place and place.isprintable()):
        raise InputError(f"cannot open a model: unusable path or URL, got `{on_one_line(place)}`", hint=WHERE_HINT)
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
            f"cannot select step {on_one_line(step)} of `{place}`: it is a single model, not a run (from `--step`)",
            hint="remove --step, or use the run",
        )


def _of_run(storage: Storage, step: str) -> LoadedModel:
    """The model of a run's checkpoint; without checkpoints, as in a copy by `pull --what model`, the exported model."""
    exported = None
    if not committed(storage):
        exported = next((key for key in (MODEL, Path(MODEL).name) if _has(storage, key)), None)
    if exported is None:
        return _of_checkpoint(storage, step)
    trained = _of_safetensors(storage, exported)
    if step not in {"best", str(trained.step)}:
        raise InputError(
            f"cannot open step {on_one_line(step)} of `{storage.url}`: only the model of "
            f"{'its best checkpoint' if trained.step is None else f'step {trained.step}'} is available (from `--step`)",
            hint="remove --step, or pull the checkpoint",
        )
    return trained


def _no_model(storage: Storage) -> InputError:
    if _has(storage, RUN):
        return InputError(
            f"cannot open a model at `{storage.url}`: the run has no checkpoint",
            hint="a checkpoint is saved at the end of each epoch; wait for it, or resume the run",
        )
    return InputError(f"cannot open a model at `{storage.url}`: there is no run", hint=WHERE_HINT)


def _has(storage: Storage, key: str) -> bool:
    try:
        storage.stat(key)
    except AbsentError:
        return False
    return True


def _of_checkpoint(storage: Storage, step: str) -> LoadedModel:
    manifest = _chosen(storage, step)
    origin = f"{storage.url.rstrip('/')}, step {manifest.step}"
    record = _record(storage)  # a damaged one is refused before the state is downloaded
    content = checkpoints.read_state(storage, manifest)
    where = f"{storage.url.rstrip('/')}/{state_key(manifest.step)}"
    state = checkpoint_weights(content, where, step=manifest.step)
    settings = _inferred(state, record, origin)
    exported = _header_of(storage, MODEL)
    belongs = exported.get("step") == str(manifest.step)
    return LoadedModel(
        origin=origin,
        network=_network(settings, state, origin),
        calibrator=_calibrator(storage, CALIBRATION, settings.findings) if belongs else None,
        trained_on=split_by_image(storage),
        record=record,
        step=manifest.step,
        **vars(settings),
    )


def _chosen(storage: Storage, step: str) -> Manifest:
    """The checkpoint that `step` selects. Raises: InputError."""
    damaged: list[str] = []
    manifests = committed(storage, damaged.append)
    chosen = step_named(step, manifests)
    manifest = next((each for each in manifests if each.step == chosen), None)
    if manifest is not None:
        return manifest
    if not manifests:
        raise InputError(damaged[0]) if damaged else _no_model(storage)
    steps = ", ".join(str(each.step) for each in manifests)
    raise InputError(
        f"cannot open step {on_one_line(step)} of `{storage.url}`: its checkpoints are {steps}",
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
                f"cannot download `{place}`: no download folder is set (from `--cache-dir`)",
                hint="use --cache-dir DIRECTORY",
            )
        path = fetch_file(place, cache)
    else:
        path = Path(place)
    return _of_public(read_weights(path), place)


def _of_public(public: PublicWeights, place: str) -> LoadedModel:
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
    """The exported model, with files next to it and those of the run around it, if any."""
    where = f"{storage.url.rstrip('/')}/{key}"
    try:
        content = storage.read(key, most_bytes=STATE_BYTES)
        if not tensor_file.is_safetensors(content, key):
            return _of_public(weights_in(content, where), where)
        state, header = tensor_file.load_safetensors(content)
    except ForeignFormatError as problem:
        raise InputError(f"cannot read `{where}`: {problem}", hint=problem.hint) from problem
    except (LimitError, NoStateError) as problem:
        raise InputError(f"cannot read `{where}`: {problem}", hint="download it again") from problem
    header = header if "findings" in header else {}
    run, calibration_key = _surroundings(storage, key)
    record = _record(run) if run else None
    if not header and record is None:
        return _of_public(weights_in(content, where), where)
    settings = of_header(header, where) if header else of_record(record or {}, where)
    step = header.get("step", "")
    return LoadedModel(
        origin=f"{where}, step {step}" if step else where,
        network=_network(settings, state, where),
        calibrator=_calibrator(storage, calibration_key, settings.findings),
        trained_on=split_by_image(run) if run else None,
        record=record,
        step=step_of(step),
        **vars(settings),
    )


def _inferred(state: StateDict, record: Mapping[str, Any] | None, where: str) -> ModelSpec:
    """Spec of weights without metadata, from the run's record if available."""
    return of_record(record, where) if record else guessed(state, where)


def _surroundings(storage: Storage, key: str) -> tuple[Storage | None, str]:
    """The run that contains an exported model, if any, and the key of the calibration next to it."""
    if key == MODEL:
        return storage, CALIBRATION
    calibration_key = Path(CALIBRATION).name
    folder = storage.url.rstrip("/") if "://" in storage.url else str(Path(storage.url or "/").resolve())
    above, _, name = folder.rpartition("/")
    return (open_storage(above) if name == Path(MODEL).parent.name else None), calibration_key


def _header_of(storage: Storage, key: str) -> dict[str, str]:
    """Metadata in the header of a safetensors file; empty without the file."""
    content = b""
    with suppress(AbsentError, LimitError):
        for piece in storage.chunks(key):
            content += piece
            if len(content) >= 8 and len(content) >= 8 + tensor_file.header_bytes(content):
                break
    return parse_header(content)


def _network(settings: ModelSpec, state: StateDict, origin: str) -> nn.Module:
    """Raises: InputError when the weights have another architecture or number of outputs than their spec."""
    expected = shapes_of(settings.model, settings.head, len(settings.findings))
    *_, last = expected
    if last in state and state[last].ndim == 1 and len(state[last]) != len(settings.findings):
        raise InputError(
            f"cannot use the model in `{origin}`: it has {len(state[last])} outputs, but {len(settings.findings)} findings are recorded for it",
            hint="its weights and metadata are of different runs",
        )
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += sorted(name for name in expected.keys() & state.keys() if expected[name] != state[name].shape)
    if wrong:
        raise InputError(
            f"cannot use the model in `{origin}`: it is not a `{settings.model}` with a {settings.head} head, "
            f"{len(wrong)} tensors differ, the first is `{on_one_line(wrong[0])}`",
            hint="its weights and metadata are of different runs",
        )
    network = build(settings.model, settings.head, len(settings.findings))
    network.load_state_dict(state)
    return network.eval()


def _record(storage: Storage) -> dict[str, Any] | None:
    return documents.run_record(storage, hint="download it again")


def _calibrator(storage: Storage, key: str, findings: tuple[str, ...]) -> Calibrator | None:
    try:
        content = documents.content_of(storage, key)
    except AbsentError:
        return None
    where = f"{storage.url.rstrip('/')}/{key}"
    fitted = calibration.from_bytes(content, where)
    if fitted.findings != findings:
        raise InputError(
            f"cannot use `{where}`: it belongs to another model, with {len(fitted.findings)} other findings",
            hint="remove it to continue without calibration",
        )
    return fitted
