"""From a data set's directory to its table of labels, and from the table to the image files.

    nih      Data_Entry_2017*.csv, train_val_list.txt, test_list.txt   NIH's release; no patient ids leave this module
    lists    train_list.txt, val_list.txt, test_list.txt               a name and 14 values 0 or 1 per line
    csv      labels.csv                                                `Image Index`, 14 columns of 0 or 1, `split`
    folders  train/CLASS/*, test/CLASS/*, perhaps val/CLASS/*          one class per image

Text files may be packed (.gz); images of the first three lie in images/ or images_001/ and so on, however deep.
`trainer.formats.tables` reads them: NIH's header has commas inside names, and the numbers of bad lines are wanted.
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
from trainer.data.split import apply_split, carve_val, check_parts, check_patients, patient_split
from trainer.errors import InputError, listing

NIH_VAL_SHARE: Final = Fraction(1, 8)
"""Share of NIH's train_val patients used for validation. Source: the usual cut, 11,212 of 86,524 images, is near it."""

FOLDERS_VAL_SHARE: Final = Fraction(1, 10)
"""Share of the patients in train/ used for validation where there is no val/."""

_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "nih": ("Data_Entry_2017*.csv", "train_val_list.txt", "test_list.txt"),
    "lists": ("train_list.txt", "val_list.txt", "test_list.txt"),
    "csv": ("labels.csv",),
    "folders": ("train/", "test/"),
}
"""What makes a directory a data set of each layout."""

LABEL_FILES: Final = tuple(part for parts in _PARTS.values() for part in parts if not part.endswith("/"))
"""What of a data set its labels are read from, unless it is laid out in folders; patterns, and each may be packed (.gz)."""

_IMAGES_FOLDER = re.compile(r"images(_\d+)?")


@dataclass(frozen=True)
class Source:
    """A data set that has been read and checked."""

    layout: str
    root: Path
    table: LabelTable


def read_labels(data: Path, *, layout: Layout = "auto", split: str = "given", val_list: str | None = None) -> Source:
    """Labels, patients and split of the data set in this directory; reads no image and, but for folders, needs none.

    Raises: InputError with everything that is wrong with the labels, for patients in two parts and for empty parts.
    """
    wanted = patient_split(split)
    _refuse_bucket(data)
    entries = directory_entries(data)
    chosen = _choose(data, entries, layout)
    if val_list is not None and (chosen != "nih" or wanted):
        reason = f"`--split {split}` makes its own" if wanted else f"only layout nih takes one, not {chosen}"
        raise InputError(
            f"cannot use a validation list: {reason}, got `{val_list}` (from `--val-list`)", hint="leave it out"
        )
    table = _read(data, entries, chosen, given=not wanted, val_list=val_list)
    if wanted:
        table = apply_split(table, wanted)
        check_parts(table, SPLITS if wanted.shares[1] else ("train", "test"), f"`--split {split}`")
    else:
        check_patients(table, f"`{data}`")
        table = _with_val(table, chosen, entries, val_list)
        check_parts(table, SPLITS, f"`{data}`")
    return Source(chosen, data, table)


def _read(data: Path, entries: Sequence[str], layout: str, *, given: bool, val_list: str | None) -> LabelTable:
    """The table with the split that the data set gives, or without one where another is wanted."""
    if layout == "folders":
        return read_folders(data, [part for part in SPLITS if f"{part}/" in entries])
    files = [_the_one(data, entries, part) for part in _PARTS[layout]]
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
    """Labels of the images in one file, which its first line tells: NIH's table, one of the lists, or a labels.csv.

    No image is in a split but where a labels.csv says so.

    Raises: InputError with everything that is wrong with it.
    """
    first = next(text_lines(path), (0, ""))[1]
    if IMAGE not in first:
        table = read_lists(path, [path])
        return Source("lists", path, replace(table, split_N=np.full(len(table), -1, np.int8)))
    _, header = next(csv_rows(path), (0, []))
    if LABELS in header and not set(FINDINGS) <= set(header):
        return Source("nih", path, read_nih(path, path, {}))
    return Source("csv", path, read_csv(path, path, given=SPLIT in header))


