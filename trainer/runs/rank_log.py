"""What a rank has said, kept in the run's prefix as well: pods go, and their logs with them."""

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
LEAVING_S: Final = 3.0
"""How long the last lines may take on their way."""

MOST_BYTES: Final = 4 << 20
"""Of a log so much is kept, the newest; hundreds of starts."""


class RankLog:
    """One rank's lines, with the time of each; nothing is written before `keep_in`."""

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
        """Note a line; whatever is in it, it stays one."""
        time = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._append([f"{time} {on_one_line(redacted(text, self._environment))}\n".encode()])
        self._changed.set()

    def keep_in(self, storage: Storage) -> None:
        """Write to the run from now on, behind what earlier starts have said there. The run is ours: another's log would be lost."""
        with suppress(AbsentError):
            earlier = storage.read(log_key(self._rank)).splitlines(keepends=True)
            mine = list(self._lines)
            with self._lock:
                self._lines.clear()
                self._bytes = 0
            self._append(earlier)
            self._append(mine)
        self._thread = threading.Thread(target=self._write_often, args=(storage,), name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write the last lines; a bucket that does not take them in seconds does not hold up the end."""
        self._over.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(LEAVING_S)

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
                with suppress(Exception):  # lines that are lost matter less than those to come
                    storage.write(log_key(self._rank), content)
