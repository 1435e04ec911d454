"""Evidence from a file of predictions: anybody's model, seen only by what it says of each image; no torch.

Shapes: N images, K findings.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.config import Layout
from trainer.data.labels import SPLITS
from trainer.evaluation import label_file, predictions
from trainer.evaluation.document import Evaluation
from trainer.evaluation.inputs import UNKNOWN_TRAINING, EvaluationInput, SplitPredictions, evaluated
from trainer.evaluation.label_file import Labels
from trainer.evaluation.metrics import Floats
from trainer.evaluation.predictions import Predictions
from trainer.layout import predictions_key

NOTHING_FITTED: Final = "no thresholds and no calibration: --val-predictions gives predictions to fit them on"

_SUM_TOLERANCE: Final = 1e-3
"""Probabilities of classes that add up to 1 this nearly are of one choice; six decimals each can't be further off."""


@dataclass(frozen=True, kw_only=True)
class FileRequest:
    """What is to be scored."""

    predictions: Path
    labels: Path
    val_predictions: Path | None = None
    """Of other images, which thresholds and calibration are fitted on."""
    against: Path | None = None
    """Predictions of another model, or a run that has some."""
    part: str | None = None
    """`train`, `val`, `test`, or `all` that are predicted; test where the labels say which images those are, unless given."""
    layout: Layout = "auto"
    split: str | None = None
    val_list: str | None = None
    """These three of labels in a data set's directory, as `read_labels` takes them."""
    resamples: int = 1000
    seed: int = 0


def evaluate_file(asked: FileRequest) -> Evaluation:
    """The evidence.

    Raises: InputError for files that do not fit together, and when no finding can be scored.
    """
    labels = label_file.read(asked.labels, layout=asked.layout, split=asked.split, val_list=asked.val_list)
    part = asked.part or ("test" if labels.has_parts else "all")
    given = predictions.read(asked.predictions).of(labels.table.findings)
    rows_N = _scored_rows(given, labels, part)
    mine = given.at([labels.table.images[row] for row in rows_N.tolist()])
    scored = _split_predictions(mine, labels, rows_N)
    val_path, val, notes = asked.val_predictions, None, [UNKNOWN_TRAINING]
    if val_path is not None:
        seen = predictions.read(val_path).of(labels.table.findings)
        val_N = seen.rows_in(labels.table.images)
        val = _split_predictions(seen, labels, val_N)
        in_train = int((labels.table.split_N[val_N] == SPLITS.index("train")).sum())
        if in_train:
            notes.append(
                f"{in_train:,} of {len(val_N):,} images that thresholds and calibration are fitted on are in train: "
                "a model that was trained on them is surer there than here"
            )
    inputs = EvaluationInput(
        model=asked.predictions.name,
        findings=mine.findings,
        classes=_one_class_each(scored),
        scored=scored,
        part=part,
        labels=asked.labels.name,
        val=val,
        val_name="" if val_path is None else val_path.name,
        metadata=None if labels.metadata is None else labels.metadata.rows(rows_N),
        notes=(*notes, *((NOTHING_FITTED,) if val is None else ())),
    )
    other = None if asked.against is None else beside(other_model(asked.against, part), inputs)
    return evaluated(inputs, other=other, resamples=asked.resamples, seed=asked.seed)


def _scored_rows(given: Predictions, labels: Labels, part: str) -> NDArray[np.int64]:
    """Rows of the labels that are scored: all of the part or the list, else all that are predicted."""
    predicted_N = given.rows_in(labels.table.images)
    if part != "all":
        return labels.rows(part)
    return labels.rows(part) if labels.is_list else predicted_N


def _split_predictions(mine: Predictions, labels: Labels, rows_N: NDArray[np.int64]) -> SplitPredictions:
    return SplitPredictions(
        images=mine.images,
        log_odds_NK=mine.log_odds_NK,
        labels_NK=labels.table.labels_NK[rows_N],
        patients_N=labels.table.patients_N[rows_N],
        probabilities_NK=mine.probabilities_NK,
    )


def _one_class_each(scored: SplitPredictions) -> bool:
    """Whether an image has exactly one of the findings and the probabilities are of that choice."""
    assert scored.probabilities_NK is not None
    sums_N = scored.probabilities_NK.sum(axis=1)
    return bool((scored.labels_NK.sum(axis=1) == 1).all() and (np.abs(sums_N - 1) <= _SUM_TOLERANCE).all())


def other_model(place: Path, part: str) -> Predictions:
    """Another model's predictions; those of a run lie in its directory. Raises: InputError."""
    return predictions.read(place / predictions_key(part) if place.is_dir() else place)


def beside(other: Predictions, inputs: EvaluationInput) -> tuple[str, Floats]:
    """What the other model is called, and its probabilities of the images that are scored. Raises: InputError."""
    same = other.of(inputs.findings).at(inputs.scored.images)
    return same.path.name, same.probabilities_NK
