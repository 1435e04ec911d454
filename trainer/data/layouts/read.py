"""Reading a data set: its layout, labels and split, whatever the layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from trainer.data.class_folders import directory_entries
from trainer.data.label_files import IMAGE, LABELS, SPLIT, header_of, text_lines
from trainer.data.label_policy import LayoutDefaults, Resolved, check_layout, resolved, unresolved
from trainer.data.labels import FINDINGS, SPLITS, LabelTable, check_finding_names
from trainer.data.layouts import chexpert, labels_csv, nih
from trainer.data.layouts.choose import LABEL_FILES, LAYOUTS, choose, release_folder
from trainer.data.layouts.files import present
from trainer.data.layouts.image_tables import table_file
from trainer.data.layouts.lists import read_lists
from trainer.data.layouts.source import Layout, RawSource, Request, Source
from trainer.data.split import (
    PatientSplit,
    apply_split,
    carve,
    check_patients,
    check_splits,
    patient_split,
    with_kept_split,
)
from trainer.errors import InputError
from trainer.label_choices import AS_READ, LabelChoices

_SHOWN_CHARS: Final = 80


def read_labels(
    data: Path,
    *,
    layout: str = "auto",
    split: str = "given",
    val_list: str | None = None,
    kept_split: Mapping[str, str] | None = None,
    choices: LabelChoices = AS_READ,
    of_run: LabelChoices | None = None,
) -> Source:
    """Labels, patients and split of the data set in this directory; reads no image, and needs none except in folders.

    Labels are 1, 0, NaN for unknown, or a fraction. `of_run` are the choices of a model's run, which are used where `choices`
    has none, as far as they fit the data set.

    `kept_split` is the split of each image in a run that began earlier, with the same arguments; it is used where it
    is a split of the same images that agrees with what the data set gives. A split is drawn on the labels as the data set
    gives them, so that it is the same whatever the choices.

    Raises: InputError with all problems of the labels, for patients in two splits and for empty splits.
    """
    read = _read(data, layout, split, val_list, (choices, of_run or AS_READ))
    found = resolved(read.raw.table, _defaults(read.layout, read.raw.prepared_from), choices, of_run)
    return _source(read, found, kept_split)


def read_raw_labels(
    data: Path,
    *,
    layout: str = "auto",
    split: str = "given",
    val_list: str | None = None,
    choices: LabelChoices = AS_READ,
) -> Source:
    """The data set with labels as its files give them: uncertain and blank ones are still undecided.

    The arguments are those of `read_labels`. Raises: InputError, as `read_labels`.
    """
    read = _read(data, layout, split, val_list, (choices, AS_READ))
    check_layout(choices, _defaults(read.layout, read.raw.prepared_from))
    return _source(read, unresolved(read.raw.table), None)


@dataclass(frozen=True)
class _Read:
    """A data set as its layout reads it."""

    data: Path
    """As the user names it."""
    root: Path
    layout: str
    split: str
    raw: RawSource
    unread: tuple[str, ...]


def _read(
    data: Path, layout: str, split: str, val_list: str | None, choices: tuple[LabelChoices, LabelChoices]
) -> _Read:
    """Find the layout and read the labels; `choices` are those made, and those of a model's run."""
    requested = patient_split(split)
    _refuse_bucket(data)
    root = release_folder(data, directory_entries(data), layout)
    entries = directory_entries(root)
    chosen = choose(root, entries, layout, given=not requested)
    _check_val_list(val_list, chosen, split, is_requested=requested is not None)
    raw = LAYOUTS[chosen].read(
        Request(
            data=root,
            entries=entries,
            given=not requested,
            choices=choices[0],
            of_run=choices[1],
            val_list=None if val_list is None else val_file(root, val_list),
        )
    )
    return _Read(data, root, chosen, split, raw, _unread(entries, LAYOUTS[chosen], raw))


def _source(read: _Read, found: Resolved, kept_split: Mapping[str, str] | None) -> Source:
    """The labels with their split."""
    for findings in (read.raw.table.findings, found.table.findings):
        check_finding_names(findings, f"`{read.data}`")
    return Source(
        read.layout,
        read.root,
        _with_split(read, found, kept_split),
        read.raw.look_alikes,
        unread=read.unread,
        notes=read.raw.notes,
        policy=found.policy,
        placement=read.raw.placement,
        nih_names=read.raw.nih_names,
        prepared_from=read.raw.prepared_from,
    )


def _with_split(read: _Read, found: Resolved, kept_split: Mapping[str, str] | None) -> LabelTable:
    """The used labels with the kept split where that fits, otherwise as drawn or given for all images."""
    requested = patient_split(read.split)
    if kept_split is not None:
        kept = with_kept_split(found.table, kept_split, given=not requested, carved=read.raw.carved)
        if kept is not None:
            return kept
    whole = _split(read.raw, requested, f"`{read.data}`")
    table = replace(found.table, split_N=whole.split_N[found.rows_N])
    has_val = requested is None or bool(requested.shares[1])
    origin = f"`--split {read.split}`" if requested else f"`{read.data}`"
    check_splits(table, SPLITS if has_val else ("train", "test"), origin)
    return table


