"""Layouts of data sets: from a directory to its label table and image files.

    nih      Data_Entry_2017*.csv, train_val_list.txt, test_list.txt   NIH's release; patient IDs are not passed on
    lists    train_list.txt, val_list.txt, test_list.txt               a name and 14 values 0 or 1 per line
    csv      labels.csv                                                `Image Index`, 14 columns of 0 or 1, `split`
    folders  train/CLASS/*, test/CLASS/*, optionally val/CLASS/*       one class per image

Text files may be compressed (.gz). Images of the first three are in images/, images_001/ and so on, at any depth.
`trainer.formats.tables` reads the files: NIH's header has commas inside names, and messages need line numbers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from trainer.config import Layout
from trainer.data.class_folders import directory_entries, image_walk, read_folders
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
from trainer.data.labels import FINDINGS, SPLITS, LabelTable
from trainer.data.split import apply_split, carve_val, check_patients, check_splits, patient_split
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

LABEL_FILES: Final = tuple(name for names in _REQUIRED.values() for name in names if not name.endswith("/"))
"""Label files of the layouts without class folders; patterns, also for compressed files (.gz)."""

NEWEST_EDITION: Final = "v2020"
"""In the name of NIH's corrected table, which is read where the one of 2017 is in the same directory."""

_SHOWN_CHARS: Final = 80

_IMAGES_FOLDER = re.compile(r"images(_\d+)?")


@dataclass(frozen=True)
class Source:
    """A data set with checked labels."""

    layout: str
    root: Path
    table: LabelTable
    unread: tuple[str, ...] = ()
    """Other label files in the directory, of another edition or layout."""


def read_labels(data: Path, *, layout: Layout = "auto", split: str = "given", val_list: str | None = None) -> Source:
    """Labels, patients and split of the data set in this directory; reads no image, and needs none except in folders.

    Raises: InputError with all problems of the labels, for patients in two splits and for empty splits.
    """
    requested = patient_split(split)
    _refuse_bucket(data)
    entries = directory_entries(data)
    chosen = _choose(data, entries, layout)
    if val_list is not None and (chosen != "nih" or requested):
        reason = (
            f"`--split {split}` makes its own validation split"
            if requested
            else f"only layout nih takes one, not {chosen}"
        )
        raise InputError(
            f"cannot use a validation list: {reason}, got `{val_list}` (from `--val-list`)", hint="remove --val-list"
        )
    table = _read(data, entries, chosen, given=not requested, val_list=val_list)
    if requested:
        table = apply_split(table, requested)
        check_splits(table, SPLITS if requested.shares[1] else ("train", "test"), f"`--split {split}`")
    else:
        check_patients(table, f"`{data}`")
        table = _with_val(table, chosen, entries, val_list)
        check_splits(table, SPLITS, f"`{data}`")
    return Source(chosen, data, table, _unread(data, entries, chosen))


def _unread(data: Path, entries: Sequence[str], layout: str) -> tuple[str, ...]:
    """Label files that this layout does not read."""
    read = {_single_file(data, entries, name).name for name in _REQUIRED[layout] if not name.endswith("/")}
    return tuple(sorted({entry for name in LABEL_FILES for entry in _present(entries, name)} - read))


def _read(data: Path, entries: Sequence[str], layout: str, *, given: bool, val_list: str | None) -> LabelTable:
    """The table with the split of the data set, or without one where another split is requested."""
    if layout == "folders":
        return read_folders(data, [split for split in SPLITS if f"{split}/" in entries])
    files = [_single_file(data, entries, name) for name in _REQUIRED[layout]]
    if layout == "lists":
        return read_lists(data, files)
    if layout == "csv":
        return read_csv(data, files[0], given=given)
    entry, train_val, test = files
    lists = {"train": train_val, "test": test} if given else {}
    if val_list is not None:
        lists["val"] = val_file(data, val_list)
    return read_nih(data, entry, lists)


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


def _choose(data: Path, entries: Sequence[str], layout: Layout) -> str:
    """The requested layout, or the only one whose files are all present."""
    missing = {name: [each for each in required if not _present(entries, each)] for name, required in _REQUIRED.items()}
    if layout != "auto":
        if missing[layout]:
            names = ", ".join(f"`{name}`" for name in missing[layout])
            raise InputError(
                f"cannot read data set: no {names}, got `{data}` (from `--data` and `--layout {layout}`)",
                hint="use --layout auto to detect the layout",
            )
        return layout
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


def locate_images(source: Source) -> list[Path]:
    """Path of every image, in table order; an image in no split need not exist.

    Raises: InputError with the names of all images that are missing or duplicated.
    """
    table = source.table
    if source.layout == "folders":
        return [source.root / name for name in table.images]
    known = set(table.images)
    places: dict[str, list[Path]] = {}
    for entry in directory_entries(source.root):
        if entry.endswith("/") and _IMAGES_FOLDER.fullmatch(entry.rstrip("/")):
            for path in image_walk(source.root / entry):
                if path.name in known:
                    places.setdefault(path.name, []).append(path)
    used = [name for name, split_index in zip(table.images, table.split_N.tolist(), strict=True) if split_index >= 0]
    problems = [f"{name}: missing" for name in used if name not in places]
    problems += [f"{name}: {' and '.join(map(str, places[name]))}" for name in used if len(places.get(name, ())) > 1]
    if problems:
        raise InputError(
            f"cannot find the images of `{source.root}`: {len(problems)} of {len(used)} are missing or duplicated"
            f"{listing(problems)}",
            hint="images must be in images/ or images_001/, images_002/ … of the data set, at any depth",
        )
    return [places.get(name, [source.root / "images" / name])[0] for name in table.images]
