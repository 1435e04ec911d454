"""What a model says of the images of one part, beside what is so, and how that becomes evidence; no torch.

Files of predictions and networks that are run here meet in this form.
Shapes: N images, K findings.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.errors import InputError, listing
from trainer.evaluation.calibration import Calibrator, fit
from trainer.evaluation.document import Data, Evaluation, Shortcut
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import Floats
from trainer.evaluation.reference import OTHER, published_list

UNKNOWN_TRAINING: Final = (
    "it is not known which images the model was trained on: patients scored here may be among them"
)


@dataclass(frozen=True, kw_only=True)
class SplitPredictions:
    """Of the images of one part."""

    images: tuple[str, ...]
    log_odds_NK: Floats
    labels_NK: NDArray[np.uint8]
    patients_N: NDArray[np.int64]
    """Numbers of the whole data set, so that a patient has the same one in every part."""
    probabilities_NK: Floats | None = None
    """Where they were given as such."""


@dataclass(frozen=True, kw_only=True)
class EvaluationInput:
    """Of a model, with all that is told about it."""

    model: str
    """How it is called in tables."""
    findings: tuple[str, ...]
    classes: bool
    """Whether an image has one class, and the log-odds are of the choice between them."""
    scored: SplitPredictions
    part: str
    """`train`, `val` or `test`, or `all` of a file without parts."""
    labels: str
    """How the labels' file or data set is called."""
    val: SplitPredictions | None = None
    """What thresholds and calibration are fitted on."""
    val_name: str = "val"
    calibrator: Calibrator | None = None
    """What is stored with the model, used where there is nothing to fit on."""
    split: str | None = None
    """`official`, `random` or `other`, where the data set tells; the names of the scored images do it else."""
    metadata: Metadata | None = None
    """Of the scored images."""
    drawn: bool = False
    """Whether the images are drawn phantoms."""
    trained_on_known: bool = False
    trained_on_images: int | None = None
    shortcuts: tuple[Shortcut, ...] = ()
    """Of the scored images."""
    notes: tuple[str, ...] = ()


def evaluated(
    inputs: EvaluationInput, *, other: tuple[str, Floats] | None = None, resamples: int = 1000, seed: int = 0
) -> Evaluation:
    """The evidence; thresholds and calibration are fitted on val alone. `other` as `evaluate` takes it.

    Raises: InputError when no finding can be scored, and when patients of val are scored too.
    """
    scored = inputs.scored
    _check_scorable(scored, inputs.labels)
    calibrator = inputs.calibrator if inputs.val is None else _fitted(inputs, inputs.val)
    found = published_list(scored.images) or (OTHER, inputs.part)
    part = found[1] if inputs.part == "all" else inputs.part
    data = Data(
        drawn=inputs.drawn,
        labels=inputs.labels,
        part=part,
        split=inputs.split or (found[0] if part == found[1] else OTHER),
        images=len(scored.images),
        patients=len(np.unique(scored.patients_N)),
        fitted_on=None if calibrator is None else calibrator.fitted_on,
        trained_on_known=inputs.trained_on_known,
        trained_on_images=inputs.trained_on_images,
    )
    return evaluate(
        model=inputs.model,
        log_odds_NK=scored.log_odds_NK,
        probabilities_NK=scored.probabilities_NK,
        labels_NK=scored.labels_NK,
        patients_N=scored.patients_N,
        findings=inputs.findings,
        data=data,
        classes=inputs.classes,
        calibrator=calibrator,
        metadata=inputs.metadata,
        other=other,
        shortcuts=inputs.shortcuts,
        notes=inputs.notes,
        resamples=resamples,
        seed=seed,
    )


def _check_scorable(scored: SplitPredictions, labels: str) -> None:
    positive_K = (scored.labels_NK > 0).sum(axis=0)
    total = len(scored.labels_NK)
    if not ((positive_K > 0) & (positive_K < total)).any():
        raise InputError(
            "cannot score: no finding has images with it and images without it, "
            f"got {total:,} image{'s' * (total != 1)} (from `{labels}`)",
            hint="AUROC is not defined with one class only; score more images",
        )


def _fitted(inputs: EvaluationInput, val: SplitPredictions) -> Calibrator:
    shared_N = np.isin(val.patients_N, inputs.scored.patients_N)
    if shared_N.any():
        names = [val.images[row] for row in np.flatnonzero(shared_N).tolist()]
        raise InputError(
            f"cannot fit thresholds: patients of {len(names):,} of {len(val.images):,} images are scored too, "
            f"got `{inputs.val_name}`{listing(names)}",
            hint="thresholds and calibration are fitted on images of other patients",
        )
    return fit(
        val.log_odds_NK,
        val.labels_NK,
        inputs.findings,
        val.images,
        f"{inputs.val_name}, {len(val.images):,} images",
        classes=inputs.classes,
        probabilities_NK=val.probabilities_NK,
    )
