"""Layouts of data sets: from a directory to its label table and image files.

    nih      Data_Entry_2017*.csv, train_val_list.txt, test_list.txt   NIH's release; patient IDs are not passed on
    lists    train_list.txt, val_list.txt, test_list.txt               a name and 14 values 0 or 1 per line
    csv      labels.csv                                                `Image Index`, 14 columns of 0 or 1, `split`
    folders  train/CLASS/*, test/CLASS/*, optionally val/CLASS/*       one class per image

Text files may be compressed (.gz). Images of the first three are in images/, images_001/ and so on, at any depth.
`trainer.formats.tables` reads the files: NIH's header has commas inside names, and messages need line numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from trainer.config import Layout
from trainer.data.class_folders import IMAGE_SUFFIXES, directory_entries, first_of, read_folders
from trainer.data.label_files import (
    IMAGE,
    LABELS,
    SPLIT,
    csv_rows,
    read_csv,
    read_lists,
    read_nih,
    text_lines,
    val_file,
)
from trainer.data.labels import FINDINGS, SPLITS, LabelTable, check_finding_names
from trainer.data.split import apply_split, carve_val, check_patients, check_splits, patient_split, with_kept_split
from trainer.errors import InputError, listing

NIH_VAL_SHARE: Final = Fraction(1, 8)
"""Share of NIH's train_val patients used for validation. Source: close to the usual 11,212 of 86,524 images."""

FOLDERS_VAL_SHARE: Final = Fraction(1, 10)
"""Share of the patients in train/ used for validation where val/ is missing."""

_REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "nih": ("Data_Entry_2017*.csv", "train_val_list.txt", "test_list.txt"),
    "lists": ("train_list.txt", "val_list.txt", "test_list.txt"),
    "csv": ("labels.csv",),
    "folders": ("train/", "test/"),
}
"""Files and folders that identify each layout."""

_LABELS_ONLY: Final[dict[str, tuple[str, ...]]] = {"nih": ("Data_Entry_2017*.csv",), "folders": ("train/",)}
"""The same without those that only tell the split, where fewer are left."""

LABEL_FILES: Final = tuple(name for names in _REQUIRED.values() for name in names if not name.endswith("/"))
"""Label files of the layouts without class folders; patterns, also for compressed files (.gz)."""

NEWEST_EDITION: Final = "v2020"
"""In the name of NIH's corrected table, which is read where the one of 2017 is in the same directory."""

_SHOWN_CHARS: Final = 80


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
    """What else is not read."""

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


def read_labels(
    data: Path,
    *,
    layout: Layout = "auto",
    split: str = "given",
    val_list: str | None = None,
    kept_split: Mapping[str, str] | None = None,
) -> Source:
    """Labels, patients and split of the data set in this directory; reads no image, and needs none except in folders.

    `kept_split` is the split of each image in a run that began earlier, with the same arguments; it is used where it
    is a split of the same images that agrees with what the data set gives.

    Raises: InputError with all problems of the labels, for patients in two splits and for empty splits.
    """
    requested = patient_split(split)
    _refuse_bucket(data)
    entries = directory_entries(data)
    chosen = _choose(data, entries, layout, given=not requested)
    if val_list is not None and (chosen != "nih" or requested):
        reason = (
            f"`--split {split}` makes its own validation split"
            if requested
            else f"only layout nih takes one, not {chosen}"
        )
        raise InputError(
            f"cannot use a validation list: {reason}, got `{val_list}` (from `--val-list`)", hint="remove --val-list"
        )
    source = _read(data, entries, chosen, given=not requested, val_list=val_list)
    check_finding_names(source.table.findings, f"`{data}`")
    kept = None if kept_split is None else with_kept_split(source.table, kept_split, given=not requested)
    if kept is not None:
        return replace(source, table=kept, unread=_unread(data, entries, chosen))
    if requested:
        table = apply_split(source.table, requested)
        check_splits(table, SPLITS if requested.shares[1] else ("train", "test"), f"`--split {split}`")
    else:
        check_patients(source.table, f"`{data}`")
        table = _with_val(source.table, chosen, entries, val_list)
        check_splits(table, SPLITS, f"`{data}`")
    return replace(source, table=table, unread=_unread(data, entries, chosen))


def _unread(data: Path, entries: Sequence[str], layout: str) -> tuple[str, ...]:
    """Label files that this layout does not read."""
    present = [name for name in _REQUIRED[layout] if not name.endswith("/") and _present(entries, name)]
    read = {_single_file(data, entries, name).name for name in present}
    return tuple(sorted({entry for name in LABEL_FILES for entry in _present(entries, name)} - read))


def _read(data: Path, entries: Sequence[str], layout: str, *, given: bool, val_list: str | None) -> Source:
    """The labels with the split of the data set, or without one where another split is requested."""
    if layout == "folders":
        table, unread = read_folders(data, entries)
        return Source(layout, data, table, tuple(unread.look_alikes), notes=tuple(unread.notes()))
    names = _REQUIRED[layout] if given else _LABELS_ONLY.get(layout, _REQUIRED[layout])
    files = [_single_file(data, entries, name) for name in names]
    if layout == "lists":
        return Source(layout, data, read_lists(data, files))
    if layout == "csv":
        return Source(layout, data, read_csv(data, files[0], given=given))
    lists = {"train": files[1], "test": files[2]} if given else {}
    if val_list is not None:
        lists["val"] = val_file(data, val_list)
    return Source(layout, data, read_nih(data, files[0], lists))


