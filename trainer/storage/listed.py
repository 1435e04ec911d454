"""An object as long as its listing said, or none: what is longer would fill a disk before any hash could be compared."""

from collections.abc import Iterable, Iterator

from trainer.storage.interface import DamagedError, Stat


def as_listed(chunks: Iterable[bytes], stat: Stat, what: str, *, first: int = 0) -> Iterator[bytes]:
    """The object's bytes from offset `first` on, no more than `stat` tells; `what` is how errors begin.

    Raises: DamagedError as soon as more come, without handing them on, and at the end when fewer came.
    """
    size_bytes = first
    for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > stat.size_bytes:
            raise _differs(what, f"more than {stat.size_bytes:,}", stat)
        yield chunk
    if size_bytes < stat.size_bytes:
        raise _differs(what, f"{size_bytes:,}", stat)


def _differs(what: str, found: str, stat: Stat) -> DamagedError:
    return DamagedError(
        f"{what}: it has {found} bytes, the listing says {stat.size_bytes:,}",
        hint="it changed meanwhile, and the same command reads it as it is now; or its server is at fault",
    )
