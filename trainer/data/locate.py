"""Where the image files of a data set are, by the placement of its layout (`trainer.data.layouts.source.Placement`)."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from trainer.data.class_folders import IMAGE_SUFFIXES, directory_entries, unreadable_folder
from trainer.data.directory_walk import files_in
from trainer.data.labels import SPLITS
from trainer.data.layouts import Source
from trainer.data.layouts.source import Placement
from trainer.data.names import Names, is_images_folder
from trainer.data.patients import file_name, nih_patient
from trainer.errors import InputError, listing

PLACES: Final[dict[Placement, str]] = {
    "images": "images must be in images/ or images_001/, images_002/ … of the data set, at any depth",
    "paths": "images must be where the table says, below the data set's directory",
    "anywhere": "images must be below the data set's directory, each once, at any depth",
    "records": "a prepared set holds records, and no image files; give the data set that it was prepared from",
    "stems": f"images must be below the data set's directory, each once, named as in the table with {', '.join(IMAGE_SUFFIXES)}",
}
"""Where images must be, for a hint."""


def locate_images(source: Source) -> list[Path]:
    """Path of every image, in table order; an image in no split need not exist.

    Raises: InputError with the names of all images that are missing or duplicated.
    """
    if source.layout == "folders":
        return [source.root / name for name in source.table.images]  # an absent one is named when it is looked up
    _refuse_records(source)
    default = source.root if source.placement == "paths" else source.root / "images"
    places, used = _places(source), _used(source)
    absent = [name for name in used if name not in places]
    problems = _with_other_suffixes(source, absent)
    problems += [f"{name}: {' and '.join(map(str, places[name]))}" for name in used if len(places.get(name, ())) > 1]
    if problems:
        skip = "; --on-missing-image skip leaves out those that are missing" if 0 < len(absent) < len(used) else ""
        raise InputError(
            f"cannot find the images of `{source.root}`: {len(problems)} of {len(used)} are missing or duplicated"
            f"{listing(problems)}",
            hint=PLACES[source.placement] + skip,
        )
    return [places[name][0] if name in places else default / name for name in source.table.images]


def found_images(source: Source) -> dict[str, Path]:
    """Path of each image that has a file, in table order. Raises: InputError for those that have several."""
    places = _places(source)
    several = [f"{name}: {' and '.join(map(str, paths))}" for name, paths in places.items() if len(paths) > 1]
    if several:
        raise InputError(
            f"cannot find the images of `{source.root}`: {len(several)} are there more than once{listing(several)}",
            hint=PLACES[source.placement],
        )
    return {name: places[name][0] for name in source.table.images if name in places}


def missing_images(source: Source) -> list[str]:
    """Names of the images in a split that have no file, in table order; none of a prepared set, which has their records."""
    if source.placement == "records":
        return []
    places = _places(source)
    return [name for name in _used(source) if name not in places]


def absent_from(source: Source, keys: Sequence[str]) -> list[str]:
    """Names of the images in a split that are not among these keys of a bucket, in table order."""
    used = _used(source)
    if source.placement == "paths":
        there = set(keys)
        return [name for name in used if name not in there]
    if source.placement == "stems":
        stems = {PurePosixPath(key).stem for key in keys if key.lower().endswith(IMAGE_SUFFIXES)}
        return [name for name in used if file_name(name) not in stems]
    if source.placement == "anywhere":
        there = set(map(file_name, keys))
        return [name for name in used if file_name(name) not in there]
    named = {name.partition("/")[0] for name in used if "/" in name}
    below = Names(key for key in keys if key.startswith("images") or key.partition("/")[0] in named)
    beside = set(keys) if source.layout == "csv" else set()
    return [name for name in used if name not in beside and not _is_meant(below, name)]


def _is_meant(names: Names, name: str) -> bool:
    """Whether one of the names may be that of this image; those in NIH's form are unique without their folders."""
    return bool(names.agreeing(name)) or (bool(nih_patient(name)) and bool(names.same_file(name)))


def _refuse_records(source: Source) -> None:
    if source.placement == "records":
        raise InputError(
            f"cannot find the images of `{source.root}`: it is a prepared set, which holds records and no image files",
            hint="give the data set that it was prepared from",
        )


def _is_dangling(path: Path) -> bool:
    """Whether it is a link to a file that is not there, as for files that git-annex has not fetched."""
    return os.path.islink(path) and not path.exists()  # noqa: PTH114 - half the time of Path.is_symlink, for 100,000 files


