"""One part of a data set: its images decoded by several processes, its records written in order."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from trainer.data.decode import ImageBytes, ImageSource
from trainer.data.packs.decoding import Decoded, decode_images
from trainer.data.packs.records import Geometry, Gray
from trainer.data.preparing.archives import Ignored
from trainer.data.preparing.image_names import ImageOf
from trainer.data.preparing.part_images import images_of
from trainer.data.preparing.part_record import PartRecord
from trainer.data.preparing.plan import PlannedPart
from trainer.data.preparing.shard_writer import ShardWriter, shard_writer
from trainer.errors import TryAgainError
from trainer.storage import Storage

_TASK_IMAGES: Final = 16
_TASK_BYTES: Final = 4 << 20
"""Images, and bytes of their files or records, that a decoder gets at once."""

_WAITING_BYTES: Final = 48 << 20
"""Bytes of image files that wait for decoders, of each part."""


class Numbers:
    """Numbers of the images that are being decoded, unique over all parts, to name the one at which a decoder ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._names: dict[int, list[str]] = {}

    def begin(self, names: list[str]) -> int:
        """Number of the first of these images; the others follow."""
        with self._lock:
            first, self._next = self._next, self._next + len(names)
            self._names[first] = names
            return first

    def end(self, first: int) -> None:
        """Forget the images of a `begin`."""
        with self._lock:
            del self._names[first]

    def image_of(self, number: int) -> str:
        """The image with this number."""
        with self._lock:
            for first, names in self._names.items():
                if first <= number < first + len(names):
                    return names[number - first]
        return f"image {number}"


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What the parts of a data set have in common while they are prepared."""

    geometry: Geometry
    data: Storage
    out: Storage
    image_of: ImageOf
    in_files: frozenset[str]
    """Images that are files, and are not taken from archives."""
    pool: Executor
    """Of decoders."""
    tasks_ahead: int
    """Tasks that wait or run, of each part."""
    numbers: Numbers
    stopped: threading.Event
    """Set when another part has failed."""
    advance: Callable[[int], object]
    """Called with the number of further images done."""


@dataclass
class _Task:
    names: list[str]
    size_bytes: int
    number: int
    result: Future[tuple[Gray, Decoded]]


@dataclass
class _Done:
    """Images of a part so far."""

    images: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    greatest: list[int] = field(default_factory=list)
    turned: int = 0

    def add(self, names: list[str], decoded: Decoded) -> None:
        self.images += names
        self.sizes += decoded.sizes
        self.unreadable |= {names[position]: reason for position, reason in decoded.unreadable.items()}
        self.greatest += [max(decoded.greatest)] if decoded.greatest else []
        self.turned += decoded.turned


def prepare_part(part: PlannedPart, workshop: Workshop) -> tuple[PartRecord, Ignored]:
    """Decode the images of a part and write its shards; the record, not yet written, and what was not read.

    Raises: InputError for a damaged archive, an image that is in it twice, and as `decode_images`; RemoteError;
    TryAgainError when another part has failed.
    """
    ignored, done = Ignored(), _Done()
    source_sha256 = part.source_sha256()
    waiting: deque[_Task] = deque()
    waiting_bytes = 0
    images = images_of(part, workshop.data, image_of=workshop.image_of, in_files=workshop.in_files, ignored=ignored)
    with shard_writer(workshop.out, part.number, workshop.geometry.side) as shards, closing(images):
        for names, sources, size_bytes in _batches(images, workshop.geometry.side**2):
            while waiting and (len(waiting) >= workshop.tasks_ahead or waiting_bytes + size_bytes > _WAITING_BYTES):
                waiting_bytes -= _take(waiting, shards, done, workshop)
            waiting.append(_submitted(names, sources, size_bytes, workshop))
            waiting_bytes += size_bytes
        while waiting:
            _take(waiting, shards, done, workshop)
    record = PartRecord(
        name=part.name,
        source_sha256=source_sha256,
        shards=tuple(shards.shards),
        images=tuple(done.images),
        sizes=tuple(done.sizes),
        checksums=tuple(shards.checksums),
        unreadable=done.unreadable,
        greatest=max(done.greatest, default=None),
        turned=done.turned,
        unlabelled=ignored.unlabelled,
    )
    return record, ignored


def _batches(
    images: Iterator[tuple[str, ImageSource]], record_bytes: int
) -> Iterator[tuple[list[str], list[ImageSource], int]]:
    """Names and sources of some images, and the bytes that they hold."""
    most = max(1, min(_TASK_IMAGES, _TASK_BYTES // record_bytes))
    names: list[str] = []
    sources: list[ImageSource] = []
    size_bytes = 0
    for name, source in images:
        names.append(name)
        sources.append(source)
        size_bytes += len(source.content) if isinstance(source, ImageBytes) else 0
        if len(names) == most or size_bytes >= _TASK_BYTES:
            yield names, sources, size_bytes
            names, sources, size_bytes = [], [], 0
    if names:
        yield names, sources, size_bytes


def _submitted(names: list[str], sources: list[ImageSource], size_bytes: int, workshop: Workshop) -> _Task:
    _check_running(workshop)
    number = workshop.numbers.begin(names)
    return _Task(names, size_bytes, number, workshop.pool.submit(decode_images, number, sources, workshop.geometry))


def _check_running(workshop: Workshop) -> None:
    if workshop.stopped.is_set():
        raise TryAgainError("cannot continue: another part has failed")


def _take(waiting: deque[_Task], shards: ShardWriter, done: _Done, workshop: Workshop) -> int:
    """Append the records of the first waiting task; the bytes that it held."""
    _check_running(workshop)
    task = waiting[0]
    records_NSS, decoded = task.result.result()
    waiting.popleft()
    workshop.numbers.end(task.number)
    shards.add(records_NSS)
    done.add(task.names, decoded)
    workshop.advance(len(task.names))
    return task.size_bytes
