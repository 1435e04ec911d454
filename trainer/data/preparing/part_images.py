"""The images of a part in the order of their records, read ahead where they are objects of a bucket."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from trainer.data.decode import ImageBytes, ImageSource
from trainer.data.preparing.archives import Ignored
from trainer.data.preparing.image_names import ImageOf
from trainer.data.preparing.plan import PlannedPart
from trainer.data.preparing.sources import ImageFile
from trainer.limits import IMAGE_FILE_BYTES, LimitError
from trainer.storage import Storage

_THREADS: Final = 16
"""Objects read at a time. Source: with 20 ms to the bucket, 16 threads are 8 times as fast as one, 32 little faster."""

_AHEAD_BYTES: Final = 64 << 20
"""Bytes of objects read ahead."""

Images = Generator[tuple[str, ImageSource]]


def images_of(
    part: PlannedPart,
    storage: Storage,
    *,
    image_of: ImageOf,
    in_files: frozenset[str],
    ignored: Ignored,
) -> Images:
    """Name in the label files and source of each image. Raises: as `Archive.images`; RemoteError."""
    if part.archive is not None:
        yield from part.archive.images(image_of, in_files, ignored)
    elif part.files and part.files[0][1].stat is not None:
        yield from _objects(part.files, storage)
    else:
        yield from ((name, Path(file.place)) for name, file in part.files)


def _objects(files: Sequence[tuple[str, ImageFile]], storage: Storage) -> Images:
    """The objects' content, in order, with several requests at a time."""
    ahead: deque[tuple[str, int, Future[ImageBytes]]] = deque()
    ahead_bytes = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for name, file in files:
                size_bytes = _size_of(file)
                while ahead and (len(ahead) == _THREADS or ahead_bytes + size_bytes > _AHEAD_BYTES):
                    first, first_bytes, content = ahead.popleft()
                    ahead_bytes -= first_bytes
                    yield first, content.result()
                ahead.append((name, size_bytes, pool.submit(_read, storage, file)))
                ahead_bytes += size_bytes
            while ahead:
                first, _, content = ahead.popleft()
                yield first, content.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _size_of(file: ImageFile) -> int:
    return 0 if file.stat is None else min(file.stat.size_bytes, IMAGE_FILE_BYTES)


def _read(storage: Storage, file: ImageFile) -> ImageBytes:
    """Content of an object; without any where it is larger than an image."""
    try:
        return ImageBytes(file.place, storage.read(file.place, most_bytes=IMAGE_FILE_BYTES))
    except LimitError:
        return ImageBytes(file.place, b"", IMAGE_FILE_BYTES + 1)
