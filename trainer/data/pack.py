"""A data set decoded once into uint8 arrays: build, verify, open.

    <pack>/shard-00000.bin   raw 8-bit gray records of side x side bytes, no header, about 64 MiB a file
    <pack>/names.txt         one image name a record
    <pack>/sizes.bin         width and height of each image as it was, little-endian int32; 0 and 0 where it could not be read
    <pack>/manifest.json     written last: side, filter, fit, counts, bytes and sha256 of every file, images that could not be read

Made with the recipe's own resize, so that what is cropped from a pack is what would be cropped from the image. Labels and
splits stay with the source: another split needs no other pack. Knows nothing of torch: its worker processes start fast.
"""

import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from trainer.config import PackFit
from trainer.data.dicom import check_dicom_readable
from trainer.data.images import BadImageError, open_gray
from trainer.errors import InputError, TryAgainError, listing
from trainer.screen import screen
from trainer.sources import DICOM_SUFFIXES

Gray = NDArray[np.uint8]

SHARD_BYTES: Final = 64 * 2**20
FORMAT: Final = 2
_SIZES: Final = "sizes.bin"
LEAST_SIDE_PX: Final = 8
"""What is smaller is a broken file or an icon, and no radiograph: the smallest that people train on, MedMNIST's, have 28."""

_TASK_IMAGES: Final = 32
"""Images a worker process decodes between two reports: about half a second's work."""


class Progress(Protocol):
    """Told how many more images are done."""

    def __call__(self, done: int) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How images become records."""

    side: int
    fit: PackFit
    filter: str = "bilinear"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a pack holds."""

    format: int
    geometry: Geometry
    count: int
    pillow: str
    files: dict[str, tuple[int, str]]
    """Bytes and sha256 by file name."""
    unreadable: dict[str, str]
    """Reason by image name; the record of such an image is black."""


