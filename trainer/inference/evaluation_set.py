"""Images and labels of an evaluation, checked against the model's outputs and training patients.

No image is read here. Shapes: N images of the whole data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.config import OnMissingImage
from trainer.data.dataset import Place, folder_on_node, labels_of
from trainer.data.finding_names import Match, Matching, matching
from trainer.data.label_policy import joined
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import Source
from trainer.data.locate import missing_images
from trainer.data.patients import nih_patient
from trainer.errors import InputError, listing
from trainer.evaluation.calibration import Calibrator, names_sha256
from trainer.evaluation.label_file import edition_of
from trainer.evaluation.origin import origin_of
from trainer.evaluation.overlap import of_patients
from trainer.label_choices import AS_READ, LabelChoices
from trainer.models.load import LoadedModel

Part = Literal["train", "val", "test", "all"]
"""A split, or the images of all splits."""

_SHOWN_NAMES: Final = 5

_RENAMED_NIH: Final = "rsna"
"""A layout whose images are ChestX-ray14's under new names."""


@dataclass(frozen=True)
class EvaluationSet:
    """Images of a data set on which a model is evaluated."""

    place: Place
    source: Source
    """All images, also those in no split; its labels are those of the model's outputs that have some."""
    matching: Matching
    """The model's outputs and the labels of the data set, under their names in both."""
    edition: str | None
    """Edition of ChestX-ray14's labels, if they are."""
    part: Part
    trained_N: NDArray[np.bool_]
    """Whether each image is of a patient in the training set; all False where unknown."""
    chosen_N: NDArray[np.bool_]
    """The same for patients used to select the checkpoint."""
    is_external: bool = False
    """Whether the data set has no image of the model's own, as far as names tell."""
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
        return rows_of(self.table, self.part)

    @property
    def free_to_fit(self) -> NDArray[np.int64]:
        """Rows for fitting thresholds and calibration: validation images of patients outside the training set."""
        rows_N = self.table.rows("val")
        return rows_N[:0] if self.part in {"val", "all"} else rows_N[~self.trained_N[rows_N]]

    def has_fitted(self, calibrator: Calibrator, part: Part) -> bool:
        """Whether the calibrator was fitted on the images of this part, as far as it records them."""
        names = [self.table.images[row] for row in rows_of(self.table, part).tolist()]
        return calibrator.images_sha256 == names_sha256(names)