def share_present(source: Source, missing: Sequence[str]) -> list[str]:
    """For each split, how many of its images are there, such as `train 8,640 of 75,708 (11.4 %)`."""
    table, present = source.table, source.table.without(missing)
    counts = [(split, len(present.rows(split)), len(table.rows(split))) for split in SPLITS]
    return [
        f"{split} {here:,} of {all_:,} ({here / all_:.1%})".replace("%", " %") for split, here, all_ in counts if all_
    ]


def without_missing(source: Source, missing: Sequence[str]) -> Source:
    """The data set with its missing images in no split.

    Raises: InputError where a split has none left.
    """
    table = source.table.without(missing)
    empty = [split for split in SPLITS if len(source.table.rows(split)) and not len(table.rows(split))]
    if empty:
        raise InputError(
            f"cannot use the data set: all images in {' and '.join(empty)} are missing, got "
            f"{', '.join(share_present(source, missing))} (in `{source.root}`)",
            hint="--split patients:70/10/20 draws all splits again; or download the others",
        )
    return replace(source, table=table)


def _used(source: Source) -> list[str]:
    table = source.table
    return [name for name, split_index in zip(table.images, table.split_N.tolist(), strict=True) if split_index >= 0]


def _places(source: Source) -> dict[str, list[Path]]:
    """The files of each image that is there."""
    if source.placement == "paths":
        paths = {name: source.root / name for name in _used(source)}
        return {name: [path] for name, path in paths.items() if _stays_below(name) and path.exists()}
    return _named_places(source) if source.placement == "images" else _places_by_file_name(source)


def _stays_below(name: str) -> bool:
    """Whether a path of a table stays below the data set's directory."""
    return ".." not in name.split("/")


def _named_places(source: Source) -> dict[str, list[Path]]:
    """The files of each image: those whose folders agree with its name, otherwise those of its file name or its own path."""
    names = Names(source.table.images)
    exact: dict[str, list[Path]] = {}
    other: dict[str, list[Path]] = {}
    root = f"{source.root.as_posix().rstrip('/')}/"
    for path in _files(source):
        place = path.as_posix().removeprefix(root)
        name = names.find(place)
        if name is not None and not _is_dangling(path):
            agrees = f"/{place}".endswith(f"/{name}")
            (exact if agrees else other).setdefault(name, []).append(path)
    found = other | exact
    beside = (
        ((name, source.root / name) for name in _used(source) if name not in found) if source.layout == "csv" else ()
    )
    return found | {name: [path] for name, path in beside if _stays_below(name) and path.is_file()}


def _places_by_file_name(source: Source) -> dict[str, list[Path]]:
    """The files of each image by file name, or by what of it precedes the suffix."""
    by_stem = source.placement == "stems"
    name_of = {file_name(name): name for name in source.table.images}
    places: dict[str, list[Path]] = {}
    for path in _files(source):
        name = name_of.get(path.stem if by_stem else path.name)
        if name is not None and path.suffix.lower() in IMAGE_SUFFIXES and not _is_dangling(path):
            places.setdefault(name, []).append(path)
    return places


def _files(source: Source) -> Iterator[Path]:
    """Files in the folders where images may be, by the placement."""
    if source.placement != "images":
        return (path for _, path in files_in([source.root], unreadable_folder))
    named = {part for name in source.table.images if "/" in name for part in PurePosixPath(name).parts[:-1]}
    folders = [
        source.root / entry.rstrip("/")
        for entry in directory_entries(source.root)
        if entry.endswith("/") and (is_images_folder(entry.rstrip("/")) or entry.rstrip("/") in named)
    ]
    return (path for _, path in files_in(folders, unreadable_folder))


def _with_other_suffixes(source: Source, absent: Sequence[str]) -> list[str]:
    """A problem for each absent image, with the file that differs from it only in its suffix, if there is one."""
    has_others = bool(absent) and source.placement in {"images", "anywhere"}
    by_stem = {path.stem: path.name for path in _files(source)} if has_others else {}
    nearest = [by_stem.get(PurePosixPath(name).stem) for name in absent]
    return [
        f"{name}: missing{'' if near is None else f', but there is `{near}`'}"
        for name, near in zip(absent, nearest, strict=True)
    ]
