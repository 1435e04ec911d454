"""A data set with its labels, as read and as used, and the request to a layout's reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

from trainer.data.class_folders import IMAGE_SUFFIXES, first_of
from trainer.data.labels import LabelTable
from trainer.formats.documents import LabelPolicy
from trainer.label_choices import AS_READ, LabelChoices

Placement = Literal["images", "paths", "anywhere", "stems", "records"]
"""How the names of a table lead to files.

    images    below images/, images_001/ and so on, or below the folders that the names have
    paths     each name is a path below the data set's directory
    anywhere  anywhere below the directory, by file name
    stems     anywhere below the directory, by file name without suffix
    records   to no files: a prepared set holds records only
"""


@dataclass(frozen=True)
class Source:
    """A data set with checked labels."""

    layout: str
    root: Path
    table: LabelTable
    look_alikes: tuple[str, ...] = ()
    """Files that look like images but have no image's suffix, and are not read."""
    unread: tuple[str, ...] = ()
    """Other label files in the directory, of another edition or layout."""
    notes: tuple[str, ...] = ()
    """What else is not read, and what the layout decided."""
    policy: LabelPolicy = field(default_factory=LabelPolicy)
    """What was done to the labels that the layout reads; empty where they are used as they are."""
    placement: Placement = "images"
    nih_names: Mapping[str, str] = field(default_factory=dict)
    """Names in ChestX-ray14 of images that another data set has under new names, where that is known."""
    prepared_from: str | None = None
    """Layout of the source of a prepared set; None for any other data set."""

    @property
    def labels_layout(self) -> str:
        """The layout that the labels are from: that of the source of a prepared set."""
        return self.prepared_from or self.layout

    def unread_images(self) -> list[str]:
        """Notes about what looks like images of the data set and is not read, for a log."""
        files = self.look_alikes
        if not files:
            return list(self.notes)
        suffixes = ", ".join(IMAGE_SUFFIXES)
        if len(files) == 1:
            what = "1 file looks like an image but is not read, as its name ends in none of"
        else:
            what = f"{len(files):,} files look like images but are not read, as their names end in none of"
        return [f"{what} {suffixes}: {first_of(files)}", *self.notes]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a layout's reader is asked for."""

    data: Path
    """Directory of the data set."""
    entries: Sequence[str]
    """Names in it, those of directories with a trailing slash."""
    given: bool
    """Whether the data set's own split is used; otherwise images need none."""
    choices: LabelChoices = AS_READ
    of_run: LabelChoices = AS_READ
    """Choices of a model's run."""
    val_list: Path | None = None
    """A list of validation images; only for layout nih."""

    @property
    def reading(self) -> LabelChoices:
        """The choices with those of the run where there are none, for `valid_as`, `readers` and `physician_labels_only`."""
        return self.choices.over(self.of_run)

    def wants(self, finding: str) -> bool:
        """Whether the user, or the run, named this finding; for those that a layout leaves out by default."""
        chosen = (self.choices, self.of_run)
        names = {
            name
            for each in chosen
            for name in (*each.columns(), *(old for olds in each.renamed().values() for old in olds))
        }
        return finding.casefold() in {name.casefold() for name in names}


@dataclass(frozen=True, kw_only=True)
class RawSource:
    """What a layout's reader returns: labels as the files give them.

    Labels are 1, 0, `label_cells.UNCERTAIN`, `label_cells.BLANK`, or fractions where readers disagree.
    """

    table: LabelTable
    files: tuple[Path, ...] = ()
    """Label files that were read."""
    carved: Mapping[str, Fraction] = field(default_factory=dict)
    """Splits that the data set lacks, and the share of the patients of train that each of them gets."""
    placement: Placement = "images"
    look_alikes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    nih_names: Mapping[str, str] = field(default_factory=dict)
    prepared_from: str | None = None
    """Layout of the source of a prepared set."""
    split_findings: tuple[str, ...] | None = None
    """Findings that a split is drawn on, where choices may add others to the table; None for all of the table."""


class Layout(Protocol):
    """A module that reads one layout."""

    @property
    def REQUIRED(self) -> tuple[str, ...]:  # noqa: N802 - a constant of the module
        """Files and folders that identify the layout; patterns, also for compressed files (.gz)."""

    @property
    def LABELS_ONLY(self) -> tuple[str, ...]:  # noqa: N802
        """Those of them that are needed where a split is made by patient."""

    @property
    def COLUMNS(self) -> tuple[str, ...]:  # noqa: N802
        """Columns that the first of these files must have to be of this layout."""

    @property
    def UNCERTAIN(self) -> str | None:  # noqa: N802
        """What uncertain labels count as by default: ignore, zeros or ones; None where the layout has none."""

    @property
    def BLANK(self) -> str | None:  # noqa: N802
        """What blank labels count as by default: ignore or zeros; None where the layout has none."""

    def read(self, request: Request) -> RawSource:
        """The labels. Raises: InputError with all problems."""
