"""Name of the folder of a pack in the cache: a hash of the names, sizes and times of its images."""

import hashlib
import json
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import PIL

from trainer.data.packs.index import FORMAT
from trainer.data.packs.records import Geometry
from trainer.errors import InputError, listing

_KEY_STEP: Final = 100
"""Images between calls of `progress`, whose files are only looked up."""

Progress = Callable[[int], None]
"""Called with the number of further images done."""


def pack_key(
    names: Sequence[str], paths: Sequence[Path], geometry: Geometry, *, progress: Progress = lambda _: None
) -> str:
    """A folder name that changes with any image, name or the geometry. `progress` is called after each hundred images.

    Raises: InputError for images that are missing, unreachable or not regular files.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, geometry.described()]).encode())
    problems = []
    for count, (name, path) in enumerate(zip(names, paths, strict=True), start=1):
        if count % _KEY_STEP == 0:
            progress(_KEY_STEP)
        try:
            status = path.stat()
        except OSError as problem:
            problems.append(f"{path}: {problem.strerror}")
            continue
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            problems.append(f"{path}: it is not a regular file")
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    if problems:
        raise InputError(f"cannot read {len(problems)} images:{listing(problems)}", hint="check --data")
    return digest.hexdigest()[:24]
