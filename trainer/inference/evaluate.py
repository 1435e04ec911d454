"""Evaluation input from a trained model and a split of a data set.

Labels are read, and patients compared with those of training, before any image. Shapes: N images, V views, K findings.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from trainer import devices
from trainer.config import Layout, OnMissingImage, Precision
from trainer.data.augment import Tta
from trainer.data.dataset import Place, fetched
from trainer.data.finding_names import counterparts
from trainer.data.gray_range import check_request
from trainer.data.labels import LabelTable
from trainer.data.public import are_drawn
from trainer.devices import Arithmetic, Device
from trainer.errors import InputError, listing
from trainer.evaluation import metadata
from trainer.evaluation.calibration import Calibrator, for_findings, names_sha256
from trainer.evaluation.cohort import cohort_part
from trainer.evaluation.document import ExternalTest, FindingMatch
from trainer.evaluation.inputs import UNKNOWN_TRAINING, EvaluationInput, SplitPredictions
from trainer.evaluation.label_file import caveats
from trainer.evaluation.reference import split_of
from trainer.evaluation.shortcuts import shortcuts
from trainer.evaluation.stated_prevalence import stated_prevalences
from trainer.inference.evaluation_set import (
    EvaluationSet,
    Part,
    both_of_nih,
    choices_of_run,
    evaluation_set,
    on_missing_image_of_run,
    rows_of,
    split_of_run,
)
from trainer.inference.evaluator import Outputs, evaluator
from trainer.label_choices import AS_READ, LabelChoices
from trainer.models.load import LoadedModel, load_model
from trainer.models.tta import log_odds_of, views_of
from trainer.report.formatting import last_name
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup, join
from trainer.runtime.watchdog import Watchdog
from trainer.runtime.world import World


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A model to evaluate, and a split of a data set."""

    model: str
    data: str
    part: Part
    step: str = "best"
    layout: Layout = "auto"
    split: str | None = None
    """Default: the run's."""
    val_list: str | None = None
    tta: Tta = "none"
    device: str = "auto"
    batch_size: int | None = None
    """Default: the device's own choice."""
    precision: Precision = "fp32"
    cache_dir: Path | None = None
    gray_range: str | None = None
    """Value of `--gray-range`, for models without one."""
    on_missing_image: OnMissingImage | None = None
    """Default: the run's."""
    force: bool = False
    """Whether to evaluate patients in the training set."""
    prevalences: tuple[str, ...] = ()
    """Values of `--prevalence`."""
    choices: LabelChoices = AS_READ
    """How labels are read; by default as in the run, as far as that fits."""


@dataclass(frozen=True)
class _Prepared:
    """A model and the images to evaluate it on."""

    request: ModelRequest
    trained: LoadedModel
    subset: EvaluationSet
    prevalences: dict[str, float]


def evaluate_model(request: ModelRequest, reporter: Reporter) -> EvaluationInput:
    """Predictions of the model for the split, with their context.

    Raises: InputError when model or data cannot be read or do not match, and, without `force`, for patients in the training set;
    JobFailedError for a non-finite output; RemoteError.
    """
    (inputs,) = evaluate_models([request], reporter)
    return inputs


def evaluate_models(requests: Sequence[ModelRequest], reporter: Reporter) -> list[EvaluationInput]:
    """Predictions of several models for the same images, as `evaluate_model`; all are checked before the first prediction.

    Raises: as `evaluate_model`; InputError for models to be evaluated on different images.
    """
    on = devices.find(requests[0].device, requests[0].precision)
    with _cache(requests[0].cache_dir) as cache:
        prepared = [_prepared(request, cache, reporter) for request in requests]
        _check_same_images(prepared)
        with join(World(), on.backend) as group:
            return [_predicted(one, on, group, reporter) for one in prepared]


def _prepared(request: ModelRequest, cache: Path, reporter: Reporter) -> _Prepared:
    trained = load_model(request.model, step=request.step, cache=cache)
    place = Place(
        data=request.data,
        layout=request.layout,
        split=request.split or split_of_run(trained),
        val_list=request.val_list,
        geometry=trained.geometry,
        cache=cache,
        gray_range=request.gray_range,
        on_missing_image=request.on_missing_image or on_missing_image_of_run(trained),
        choices=request.choices,
        of_run=choices_of_run(trained),
    )
    check_request(trained.geometry, request.gray_range)
    fetched(place, reporter, Watchdog(float("inf"), reporter.line))
    subset = evaluation_set(trained, place, request.part, force=request.force)
    return _Prepared(request, trained, subset, stated_prevalences(request.prevalences, subset.table.findings))


