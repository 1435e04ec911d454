"""From a data set's directory to its table of labels, and from the table to the image files.

    nih      Data_Entry_2017*.csv, train_val_list.txt, test_list.txt   NIH's release; no patient ids leave this module
    lists    train_list.txt, val_list.txt, test_list.txt               a name and 14 values 0 or 1 per line
    csv      labels.csv                                                `Image Index`, 14 columns of 0 or 1, `split`
    folders  train/CLASS/*, test/CLASS/*, perhaps val/CLASS/*          one class per image

Text files may be packed (.gz); images of the first three lie in images/ or images_001/ and so on, however deep.
`trainer.formats.tables` reads them: NIH's header has commas inside names, and the numbers of bad lines are wanted.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from trainer.config import Layout
from trainer.data.directory_walk import files_below, is_folder
from trainer.data.labels import FINDINGS, SPLITS, LabelTable
from trainer.data.split import apply_split, carve_val, check_parts, check_patients, patient_split
from trainer.errors import InputError, listing, on_one_line
from trainer.formats import tables
from trainer.formats.tables import TableError
from trainer.limits import TABLE_ROWS, LimitError

NIH_VAL_SHARE: Final = Fraction(1, 8)
"""Share of NIH's train_val patients used for validation. Source: the usual cut, 11,212 of 86,524 images, is near it."""

FOLDERS_VAL_SHARE: Final = Fraction(1, 10)
"""Share of the patients in train/ used for validation where there is no val/."""

DICOM_SUFFIXES: Final = (".dcm", ".dicom")

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", *DICOM_SUFFIXES)

OTHER_IMAGES: Final = (".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Named when met: whoever has such files would wonder why they are not used."""

_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "nih": ("Data_Entry_2017*.csv", "train_val_list.txt", "test_list.txt"),
    "lists": ("train_list.txt", "val_list.txt", "test_list.txt"),
    "csv": ("labels.csv",),
    "folders": ("train/", "test/"),
}
"""What makes a directory a data set of each layout."""

LABEL_FILES: Final = tuple(part for parts in _PARTS.values() for part in parts if not part.endswith("/"))
"""What of a data set its labels are read from, unless it is laid out in folders; patterns, and each may be packed (.gz)."""

_IMAGE, _PATIENT, _LABELS, _SPLIT = "Image Index", "Patient ID", "Finding Labels", "split"

_METADATA = frozenset(
    {
        "Finding Labels",
        "Follow-up #",
        "Patient Age",
        "Patient Gender",
        "View Position",
        *("OriginalImage[Width", "Height]", "OriginalImage[Width,Height]"),
        *("OriginalImagePixelSpacing[x", "y]", "OriginalImagePixelSpacing[x,y]"),
        "",
    }
)
"""Columns of NIH's table that labels.csv may keep, as commas split them and as quotes hold them together."""

_IMAGES_FOLDER = re.compile(r"images(_\d+)?")

_NIH_NAME = re.compile(r"(\d{8})_\d{3}\.(?:png|jpe?g)", re.IGNORECASE | re.ASCII)

_KERMANY_NAME = re.compile(
    r"(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_]\d+(?:-\d+)?\.(?:png|jpe?g)", re.IGNORECASE | re.ASCII
)
"""Number *and* kind make the patient. Source: in the Kaggle set no number is in train and test with the same kind."""


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
    entries = _entries(data)
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
        return _read_folders(data, [part for part in SPLITS if f"{part}/" in entries])
    files = [_the_one(data, entries, part) for part in _PARTS[layout]]
    if layout == "lists":
        return _read_lists(data, files)
    if layout == "csv":
        return _read_csv(data, files[0], given=given)
    entry, train_val, test = files
    lists = {"train": train_val, "test": test} if given else {}
    if val_list is not None:
        lists["val"] = _val_file(data, val_list)
    return _read_nih(data, entry, lists)


def read_file(path: Path) -> Source:
    """Labels of the images in one file, which its first line tells: NIH's table, one of the lists, or a labels.csv.

    No image is in a split but where a labels.csv says so.

    Raises: InputError with everything that is wrong with it.
    """
    first = next(_lines(path), (0, ""))[1]
    if _IMAGE not in first:
        table = _read_lists(path, [path])
        return Source("lists", path, replace(table, split_N=np.full(len(table), -1, np.int8)))
    _, header = next(csv_rows(path), (0, []))
    if _LABELS in header and not set(FINDINGS) <= set(header):
        return Source("nih", path, _read_nih(path, path, {}))
    return Source("csv", path, _read_csv(path, path, given=_SPLIT in header))


