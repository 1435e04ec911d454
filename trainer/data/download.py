"""Download of a data set from a bucket, once per node; afterwards it is a directory."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

from trainer.data.locks import locked
from trainer.errors import InputError, on_one_line
from trainer.limits import parsed_json
from trainer.storage import FullError, Stat, Storage, copy_all, open_storage
from trainer.storage.cache_folder import cache_folder, cached_files
from trainer.storage.files import file_errors, open_lock, open_regular, remove_abandoned, whole_name
from trainer.storage.object_names import check_names
from trainer.storage.waiting import SILENT, Waiting

RETRY_S: Final = 180.0
"""How long requests to an unavailable bucket are retried."""

STAMPS: Final = "stamps.jsonl"
"""Record of downloaded files with their ETags. Files not recorded in it do not belong to this program."""


def folder_of(url: str, cache: Path) -> Path:
    """Folder of the downloaded data set."""
    return cache / "data" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16] / "files"


Progress = Callable[[int], AbstractContextManager[Callable[[int, str], None]]]
"""Gets the number of files, yields a function to call after each file."""


def fetch(url: str, cache: Path, progress: Progress, waiting: Waiting = SILENT) -> None:
    """Download what is missing or has changed.

    Raises: InputError for an empty prefix, a name that no file can have, or a folder with foreign files; DamagedError for
    an object of another length than listed; FullError; RemoteError.
    """
    storage = open_storage(url, patience_s=RETRY_S)
    listed = storage.stats("")
    if not listed:
        raise InputError(
            f"cannot read a data set from `{url}`: it has no objects (from `--data`)", hint="--data s3://BUCKET/PREFIX"
        )
    check_names(url, listed)
    folder = _data_folder(url, cache)
    with locked(folder.parent, waiting):
        ours, stamps = _recorded(folder)
        sizes = _checked_sizes(folder, ours, listed)
        _remove_deleted(folder, sizes.keys() - listed.keys())
        missing = {
            key: stat
            for key, stat in listed.items()
            if stamps.get(key) != stat.stamp
            or sizes.get(key) != stat.size_bytes  # a file truncated or changed since the download
        }
        with progress(len(missing)) as advance, _record_writer(folder) as record:
            record(*([key, None] for key in missing))
            for key in _copied(storage, missing, folder):
                record([key, missing[key].stamp])
                advance(1, "")


def fetch_file(url: str, cache: Path, progress: Progress = lambda _: nullcontext(_nothing)) -> Path:
    """Download one object; returns the path of its file. `progress` gets its size in bytes, and the number of further bytes.

    Raises: InputError for a folder, and for a foreign file in its place; AbsentError; DamagedError for an object of another length than
    listed; FullError; RemoteError.
    """
    place, _, name = url.rpartition("/")
    if not name:
        raise InputError(f"cannot download `{url}`: it is a folder, not a file", hint="name the file in it")
    storage, folder = open_storage(place), _data_folder(place, cache)
    stat = storage.stat(name)
    remove_abandoned(folder, [name])
    with locked(folder.parent):
        ours, _ = _recorded(folder)
        with suppress(FileNotFoundError):
            _check_ours(folder, name, (folder / name).lstat(), ours, {name: stat})
        with _record_writer(folder) as record:
            record([name, None])
    with progress(stat.size_bytes) as advance:
        storage.copy_to(name, folder / name, stat=stat, progress=lambda done: advance(done, ""))
    return folder / name


def _nothing(_done: int, _words: str, /) -> None:
    """Of a download that shows no progress."""


def _data_folder(url: str, cache: Path) -> Path:
    """The folder of the data set at `url`, created if missing."""
    folder = folder_of(url, cache)
    return cache_folder(cache, *folder.relative_to(cache).parts)


def _copied(storage: Storage, stats: Mapping[str, Stat], folder: Path) -> Iterator[str]:
    """Each key when its file is complete. Raises: FullError when the cache is too small; a restart would fail again."""
    try:
        yield from copy_all(storage, stats, folder, stats=stats)
    except FullError as full:
        raise FullError(str(full.args[0]), hint="the data set needs more space; choose another --cache-dir") from full


def _checked_sizes(folder: Path, ours: Collection[str], listed: Mapping[str, Stat]) -> dict[str, int]:
    """Size of each file in the folder, all checked to be ours; partial files of killed downloads are removed.

    Raises: InputError for a link or a foreign file, which would otherwise become part of the data set or be replaced.
    """
    sizes = {}
    for name, status in cached_files(folder):
        final_name = whole_name(Path(name).name)
        if stat.S_ISREG(status.st_mode) and final_name is not None:
            remove_abandoned((folder / name).parent, [final_name])
        else:
            _check_ours(folder, name, status, ours, listed)
            sizes[name] = status.st_size
    return sizes


def _check_ours(
    folder: Path, name: str, status: os.stat_result, ours: Collection[str], listed: Mapping[str, Stat]
) -> None:
    """Raises: InputError for a file that is neither recorded nor of its object's size; earlier versions did not record all files."""
    if stat.S_ISREG(status.st_mode) and (
        name in ours or (name in listed and listed[name].size_bytes == status.st_size)
    ):
        return
    kind = "a link" if stat.S_ISLNK(status.st_mode) else "not a downloaded file"
    raise InputError(
        f"cannot use the cache `{folder}`: its file `{on_one_line(name)}` is {kind}",
        hint="move it away, or choose another --cache-dir",
    )


def _remove_deleted(folder: Path, names: Collection[str]) -> None:
    """Remove downloaded files of objects that no longer exist in the bucket: they would be read as part of the data set."""
    for name in names:
        with file_errors("delete", folder / name):
            (folder / name).unlink(missing_ok=True)


@contextmanager
def _record_writer(folder: Path) -> Iterator[Callable[..., None]]:
    """Append keys and stamps to the record; a key without a stamp is about to be downloaded."""
    path = folder.parent / STAMPS
    with file_errors("write", path), open_lock(path) as file:
        file.seek(0, os.SEEK_END)

        def record(*entries: list[str | None]) -> None:
            file.writelines(f"\n{json.dumps(entry)}".encode() for entry in entries)
            file.flush()  # a kill must not leave unrecorded files

        yield record


def _recorded(folder: Path) -> tuple[set[str], dict[str, str]]:
    """The recorded files, and the ETags of those that are complete."""
    ours: set[str] = set()
    stamps: dict[str, str] = {}
    try:
        with open_regular(folder.parent / STAMPS) as file:
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ours, stamps
    for line in lines:
        with suppress(ValueError, TypeError):  # a line truncated by a kill: the file is downloaded again
            key, stamp = parsed_json(line.encode())
            ours.add(str(key))
            stamps.pop(str(key), None)
            if stamp is not None:
                stamps[str(key)] = str(stamp)
    return ours, stamps
