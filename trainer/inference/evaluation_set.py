"""Images and labels of an evaluation, checked against the model's outputs and training patients.

No image is read here. Shapes: N images of the whole data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.config import OnMissingImage
from trainer.data.dataset import Place
from trainer.data.download import folder_of
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import Source, read_labels
from trainer.data.locate import missing_images
from trainer.errors import InputError, listing
from trainer.evaluation.label_file import edition_of
from trainer.evaluation.origin import origin_of
from trainer.evaluation.overlap import of_patients
from trainer.models.load import LoadedModel

Part = Literal["train", "val", "test"]

_SHOWN_NAMES: Final = 5


@dataclass(frozen=True)
class EvaluationSet:
    """Images of a data set on which a model is evaluated."""

    place: Place
    source: Source
    """All images, also those in no split; its labels are those of the model's outputs that have some."""
    labels: tuple[str, ...]
    """All labels of the data set."""
    edition: str | None
    """Edition of ChestX-ray14's labels, if they are."""
    part: Part
    trained_N: NDArray[np.bool_]
    """Whether each image is of a patient in the training set; all False where unknown."""
    chosen_N: NDArray[np.bool_]
    """The same for patients used to select the checkpoint."""
    missing: int = 0
    """Images of the part that have no file."""
    is_public: bool = False
    """Whether the data set is a recognised public one, or phantoms."""

    @property
    def table(self) -> LabelTable:
        """Labels, patients and splits."""
        return self.source.table

    def missing_notes(self) -> list[str]:
        """A note about images without a file, if there are any."""
        if not self.missing:
            return []
        return [f"{self.missing:,} of {len(self.scored) + self.missing:,} images have no file and are not evaluated"]

    @property
    def scored(self) -> NDArray[np.int64]:
        """Rows of the evaluated images."""
        return self.table.rows(self.part)

    @property
    def free_to_fit(self) -> NDArray[np.int64]:
        """Rows for fitting thresholds and calibration: validation images of patients outside the training set."""
        rows_N = self.table.rows("val")
        return rows_N[~self.trained_N[rows_N]] if self.part != "val" else rows_N[:0]


def split_of_run(trained: LoadedModel) -> str:
    """The run's `--split`; `given` without a run."""
    config = (trained.record or {}).get("config", {})
    return str(config.get("split", "given"))


def on_missing_image_of_run(trained: LoadedModel) -> OnMissingImage:
    """The run's `--on-missing-image`; `fail` without a run."""
    config = (trained.record or {}).get("config", {})
    return "skip" if config.get("on_missing_image") == "skip" else "fail"


def evaluation_set(trained: LoadedModel, place: Place, part: Part, *, force: bool) -> EvaluationSet:
    """The labels, checked for the model's findings and against its training patients. Raises: InputError."""
    folder = folder_of(place.data, place.cache) if "://" in place.data else Path(place.data)
    kept = trained.trained_on if place.split == split_of_run(trained) else None
    source = read_labels(folder, layout=place.layout, split=place.split, val_list=place.val_list, kept_split=kept)
    missing = missing_images(source) if place.on_missing_image == "skip" else []
    here = source.table.without(missing)
    table = _with_findings(here, trained, place.data)
    known = _by_part(trained.trained_on or {})
    subset = EvaluationSet(
        place,
        replace(source, table=table),
        source.table.findings,
        edition_of(source),
        part,
        trained_N=of_patients(known["train"], table.images, table.patients_N),
        chosen_N=of_patients(known["val"], table.images, table.patients_N),
        missing=len(source.table.rows(part)) - len(table.rows(part)),
        is_public=origin_of(source) is not None,
    )
    if not len(subset.scored):
        raise InputError(
            f"cannot evaluate on `{place.data}`: it has no image in {part} (from `--part`)",
            hint="use --part test, or another --split",
        )
    if not force:
        _check_unknown_patients(trained, subset)
    return subset


def _with_findings(table: LabelTable, trained: LoadedModel, data: str) -> LabelTable:
    """The table with the labels of the model's outputs, in their order; outputs without labels are left out.

    Raises: InputError when all are missing; for a single-label model when labels and outputs differ, or for images without
    exactly one.
    """
    common = tuple(name for name in trained.findings if name in table.findings)
    differs = set(table.findings) != set(trained.findings)
    if not common or (differs and trained.loss == "cross_entropy"):
        raise InputError(
            f"cannot evaluate `{trained.origin}` on `{data}`: its outputs are {', '.join(trained.findings)}, "
            f"but the data set's labels are {', '.join(table.findings)}",
            hint="evaluate a model on the labels that it was trained for",
        )
    columns = [table.findings.index(name) for name in common]
    chosen = replace(table, findings=common, labels_NK=table.labels_NK[:, columns])
    bad = int((~chosen.has_one_label()).sum()) if trained.loss == "cross_entropy" else 0
    if bad:
        raise InputError(
            f"cannot evaluate `{trained.origin}` on `{data}`: it predicts one class per image, but {bad:,} of {len(table):,} "
            "images have several labels, unknown ones or none",
            hint="evaluate it on a data set with one folder per class",
        )
    return chosen


def _by_part(trained_on: Mapping[str, str]) -> dict[str, set[str]]:
    return {part: {name for name, split in trained_on.items() if split == part} for part in SPLITS}


def _check_unknown_patients(trained: LoadedModel, subset: EvaluationSet) -> None:
    rows_N = subset.scored[subset.trained_N[subset.scored]]
    if len(rows_N):
        names = [subset.table.images[row] for row in rows_N.tolist()]
        shown = f"{listing(names[:_SHOWN_NAMES])}{_more(len(names))}"
        raise InputError(
            f"cannot evaluate `{trained.origin}` on {subset.part} of `{subset.place.data}`: {len(names):,} of "
            f"{len(subset.scored):,} images are of patients in its training set{shown}",
            hint="evaluate images of other patients; --force evaluates these, too, and the output states it",
        )


def _more(count: int) -> str:
    return f"\n  … and {count - _SHOWN_NAMES:,} more" if count > _SHOWN_NAMES else ""