def table_file(data: Path, layout: str) -> Path | None:
    """The file of a data set that may tell more of each image than its labels; None where the layout has none."""
    if layout not in {"nih", "csv"}:
        return None
    return _the_one(data, _entries(data), _PARTS[layout][0])


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


def _entries(data: Path) -> list[str]:
    """Names in the directory, those of directories with a slash."""
    try:
        with os.scandir(data) as found:
            return sorted(entry.name + "/" * is_folder(entry) for entry in found)
    except OSError as problem:
        reason = "no such directory" if isinstance(problem, FileNotFoundError) else str(problem.strerror).lower()
        raise InputError(
            f"cannot read data set: {reason}, got `{data}` (from `--data`)", hint="--data names a directory"
        ) from problem


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


@dataclass
class _Rows:
    """What a reader has gathered, problems included."""

    where: dict[str, str] = field(default_factory=dict)
    """Image name to the place that named it, in order of the rows."""
    patients: list[str] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, where: str, image: str, patient: str, labels: bytes, split: int) -> None:
        if image in self.where:
            self.problems.append(f"{where}: `{image}` a second time, first in {self.where[image]}")
            return
        self.where[image] = where
        self.patients.append(patient)
        self.labels.append(labels)
        self.splits.append(split)

    def table(self, data: Path, findings: tuple[str, ...]) -> LabelTable:
        """The table, when nothing is wrong."""
        if self.problems:
            raise InputError(
                f"cannot read the labels of `{data}`: {_counted(self.problems)}{listing(self.problems)}",
                hint="correct the files named; nothing is left out or guessed",
            )
        numbers: dict[str, int] = {}
        return LabelTable(
            findings=findings,
            images=tuple(self.where),
            patients_N=np.array([numbers.setdefault(key, len(numbers)) for key in self.patients], dtype=np.int64),
            labels_NK=np.frombuffer(b"".join(self.labels), dtype=np.uint8).reshape(-1, len(findings)).copy(),
            split_N=np.array(self.splits, dtype=np.int8),
        )

    def require_patients(self, data: Path, hint: str) -> None:
        """Refuse images whose patient nothing tells: a patient in two parts would flatter every result."""
        unknown = [name for name, patient in zip(self.where, self.patients, strict=True) if not patient]
        if unknown:
            raise InputError(
                f"cannot tell the patients of `{data}` apart: not named like 00000001_000.png are "
                f"{len(unknown)} of {_images(len(self.where))}{listing(unknown)}",
                hint=hint,
            )