def table_file(data: Path, layout: str) -> Path | None:
    """The file of a data set that may tell more of each image than its labels; None where the layout has none."""
    if layout not in {"nih", "csv"}:
        return None
    return _the_one(data, directory_entries(data), _PARTS[layout][0])


def _with_val(table: LabelTable, layout: str, entries: Sequence[str], val_list: str | None) -> LabelTable:
    """The table with a validation part, carved from train where the data set has none of its own."""
    if layout == "nih" and val_list is None:
        return carve_val(table, NIH_VAL_SHARE)
    if layout == "folders" and "val/" not in entries:
        return carve_val(table, FOLDERS_VAL_SHARE)
    return table


def _refuse_bucket(data: Path) -> None:
    """Say that a bucket is none of what can be read; a Path has lost one of its slashes."""
    if data.as_posix().startswith("s3:/"):
        place = f"s3://{data.as_posix().removeprefix('s3:/')}"
        raise InputError(
            f"cannot read data set: it must be a directory here, got `{place}` (from `--data`)",
            hint="download or mount it and give that directory; only `train` downloads by itself",
        )


def _present(entries: Sequence[str], part: str) -> list[str]:
    return [entry for entry in entries if fnmatchcase(entry, part) or fnmatchcase(entry, f"{part}.gz")]


def _choose(data: Path, entries: Sequence[str], layout: Layout) -> str:
    """The layout that is asked for, or the only one whose parts are all there."""
    missing = {name: [part for part in parts if not _present(entries, part)] for name, parts in _PARTS.items()}
    if layout != "auto":
        if missing[layout]:
            names = ", ".join(f"`{part}`" for part in missing[layout])
            raise InputError(
                f"cannot read data set: no {names}, got `{data}` (from `--data` and `--layout {layout}`)",
                hint="--layout auto finds out how a data set is laid out",
            )
        return layout
    complete = [name for name, parts in missing.items() if not parts]
    if len(complete) == 1:
        return complete[0]
    what = [f"{name}: {', '.join(_PARTS[name])}" for name in complete or _PARTS]
    if complete:
        problem, hint = "it is laid out in more than one way", f"--layout {complete[0]}"
    else:
        problem, hint = (
            "no layout has all of its parts there",
            "--layout NAME says which parts of that layout are missing",
        )
    raise InputError(f"cannot read data set: {problem}, got `{data}` (from `--data`){listing(what)}", hint=hint)


def _the_one(data: Path, entries: Sequence[str], part: str) -> Path:
    present = _present(entries, part)
    if len(present) > 1:
        names = " and ".join(f"`{name}`" for name in present)
        raise InputError(
            f"cannot read data set: more than one `{part}`, got {names} (in `{data}`)", hint="leave one there"
        )
    return data / present[0]


def locate_images(source: Source) -> list[Path]:
    """Path of every image, in the order of the table; an image in no split need not exist.

    Raises: InputError with the names of all images that are missing or there twice.
    """
    table = source.table
    if source.layout == "folders":
        return [source.root / name for name in table.images]
    wanted = set(table.images)
    places: dict[str, list[Path]] = {}
    for entry in directory_entries(source.root):
        if entry.endswith("/") and _IMAGES_FOLDER.fullmatch(entry.rstrip("/")):
            for path in image_walk(source.root / entry):
                if path.name in wanted:
                    places.setdefault(path.name, []).append(path)
    used = [name for name, part in zip(table.images, table.split_N.tolist(), strict=True) if part >= 0]
    problems = [f"{name}: missing" for name in used if name not in places]
    problems += [f"{name}: {' and '.join(map(str, places[name]))}" for name in used if len(places.get(name, ())) > 1]
    if problems:
        raise InputError(
            f"cannot find the images of `{source.root}`: {len(problems)} of {len(used)} are missing or there twice"
            f"{listing(problems)}",
            hint="images lie in images/ or images_001/, images_002/ … of the data set, however deep",
        )
    return [places.get(name, [source.root / "images" / name])[0] for name in table.images]
