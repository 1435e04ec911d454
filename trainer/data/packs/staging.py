"""Prepared sets on a node: fetched once from a bucket or a mount to the node's cache, and shared by its workers.

    <cache>/sets/<hash of place>/current           name of the folder that was completed last
    <cache>/sets/<hash of place>/<hash of index>/  the files of the set; manifest.json is written last

Shards are downloaded by several threads, verified by the sha256 in the index while they are written, and renamed into place.
A set that was prepared again in the same place has another index, and so another folder: runs that use the first keep it.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from trainer.data.locks import locked
from trainer.data.packs.damage import DamagedPackError
from trainer.data.packs.index import INDEX
from trainer.data.packs.prepared import PreparedIndex, is_index, is_prepared, parsed
from trainer.errors import InputError, listing
from trainer.limits import JSON_BYTES, LimitError
from trainer.storage import AbsentError, Stat, Storage, open_storage
from trainer.storage.cache_folder import cache_folder
from trainer.storage.files import file_errors, replacing, write_flushed
from trainer.storage.resumable import Item, Wording, fetch_all
from trainer.storage.waiting import SILENT, Waiting

RETRY_S: Final = 180.0
"""How long requests to an unavailable bucket are retried."""

THREADS: Final = 16
"""Files that are downloaded at the same time. Source: `trainer.storage.bulk.THREADS`."""

_CURRENT: Final = "current"
_MOUNTS: Final = Path("/proc/self/mountinfo")

_WORDING: Final = Wording(
    doing="fetch",
    unwritable="choose another --cache-dir",
    removed="the prepared set is being changed; start again when that is done",
    damaged="the file differs from the index of the set: copy or prepare the set again",
)

Progress = Callable[[int], AbstractContextManager[Callable[[int, str], None]]]
"""Gets the number of bytes, yields a function to call with the number of further bytes and a text."""


def is_staged(place: str) -> bool:
    """Whether the data set at this place is copied to the cache: a prepared set in a bucket, or on a FUSE mount such as those of
    the S3 CSI drivers, which are slow at reading records at random.

    Raises: InputError for an unusable place; RemoteError.
    """
    if "://" in place:
        return index_of(open_storage(place, patience_s=RETRY_S)) is not None
    folder = Path(place)
    return is_prepared(folder) and _file_system(folder).startswith("fuse")


def index_of(storage: Storage) -> bytes | None:
    """Bytes of the index of the prepared set in this storage; None where there is none. Raises: DamagedError; RemoteError."""
    with suppress(AbsentError, LimitError):
        content = storage.read(INDEX, most_bytes=JSON_BYTES)
        return content if is_index(content) else None
    return None


def staged_folder(place: str, cache: Path) -> Path | None:
    """Folder of the set of this place that `stage` has completed last; None without one."""
    root = _root(place, cache)
    with suppress(OSError, UnicodeDecodeError):
        return root / (root / _CURRENT).read_text().strip()
    return None


def forget(place: str, cache: Path) -> None:
    """Make `staged_folder` return None, as the place holds no prepared set any more."""
    with suppress(OSError):
        (_root(place, cache) / _CURRENT).unlink()


def stage(
    place: str,
    cache: Path,
    progress: Progress,
    waiting: Waiting = SILENT,
    *,
    check: Callable[[PreparedIndex], object] = lambda _: None,
) -> Path:
    """Fetch what is missing or damaged of the prepared set at this place; returns its folder in the cache.

    `check` gets the index before anything is fetched, and raises where the set is not the one that is needed.

    Raises: as `check`; InputError for a set that lacks files or whose index is damaged, and before anything is fetched where the cache has
    no room; DamagedError for a file that differs from the index; TryAgainError; RemoteError.
    """
    storage = open_storage(place, patience_s=RETRY_S)
    content = index_of(storage)
    if content is None:
        raise InputError(f"cannot fetch the prepared set `{place}`: it has no {INDEX}", hint="check --data")
    index = _parsed(content, place)
    check(index)
    root = cache_folder(cache, *_root(place, cache).relative_to(cache).parts)
    folder = root / hashlib.sha256(content).hexdigest()[:24]
    with locked(folder, waiting):
        cache_folder(root, folder.name)
        missing = _missing(_items(storage, place, index, folder))
        needs_bytes = sum(item.missing_bytes() for item in missing)
        _check_room(place, root, needs_bytes)
        with progress(needs_bytes) as advance:
            fetch_all(storage, missing, threads=THREADS, advance=lambda size: advance(size, ""), wording=_WORDING)
        _write(folder / INDEX, content)
        _write(root / _CURRENT, folder.name.encode())
    return folder


def _root(place: str, cache: Path) -> Path:
    at = place.rstrip("/") if "://" in place else str(Path(place).resolve())
    return cache / "sets" / hashlib.sha256(at.encode()).hexdigest()[:16]


def _parsed(content: bytes, place: str) -> PreparedIndex:
    try:
        return parsed(content)
    except DamagedPackError as damage:
        raise InputError(
            f"cannot fetch the prepared set `{place}`: {damage}",
            hint="copy it again, or prepare it again with `trainer prepare` into an empty place",
        ) from damage


def _items(storage: Storage, place: str, index: PreparedIndex, folder: Path) -> list[Item]:
    """The files of the set. Raises: InputError for those that are missing, or have another size than in the index."""
    stats = storage.stats("")
    wrong = file_problems(index, stats)
    if wrong:
        raise InputError(
            f"cannot fetch the prepared set `{place}`: {len(wrong)} of its files are not those of its index{listing(wrong)}",
            hint="copy it again, or prepare it again with `trainer prepare`",
        )
    return [
        Item(key=name, target=folder / name, stat=stats[name], sha256=sha256)
        for name, (_, sha256) in index.files.items()
    ]


def file_problems(index: PreparedIndex, stats: Mapping[str, Stat]) -> list[str]:
    """Files of the index that are missing from a listing, or have another size there, in words."""
    problems = (_problem(name, size, stats.get(name)) for name, (size, _) in index.files.items())
    return [problem for problem in problems if problem]


def _problem(name: str, size_bytes: int, stat: Stat | None) -> str | None:
    if stat is None:
        return f"{name}: missing"
    if stat.size_bytes != size_bytes:
        return f"{name}: {stat.size_bytes:,} bytes instead of {size_bytes:,}"
    return None


def _missing(items: list[Item]) -> list[Item]:
    """Files that are not there, or differ from the index."""
    with ThreadPoolExecutor() as pool:
        complete = list(pool.map(Item.is_complete, items))
    return [item for item, is_complete in zip(items, complete, strict=True) if not is_complete]


def _check_room(place: str, root: Path, needs_bytes: int) -> None:
    free_bytes = shutil.disk_usage(root).free
    if needs_bytes > free_bytes:
        raise InputError(
            f"cannot fetch the prepared set `{place}`: {needs_bytes:,} bytes are needed, `{root}` has {free_bytes:,} bytes free "
            "(from `--cache-dir`)",
            hint="a larger volume, or another --cache-dir",
        )


def _write(path: Path, content: bytes) -> None:
    with file_errors("write", path), replacing(path) as partial:
        write_flushed(partial, [content])


def _file_system(path: Path) -> str:
    """Type of the file system that holds the path, such as `fuse.mount-s3`; empty where the system does not say.

    Source: proc_pid_mountinfo(5): the mount point is the fifth field, and the type follows the separator `-`.
    """
    at, deepest, kind = path.resolve(), Path(), ""
    with suppress(OSError):
        for line in _MOUNTS.read_text().splitlines():
            before, _, after = line.partition(" - ")
            point = Path(before.split(" ")[4].encode().decode("unicode_escape"))
            if at.is_relative_to(point) and len(point.parts) >= len(deepest.parts):
                deepest, kind = point, after.split(" ", 1)[0]
    return kind
