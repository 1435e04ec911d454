"""Files that commands may replace in their `--out` directory: those that this program wrote there before.

A file is recognised by its first bytes. Plots, ONNX files and state dicts carry no mark: they count as ours beside a document of
the same command that does.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from trainer.errors import InputError, listing, on_one_line
from trainer.storage import AbsentError, Storage

PNG_MARK: Final = (b"maPs", b"trainer")
"""Type and content of a private chunk, the mark of PNG files without a document beside them; viewers ignore it."""

_BEGINNINGS: Final = {
    "index.html": re.compile(rb'(?s).{0,4000}<meta name="generator" content="trainer '),
    "scaling.csv": re.compile(rb"run,model,workers,"),
    "metrics.csv": re.compile(rb"finding,images,positives,"),
    "card.md": re.compile(rb"# Model card: "),
    "maps.jsonl": re.compile(rb'\Z|\{"image": '),
    "model.safetensors": re.compile(rb'(?s).{8}\{"__metadata__": ?\{.{0,60000}?"pack_side":'),
}
"""First bytes by file name."""

_BY_SUFFIX: Final = {
    ".json": re.compile(rb'\{\s*"format": \d+,'),
    ".csv": re.compile(rb"Image Index,prob_"),
    ".png": re.compile(rb"(?s)\x89PNG.{0,200}" + b"".join(PNG_MARK)),
}


def check(storage: Storage, names: Iterable[str], *, beside: str = "", ours: Collection[str] = ()) -> None:
    """Refuse a directory in which foreign files have these names; half-written files of killed commands of ours are removed.

    Files without a mark pass when `beside` is a document of ours, or when they are named in `ours`.

    Raises: InputError naming the others.
    """
    there = {name: begins_as_ours(storage, name) for name in names}
    has_document = there.get(beside) is True
    others = [
        name
        for name, is_ours in there.items()
        if is_ours is False and name not in ours and not (has_document and not _is_marked(name))
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


def _is_marked(name: str) -> bool:
    """Whether all of our files of this name carry a mark."""
    return _pattern(name) is not None and not name.endswith(".png")
