"""Names of objects in a bucket that are no files: folder markers, and names that no file can have.

A bucket has no folders. Web consoles, mounts and Hadoop write empty objects for them, and any text is the name of an object.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from trainer.errors import InputError, listing
from trainer.storage.files import partial_name
from trainer.storage.interface import Stat

HADOOP_MARKER: Final = "_$folder$"
"""Suffix of the empty objects with which Hadoop's S3 clients mark folders."""

LONGEST_NAME_BYTES: Final = 255 - len(partial_name(""))
"""Longest name of a file that is written under a partial name first. Source: 255 is NAME_MAX of Linux file systems."""


def without_folder_markers(stats: Mapping[str, Stat]) -> dict[str, Stat]:
    """The objects without folder markers: empty ones named as the prefix, with a trailing slash, or as a folder of another object."""
    folders = _folders(stats)
    return {key: stat for key, stat in stats.items() if stat.size_bytes or not _marks_folder(key, folders)}


def unusable_names(keys: Iterable[str]) -> dict[str, str]:
    """The keys that cannot become files below one folder, sorted, with the reason."""
    names = sorted(keys)
    folders = _folders(names)
    return {key: problem for key in names if (problem := _problem(key, folders))}


def check_names(url: str, keys: Collection[str]) -> None:
    """Check that all these objects at `url` can become files below one folder. Raises: InputError naming those that cannot."""
    unusable = unusable_names(keys)
    if unusable:
        raise InputError(
            f"cannot download `{url}`: {len(unusable)} of {len(keys)} objects cannot be files:"
            f"{listing(f'`{key}`: {problem}' for key, problem in unusable.items())}",
            hint="rename or remove them in the bucket",
        )


def _folders(keys: Iterable[str]) -> set[str]:
    """Every folder that one of the keys is in."""
    folders: set[str] = set()
    for key in keys:
        folder = key.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _marks_folder(key: str, folders: set[str]) -> bool:
    return not key or key.endswith(("/", HADOOP_MARKER)) or key in folders


def _problem(key: str, folders: set[str]) -> str | None:
    parts = key.split("/")
    longest_bytes = max(len(part.encode()) for part in parts)
    reasons = {
        "`..` in its name points outside the data set": ".." in parts,
        "it has content, but its name is one of a folder": not parts[-1],
        "its name has an empty part, before or after a `/`": "" in parts,
        "`.` in its name is not the name of a file or folder": "." in parts,
        "it has content, but other objects need a folder of its name": key in folders,
        "its name is too long for a file": longest_bytes > LONGEST_NAME_BYTES,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
