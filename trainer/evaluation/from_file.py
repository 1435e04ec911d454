"""Evaluation of a file of predictions, from any model; does not import torch.

Shapes: N images, K findings.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.config import Layout
from trainer.data.labels import FINDINGS, SPLITS
from trainer.data.positive_class import check_positive_class
from trainer.errors import InputError, on_one_line
from trainer.evaluation import label_file, predictions, rename
from trainer.evaluation.cohort import cohort_part
from trainer.evaluation.document import Evaluation
from trainer.evaluation.inputs import UNKNOWN_TRAINING, EvaluationInput, SplitPredictions, evaluated
from trainer.evaluation.label_file import Labels
from trainer.evaluation.metrics import Floats
from trainer.evaluation.mined import MinedLabels
from trainer.evaluation.predictions import Predictions
from trainer.evaluation.score_checks import is_exclusive, off_sum
from trainer.evaluation.stated_prevalence import stated_prevalences
from trainer.label_choices import AS_READ, LabelChoices
from trainer.layout import predictions_key

_NOTHING_FITTED: Final = "no thresholds and no calibration: use --val-predictions to fit them"
_NO_THRESHOLDS: Final = "no thresholds: use --val-predictions to fit them"


@dataclass(frozen=True, kw_only=True)
class FileRequest:
    """Files and options of an evaluation."""

    predictions: Path
    labels: Path
    val_predictions: Path | None = None
    """Predictions of other images, to fit thresholds and calibration."""
    against: Path | None = None
    """Predictions of another model, or a run that contains some."""
    part: str | None = None
    """Split to evaluate: `train`, `val`, `test`, or `all` predicted images; by default test if the labels have splits."""
    layout: Layout = "auto"
    split: str | None = None
    val_list: str | None = None
    """These three apply to labels in a data set's directory, as for `read_labels`."""
    positive_class: str | None = None
    """Of two classes; by default chosen by their names."""
    prevalences: Sequence[str] = ()
    """Values of `--prevalence`."""
    renamed: Sequence[str] = ()
    """Labels evaluated with findings of other names, each as `LABEL=FINDING|FINDING`."""
    choices: LabelChoices = AS_READ
    """How the labels are read."""
    resamples: int = 1000
    seed: int = 0


def evaluate_file(request: FileRequest) -> Evaluation:
    """Evaluate the files on the findings that predictions and labels have in common.

    Raises: InputError for files that do not match, and when no finding can be evaluated.
    """
    renamed = rename.parsed(request.renamed)
    labels = label_file.read(
        request.labels,
        layout=request.layout,
        split=request.split,
        val_list=request.val_list,
        renamed=renamed,
        choices=request.choices,
    )
    _check_renamed(renamed, labels)
    part = request.part or ("test" if labels.has_splits else "all")
    predicted = _fitting(predictions.read(request.predictions), labels, renamed, require_all=True)
    rows_N = _scored_rows(predicted, labels, part)
    selected = predicted.at([labels.table.images[row] for row in rows_N.tolist()])
    scored = _split_predictions(selected, labels, rows_N)
    val = None if request.val_predictions is None else predictions.read(request.val_predictions)
    nothing_fitted = _NOTHING_FITTED if selected.calibrated_NK is None else _NO_THRESHOLDS
    fitted, val_notes = (None, [nothing_fitted]) if val is None else _val(val, labels, renamed, selected.findings)
    other = None
    if request.against is not None:
        other = _fitting(other_model(request.against, part), labels, renamed)
    classes = _has_all_classes(selected, labels) and not off_sum(selected.probabilities_NK)
    _check_positive_class(request.positive_class, selected.findings, classes=classes)
    inputs = EvaluationInput(
        model=request.predictions.name,
        findings=selected.findings,
        classes=classes,
        positive_class=request.positive_class,
        prevalences=stated_prevalences(request.prevalences, selected.findings),
        scored=scored,
        part=part,
        labels=request.labels.name,
        val=fitted,
        val_name="" if val is None else val.path.name,
        metadata=None if labels.metadata is None else labels.metadata.rows(rows_N),
        edition=labels.edition,
        mined=_mined(labels, rows_N, selected.findings, renamed),
        cohort=cohort_part(part, labels.table, rows_N, labels.metadata, is_public=labels.is_public),
        label_policy=labels.policy,
        notes=(
            UNKNOWN_TRAINING,
            *labels.notes,
            *_notes(predicted, selected, labels, rows_N, part),
            *val_notes,
            *(() if other is None else other.notes),
            *_class_notes(selected, labels),
        ),
    )
    theirs = None if other is None else beside(other, inputs)
    return evaluated(inputs, other=theirs, resamples=request.resamples, seed=request.seed)