def _counted(problems: Sequence[str]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank."""
    with _read_errors(path):
        for number, line in enumerate(tables.lines(tables.content_of(path)), start=1):
            if number > TABLE_ROWS:
                raise LimitError(f"it has more than {TABLE_ROWS:,} lines")
            if line.strip():
                yield number, line.strip()


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of the rows that are not blank; the first row names the columns. Raises: InputError."""
    with _read_errors(path):
        yield from tables.rows(tables.content_of(path))


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, LimitError, TableError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise InputError(
            f"cannot read `{path}`: {reason[:1].lower()}{reason[1:]}", hint="is the file there, complete, and text?"
        ) from problem


def _check_columns(path: Path, header: Sequence[str], wanted: Sequence[str], known: Collection[str] | None) -> None:
    problems = [f"no column `{name}`" for name in wanted if name not in header]
    problems += [f"column `{name}` more than once" for name in {*wanted, _PATIENT} if header.count(name) > 1]
    problems += [f"unknown column `{name}`" for name in header if known is not None and name not in known]
    if problems:
        raise InputError(
            f"cannot read `{path}`: {_counted(problems)} in its first line{listing(problems)}",
            hint="the first line names the columns, separated by commas",
        )


@cache
def _flags(values: tuple[str, ...]) -> bytes:
    """Labels as bytes 0 and 1; a data set has few combinations of them, so each is read once."""
    if len(values) != len(FINDINGS):
        raise ValueError(f"{len(values)} values instead of {len(FINDINGS)}")
    for name, value in zip(FINDINGS, values, strict=True):
        if value not in {"0", "1"}:
            raise ValueError(f"{name} must be 0 or 1, got `{value}`")
    return bytes(map(int, values))


def _nih_patient(name: str) -> str:
    """The patient number in one of NIH's file names, "" in others."""
    match = _NIH_NAME.fullmatch(name)
    return match[1] if match else ""


def _read_nih(data: Path, entry: Path, lists: Mapping[str, Path]) -> LabelTable:
    rows = _Rows()
    part_of = _nih_parts(lists, rows.problems)
    unknown: Counter[str] = Counter()
    table = csv_rows(entry)
    _, header = next(table, (0, []))
    _check_columns(entry, header, [_IMAGE, _LABELS, _PATIENT], known=None)
    columns = [header.index(name) for name in (_IMAGE, _LABELS, _PATIENT)]
    for line, row in table:
        # One edition has fewer names than columns, so the lengths of header and rows say nothing.
        image, text, patient = (row[column] if column < len(row) else "" for column in columns)
        if not (image and text and patient):
            rows.problems.append(f"{entry.name} line {line}: {_IMAGE}, {_LABELS} and {_PATIENT} must not be empty")
            continue
        found = set(text.split("|")) - {"No Finding"}
        unknown.update(found.difference(FINDINGS))
        labels = bytes(name in found for name in FINDINGS)
        rows.add(f"{entry.name} line {line}", image, patient, labels, part_of.get(image, -1))
    rows.problems += [f"{entry.name}: unknown finding `{name}` (images: {count})" for name, count in unknown.items()]
    absent = ((image, part) for image, part in part_of.items() if image not in rows.where)
    rows.problems += [f"{lists[SPLITS[part]].name}: `{image}` is not in {entry.name}" for image, part in absent]
    return rows.table(data, FINDINGS)


def _nih_parts(lists: Mapping[str, Path], problems: list[str]) -> dict[str, int]:
    """Part of each listed image; the list for val comes last and takes images from train."""
    part_of: dict[str, int] = {}
    for split, path in lists.items():
        mine: set[str] = set()
        for line, name in _lines(path):
            where = f"{path.name} line {line}"
            if name in mine:
                problems.append(f"{where}: `{name}` a second time")
            elif split == "val" and part_of.get(name) != SPLITS.index("train"):
                problems.append(f"{where}: `{name}` is not in {lists['train'].name}")
            elif split == "test" and name in part_of:
                problems.append(f"{where}: `{name}` is in {lists['train'].name} too")
            else:
                part_of[name] = SPLITS.index(split)
            mine.add(name)
    return part_of


def _val_file(data: Path, val_list: str) -> Path:
    """The list that `--val-list` names: in the data set if it is there, else as given."""
    for path in (data / val_list, Path(val_list)):
        if path.is_file():
            return path
    raise InputError(
        f"cannot read the validation list: no such file in `{data}` or here, got `{val_list}` (from `--val-list`)",
        hint="a relative path is looked up in the data set first, then here",
    )


def _read_lists(data: Path, files: Sequence[Path]) -> LabelTable:
    rows = _Rows()
    for split, path in enumerate(files):
        for line, text in _lines(path):
            where = f"{path.name} line {line}"
            image, *values = text.split()
            try:
                labels = _flags(tuple(values))
            except ValueError as problem:
                rows.problems.append(f"{where}: {problem}")
            else:
                rows.add(where, image, _nih_patient(image), labels, split)
    table = rows.table(data, FINDINGS)
    rows.require_patients(data, hint=f"a labels.csv (--layout csv) can say who is who in a column `{_PATIENT}`")
    return table


def _read_csv(data: Path, path: Path, *, given: bool) -> LabelTable:
    rows = _Rows()
    table = csv_rows(path)
    _, header = next(table, (0, []))
    wanted = [_IMAGE, *FINDINGS, *([_SPLIT] if given else [])]
    _check_columns(path, header, wanted, known={*wanted, _PATIENT, _SPLIT, *_METADATA})
    for line, row in table:
        where = f"{path.name} line {line}"
        if len(row) != len(header):
            rows.problems.append(f"{where}: {len(row)} columns instead of {len(header)}")
            continue
        cells = dict(zip(header, row, strict=True))
        image, patient = cells[_IMAGE], cells.get(_PATIENT, _nih_patient(cells[_IMAGE]))
        if not (image and cells.get(_PATIENT, "-")):
            rows.problems.append(f"{where}: {_IMAGE} and {_PATIENT} must not be empty")
            continue
        try:
            labels = _flags(tuple(cells[name] for name in FINDINGS))
            part = _part(cells[_SPLIT]) if given else -1
        except ValueError as problem:
            rows.problems.append(f"{where}: {problem}")
        else:
            rows.add(where, image, patient, labels, part)
    checked = rows.table(data, FINDINGS)
    rows.require_patients(data, hint=f"add a column `{_PATIENT}` to {path.name}")
    return checked


def _part(split: str) -> int:
    if split not in SPLITS:
        raise ValueError(f"`{_SPLIT}` must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got `{split}`")
    return SPLITS.index(split)


def _read_folders(data: Path, splits: Sequence[str]) -> LabelTable:
    rows = _Rows()
    classes_of = {split: _named_well(rows, f"{split}/", _classes(data / split)) for split in splits}
    classes = classes_of["train"]
    if len(classes) < 2:
        rows.problems.append(f"train/: one directory for each of two classes or more is needed, got {len(classes)}")
    for split in splits:
        there = classes_of[split]
        rows.problems += [f"{split}/: no class `{name}`, which train/ has" for name in classes if name not in there]
        rows.problems += [f"{split}/: class `{name}`, which train/ has not" for name in there if name not in classes]
        for name in there:
            if name in classes:
                _add_class(rows, data, split, name, bytes(name == other for other in classes))
    return rows.table(data, tuple(classes))


def _classes(folder: Path) -> list[str]:
    return [name.rstrip("/") for name in _entries(folder) if name.endswith("/") and not name.startswith(".")]


def _readable(rows: _Rows, where: str, names: Sequence[str]) -> list[str]:
    """The names that are text; the others, which no label file could hold, are problems."""
    bad = [name for name in names if not _is_utf8(name)]
    rows.problems += [f"{where}{_escaped(name)}: its name is not UTF-8" for name in bad]
    broken = [name for name in names if "\n" in name or "\r" in name]
    rows.problems += [f"{where}{name}: its name has a line break" for name in broken]
    return [name for name in names if name not in {*bad, *broken}]


def _named_well(rows: _Rows, where: str, names: Sequence[str]) -> list[str]:
    """The names of classes that a model file can hold and a table can show; the others are problems."""
    readable = _readable(rows, where, names)
    odd = [name for name in readable if not name.isprintable()]
    rows.problems += [f"{where}{on_one_line(name)}: its name holds what can't be printed" for name in odd]
    return [name for name in readable if name not in odd]


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _add_class(rows: _Rows, data: Path, split: str, name: str, labels: bytes) -> None:
    before = len(rows.labels)
    for path in _walk(data / split / name):
        image = path.relative_to(data).as_posix()
        suffix = path.suffix.lower()
        if suffix in OTHER_IMAGES:
            rows.problems.append(f"{image}: images must be {', '.join(IMAGE_SUFFIXES[:-1])} or {IMAGE_SUFFIXES[-1]}")
        elif suffix in IMAGE_SUFFIXES and _readable(rows, "", [image]):
            rows.add(f"{split}/", image, patient_in_name(image) or image, labels, SPLITS.index(split))
    if split == "train" and len(rows.labels) == before:
        rows.problems.append(f"{split}/{name}/: no image")


def patient_in_name(image: str) -> str:
    """The patient in an image's file name as the paediatric set or NIH gives it, "" in others."""
    name = image.rpartition("/")[2]
    match = _KERMANY_NAME.fullmatch(name)
    return match[1].lower() if match else _nih_patient(name)


def _walk(folder: Path) -> Iterator[Path]:
    """Files below the folder in order of their names, hidden ones left out; each folder once."""
    return files_below(folder, _unreadable)


def _unreadable(problem: OSError) -> None:
    reason = str(problem.strerror).lower()
    raise InputError(f"cannot read directory `{problem.filename}`: {reason}", hint="check who may read it") from problem


def locate_images(source: Source) -> list[Path]:
    """Path of every image, in the order of the table; an image in no split need not exist.

    Raises: InputError with the names of all images that are missing or there twice.
    """
    table = source.table
    if source.layout == "folders":
        return [source.root / name for name in table.images]
    wanted = set(table.images)
    places: dict[str, list[Path]] = {}
    for entry in _entries(source.root):
        if entry.endswith("/") and _IMAGES_FOLDER.fullmatch(entry.rstrip("/")):
            for path in _walk(source.root / entry):
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
