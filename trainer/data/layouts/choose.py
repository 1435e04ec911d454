"""The layout of a directory: the requested one, or the only one whose files are all there."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from trainer.data.class_folders import directory_entries
from trainer.data.label_files import header_of
from trainer.data.layouts import chexpert, folders, labels_csv, lists, mimic_cxr, nih, padchest, prepared, rsna, vindr
from trainer.data.layouts.files import present, single_file
from trainer.data.layouts.source import Layout
from trainer.data.packs.prepared import is_prepared
from trainer.errors import InputError, listing

LAYOUTS: Final[Mapping[str, Layout]] = {
    "nih": nih,
    "lists": lists,
    "csv": labels_csv,
    "folders": folders,
    "chexpert": chexpert,
    "mimic-cxr": mimic_cxr,
    "padchest": padchest,
    "vindr": vindr,
    "rsna": rsna,
    "prepared": prepared,
}

LABEL_FILES: Final = tuple(
    dict.fromkeys(
        [name for key, layout in LAYOUTS.items() if key != "prepared" for name in layout.REQUIRED if name[-1] != "/"]
        + [chexpert.TEST, *mimic_cxr.LABELS, rsna.MAPPING]
    )
)
"""Label files of the layouts without class folders; patterns, also for compressed files (.gz)."""


def choose(data: Path, entries: Sequence[str], requested: str, *, given: bool) -> str:
    """The requested layout, or the only one whose files are all present; without its own split, fewer files are needed.

    Raises: InputError where files of the requested layout are missing, and for no layout or several.
    """
    if requested in {"auto", "prepared"} and is_prepared(data):
        return "prepared"
    whole = {name: layout.REQUIRED for name, layout in LAYOUTS.items()}
    labels_only = {name: layout.LABELS_ONLY for name, layout in LAYOUTS.items()}
    if requested != "auto":
        _check_requested(data, _missing(entries, whole if given else labels_only)[requested], requested)
        return requested
    complete = _complete(data, entries, whole)
    if not complete and not given:  # a data set that is complete is not taken for one that lacks its split
        complete = _complete(data, entries, labels_only)
    if len(complete) != 1:
        raise _undecided(data, complete, lacks_split=bool(_complete(data, entries, labels_only)))
    return complete[0]


def _complete(data: Path, entries: Sequence[str], required: Mapping[str, Sequence[str]]) -> list[str]:
    """The layouts of which all files are there."""
    there = [name for name, absent in _missing(entries, required).items() if not absent and name != "prepared"]
    complete = [name for name in there if _has_columns(data, entries, LAYOUTS[name])]
    tables = [name for name in complete if LAYOUTS[name].COLUMNS]
    # the images that a table with its own columns names may lie in train/ and test/
    return [name for name in complete if name != "folders"] if tables else complete


def release_folder(data: Path, entries: Sequence[str], requested: str) -> Path:
    """The folder of the release, where `data` is its parent; otherwise `data`. Raises: InputError for several."""
    if requested not in {"auto", "chexpert"} or present(entries, chexpert.REQUIRED[0]):
        return data
    below = [entry for entry in entries if entry.endswith("/") and fnmatchcase(entry[:-1], chexpert.FOLDER)]
    releases = [name for name in below if present(directory_entries(data / name), chexpert.REQUIRED[0])]
    if len(releases) > 1:
        names = " and ".join(f"`{name}`" for name in releases)
        raise InputError(
            f"cannot read data set: more than one release of CheXpert, got {names} (in `{data}`)",
            hint=f"--data {data / releases[0]}",
        )
    return data / releases[0] if releases else data


def _missing(entries: Sequence[str], required: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {name: [each for each in names if not present(entries, each)] for name, names in required.items()}


def _has_columns(data: Path, entries: Sequence[str], layout: Layout) -> bool:
    """Whether the first file has the layout's columns: several have a `train.csv`. Raises: InputError."""
    if not layout.COLUMNS:
        return True
    return set(layout.COLUMNS) <= set(header_of(single_file(data, entries, layout.REQUIRED[0])))


def _check_requested(data: Path, absent: Sequence[str], requested: str) -> None:
    if absent:
        names = ", ".join(f"`{name}`" for name in absent)
        raise InputError(
            f"cannot read data set: no {names}, got `{data}` (from `--data` and `--layout {requested}`)",
            hint="use --layout auto to detect the layout",
        )


def _undecided(data: Path, complete: Sequence[str], *, lacks_split: bool) -> InputError:
    what = [f"{name}: {', '.join(LAYOUTS[name].REQUIRED)}" for name in complete or LAYOUTS]
    if complete:
        problem, hint = "it matches more than one layout", f"--layout {complete[0]}"
    elif lacks_split:
        problem = "it has not all files of any layout"
        hint = "--split patients:70/10/20 makes a split, where the data set has none; or add the missing files"
    else:
        problem = "it has not all files of any layout"
        hint = "use --layout NAME to list the missing files of that layout"
    return InputError(f"cannot read data set: {problem}, got `{data}` (from `--data`){listing(what)}", hint=hint)