def _check_renamed(renamed: Mapping[str, Sequence[str]], labels: Labels) -> None:
    unknown = [name for name in renamed if name not in labels.table.findings]
    if unknown:
        listed = ", ".join(f"`{name}`" for name in unknown)
        hint = f"its labels are {', '.join(labels.table.findings)}"
        if labels.readers and labels.mined is None:
            where = "readers, with its table as --labels," if labels.path.is_dir() else "readers"
            hint += f"; those of {where} are {', '.join(labels.readers)}"
        raise InputError(f"cannot rename: no label {listed}, got `{labels.path}` (from `{rename.FLAG}`)", hint=hint)


def _fitting(
    read: Predictions, labels: Labels, renamed: Mapping[str, Sequence[str]], *, require_all: bool = False
) -> Predictions:
    """The predictions with the names of the labels, of images and findings; only those findings that have labels."""
    table = labels.table
    fitting = read.named(table.images)
    if renamed:
        fitting = fitting.joined(renamed, require_all=require_all)
    fitting = fitting.spelled(table.findings)
    if is_exclusive(table.labels_NK):
        fitting = fitting.completed(table.findings)
    return fitting.of(table.findings)


def _scored_rows(predicted: Predictions, labels: Labels, part: str) -> NDArray[np.int64]:
    """Rows of the labels to evaluate: all of the split or the list, otherwise all predicted images."""
    if labels.is_selection:
        return _predicted_rows(predicted, labels, labels.rows(part))
    predicted_N = predicted.rows_in(labels.table.images)
    if part != "all":
        return labels.rows(part)
    return labels.rows(part) if labels.is_list else predicted_N


