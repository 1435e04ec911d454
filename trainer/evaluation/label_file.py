"""Labels to judge predictions by: a data set's directory, or one file with its labels; no image is needed."""

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
    """What is so, and what is known of the images beside."""

    path: Path
    table: LabelTable
    metadata: Metadata | None
    """In the order of the table."""
    is_list: bool
    """Whether it is a list of images made to be scored together, so that none may be missing."""

    @property
    def has_parts(self) -> bool:
        """Whether it says which images are for testing."""
        return bool((self.table.split_N >= 0).any())

    def rows(self, part: str) -> NDArray[np.int64]:
        """Rows of one part. Raises: InputError where there is none."""
        rows = self.table.rows(part) if part in SPLITS else np.arange(len(self.table), dtype=np.int64)
        if not len(rows):
            raise InputError(
                f"cannot score part {part}: `{self.path}` has no image in it, got `{part}` (from `--part`)",
                hint="--part all scores every image that is predicted",
            )
        return rows


def read(path: Path, *, layout: Layout = "auto", split: str | None = None, val_list: str | None = None) -> Labels:
    """The labels at `path`; how they are laid out and split is asked of directories only.

    Raises: InputError with everything that is wrong with them.
    """
    if path.is_dir():
        given = read_labels(path, layout=layout, split=split or "given", val_list=val_list)
        table = given.table.used()
        return Labels(path, table, metadata.of_dataset(path, given.layout, table.images), is_list=False)
    asked = {"--layout": layout != "auto", "--split": split is not None, "--val-list": val_list is not None}
    if any(asked.values()):
        raise InputError(
            f"cannot use {' and '.join(name for name, is_there in asked.items() if is_there)}: "
            f"only a data set's directory is laid out and split, got `{path}` (from `--labels`)",
            hint="--labels DIRECTORY, or leave it out",
        )
    source = read_file(path)
    if not len(source.table):
        raise InputError(
            f"cannot read the labels: there are none, got `{path}` (from `--labels`)", hint="is the file complete?"
        )
    tells = metadata.of_file(path, source.table.images)
    return Labels(path, source.table, tells, is_list=source.layout == "lists")
