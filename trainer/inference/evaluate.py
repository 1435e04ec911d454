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
from trainer.devices import Device
from trainer.errors import InputError, listing
from trainer.evaluation import metadata
from trainer.evaluation.calibration import Calibrator, for_findings
from trainer.evaluation.cohort import cohort_part
from trainer.evaluation.inputs import EvaluationInput, SplitPredictions
from trainer.evaluation.reference import split_of
from trainer.evaluation.shortcuts import shortcuts
from trainer.evaluation.stated_prevalence import stated_prevalences
from trainer.inference.evaluation_notes import external_test, notes_on
from trainer.inference.evaluation_set import (
    EvaluationSet,
    Part,
    choices_of_run,
    evaluation_set,
    on_missing_image_of_run,
    split_of_run,
)
from trainer.inference.evaluator import Outputs, evaluator
from trainer.label_choices import AS_READ, LabelChoices
from trainer.models.load import LoadedModel, load_model
from trainer.models.tta import log_odds_of
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
        external=external_test(trained, subset),
        label_policy=subset.source.policy,
        notes=tuple(
            notes_on(
                trained,
                subset,
                rows_N,
                stored=stored,
                is_calibrated=stored is not None or val is not None,
                tta=tta,
                precision=on_device.precision,
            )
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
    return None if subset.has_fitted(trained.calibrator, subset.part) else trained.calibrator


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
