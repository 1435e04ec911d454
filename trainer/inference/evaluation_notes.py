"""What the reader of an evaluation must know of it: patients seen in training, images left out, names that differ.

Shapes: N images.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.data.augment import Tta
from trainer.devices import Arithmetic
from trainer.evaluation.calibration import Calibrator
from trainer.evaluation.document import ExternalTest, FindingMatch
from trainer.evaluation.inputs import UNKNOWN_TRAINING
from trainer.evaluation.label_file import caveats
from trainer.inference.evaluation_set import EvaluationSet, both_of_nih
from trainer.models.load import LoadedModel
from trainer.models.tta import views_of
from trainer.report.formatting import last_name


def notes_on(
    trained: LoadedModel,
    subset: EvaluationSet,
    rows_N: NDArray[np.int64],
    *,
    stored: Calibrator | None,
    is_calibrated: bool,
    tta: Tta,
    precision: Arithmetic,
) -> Iterator[str]:
    """Caveats for the reader; `rows_N` are the evaluated images, `stored` is the model's own calibration where it is used."""
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
    if stored is not None and trained.trained_on is None and not subset.has_fitted(stored, "val"):
        yield "the images used to fit thresholds and calibration are unknown: patients evaluated here may be among them"
    if tta != "none":
        yield f"probabilities are the mean over {views_of(tta)} views of each image (--tta {tta})"
    if not is_calibrated:
        yield "no thresholds and no calibration: there are no validation images of patients outside the training and the evaluated images"
    if len(rows_N) < len(subset.scored):
        yield f"{len(subset.scored) - len(rows_N):,} of {len(subset.scored):,} images could not be read and are not evaluated"
    if precision != "fp32":
        yield f"the network is computed in {precision}, which is less exact than fp32 (--precision)"


def external_test(trained: LoadedModel, subset: EvaluationSet) -> ExternalTest | None:
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
    external = external_test(trained, subset)
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