def _check_same_images(prepared: Sequence[_Prepared]) -> None:
    """Raises: InputError where a model is to be evaluated on other images than the first."""
    first, *others = prepared
    expected = set(_names(first.subset.table, first.subset.scored))
    for one in others:
        different = expected ^ set(_names(one.subset.table, one.subset.scored))
        if different:
            raise InputError(
                f"cannot compare `{one.request.model}` with `{first.request.model}`: their runs have different {first.subset.part} "
                f"images, {len(different):,} are in one of them only{listing(sorted(different))}",
                hint="--split evaluates both on one split; images that one of them was trained on are refused",
            )
        _check_same_labels(first, one)


def _check_same_labels(first: _Prepared, one: _Prepared) -> None:
    """Raises: InputError where the choices of two runs give the same images different labels."""
    ours, theirs = one.subset, first.subset
    row_of = {name: row for row, name in enumerate(theirs.table.images)}
    rows_N = [row_of[name] for name in _names(ours.table, ours.scored)]
    different = [
        name
        for name, of_first in counterparts(ours.table.findings, theirs.table.findings).items()
        if not np.array_equal(
            ours.table.labels_NK[ours.scored, ours.table.findings.index(name)],
            theirs.table.labels_NK[rows_N, theirs.table.findings.index(of_first)],
            equal_nan=True,
        )
    ]
    if different:
        raise InputError(
            f"cannot compare `{one.request.model}` with `{first.request.model}`: their runs use uncertain or blank labels "
            f"in different ways, so that labels of {len(different)} findings differ{listing(different)}",
            hint="--uncertain and --blank use the labels in one way for both",
        )


