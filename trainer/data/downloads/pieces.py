"""Content of a file on a server in its order, while several connections fetch the next pieces."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Final

from trainer.data.downloads.http_source import HttpSource, RemoteFile, StoppedError

PIECE_BYTES: Final = 8 << 20
"""Bytes of one request. Parts of a multipart upload have at least 5 MiB."""

_AHEAD: Final = 2
"""Pieces in memory for each connection, so that one slow connection does not stop the others at once."""


def pieces(
    source: HttpSource,
    file: RemoteFile,
    *,
    first: int = 0,
    connections: int,
    progress: Callable[[int], object],
    piece_bytes: int = PIECE_BYTES,
) -> Generator[bytes]:
    """The file's bytes from offset `first` on, in pieces of `piece_bytes`, the last one shorter.

    `progress` gets the number of further bytes, from any thread. At most twice as many pieces as connections are in memory.

    Raises: as `HttpSource.chunks`.
    """
    stopped = Event()

    def fetched(begin: int) -> bytes:
        content = bytearray()
        for chunk in source.chunks(file, begin, min(begin + piece_bytes, file.size_bytes), stopped=stopped):
            if stopped.is_set():
                raise StoppedError
            progress(len(chunk))
            content += chunk
        return bytes(content)

    if not file.has_ranges:
        yield from _grouped(source.chunks(file, first, file.size_bytes), piece_bytes, progress)
        return
    begins = iter(range(first, file.size_bytes, piece_bytes))
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(connections) as pool:
        try:
            while True:
                while len(pending) < _AHEAD * connections and (begin := next(begins, None)) is not None:
                    pending.append(pool.submit(fetched, begin))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _grouped(chunks: Iterator[bytes], piece_bytes: int, progress: Callable[[int], object]) -> Iterator[bytes]:
    piece = bytearray()
    for chunk in chunks:
        progress(len(chunk))
        piece += chunk
        while len(piece) >= piece_bytes:
            yield bytes(piece[:piece_bytes])
            del piece[:piece_bytes]
    if piece:
        yield bytes(piece)
