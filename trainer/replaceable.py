"""What commands may replace in a directory that the user has named: files that this program wrote there before.

A file is known by how it begins. Plots, ONNX files and state dicts don't say who made them: they are taken for ours beside a
document of the same command that does.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from trainer.errors import InputError, listing, on_one_line
from trainer.storage import AbsentError, Storage

PNG_MARK: Final = (b"maPs", b"trainer")
"""Type and content of a private chunk of PNG files that have no document beside them; no viewer shows it as metadata."""

_BEGINNINGS: Final = {
    "index.html": re.compile(rb'(?s).{0,4000}<meta name="generator" content="trainer '),
    "scaling.csv": re.compile(rb"run,model,workers,"),
    "metrics.csv": re.compile(rb"finding,images,positives,"),
    "card.md": re.compile(rb"# Model card: "),
    "maps.jsonl": re.compile(rb'\Z|\{"image": '),
    "model.safetensors": re.compile(rb'(?s).{8}\{"__metadata__": ?\{.{0,60000}?"pack_side":'),
}
"""By name, where it is told by the name alone."""

_BY_SUFFIX: Final = {
    ".json": re.compile(rb'\{\s*"format": \d+,'),
    ".csv": re.compile(rb"Image Index,prob_"),
    ".png": re.compile(rb"(?s)\x89PNG.{0,200}" + b"".join(PNG_MARK)),
}


def check(storage: Storage, names: Iterable[str], *, beside: str = "", ours: Collection[str] = ()) -> None:
    """Refuse a directory in which somebody else's files have these names; what killed commands have half-written of ours is removed.

    Files that don't say whose they are pass where `beside` is a document of ours, and those named in `ours`.

    Raises: InputError naming the others.
    """
    there = {name: begins_as_ours(storage, name) for name in names}
    is_marked = there.get(beside) is True
    others = [
        name
        for name, is_ours in there.items()
        if is_ours is False and name not in ours and not (is_marked and not _tells(name))
    ]
    if others:
        raise InputError(
            f"cannot write to `{storage.url}`: files that this program did not write would be replaced (from `--out`):"
            f"{listing(map(on_one_line, others))}",
            hint="--out names another directory, or move them away",
        )
    storage.sweep("", names=there)


def begins_as_ours(storage: Storage, name: str) -> bool | None:
    """Whether the file was written by this program, None where there is none. Raises: KnownError as the storage."""
    try:
        beginning = next(storage.chunks(name), b"")
    except AbsentError:
        return None
    pattern = _pattern(name)
    return pattern is not None and pattern.match(beginning) is not None


def _pattern(name: str) -> re.Pattern[bytes] | None:
    last = name.rpartition("/")[2]
    return _BEGINNINGS.get(last) or _BY_SUFFIX.get(f".{last.rpartition('.')[2]}")


def _tells(name: str) -> bool:
    """Whether all of our files of this name say that they are ours."""
    return _pattern(name) is not None and not name.endswith(".png")
