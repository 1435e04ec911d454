"""What is asked of a model: which images of a data set, whose labels it answers and whose patients it was not trained on.

No image is read here. Shapes: N images of the whole data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.data.dataset import Place
from trainer.data.download import folder_of
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import Source, read_labels
from trainer.errors import InputError, listing
from trainer.evaluation.overlap import of_patients
from trainer.models.load import LoadedModel

Part = Literal["train", "val", "test"]

_SHOWN_NAMES: Final = 5


@dataclass(frozen=True)
class EvaluationSet:
    """What is asked of a model: which images of a data set."""

    place: Place
    source: Source
    """Of all images, also those in no part; its labels are those that the model answers."""
    labels: tuple[str, ...]
    """All labels of the data set."""
    part: Part
    trained_N: NDArray[np.bool_]
    """Whether each image is of a patient the model was trained on; all False where that is unknown."""
    chosen_N: NDArray[np.bool_]
    """The same for patients by whom its checkpoint was chosen."""

    @property
    def table(self) -> LabelTable:
        """Labels, patients and parts."""
        return self.source.table

    @property
    def scored(self) -> NDArray[np.int64]:
        """What is scored."""
        return self.table.rows(self.part)

    @property
    def free_to_fit(self) -> NDArray[np.int64]:
        """What thresholds and calibration can be fitted on: validation images of no patient the model was trained on."""
        rows_N = self.table.rows("val")
        return rows_N[~self.trained_N[rows_N]] if self.part != "val" else rows_N[:0]


def split_of_run(trained: LoadedModel) -> str:
    """How the run split its data set; as the data set says, where there is no run."""
    config = (trained.record or {}).get("config", {})
    return str(config.get("split", "given"))


def evaluation_set(trained: LoadedModel, place: Place, part: Part, *, force: bool) -> EvaluationSet:
    """The labels, once they are known to be of what the model answers and of patients that it does not know. Raises: InputError."""
    folder = folder_of(place.data, place.cache) if "://" in place.data else Path(place.data)
    source = read_labels(folder, layout=place.layout, split=place.split, val_list=place.val_list)
    table = _with_findings(source.table, trained, place.data)
    known = _by_part(trained.trained_on or {})
    subset = EvaluationSet(
        place,
        replace(source, table=table),
        source.table.findings,
        part,
        trained_N=of_patients(known["train"], table.images, table.patients_N),
        chosen_N=of_patients(known["val"], table.images, table.patients_N),
    )
    if not len(subset.scored):
        raise InputError(
            f"cannot score `{place.data}`: it has no image in {part} (from `--part`)",
            hint="--part test, or another --split",
        )
    if not force:
        _check_unknown_patients(trained, subset)
    return subset


def _with_findings(table: LabelTable, trained: LoadedModel, data: str) -> LabelTable:
    """The table with the labels that the model answers, in its order.

    Raises: InputError when the data set lacks one; and of a model that chooses, when it has others, or images of no single class.
    """
    missing = [name for name in trained.findings if name not in table.findings]
    surplus = [name for name in table.findings if name not in trained.findings]
    if missing or (surplus and trained.loss == "cross_entropy"):
        raise InputError(
            f"cannot score `{trained.origin}` on `{data}`: it answers {', '.join(trained.findings)}, "
            f"and the data set's labels are {', '.join(table.findings)}",
            hint="score a model on labels that it was trained for",
        )
    columns = [table.findings.index(name) for name in trained.findings]
    chosen = replace(table, findings=trained.findings, labels_NK=table.labels_NK[:, columns])
    odd = int((chosen.labels_NK.sum(axis=1) != 1).sum()) if trained.loss == "cross_entropy" else 0
    if odd:
        raise InputError(
            f"cannot score `{trained.origin}` on `{data}`: it says one class for each image, and {odd:,} of {len(table):,} "
            "images have several labels or none",
            hint="score it on a data set of one folder per class",
        )
    return chosen


def _by_part(trained_on: Mapping[str, str]) -> dict[str, set[str]]:
    return {part: {name for name, its in trained_on.items() if its == part} for part in SPLITS}


def _check_unknown_patients(trained: LoadedModel, subset: EvaluationSet) -> None:
    rows_N = subset.scored[subset.trained_N[subset.scored]]
    if len(rows_N):
        names = [subset.table.images[row] for row in rows_N.tolist()]
        shown = f"{listing(names[:_SHOWN_NAMES])}{_more(len(names))}"
        raise InputError(
            f"cannot score `{trained.origin}` on {subset.part} of `{subset.place.data}`: {len(names):,} of "
            f"{len(subset.scored):,} images are of patients that it was trained on{shown}",
            hint="score images of other patients; --force scores these too, and the output says so",
        )


def _more(count: int) -> str:
    return f"\n  … and {count - _SHOWN_NAMES:,} more" if count > _SHOWN_NAMES else ""
