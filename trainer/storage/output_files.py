"""Check that commands replace only files of this program in their `--out` directory.

A file is recognised by its first bytes. Plots, ONNX files and state dicts have no such mark: they count as ours next to
a marked document of the same command.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from trainer.errors import InputError, listing, on_one_line
from trainer.storage import AbsentError, Storage
from trainer.storage.files import open_regular

PNG_MARK: Final = (b"maPs", b"trainer")
"""Type and content of a private PNG chunk that marks files without a document beside them; viewers ignore it."""

SHEET: Final = "predictions.png"
"""The picture of several images with their predictions."""

_HEAD_BYTES: Final = 400
"""Bytes of a PNG file with its mark."""

_BEGINNINGS: Final = {
    "index.html": re.compile(rb'(?s).{0,4000}<meta name="generator" content="trainer '),
    "scaling.csv": re.compile(rb"run,model,workers,"),
    "metrics.csv": re.compile(rb"finding,images,(?:known,)?positives,"),
    "card.md": re.compile(rb"# Model card: "),
    "maps.jsonl": re.compile(rb'\Z|\{"image": '),
    "model.safetensors": re.compile(rb'(?s).{8}\{"__metadata__": ?\{.{0,60000}?"pack_side":'),
}
"""First bytes, by file name."""

_BY_SUFFIX: Final = {
    ".json": re.compile(rb'\{\s*"format": \d+,'),
    ".csv": re.compile(rb"Image Index,prob_"),
    ".png": re.compile(rb"(?s)\x89PNG.{0,200}" + b"".join(PNG_MARK)),
}


def check(storage: Storage, names: Iterable[str], *, beside: str = "", ours: Collection[str] = ()) -> None:
    """Refuse a directory with foreign files of these names; remove partial files of our killed commands.

    Unmarked files are accepted when `beside` is a document of ours, or when they are listed in `ours`.

    Raises: InputError naming the foreign files.
    """
    existing = {name: begins_as_ours(storage, name) for name in names}
    has_document = existing.get(beside) is True
    foreign = [
        name
        for name, is_ours in existing.items()
        if is_ours is False and name not in ours and not (has_document and not _is_marked(name))
    ]
    if foreign:
        raise InputError(
            f"cannot write to `{storage.url}`: this would replace files that this program did not write (from `--out`):"
            f"{listing(map(on_one_line, foreign))}",
            hint="choose another --out, or move the files",
        )
    storage.sweep("", names=existing)


def begins_as_ours(storage: Storage, name: str) -> bool | None:
    """Whether this program wrote the file, None when missing. Raises: KnownError as the storage."""
    try:
        beginning = next(storage.chunks(name), b"")
    except AbsentError:
        return None
    pattern = _pattern(name)
    return pattern is not None and pattern.match(beginning) is not None


def is_own_picture(path: Path) -> bool:
    """Whether a file of the user's directory is a picture by `explain` or `predict`, told by its name and mark.

    Their names have a second suffix, so that of most images only the name is read.
    """
    if path.suffix != ".png" or not ("." in path.stem or path.name == SHEET):
        return False
    try:
        with open_regular(path) as file:
            return _BY_SUFFIX[".png"].match(file.read(_HEAD_BYTES)) is not None
    except OSError:
        return False


def _pattern(name: str) -> re.Pattern[bytes] | None:
    last = name.rpartition("/")[2]
    return _BEGINNINGS.get(last) or _BY_SUFFIX.get(f".{last.rpartition('.')[2]}")


def _is_marked(name: str) -> bool:
    """Whether all our files of this name carry a mark."""
    return _pattern(name) is not None and not name.endswith(".png")