@dataclass(frozen=True)
class Pack:
    """An open pack: a memory map, shared by all processes of a node."""

    folder: Path
    manifest: Manifest
    shards: list[Gray]
    sizes_N2: NDArray[np.int32]
    """Width and height of each image before it was resized; 0 and 0 where it could not be read."""

    def gather(self, rows_N: NDArray[np.int64], out_NHW: Gray) -> None:
        """Copy these records into the first rows of `out_NHW`."""
        per_shard = _records_per_shard(self.manifest.geometry.side)
        for position, row in enumerate(rows_N.tolist()):
            out_NHW[position] = self.shards[row // per_shard][row % per_shard]

    @property
    def sha256(self) -> str:
        """One hash over names and pixels: what a run goes on with must be the same, and old sizes teach it nothing."""
        files = sorted(item for item in self.manifest.files.items() if item[0] != _SIZES)
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def pack_key(names: Sequence[str], paths: Sequence[Path], geometry: Geometry) -> str:
    """A folder name that changes when an image, its name or the geometry does.

    Raises: InputError for images that can't be found or reached.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, asdict(geometry)]).encode())
    problems = []
    for name, path in zip(names, paths, strict=True):
        try:
            stat = path.stat()
        except OSError as problem:
            problems.append(f"{path}: {problem.strerror}")
        else:
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    if problems:
        raise InputError(f"cannot read {len(problems)} images:{listing(problems)}", hint="check --data")
    return digest.hexdigest()[:24]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else builds the pack at `folder` within the block: two runs may share a cache.

    Raises: InputError when the cache can't be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as problem:
        hint = "--cache-dir names another place"
        raise InputError(f"cannot write to `{folder.parent}`: {problem.strerror}", hint=hint) from problem
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(folder: Path, names: Sequence[str], paths: Sequence[Path], geometry: Geometry, *, progress: Progress) -> None:
    """Decode all images into a new pack at `folder`, on all cores; images that can't be read are noted in the manifest.

    The folder appears whole or not at all. The caller holds `locked`.

    Raises: InputError when the cache is too small, which another start would find again, or DICOM can't be read here;
    TryAgainError when it can't be written.
    """
    if any(path.suffix.lower() in DICOM_SUFFIXES for path in paths):
        check_dicom_readable()
    partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}.partial")
    try:
        _sweep(folder)
        partial.mkdir()
        try:
            _write(partial, names, paths, geometry, progress)
            partial.replace(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as problem:
        kind = InputError if problem.errno in {errno.ENOSPC, errno.EDQUOT} else TryAgainError
        raise kind(
            f"cannot write the decoded images to `{folder.parent}`: {str(problem.strerror).lower()} (from `--cache-dir`)",
            hint=f"{len(names) * geometry.side**2 / 2**30:.1f} GiB are needed; --cache-dir names another place",
        ) from problem


def open_pack(folder: Path) -> Pack | None:
    """The pack at `folder`, None when there is none or it is not whole."""
    try:
        content = json.loads((folder / "manifest.json").read_bytes())
        if content["format"] != FORMAT:
            return None
        geometry = Geometry(**content.pop("geometry"))
        manifest = Manifest(geometry=geometry, **content)
        if any((folder / name).stat().st_size != size for name, (size, _) in manifest.files.items()):
            return None
        sizes_N2 = np.frombuffer((folder / _SIZES).read_bytes(), "<i4").reshape(manifest.count, 2)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    shape = (-1, geometry.side, geometry.side)
    shards = [
        np.memmap(folder / name, np.uint8, "r").reshape(shape)
        for name in sorted(manifest.files)
        if name.startswith("shard-")
    ]
    return Pack(folder, manifest, shards, sizes_N2.astype(np.int32))


def to_gray_square(path: Path, geometry: Geometry) -> Gray:
    """The image as side x side 8-bit gray.

    Raises: as `open_gray`; BadImageError also where the picture is too small.
    """
    return _square_and_size(path, geometry)[0]


def _square_and_size(path: Path, geometry: Geometry) -> tuple[Gray, tuple[int, int]]:
    """The same, and the width and height the image had."""
    gray = open_gray(path)
    if min(gray.size) < LEAST_SIDE_PX:
        raise BadImageError(f"it has {gray.width} x {gray.height} pixels, at least {LEAST_SIDE_PX} a side are needed")
    return np.asarray(to_square(gray, geometry)), gray.size


def to_square(gray: Image.Image, geometry: Geometry) -> Image.Image:
    """The gray image as a square record."""
    side = geometry.side
    width, height = gray.size
    if width == height or geometry.fit == "squash":
        return gray.resize((side, side), Image.Resampling.BILINEAR)
    if geometry.fit == "pad":
        scale = side / max(width, height)
        small = gray.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
        square = Image.new("L", (side, side))
        square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
        return square
    # Short side to `side`, then the centre: torchvision's Resize and CenterCrop, to the pixel.
    if width < height:
        gray = gray.resize((side, int(side * height / width)), Image.Resampling.BILINEAR)
    else:
        gray = gray.resize((int(side * width / height), side), Image.Resampling.BILINEAR)
    left, top = round((gray.width - side) / 2), round((gray.height - side) / 2)
    return gray.crop((left, top, left + side, top + side))


def _records_per_shard(side: int) -> int:
    return max(1, SHARD_BYTES // side**2)


def _write(folder: Path, names: Sequence[str], paths: Sequence[Path], geometry: Geometry, progress: Progress) -> None:
    per_shard = _records_per_shard(geometry.side)
    shards = [folder / f"shard-{number:05d}.bin" for number in range(-(-len(paths) // per_shard))]
    for number, shard in enumerate(shards):
        with shard.open("wb") as file:
            file.truncate(min(per_shard, len(paths) - number * per_shard) * geometry.side**2)
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    # spawn: the parent has threads, and forking a process that holds an accelerator is not safe
    workers = min(len(os.sched_getaffinity(0)), max(1, len(paths) // _TASK_IMAGES))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        tasks = [
            pool.submit(_decode, shard, offset, part, geometry)
            for shard, offset, part in _tasks(shards, paths, per_shard)
        ]
        unreadable: dict[Path, str] = {}
        for task in as_completed(tasks):
            sizes, bad = task.result()
            unreadable |= bad
            progress(len(sizes))
        sizes_N2 = np.array([size for task in tasks for size in task.result()[0]], "<i4")
        (folder / _SIZES).write_bytes(sizes_N2.tobytes())
        written = [*shards, folder / "names.txt", folder / _SIZES]
        files = dict(zip((path.name for path in written), pool.map(_size_and_hash, written), strict=True))
    manifest = Manifest(
        format=FORMAT,
        geometry=geometry,
        count=len(paths),
        pillow=PIL.__version__,
        files=files,
        unreadable={name: unreadable[path] for name, path in zip(names, paths, strict=True) if path in unreadable},
    )
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")


def _end_with_parent() -> None:
    """In a process of the pool: end when its parent is killed, for whose next task it would wait for ever."""
    screen()  # decoders quote what files hold
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _tasks(shards: Sequence[Path], paths: Sequence[Path], per_shard: int) -> Iterator[tuple[Path, int, list[Path]]]:
    for number, shard in enumerate(shards):
        in_shard = list(paths[number * per_shard : (number + 1) * per_shard])
        for offset in range(0, len(in_shard), _TASK_IMAGES):
            yield shard, offset, in_shard[offset : offset + _TASK_IMAGES]


def _decode(
    shard: Path, offset: int, paths: list[Path], geometry: Geometry
) -> tuple[list[tuple[int, int]], dict[Path, str]]:
    """Write these images' records from record `offset` of the shard on; the sizes they had, and which could not be read."""
    unreadable = {}
    sizes = [(0, 0)] * len(paths)
    records = np.zeros((len(paths), geometry.side, geometry.side), np.uint8)
    for position, path in enumerate(paths):
        try:
            records[position], sizes[position] = _square_and_size(path, geometry)
        except InputError:  # a package is missing, for all images alike
            raise
        except Exception as problem:  # noqa: BLE001 - a damaged image fails in its decoder in many ways
            if isinstance(problem, OSError) and problem.errno is not None:  # not the image: the disk, the mount, rights
                raise TryAgainError(
                    f"cannot read `{path}`: {problem.strerror}", hint="check --data and who may read it"
                ) from None
            unreadable[path] = str(problem) or type(problem).__name__
    with shard.open("r+b") as file:
        file.seek(offset * geometry.side**2)
        file.write(records.data)
    return sizes, unreadable


def _size_and_hash(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, _sha256(file.read)


def _sha256(read: Callable[[int], bytes]) -> str:
    digest = hashlib.sha256()
    while block := read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what an interrupted build of the same pack left, and the pack itself where it is not whole."""
    if folder.exists():
        shutil.rmtree(folder)
    for left in folder.parent.glob(f".{folder.name}-*.partial"):
        shutil.rmtree(left, ignore_errors=True)
