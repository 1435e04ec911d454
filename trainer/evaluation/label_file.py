"""Ground-truth labels from a data set's directory or from one file; images are not needed."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.config import Layout
from trainer.data.label_policy import policy_notes
from trainer.data.labels import SPLITS, LabelTable
from trainer.data.layouts import Source, read_file, read_labels, table_file, unread_notes
from trainer.data.public import is_kaggle_test
from trainer.errors import InputError
from trainer.evaluation import metadata, readers
from trainer.evaluation.edition import edition
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.origin import origin_of
from trainer.evaluation.rename import FLAG
from trainer.formats.documents import LabelPolicy
from trainer.label_choices import AS_READ, LabelChoices


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels and metadata of images."""

    path: Path
    table: LabelTable
    metadata: Metadata | None
    """In the order of the table."""
    is_list: bool
    """Whether it is a list of images to be evaluated together, so that none may be missing."""
    is_selection: bool = False
    """Whether it labels a selection of a data set's images, so that predictions of others are left out."""
    edition: str | None = None
    """Edition of ChestX-ray14's labels, and the files they are from."""
    mined: LabelTable | None = None
    """The text-mined labels of the same images, where `table` has those of readers."""
    readers: tuple[str, ...] = ()
    """Columns of readers in the file."""
    is_public: bool = False
    """Whether images and labels are of a recognised public data set, or phantoms."""
    policy: LabelPolicy = field(default_factory=LabelPolicy)
    """What was done to the labels."""
    notes: tuple[str, ...] = ()

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


def read(
    path: Path,
    *,
    layout: Layout = "auto",
    split: str | None = None,
    val_list: str | None = None,
    renamed: Collection[str] = (),
    choices: LabelChoices = AS_READ,
) -> Labels:
    """The labels at `path`; layout and split apply to directories only.

    Columns of readers in a file are read where one of them is among `renamed`, otherwise the text-mined labels beside them.

    Raises: InputError with all problems of the labels.
    """
    if path.is_dir():
        return _of_directory(
            read_labels(path, layout=layout, split=split or "given", val_list=val_list, choices=choices)
        )
    flags = {"--layout": layout != "auto", "--split": split is not None, "--val-list": val_list is not None}
    if any(flags.values()):
        raise InputError(
            f"cannot use {' and '.join(name for name, is_given in flags.items() if is_given)}: "
            f"these flags need a data set's directory, got `{path}` (from `--labels`)",
            hint="use --labels DIRECTORY, or remove these flags",
        )
    source = read_file(path, choices)
    if not len(source.table):
        raise InputError(
            f"cannot read the labels: there are none, got `{path}` (from `--labels`)",
            hint="check that the file is complete",
        )
    labels = Labels(
        path,
        source.table,
        metadata.of_file(path, source.table.images),
        is_list=source.layout == "lists",
        edition=edition_of(source),
        readers=_readers(source),
        is_public=origin_of(source) is not None,
        policy=source.policy,
        notes=tuple(policy_notes(source.policy)),
    )
    if not labels.readers:
        return labels
    labels = replace(labels, is_selection=True)
    return _of_readers(labels) if set(labels.readers) & set(renamed) else replace(labels, notes=caveats(source))


def _of_directory(source: Source) -> Labels:
    table = source.table.used()
    attributes = metadata.of_dataset(source.root, source.layout, table.images)
    return Labels(
        source.root,
        table,
        attributes,
        is_list=False,
        edition=edition_of(source),
        readers=_readers(source),
        is_public=origin_of(source) is not None,
        policy=source.policy,
        notes=caveats(source),
    )


def _of_readers(labels: Labels) -> Labels:
    """The labels of readers, with the text-mined ones beside them."""
    names = ", ".join(labels.readers)
    return replace(
        labels,
        table=readers.read(labels.path, labels.table, labels.readers),
        edition=f"columns of readers ({names}); text-mined labels beside them: {labels.edition}",
        mined=labels.table,
    )


def _label_file(source: Source) -> Path | None:
    """The table of the labels; None for layouts of several files, or of none."""
    return table_file(source.root, source.layout) if source.root.is_dir() else source.root


def _readers(source: Source) -> tuple[str, ...]:
    """Columns of readers in NIH's table."""
    file = _label_file(source)
    return readers.columns_of(file) if source.layout == "nih" and file is not None else ()


def caveats(source: Source) -> tuple[str, ...]:
    """Notes about how labels are used, and about what is not read."""
    return (*policy_notes(source.policy), *_without_known_labels(source.table), *not_read(source))


def _without_known_labels(table: LabelTable) -> Iterator[str]:
    known_NK = table.known()
    for split in SPLITS:
        rows_N = table.rows(split)
        if len(rows_N) and not known_NK[rows_N].any():
            yield f"no label of the {len(rows_N):,} images in {split} is known: nothing can be evaluated on them"


def not_read(source: Source) -> tuple[str, ...]:
    """Notes about what was not used: other label files of the directory, columns of readers, files that look like images."""
    columns, file = _readers(source), _label_file(source)
    others = (*unread_notes(source), *source.unread_images(), *_split_again(source.table))
    if not columns or file is None:
        return others
    listed = ", ".join(f"`{column}`" for column in columns)
    note = (
        f"{file.name} also has labels of readers, which were not used: {listed}. Used are its text-mined labels; "
        f'`trainer evaluate --labels {file.name} {FLAG} "{columns[-1]}=FINDING|FINDING"` evaluates these findings on those of readers'
    )
    return (*others, note)


def _split_again(table: LabelTable) -> tuple[str, ...]:
    """A note about the pneumonia set's own test images, where they are not the tested ones."""
    own = [name for name in table.images if name.startswith("test/")]
    if not is_kaggle_test(own) or set(own) == {table.images[row] for row in table.rows("test").tolist()}:
        return ()
    note = "test/ is the Kaggle test set, but its images are split again, so that results published for it are not comparable"
    return (f"{note}; `--split given` keeps it as test",)


def edition_of(source: Source) -> str | None:
    """Edition of ChestX-ray14's labels with the file or layout they were read from; None for other labels."""
    file = _label_file(source)
    name = edition(source.table, "" if file is None else file.name)
    return name if name is None else f"{name} ({source.layout if file is None else file.name})"
