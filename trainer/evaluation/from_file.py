"""Evaluation of a file of predictions, from any model; does not import torch.

Shapes: N images, K findings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.config import Layout
from trainer.data.labels import SPLITS
from trainer.data.positive_class import check_positive_class
from trainer.errors import InputError, on_one_line
from trainer.evaluation import label_file, predictions
from trainer.evaluation.document import Evaluation
from trainer.evaluation.inputs import UNKNOWN_TRAINING, EvaluationInput, SplitPredictions, evaluated
from trainer.evaluation.label_file import Labels
from trainer.evaluation.metrics import Floats
from trainer.evaluation.predictions import Predictions
from trainer.layout import predictions_key

NOTHING_FITTED: Final = "no thresholds and no calibration: use --val-predictions to fit them"

_SUM_TOLERANCE: Final = 1e-3
"""Probabilities that sum to 1 within this tolerance are those of exclusive classes; six decimals each cannot be further off."""


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
    resamples: int = 1000
    seed: int = 0


def evaluate_file(request: FileRequest) -> Evaluation:
    """Evaluate the files.

    Raises: InputError for files that do not match, and when no finding can be evaluated.
    """
    labels = label_file.read(request.labels, layout=request.layout, split=request.split, val_list=request.val_list)
    part = request.part or ("test" if labels.has_splits else "all")
    predicted = predictions.read(request.predictions).of(labels.table.findings)
    rows_N = _scored_rows(predicted, labels, part)
    selected = predicted.at([labels.table.images[row] for row in rows_N.tolist()])
    scored = _split_predictions(selected, labels, rows_N)
    val_path, val, notes = request.val_predictions, None, [UNKNOWN_TRAINING]
    if val_path is not None:
        val_predictions = predictions.read(val_path).of(labels.table.findings)
        val_N = val_predictions.rows_in(labels.table.images)
        val = _split_predictions(val_predictions, labels, val_N)
        in_train = int((labels.table.split_N[val_N] == SPLITS.index("train")).sum())
        if in_train:
            notes.append(
                f"{in_train:,} of {len(val_N):,} images used to fit thresholds and calibration are in train: "
                "a model trained on them is more confident there than here"
            )
    classes = _one_class_each(scored)
    _check_positive_class(request.positive_class, selected.findings, classes=classes)
    inputs = EvaluationInput(
        model=request.predictions.name,
        findings=selected.findings,
        classes=classes,
        positive_class=request.positive_class,
        scored=scored,
        part=part,
        labels=request.labels.name,
        val=val,
        val_name="" if val_path is None else val_path.name,
        metadata=None if labels.metadata is None else labels.metadata.rows(rows_N),
        notes=(*notes, *((NOTHING_FITTED,) if val is None else ())),
    )
    other = None if request.against is None else beside(other_model(request.against, part), inputs)
    return evaluated(inputs, other=other, resamples=request.resamples, seed=request.seed)


def _scored_rows(predicted: Predictions, labels: Labels, part: str) -> NDArray[np.int64]:
    """Rows of the labels to evaluate: all of the split or the list, otherwise all predicted images."""
    predicted_N = predicted.rows_in(labels.table.images)
    if part != "all":
        return labels.rows(part)
    return labels.rows(part) if labels.is_list else predicted_N


def _split_predictions(selected: Predictions, labels: Labels, rows_N: NDArray[np.int64]) -> SplitPredictions:
    return SplitPredictions(
        images=selected.images,
        log_odds_NK=selected.log_odds_NK,
        labels_NK=labels.table.labels_NK[rows_N],
        patients_N=labels.table.patients_N[rows_N],
        probabilities_NK=selected.probabilities_NK,
        patients_known=labels.table.unidentified.isdisjoint(selected.images),
    )


def _one_class_each(scored: SplitPredictions) -> bool:
    """Whether every image has exactly one label and the probabilities are those of exclusive classes."""
    assert scored.probabilities_NK is not None
    sums_N = scored.probabilities_NK.sum(axis=1)
    return bool((scored.labels_NK.sum(axis=1) == 1).all() and (np.abs(sums_N - 1) <= _SUM_TOLERANCE).all())


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
    """Name of the other model and its probabilities for the evaluated images. Raises: InputError."""
    same = other.of(inputs.findings).at(inputs.scored.images)
    return same.path.name, same.probabilities_NK
