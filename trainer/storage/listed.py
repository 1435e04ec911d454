"""Downloads limited to the listed size: a longer object could fill the disk before its hash is checked."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trainer.storage.files import file_errors, open_new, replacing
from trainer.storage.interface import DamagedError, Stat


def as_listed(chunks: Iterable[bytes], stat: Stat, what: str, *, first: int = 0) -> Iterator[bytes]:
    """The object's bytes from offset `first` on, at most the size in `stat`; `what` begins error messages.

    Raises: DamagedError before surplus bytes are yielded, and at the end when bytes are missing.
    """
    size_bytes = first
    for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > stat.size_bytes:
            raise _differs(what, f"more than {stat.size_bytes:,}", stat)
        yield chunk
    if size_bytes < stat.size_bytes:
        raise _differs(what, f"{size_bytes:,}", stat)


def save(chunks: Iterable[bytes], path: Path, what: str, *, stat: Stat | None, progress: Callable[[int], None]) -> None:
    """Write an object to a file atomically; `stat` as for `as_listed`. `progress` gets the size of each chunk.

    Raises: DamagedError; FullError, InputError when the file cannot be written; as `chunks`.
    """
    needs_bytes = None
    if stat is not None:
        chunks, needs_bytes = as_listed(chunks, stat, what), stat.size_bytes
    with file_errors("write", path, needs_bytes=needs_bytes), replacing(path) as partial, open_new(partial) as file:
        for chunk in chunks:
            file.write(chunk)
            progress(len(chunk))


def _differs(what: str, actual: str, stat: Stat) -> DamagedError:
    return DamagedError(
        f"{what}: it has {actual} bytes, the listing says {stat.size_bytes:,}",
        hint="if it changed meanwhile, run the same command again; otherwise the server is faulty",
    )