def _predicted_rows(predicted: Predictions, labels: Labels, rows_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of these rows that have a prediction. Raises: InputError without any."""
    names = set(predicted.images)
    has_one_N = np.array([labels.table.images[row] in names for row in rows_N.tolist()], np.bool_)
    if not has_one_N.any():
        raise InputError(
            f"cannot use the predictions: none of their {len(names):,} images is among the {len(rows_N):,} labelled ones, "
            f"got `{predicted.path}` and `{labels.path}`",
            hint="use the image names of the labels, or another --part",
        )
    return rows_N[has_one_N]


def _split_predictions(selected: Predictions, labels: Labels, rows_N: NDArray[np.int64]) -> SplitPredictions:
    columns = [labels.table.findings.index(name) for name in selected.findings]
    return SplitPredictions(
        images=selected.images,
        log_odds_NK=selected.log_odds_NK,
        labels_NK=labels.table.labels_NK[rows_N][:, columns],
        patients_N=labels.table.patients_N[rows_N],
        probabilities_NK=selected.probabilities_NK,
        calibrated_NK=selected.calibrated_NK,
        patients_known=labels.table.unidentified.isdisjoint(selected.images),
        findings=selected.findings,
    )


def _val(
    val: Predictions, labels: Labels, renamed: Mapping[str, Sequence[str]], findings: Sequence[str]
) -> tuple[SplitPredictions, list[str]]:
    """Predictions to fit thresholds and calibration of these findings, with notes."""
    fitting = _fitting(val, labels, renamed).of(findings)
    rows_N = np.arange(len(labels.table), dtype=np.int64)
    rows_N = _predicted_rows(fitting, labels, rows_N) if labels.is_selection else fitting.rows_in(labels.table.images)
    notes = list(fitting.notes)
    in_train = int((labels.table.split_N[rows_N] == SPLITS.index("train")).sum())
    if in_train:
        notes.append(
            f"{in_train:,} of {len(rows_N):,} images used to fit thresholds and calibration are in train: "
            "a model trained on them is more confident there than here"
        )
    selected = fitting.at([labels.table.images[row] for row in rows_N.tolist()])
    return _split_predictions(selected, labels, rows_N), notes


def _mined(
    labels: Labels, rows_N: NDArray[np.int64], findings: Sequence[str], renamed: Mapping[str, Sequence[str]]
) -> MinedLabels | None:
    """The text-mined labels of those evaluated findings that are, or join, findings of NIH's table."""
    if labels.mined is None:
        return None
    sources = {name: [each for each in renamed.get(name, [name]) if each in FINDINGS] for name in findings}
    known = tuple(name for name, mined in sources.items() if mined)
    if not known:
        return None
    columns = [
        labels.mined.labels_NK[rows_N][:, [FINDINGS.index(each) for each in sources[name]]].max(axis=1)
        for name in known
    ]
    return MinedLabels(findings=known, labels_NK=np.stack(columns, axis=1))


def _notes(
    predicted: Predictions, selected: Predictions, labels: Labels, rows_N: NDArray[np.int64], part: str
) -> Iterator[str]:
    """What was changed to match predictions and labels, and what only one of them has."""
    yield from predicted.notes
    absent = [name for name in labels.table.findings if name not in selected.findings]
    if absent:
        yield f"labels without predictions, not evaluated: {', '.join(absent)}"
    if predicted.unused:
        yield f"predictions without labels, not evaluated: {', '.join(predicted.unused)}"
    if labels.is_selection:
        known = len(set(predicted.images) & set(labels.table.images))
        if known < len(predicted.images):
            yield f"{len(predicted.images) - known:,} of {len(predicted.images):,} predicted images have no labels and are not evaluated"
        total = len(labels.rows(part))
        if len(rows_N) < total:
            what = "labelled images" if part == "all" else f"labelled images of {part}"
            yield f"{total - len(rows_N):,} of {total:,} {what} have no prediction and are not evaluated"


def _class_notes(given: Predictions, labels: Labels) -> Iterator[str]:
    """Why exclusive classes are evaluated like findings: some have no probabilities, or these do not sum to 1."""
    if labels.table.findings == FINDINGS or not is_exclusive(labels.table.labels_NK):
        return
    alone = "each class is evaluated alone, without accuracy, sensitivity and specificity"
    off, sums_N = off_sum(given.probabilities_NK), given.probabilities_NK.sum(axis=1)
    if not _has_all_classes(given, labels):
        yield f"{given.path.name}: not every class has probabilities, so {alone}"
    elif off:
        yield (
            f"{given.path.name}: probabilities of {off:,} of {len(sums_N):,} images do not sum to 1 over their classes "
            f"(from {sums_N.min():.3g} to {sums_N.max():.3g}), so {alone}"
        )


def _has_all_classes(given: Predictions, labels: Labels) -> bool:
    return is_exclusive(labels.table.labels_NK) and given.findings == labels.table.findings


def _check_positive_class(name: str | None, findings: Sequence[str], *, classes: bool) -> None:
    """Raises: InputError for a name that is not one of two classes."""
    if name is None:
        return
    if not classes:
        raise InputError(
            f"cannot use `{on_one_line(name)}` as the positive class: the images do not have one class each, with probabilities "
            "that sum to 1 (from `--positive-class`)",
            hint="remove --positive-class: each finding has its own sensitivity",
        )
    check_positive_class(name, findings)


def other_model(place: Path, part: str) -> Predictions:
    """Another model's predictions, from a file or a run's directory. Raises: InputError."""
    return predictions.read(place / predictions_key(part) if place.is_dir() else place)


def beside(other: Predictions, inputs: EvaluationInput) -> tuple[str, Floats]:
    """Name of the other model and its probabilities for the evaluated images; nan for findings that it does not predict.

    Raises: InputError without predictions of an image, or of any finding.
    """
    same = other.named(inputs.scored.images)
    same = same.spelled(inputs.findings)
    if inputs.classes:
        same = same.completed(inputs.findings)
    same = same.of(inputs.findings).at(inputs.scored.images)
    columns = [inputs.findings.index(name) for name in same.findings]
    probabilities_NK = np.full((len(same.images), len(inputs.findings)), np.nan)
    probabilities_NK[:, columns] = same.probabilities_NK
    return same.path.name, probabilities_NK
