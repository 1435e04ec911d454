"""A data set in a bucket, downloaded once to each node; afterwards it is a directory."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from trainer.data.locks import Waiting, locked
from trainer.errors import InputError, TryAgainError
from trainer.storage import Storage, copy_all, open_storage

PATIENCE_S: Final = 180.0
"""How long a start waits for a bucket that does not answer."""

STAMPS: Final = "stamps.jsonl"
"""Beside the files: what the bucket said of them when they were downloaded."""


def folder_of(url: str, cache: Path) -> Path:
    """Where the data set at `url` lies once it is there."""
    return cache / "data" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16] / "files"


Progress = Callable[[int], AbstractContextManager[Callable[[int, str], None]]]
"""From the number of files to what is told of each file that is done."""


def fetch(url: str, cache: Path, progress: Progress, waiting: Waiting = Waiting()) -> None:  # noqa: B008 - it is frozen
    """Download what is not there yet, or has changed since.

    Raises: InputError for an empty prefix or a name that would leave the folder; RemoteError.
    """
    storage = open_storage(url, patience_s=PATIENCE_S)
    folder = folder_of(url, cache)
    there = {key: stat.stamp for key, stat in storage.stats("").items() if not key.endswith("/")}
    if not there:
        raise InputError(
            f"cannot read a data set from `{url}`: nothing lies there (from `--data`)", hint="--data s3://BUCKET/PREFIX"
        )
    odd = [key for key in there if key.startswith("/") or ".." in Path(key).parts]
    if odd:
        raise InputError(f"cannot download `{url}/{odd[0]}`: its name leads out of the data set", hint="remove it")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent, waiting):
        here = _stamps(folder)
        missing = {key: stamp for key, stamp in there.items() if here.get(key) != stamp or not (folder / key).is_file()}
        _remove_others(folder, there.keys())
        with progress(len(missing)) as advance, (folder.parent / STAMPS).open("a", encoding="utf-8") as stamps:
            for key in _copied(storage, missing, folder):
                stamps.write(f"\n{json.dumps([key, missing[key]])}")
                advance(1, "")


def _copied(storage: Storage, keys: Collection[str], folder: Path) -> Iterator[str]:
    """Each key once its file is there. Raises: InputError when the cache is too small, which another start would find again."""
    try:
        yield from copy_all(storage, keys, folder)
    except TryAgainError as full:
        raise InputError(
            str(full.args[0]), hint="the data set needs more room; --cache-dir names another place"
        ) from full


def _remove_others(folder: Path, keys: Collection[str]) -> None:
    """What the bucket no longer has would still be found by a look into the folder."""
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file() and path.relative_to(folder).as_posix() not in keys:
            path.unlink()


def _stamps(folder: Path) -> dict[str, str]:
    """What the bucket said of each file when it was downloaded; of lines for one file the last counts."""
    try:
        lines = (folder.parent / STAMPS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    stamps = {}
    for line in lines:
        with suppress(ValueError):  # half a line, as a kill leaves it: that file is downloaded again
            key, stamp = json.loads(line)
            stamps[str(key)] = str(stamp)
    return stamps