def rows_of(table: LabelTable, part: Part) -> NDArray[np.int64]:
    """Rows of the images of a split, or of all splits."""
    return np.flatnonzero(table.split_N >= 0).astype(np.int64) if part == "all" else table.rows(part)


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
    folder = folder_on_node(place)
    kept = trained.trained_on if place.split == split_of_run(trained) else None
    place, joins = _with_joins(trained, place, folder)
    source = labels_of(folder, place, kept)
    missing = missing_images(source) if place.on_missing_image == "skip" else []
    here = source.table.without(missing)
    found, table = _with_findings(here, trained, place.data, joins)
    known = _by_part(trained.trained_on or {})
    original = original_names(source)
    subset = EvaluationSet(
        place,
        replace(source, table=table),
        found,
        edition_of(source),
        part,
        trained_N=of_patients(known["train"], original, table.patients_N),
        chosen_N=of_patients(known["val"], original, table.patients_N),
        is_external=_is_external(trained, source),
        missing=len(rows_of(source.table, part)) - len(rows_of(table, part)),
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


def choices_of_run(trained: LoadedModel) -> LabelChoices | None:
    """How the labels of the run were read; None without a run."""
    return None if trained.record is None else LabelChoices.from_document(trained.record.get("config", {}))


def _with_joins(trained: LoadedModel, place: Place, folder: Path) -> tuple[Place, list[Match]]:
    """The place without those renames that the data set cannot have, and these as joins of the model's outputs."""
    renamed = place.choices.renamed()
    of_outputs = {new for new, old in renamed.items() if set(old) <= set(trained.findings)}
    if not of_outputs:
        return place, []
    labels = labels_of(folder, replace(place, choices=AS_READ, of_run=None)).table.findings
    joins = [_join(new, old) for new, old in renamed.items() if new in of_outputs]
    kept = tuple(
        text
        for text, (new, old) in zip(place.choices.rename, renamed.items(), strict=True)
        if new not in of_outputs or new not in labels or set(old) <= set(labels)
    )
    return replace(place, choices=replace(place.choices, rename=kept)), joins


def _join(label: str, outputs: tuple[str, ...]) -> Match:
    """A single output keeps its name, which is that of its calibration."""
    return Match(label if len(outputs) > 1 else outputs[0], outputs, (label,))


def _with_findings(
    table: LabelTable, trained: LoadedModel, data: str, joins: Sequence[Match]
) -> tuple[Matching, LabelTable]:
    """What outputs and labels have in common, and the table with these findings in the order of the outputs.

    Raises: InputError when nothing is; for a join of which a part has another match; for a single-label model when labels and
    outputs differ, or for images without exactly one.
    """
    possible = [join for join in joins if set(join.labels) <= set(table.findings)]  # the others are not chosen
    found = matching(trained.findings, table.findings, possible)
    _check_joined(possible, found)
    is_one_class = trained.loss == "cross_entropy"
    if not found.matches or (is_one_class and set(table.findings) != set(trained.findings)):
        raise InputError(
            f"cannot evaluate `{trained.origin}` on `{data}`: its outputs are {', '.join(trained.findings)}, "
            f"but the data set's labels are {', '.join(table.findings)}",
            hint="evaluate a model on the labels that it was trained for, or name them as its outputs: --rename OUTPUT=LABEL",
        )
    columns = [
        joined(table.labels_NK[:, [table.findings.index(name) for name in match.labels]]) for match in found.matches
    ]
    chosen = replace(table, findings=found.names, labels_NK=np.stack(columns, axis=1))
    bad = int((~chosen.has_one_label()).sum()) if is_one_class else 0
    if bad:
        raise InputError(
            f"cannot evaluate `{trained.origin}` on `{data}`: it predicts one class per image, but {bad:,} of {len(table):,} "
            "images have several labels, unknown ones or none",
            hint="evaluate it on a data set with one folder per class",
        )
    return found, chosen


def _check_joined(joins: Sequence[Match], found: Matching) -> None:
    """Raises: InputError for a join that is not among the matches."""
    for join in joins:
        if join not in found.matches:
            (other, *_) = [
                match for match in found.matches if set(join.labels + join.outputs) & {*match.labels, *match.outputs}
            ]
            raise InputError(
                f"cannot rename: the model's {' and '.join(other.outputs)} is evaluated on the label {' and '.join(other.labels)}, and "
                f"each output and label is used once, got `{join.labels[0]}={'|'.join(join.outputs)}` (from `--rename`)",
                hint="remove this --rename, or leave out the other label with --findings",
            )


def original_names(source: Source) -> list[str]:
    """Names of the images, those of ChestX-ray14 where another data set has renamed its images and gives their names."""
    return [source.nih_names.get(name, name) for name in source.table.images]


def _is_external(trained: LoadedModel, source: Source) -> bool:
    """Whether the model's run is known, and no image, and no patient that names identify, is in both data sets."""
    if not trained.trained_on or both_of_nih(trained, source):
        return False
    return not of_patients(trained.trained_on.keys(), original_names(source), source.table.patients_N).any()


def both_of_nih(trained: LoadedModel, source: Source) -> bool:
    """Whether the run's images and these are ChestX-ray14's, at least one of them under new names."""
    record = trained.record or {}
    layout = record.get("prepared_from", record.get("layout"))
    if _RENAMED_NIH not in {layout, source.labels_layout}:
        return False
    own = layout == _RENAMED_NIH or any(map(nih_patient, trained.trained_on or ()))
    return own and (source.labels_layout == _RENAMED_NIH or any(map(nih_patient, source.table.images)))


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