def read_file(path: Path) -> Source:
    """Labels of the images in one file, recognised by its first line: NIH's table, one of the lists, or a labels.csv.

    Only a labels.csv assigns images to splits.

    Raises: InputError with all problems, or for a table of another form.
    """
    first = next(text_lines(path), (0, ""))[1]
    if IMAGE not in first:
        if "," in first or len(first.split()) == 1:
            what = f"a table without a column `{IMAGE}`" if "," in first else "a list of images without labels"
            raise InputError(
                f"cannot read the labels: {what}, got `{path}` with the first line `{first[:_SHOWN_CHARS]}`",
                hint="known are NIH's table, the 70/10/20 lists and a labels.csv; write other labels as a labels.csv",
            )
        table = read_lists(path, [path])
        return Source("lists", path, replace(table, split_N=np.full(len(table), -1, np.int8)))
    _, header = next(csv_rows(path), (0, []))
    if LABELS in header and not set(FINDINGS) <= set(header):
        return Source("nih", path, read_nih(path, path, {}))
    return Source("csv", path, read_csv(path, path, given=SPLIT in header))


def table_file(data: Path, layout: str) -> Path | None:
    """The file of a data set that may have more columns on each image; None where the layout has none."""
    if layout not in {"nih", "csv"}:
        return None
    return _single_file(data, directory_entries(data), _REQUIRED[layout][0])


def unread_notes(source: Source) -> tuple[str, ...]:
    """A note about label files of the data set that were not read, if there are any."""
    if not source.unread:
        return ()
    table = table_file(source.root, source.layout)
    taken = f"layout {source.layout}" if table is None else f"`{table.name}`"
    listed = ", ".join(f"`{name}`" for name in source.unread)
    return (f"labels are read from {taken}; not read, though in the same directory: {listed}",)


def _with_val(table: LabelTable, layout: str, entries: Sequence[str], val_list: str | None) -> LabelTable:
    """The table with a validation split, taken from train where the data set has none."""
    if layout == "nih" and val_list is None:
        return carve_val(table, NIH_VAL_SHARE)
    if layout == "folders" and "val/" not in entries:
        return carve_val(table, FOLDERS_VAL_SHARE)
    return table


def _refuse_bucket(data: Path) -> None:
    """Refuse a bucket; a Path has lost one of its slashes."""
    if data.as_posix().startswith("s3:/"):
        place = f"s3://{data.as_posix().removeprefix('s3:/')}"
        raise InputError(
            f"cannot read data set: it must be a local directory, got `{place}` (from `--data`)",
            hint="download or mount it and give that directory; only `train` downloads data sets",
        )


def _present(entries: Sequence[str], name: str) -> list[str]:
    return [entry for entry in entries if fnmatchcase(entry, name) or fnmatchcase(entry, f"{name}.gz")]


def _missing(entries: Sequence[str], required: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {name: [each for each in names if not _present(entries, each)] for name, names in required.items()}


def _choose(data: Path, entries: Sequence[str], layout: Layout, *, given: bool) -> str:
    """The requested layout, or the only one whose files are all present; without its own split, fewer files are needed."""
    required = _REQUIRED if given else _REQUIRED | _LABELS_ONLY
    if layout != "auto":
        absent = _missing(entries, required)[layout]
        if absent:
            names = ", ".join(f"`{name}`" for name in absent)
            raise InputError(
                f"cannot read data set: no {names}, got `{data}` (from `--data` and `--layout {layout}`)",
                hint="use --layout auto to detect the layout",
            )
        return layout
    missing = _missing(entries, _REQUIRED)
    if all(missing.values()):  # a data set that is complete is not taken for one that lacks its split
        missing = _missing(entries, required)
    complete = [name for name, absent in missing.items() if not absent]
    if len(complete) == 1:
        return complete[0]
    what = [f"{name}: {', '.join(_REQUIRED[name])}" for name in complete or _REQUIRED]
    if complete:
        problem, hint = "it matches more than one layout", f"--layout {complete[0]}"
    else:
        problem, hint = (
            "it has not all files of any layout",
            "use --layout NAME to list the missing files of that layout",
        )
        if not all(_missing(entries, _LABELS_ONLY).values()):
            hint = "--split patients:70/10/20 makes a split, where the data set has none; or add the missing files"
    raise InputError(f"cannot read data set: {problem}, got `{data}` (from `--data`){listing(what)}", hint=hint)


def _single_file(data: Path, entries: Sequence[str], name: str) -> Path:
    present = _present(entries, name)
    editions = [entry for entry in present if NEWEST_EDITION in entry] if name == _REQUIRED["nih"][0] else []
    if len(present) > 1 and len(editions) == 1:
        return data / editions[0]
    if len(present) > 1:
        names = " and ".join(f"`{each}`" for each in present)
        raise InputError(
            f"cannot read data set: more than one `{name}`, got {names} (in `{data}`)", hint="keep only one"
        )
    return data / present[0]