@contextmanager
def _cache(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with TemporaryDirectory(prefix="trainer-") as folder:
        yield Path(folder)


def _names(table: LabelTable, rows_N: NDArray[np.int64]) -> list[str]:
    return [table.images[row] for row in rows_N.tolist()]


def _predicted(one: _Prepared, device: Device, group: WorkerGroup, reporter: Reporter) -> EvaluationInput:
    """Run the network and collect what is known about the model."""
    trained, subset, tta = one.trained, one.subset, one.request.tta
    stored = _stored(trained, subset, tta)
    val_N = subset.free_to_fit if stored is None else subset.free_to_fit[:0]
    on_device = evaluator(
        trained,
        device,
        group,
        reporter,
        tta=tta,
        batch=one.request.batch_size,
        precision=one.request.precision,
    )
    what = f"{subset.part} and val" if len(val_N) else subset.part
    outputs = on_device.outputs(subset, np.concatenate([subset.scored, val_N]), what)
    rows_N, val_N = outputs.readable(subset.scored), outputs.readable(val_N)
    _check_readable(subset, rows_N)
    scored = _predictions(outputs, trained, subset, rows_N)
    val = _predictions(outputs, trained, subset, val_N) if len(val_N) else None
    attributes = metadata.of_dataset(subset.source.root, subset.source.layout, subset.table.images)
    return EvaluationInput(
        model=_name(trained),
        findings=subset.table.findings,
        classes=trained.loss == "cross_entropy",
        positive_class=trained.positive_class,
        scored=scored,
        part=subset.part,
        labels=last_name(subset.place.data),
        val=val,
        calibrator=None if stored is None else for_findings(stored, subset.table.findings),
        prevalences=one.prevalences,
        split=split_of(_names(subset.table, subset.table.rows("test"))),
        metadata=None if attributes is None else attributes.rows(rows_N),
        drawn=are_drawn(subset.source),
        edition=subset.edition,
        trained_on_known=trained.trained_on is not None,
        trained_on_images=None if trained.trained_on is None else int(subset.trained_N[rows_N].sum()),
        shortcuts=tuple(shortcuts(outputs.sizes_N2[rows_N], scored.labels_NK, subset.table.findings)),
        cohort=cohort_part(subset.part, subset.table, rows_N, attributes, is_public=subset.is_public),
        external=_external(trained, subset),
        label_policy=subset.source.policy,
        notes=(
            *_notes(trained, subset, tta, rows_N, calibrated=stored is not None or val is not None),
            *_precision_notes(on_device.precision),
        ),
    )


def _predictions(
    outputs: Outputs, trained: LoadedModel, subset: EvaluationSet, rows_N: NDArray[np.int64]
) -> SplitPredictions:
    """Predictions for these rows, whose images could be read."""
    table = subset.table
    log_odds_NK = log_odds_of(outputs.logits_NVK[rows_N], trained.loss, len(trained.findings))
    columns = [[trained.findings.index(name) for name in match.outputs] for match in subset.matching.matches]
    return SplitPredictions(
        images=tuple(_names(table, rows_N)),
        log_odds_NK=np.stack([log_odds_NK[:, of_match].max(axis=1) for of_match in columns], axis=1),
        labels_NK=table.labels_NK[rows_N],
        patients_N=table.patients_N[rows_N],
        patients_known=table.unidentified.isdisjoint(_names(table, rows_N)),
    )


def _stored(trained: LoadedModel, subset: EvaluationSet, tta: Tta) -> Calibrator | None:
    """The model's own calibration, unless it is for other views, or was fitted on evaluated patients.

    For a model without its run, the calibration itself records its images.
    """
    if trained.calibrator is None or tta != "none" or subset.chosen_N[subset.scored].any():
        return None
    return None if _is_fitted_on(trained.calibrator, subset, subset.part) else trained.calibrator


def _is_fitted_on(calibrator: Calibrator, subset: EvaluationSet, part: Part) -> bool:
    return calibrator.images_sha256 == names_sha256(_names(subset.table, rows_of(subset.table, part)))


def _check_readable(subset: EvaluationSet, rows_N: NDArray[np.int64]) -> None:
    if not len(rows_N):
        raise InputError(
            f"cannot evaluate on `{subset.place.data}`: none of its {len(subset.scored):,} images in {subset.part} can be read",
            hint="check --data",
        )


def _name(trained: LoadedModel) -> str:
    """Name as used by the run itself."""
    name = (trained.record or {}).get("name")
    return last_name(trained.origin) if name is None or trained.step is None else f"{name}, step {trained.step}"


def _notes(
    trained: LoadedModel, subset: EvaluationSet, tta: Tta, rows_N: NDArray[np.int64], *, calibrated: bool
) -> Iterator[str]:
    """Caveats for the reader; `rows_N` are the evaluated images."""
    yield from _set_notes(trained, subset)
    yield from trained.notes
    yield from caveats(subset.source)
    yield from subset.missing_notes()
    total = f"{len(rows_N):,}"
    if trained.trained_on is None:
        yield UNKNOWN_TRAINING
    if (count := int(subset.trained_N[rows_N].sum())) > 0:
        yield f"{count:,} of {total} images are of patients in the training set: these results say little about new patients"
    if (count := int((subset.chosen_N & ~subset.trained_N)[rows_N].sum())) > 0:
        yield f"{count:,} of {total} images are of patients used to select the checkpoint"
    stored = _stored(trained, subset, tta)
    if stored is not None and trained.trained_on is None and not _is_fitted_on(stored, subset, "val"):
        yield "the images used to fit thresholds and calibration are unknown: patients evaluated here may be among them"
    if tta != "none":
        yield f"probabilities are the mean over {views_of(tta)} views of each image (--tta {tta})"
    if not calibrated:
        yield "no thresholds and no calibration: there are no validation images of patients outside the training and the evaluated images"
    lost = set(_names(subset.table, subset.scored)) - set(_names(subset.table, rows_N))
    if lost:
        yield f"{len(lost):,} of {len(subset.scored):,} images could not be read and are not evaluated"


def _precision_notes(precision: Arithmetic) -> Iterator[str]:
    if precision != "fp32":
        yield f"the network is computed in {precision}, which is less exact than fp32 (--precision)"


def _external(trained: LoadedModel, subset: EvaluationSet) -> ExternalTest | None:
    """What is known of a test on other data than the model's own; None for its own, and where that is unknown."""
    if not subset.is_external:
        return None
    config = (trained.record or {}).get("config", {})
    found = subset.matching
    return ExternalTest(
        trained_on=last_name(str(config.get("data", "unknown"))),
        matches=[
            FindingMatch(name=match.name, outputs=list(match.outputs), labels=list(match.labels))
            for match in found.matches
        ],
        outputs_without_labels=list(found.outputs_left),
        labels_without_outputs=list(found.labels_left),
    )


def _set_notes(trained: LoadedModel, subset: EvaluationSet) -> Iterator[str]:
    """How the data set differs from the model's own, and what only one of model and data set has."""
    external = _external(trained, subset)
    if external is not None:
        yield f"external test: by their names, no image is of the data set that the model was trained on, {external['trained_on']}"
    if both_of_nih(trained, subset.source):
        yield "no external test: these images and those that the model was trained on are of ChestX-ray14"
    yield from _name_notes(subset)
    if subset.matching.labels_left:
        yield f"labels without an output of the model: {', '.join(subset.matching.labels_left)}"
    if subset.matching.outputs_left:
        yield f"outputs of the model without labels, not evaluated: {', '.join(subset.matching.outputs_left)}"


def _name_notes(subset: EvaluationSet) -> Iterator[str]:
    """Which findings have other names in model and data set."""
    for match in subset.matching.matches:
        if len(match.outputs) > 1:
            yield (
                f"{match.name}: the highest log-odds of the model's outputs {' and '.join(match.outputs)} are evaluated, which "
                "are not calibrated together"
            )
        elif len(match.labels) > 1:
            yield f"{match.name}: an image has it if it has one of the labels {', '.join(match.labels)}"
    others = [match for match in subset.matching.matches if match.is_renamed]
    if others:
        listed = ", ".join(f"{match.outputs[0]} ({match.labels[0]})" for match in others)
        yield f"evaluated on labels of other names: {listed}"
