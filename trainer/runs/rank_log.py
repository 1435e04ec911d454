"""Log of each rank in the run's prefix: it outlives the pods and their logs."""

import os
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Final

from trainer.errors import on_one_line
from trainer.layout import log_key
from trainer.redaction import redacted
from trainer.storage import AbsentError, Storage

WRITE_EVERY_S: Final = 15.0
CLOSE_S: Final = 3.0
"""Time limit for writing the last lines."""

MOST_BYTES: Final = 4 << 20
"""Size of a log, of which the newest lines are kept; enough for hundreds of attempts."""


class RankLog:
    """One rank's lines with their times; nothing is written before `keep_in`."""

    def __init__(self, rank: int, *, environment: Mapping[str, str] = os.environ) -> None:
        self._rank = rank
        self._environment = environment
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, text: str) -> None:
        """Add a line; line breaks in it are escaped."""
        time = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._append([f"{time} {on_one_line(redacted(text, self._environment))}\n".encode()])
        self._changed.set()

    def keep_in(self, storage: Storage) -> None:
        """Start writing to the run, after the lines of earlier attempts. Only call it for a claimed run: another's
        log would be overwritten.
        """
        with suppress(AbsentError):
            earlier = storage.read(log_key(self._rank)).splitlines(keepends=True)
            own = list(self._lines)
            with self._lock:
                self._lines.clear()
                self._bytes = 0
            self._append(earlier)
            self._append(own)
        self._thread = threading.Thread(target=self._write_often, args=(storage,), name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write the last lines; an unresponsive bucket delays the end by `CLOSE_S` at most."""
        self._over.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _append(self, lines: list[bytes]) -> None:
        with self._lock:
            for line in lines:
                self._lines.append(line)
                self._bytes += len(line)
            while self._bytes > MOST_BYTES:
                self._bytes -= len(self._lines.popleft())

    def _write_often(self, storage: Storage) -> None:
        over = False
        while not over:
            over = self._over.wait(WRITE_EVERY_S)
            if self._changed.is_set():
                self._changed.clear()
                with self._lock:
                    content = b"".join(self._lines)
                with suppress(Exception):  # lost lines matter less than those to come
                    storage.write(log_key(self._rank), content)
