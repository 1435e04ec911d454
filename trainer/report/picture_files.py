"""Picture files in a directory that the user names: their names, the program's mark, errors of writing."""

import io
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trainer.data.image_files import ImageFile
from trainer.errors import InputError
from trainer.storage import output_files

STEM_BYTES: Final = 150
"""Bytes of an image's name in a picture's name, which file systems limit to 255 bytes."""

COMPRESSION: Final = 3
"""Effort of zlib: the picture of a map takes 37 % of the time of zlib's own 6, and 9 % more bytes."""

_UNSAFE = re.compile(r"[^\w.+-]+")


def stems(files: Sequence[ImageFile]) -> dict[ImageFile, str]:
    """Name of each image's pictures: its file name without folders and suffix, numbered where two would be equal."""
    return dict(zip(files, different_names([file.path.stem for file in files], STEM_BYTES), strict=True))


def different_names(texts: Sequence[str], most_bytes: int) -> list[str]:
    """Each text as part of a file name, as `safe_name`, numbered where two would be equal on a file system that ignores case."""
    taken: set[str] = set()
    next_number: dict[str, int] = {}  # a series may have one name for all its files, each in its own folder
    names = []
    for text in texts:
        stem = name = safe_name(text, most_bytes)
        while name.lower() in taken:
            number = next_number.get(stem, 2)
            name, next_number[stem] = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names


def safe_name(text: str, most_bytes: int) -> str:
    """The text as part of a file name valid on any system."""
    return _UNSAFE.sub("_", text).encode()[:most_bytes].decode(errors="ignore")


def as_png(picture: Image.Image) -> bytes:
    """The PNG file with this program's mark; deterministic."""
    about, out = PngInfo(), io.BytesIO()
    about.add(*output_files.PNG_MARK)
    picture.save(out, format="PNG", pnginfo=about, compress_level=COMPRESSION)
    return out.getvalue()


def existing(folder: Path, names: Collection[str]) -> list[str]:
    """Those of these names that the directory has. Raises: OSError."""
    return [entry.name for entry in os.scandir(folder) if entry.name in names] if folder.exists() else []


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn errors of writing files into known ones. Raises: InputError."""
    try:
        yield
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise InputError(f"cannot write to `{folder}`: {reason} (from `--out`)") from problem
