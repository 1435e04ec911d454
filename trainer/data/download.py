"""A data set in a bucket, downloaded once to each node; afterwards it is a directory."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Final

from trainer.data.locks import locked
from trainer.errors import InputError, on_one_line
from trainer.limits import parsed_json
from trainer.storage import FullError, Stat, Storage, copy_all, open_storage
from trainer.storage.cache_folder import cache_folder, cached_files
from trainer.storage.files import file_errors, open_lock, open_regular, remove_abandoned, whole_name
from trainer.storage.waiting import SILENT, Waiting

PATIENCE_S: Final = 180.0
"""How long a start waits for a bucket that does not answer."""

STAMPS: Final = "stamps.jsonl"
"""Beside the files: which were downloaded, and what the bucket said of them then. Files that are not in it are not ours."""


def folder_of(url: str, cache: Path) -> Path:
    """Where the data set at `url` lies once it is there."""
    return cache / "data" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16] / "files"


Progress = Callable[[int], AbstractContextManager[Callable[[int, str], None]]]
"""From the number of files to what is told of each file that is done."""


def fetch(url: str, cache: Path, progress: Progress, waiting: Waiting = SILENT) -> None:
    """Download what is not there yet, or has changed since.

    Raises: InputError for an empty prefix, a name that would leave the folder, and a folder in which others have put something;
    DamagedError for an object that is not as long as listed; FullError; RemoteError.
    """
    storage = open_storage(url, patience_s=PATIENCE_S)
    there = {key: stat for key, stat in storage.stats("").items() if not key.endswith("/")}
    if not there:
        raise InputError(
            f"cannot read a data set from `{url}`: nothing lies there (from `--data`)", hint="--data s3://BUCKET/PREFIX"
        )
    odd = [key for key in there if PurePosixPath(key).as_posix() != key or {"/", ".."} & set(PurePosixPath(key).parts)]
    if odd:
        raise InputError(
            f"cannot download `{url}/{odd[0]}`: its name leads out of the data set, or names no file", hint="rename it"
        )
    folder = _own(url, cache)
    with locked(folder.parent, waiting):
        ours, here = _noted(folder)
        sizes = _looked_through(folder, ours, there)
        _remove_others(folder, sizes.keys() - there.keys())
        missing = {
            key: stat
            for key, stat in there.items()
            if here.get(key) != stat.stamp or sizes.get(key) != stat.size_bytes  # a file that was cut or changed since
        }
        with progress(len(missing)) as advance, _notes(folder) as note:
            note(*([key, None] for key in missing))
            for key in _copied(storage, missing, folder):
                note([key, missing[key].stamp])
                advance(1, "")


def fetch_file(url: str, cache: Path) -> Path:
    """Download one object; where its file is.

    Raises: InputError for a place in the cache that is not ours; AbsentError; DamagedError for an object that is not as long as
    its server says; FullError; RemoteError.
    """
    place, _, name = url.rpartition("/")
    storage, folder = open_storage(place), _own(place, cache)
    stat = storage.stat(name)
    remove_abandoned(folder, [name])
    with locked(folder.parent):
        ours, _ = _noted(folder)
        with suppress(FileNotFoundError):
            _check_ours(folder, name, (folder / name).lstat(), ours, {name: stat})
        with _notes(folder) as note:
            note([name, None])
    storage.copy_to(name, folder / name, stat=stat)
    return folder / name


def _own(url: str, cache: Path) -> Path:
    """The folder of the data set at `url`, made where there is none."""
    folder = folder_of(url, cache)
    return cache_folder(cache, *folder.relative_to(cache).parts)


def _copied(storage: Storage, stats: Mapping[str, Stat], folder: Path) -> Iterator[str]:
    """Each key once its file is there. Raises: FullError when the cache is too small, which another start would find again."""
    try:
        yield from copy_all(storage, stats, folder, stats=stats)
    except FullError as full:
        raise FullError(
            str(full.args[0]), hint="the data set needs more room; --cache-dir names another place"
        ) from full


def _looked_through(folder: Path, ours: Collection[str], there: Mapping[str, Stat]) -> dict[str, int]:
    """Bytes of the files in the folder by name, which are all ours; what killed downloads have half-written is removed.

    Raises: InputError for a link, or a file that no download has put there: it would be read as part of the data set, or replaced.
    """
    sizes = {}
    for name, what in cached_files(folder):
        whole = whole_name(Path(name).name)
        if stat.S_ISREG(what.st_mode) and whole is not None:
            remove_abandoned((folder / name).parent, [whole])
        else:
            _check_ours(folder, name, what, ours, there)
            sizes[name] = what.st_size
    return sizes


def _check_ours(
    folder: Path, name: str, what: os.stat_result, ours: Collection[str], there: Mapping[str, Stat]
) -> None:
    """Raises: InputError for what is neither noted as downloaded nor, as earlier versions did not note all, as long as its object."""
    if stat.S_ISREG(what.st_mode) and (name in ours or (name in there and there[name].size_bytes == what.st_size)):
        return
    kind = "a link" if stat.S_ISLNK(what.st_mode) else "none that was downloaded"
    raise InputError(
        f"cannot use the cache `{folder}`: its file `{on_one_line(name)}` is {kind}",
        hint="move it away, or --cache-dir names another place",
    )


def _remove_others(folder: Path, names: Collection[str]) -> None:
    """What was downloaded and the bucket no longer has would still be found by a look into the folder."""
    for name in names:
        with file_errors("delete", folder / name):
            (folder / name).unlink(missing_ok=True)


@contextmanager
def _notes(folder: Path) -> Iterator[Callable[..., None]]:
    """From keys and their stamps to lines beside the folder: a key without a stamp is about to be downloaded."""
    path = folder.parent / STAMPS
    with file_errors("write", path), open_lock(path) as file:
        file.seek(0, os.SEEK_END)

        def note(*entries: list[str | None]) -> None:
            file.writelines(f"\n{json.dumps(entry)}".encode() for entry in entries)
            file.flush()  # a kill must not leave files that nobody knows

        yield note


def _noted(folder: Path) -> tuple[set[str], dict[str, str]]:
    """Which files downloads have put here or were about to, and what the bucket said of those that are whole."""
    ours: set[str] = set()
    stamps: dict[str, str] = {}
    try:
        with open_regular(folder.parent / STAMPS) as file:
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ours, stamps
    for line in lines:
        with suppress(ValueError, TypeError):  # half a line, as a kill leaves it: that file is downloaded again
            key, stamp = parsed_json(line.encode())
            ours.add(str(key))
            stamps.pop(str(key), None)
            if stamp is not None:
                stamps[str(key)] = str(stamp)
    return ours, stamps