def _defaults(layout: str, prepared_from: str | None = None) -> LayoutDefaults:
    """Those of the layout that a prepared set was made from."""
    reader = LAYOUTS[prepared_from or layout]
    return LayoutDefaults(
        prepared_from or layout, reader.UNCERTAIN, reader.BLANK, is_prepared=prepared_from is not None
    )


def _check_val_list(val_list: str | None, layout: str, split: str, *, is_requested: bool) -> None:
    if val_list is not None and (layout != "nih" or is_requested):
        reason = (
            f"`--split {split}` makes its own validation split"
            if is_requested
            else f"only layout nih takes one, not {layout}"
        )
        raise InputError(
            f"cannot use a validation list: {reason}, got `{val_list}` (from `--val-list`)", hint="remove --val-list"
        )


def _split(raw: RawSource, requested: PatientSplit | None, origin: str) -> LabelTable:
    """The requested split, or the data set's own with what it lacks taken from train, on the findings that it is drawn on."""
    table = raw.table if raw.split_findings is None else raw.table.with_findings(raw.split_findings)
    if requested:
        return apply_split(table, requested)
    check_patients(table, origin)
    return carve(table, raw.carved) if raw.carved else table


def _unread(entries: Sequence[str], layout: Layout, raw: RawSource) -> tuple[str, ...]:
    """Label files that this layout does not read."""
    read = {path.name for path in raw.files}
    read |= {name for pattern in layout.REQUIRED if len(names := present(entries, pattern)) == 1 for name in names}
    return tuple(sorted({entry for name in LABEL_FILES for entry in present(entries, name)} - read))


def read_file(path: Path, choices: LabelChoices = AS_READ) -> Source:
    """Labels of the images in one file, recognised by its first line: NIH's table, one of the lists, or a labels.csv.

    Only a labels.csv assigns images to splits.

    Raises: InputError with all problems, or for a table of another form.
    """
    source = _of_file(path, choices)
    found = resolved(source.table, _defaults(source.layout), choices)
    return replace(source, table=found.table, policy=found.policy)


def _of_file(path: Path, choices: LabelChoices) -> Source:
    first = next(text_lines(path), (0, ""))[1]
    if not _names_images(first):
        if "," in first or len(first.split()) == 1:
            what = f"a table without a column `{IMAGE}`" if "," in first else "a list of images without labels"
            raise InputError(
                f"cannot read the labels: {what}, got `{path}` with the first line `{first[:_SHOWN_CHARS]}`",
                hint="known are NIH's table, the 70/10/20 lists and a labels.csv; write other labels as a labels.csv",
            )
        table = read_lists(path, [path])
        return Source("lists", path, replace(table, split_N=np.full(len(table), -1, np.int8)))
    header = header_of(path)
    if LABELS in header and not set(FINDINGS) <= set(header):
        return Source("nih", path, nih.read_table(path, path, {}))
    table, notes = labels_csv.read_table(path, path, given=SPLIT in header, choices=choices)
    return Source("csv", path, table, notes=notes)


def _names_images(first: str) -> bool:
    """Whether the first line is that of NIH's table or a labels.csv; CheXpert's also has a column `Path`."""
    columns = {column.strip().strip('"') for column in first.removeprefix("\ufeff").split(",")}
    return IMAGE in first or (bool(columns & set(labels_csv.IMAGES)) and not set(chexpert.COLUMNS) <= columns)


def unread_notes(source: Source) -> tuple[str, ...]:
    """A note about label files of the data set that were not read, if there are any."""
    if not source.unread:
        return ()
    table = table_file(source.root, source.layout)
    taken = f"layout {source.layout}" if table is None else f"`{table.name}`"
    listed = ", ".join(f"`{name}`" for name in source.unread)
    return (f"labels are read from {taken}; not read, though in the same directory: {listed}",)


def _refuse_bucket(data: Path) -> None:
    """Refuse a bucket; a Path has lost one of its slashes."""
    if data.as_posix().startswith("s3:/"):
        place = f"s3://{data.as_posix().removeprefix('s3:/')}"
        raise InputError(
            f"cannot read data set: it must be a local directory, got `{place}` (from `--data`)",
            hint="download or mount it and give that directory; only `train`, `evaluate` and `prepare` read buckets",
        )


def val_file(data: Path, val_list: str) -> Path:
    """The file of `--val-list`: in the data set if present, otherwise as given."""
    for path in (data / val_list, Path(val_list)):
        if path.is_file():
            return path
    raise InputError(
        f"cannot read the validation list: no such file in `{data}` or the current directory, got `{val_list}` (from `--val-list`)",
        hint="a relative path is searched in the data set first, then in the current directory",
    )
