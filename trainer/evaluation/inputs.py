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
from trainer.evaluation.document import Data, Evidence, Shortcut
from trainer.evaluation.evaluate import assess
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.metrics import Floats
from trainer.evaluation.reference import OTHER, published_list

UNKNOWN_TRAINING: Final = (
    "it is not known which images the model was trained on: patients scored here may be among them"
)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of the images of one part."""

    images: tuple[str, ...]
    log_odds_NK: Floats
    labels_NK: NDArray[np.uint8]
    patients_N: NDArray[np.int64]
    """Numbers of the whole data set, so that a patient has the same one in every part."""
    probabilities_NK: Floats | None = None
    """Where they were given as such."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Of a model, with all that is told about it."""

    model: str
    """How it is called in tables."""
    findings: tuple[str, ...]
    classes: bool
    """Whether an image has one class, and the log-odds are of the choice between them."""
    scored: Answers
    part: str
    """`train`, `val` or `test`, or `all` of a file without parts."""
    labels: str
    """How the labels' file or data set is called."""
    val: Answers | None = None
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


def judged(
    answered: Answered, *, other: tuple[str, Floats] | None = None, resamples: int = 1000, seed: int = 0
) -> Evidence:
    """The evidence; thresholds and calibration are fitted on val alone. `other` as `assess` takes it.

    Raises: InputError when no finding can be scored, and when patients of val are scored too.
    """
    scored = answered.scored
    _check_scorable(scored, answered.labels)
    calibrator = answered.calibrator if answered.val is None else _fitted(answered, answered.val)
    found = published_list(scored.images) or (OTHER, answered.part)
    part = found[1] if answered.part == "all" else answered.part
    data = Data(
        drawn=answered.drawn,
        labels=answered.labels,
        part=part,
        split=answered.split or (found[0] if part == found[1] else OTHER),
        images=len(scored.images),
        patients=len(np.unique(scored.patients_N)),
        fitted_on=None if calibrator is None else calibrator.fitted_on,
        trained_on_known=answered.trained_on_known,
        trained_on_images=answered.trained_on_images,
    )
    return assess(
        model=answered.model,
        log_odds_NK=scored.log_odds_NK,
        probabilities_NK=scored.probabilities_NK,
        labels_NK=scored.labels_NK,
        patients_N=scored.patients_N,
        findings=answered.findings,
        data=data,
        classes=answered.classes,
        calibrator=calibrator,
        metadata=answered.metadata,
        other=other,
        shortcuts=answered.shortcuts,
        notes=answered.notes,
        resamples=resamples,
        seed=seed,
    )


def _check_scorable(scored: Answers, labels: str) -> None:
    positive_K = (scored.labels_NK > 0).sum(axis=0)
    total = len(scored.labels_NK)
    if not ((positive_K > 0) & (positive_K < total)).any():
        raise InputError(
            "cannot score: no finding has images with it and images without it, "
            f"got {total:,} image{'s' * (total != 1)} (from `{labels}`)",
            hint="AUROC is not defined with one class only; score more images",
        )


def _fitted(answered: Answered, val: Answers) -> Calibrator:
    shared_N = np.isin(val.patients_N, answered.scored.patients_N)
    if shared_N.any():
        names = [val.images[row] for row in np.flatnonzero(shared_N).tolist()]
        raise InputError(
            f"cannot fit thresholds: patients of {len(names):,} of {len(val.images):,} images are scored too, "
            f"got `{answered.val_name}`{listing(names)}",
            hint="thresholds and calibration are fitted on images of other patients",
        )
    return fit(
        val.log_odds_NK,
        val.labels_NK,
        answered.findings,
        val.images,
        f"{answered.val_name}, {len(val.images):,} images",
        classes=answered.classes,
        probabilities_NK=val.probabilities_NK,
    )
