"""Ground-truth labels from a data set's directory or from one file; images are not needed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.config import Layout
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import read_file, read_labels
from trainer.errors import InputError
from trainer.evaluation import metadata
from trainer.evaluation.metadata import Metadata


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels and metadata of images."""

    path: Path
    table: LabelTable
    metadata: Metadata | None
    """In the order of the table."""
    is_list: bool
    """Whether it is a list of images to be evaluated together, so that none may be missing."""

    @property
    def has_splits(self) -> bool:
        """Whether it assigns images to splits."""
        return bool((self.table.split_N >= 0).any())

    def rows(self, part: str) -> NDArray[np.int64]:
        """Rows of one split, or all. Raises: InputError where there is none."""
        rows = self.table.rows(part) if part in SPLITS else np.arange(len(self.table), dtype=np.int64)
        if not len(rows):
            raise InputError(
                f"cannot evaluate split {part}: `{self.path}` has no image in it, got `{part}` (from `--part`)",
                hint="use --part all to evaluate every predicted image",
            )
        return rows


def read(path: Path, *, layout: Layout = "auto", split: str | None = None, val_list: str | None = None) -> Labels:
    """The labels at `path`; layout and split apply to directories only.

    Raises: InputError with all problems of the labels.
    """
    if path.is_dir():
        source = read_labels(path, layout=layout, split=split or "given", val_list=val_list)
        table = source.table.used()
        return Labels(path, table, metadata.of_dataset(path, source.layout, table.images), is_list=False)
    flags = {"--layout": layout != "auto", "--split": split is not None, "--val-list": val_list is not None}
    if any(flags.values()):
        raise InputError(
            f"cannot use {' and '.join(name for name, is_given in flags.items() if is_given)}: "
            f"these flags need a data set's directory, got `{path}` (from `--labels`)",
            hint="use --labels DIRECTORY, or remove these flags",
        )
    source = read_file(path)
    if not len(source.table):
        raise InputError(
            f"cannot read the labels: there are none, got `{path}` (from `--labels`)",
            hint="check that the file is complete",
        )
    attributes = metadata.of_file(path, source.table.images)
    return Labels(path, source.table, attributes, is_list=source.layout == "lists")
