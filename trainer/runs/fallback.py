"""Local fallback for states that could not be written to the run's prefix; a worker restarted on this node finds them.

Kept are the newest state, from which training continues, and the best before it, with which the run may be evaluated.
"""

import hashlib
import json
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from trainer.errors import InputError, KnownError
from trainer.layout import CHECKPOINTS, METRICS, committed_step, manifest_key, state_key
from trainer.runs.checkpoints import commit, read_state, worth_keeping
from trainer.runs.manifest import Manifest, committed
from trainer.storage import AbsentError, LocalStorage, Storage
from trainer.storage.cache_folder import cache_folder, cached_files
from trainer.storage.files import whole_name

RUN: Final = "run.json"


class Fallback:
    """States of one run on this node's disk. At the end of a run two threads use it: the writer's, and the one that waits for it."""

    def __init__(self, cache: Path, url: str, born_s: float) -> None:
        self._cache, self._names = cache, ("unpublished", hashlib.sha256(url.encode()).hexdigest()[:16])
        self.folder = cache.joinpath(*self._names)
        self._storage: Storage = LocalStorage(str(self.folder))
        self._run = json.dumps({"url": url, "born_s": born_s}).encode()
        self._is_empty = False
        self._lock = threading.RLock()
        """Held while states are kept or removed."""
        self.kept_steps: set[int] = set()
        """Steps given to `try_keep` since the last `clear`, and kept or surplus."""
        self.problem: KnownError | None = None
        """Why the last `try_keep` failed."""

    def try_keep(self, manifest: Manifest, content: bytes, metrics: bytes | None = None) -> None:
        """As `keep`; a failure is recorded in `problem`."""
        with self._lock:
            try:
                self.keep(manifest, content, metrics)
            except KnownError as problem:
                self.problem = problem
            else:
                self.problem = None
                self.kept_steps.add(manifest.step)

    def keep(self, manifest: Manifest, content: bytes, metrics: bytes | None = None) -> None:
        """Keep this state if it is the newest or the best, with the metrics.jsonl that could not be written.

        Raises: KnownError when it could not be kept, as on a full disk; earlier states stay.
        """
        self._check_own(make=True)
        if not self._is_of_this_run():
            self.clear()
        before = committed(self._storage)
        others = [one for one in before if one.step != manifest.step]
        worth = worth_keeping([*others, manifest], keep_last=1)
        if manifest in before or manifest.step not in worth:
            return
        self._is_empty = False
        self._storage.write(RUN, self._run)
        self._storage.write(state_key(manifest.step), content)
        if metrics is not None:
            self._storage.write(METRICS, metrics)
        else:  # it has been written to the prefix
            self._storage.delete(METRICS)
        commit(self._storage, manifest)
        for other in others:
            if other.step not in worth:
                self._remove(other)

    def newest_step(self) -> int | None:
        """The newest step kept for this run, None without any."""
        try:
            self._check_own()
            kept = committed(self._storage) if self._is_of_this_run() else []
        except KnownError:
            return None
        return max((manifest.step for manifest in kept), default=None)

    def clear(self) -> None:
        """Remove the kept states: the run's prefix has them, or newer ones. Also removes partial files of killed attempts.

        Only files written by this class are removed; folders with other files stay.
        """
        with self._lock:
            self.kept_steps.clear()
            if self._is_empty:
                return
            with suppress(KnownError, OSError):
                self._check_own()
                files = cached_files(self.folder) if self.folder.is_dir() else ()
                ours = [key for key, status in files if stat.S_ISREG(status.st_mode) and _is_ours(key)]
                # A checkpoint manifest is deleted before its state: no manifest must name a missing state.
                for key in sorted(ours, key=lambda key: committed_step(key) is None):
                    self._storage.delete(key)
                for folder in (self.folder / CHECKPOINTS, self.folder):
                    if folder.is_dir():
                        folder.rmdir()
            self._is_empty = not self.folder.exists()

    def hand_over(self, storage: Storage, newest_step: int) -> list[int]:
        """Commit the kept states to the run's prefix if they are of this run and newer; returns their steps.

        Raises: KnownError when the prefix cannot be written.
        """
        newer = [(manifest, content) for manifest, content in self._kept() if manifest.step > newest_step]
        if newer:
            with suppress(AbsentError):
                storage.write(METRICS, self._storage.read(METRICS))
        for manifest, content in newer:
            storage.write(state_key(manifest.step), content)
            commit(storage, manifest)
        self.clear()
        return [manifest.step for manifest, _ in newer]

    def _check_own(self, *, make: bool = False) -> None:
        """Raises: InputError when the folder, or one in it, is a link or another user's."""
        cache_folder(self._cache, *self._names, make=make)
        for name, status in cached_files(self.folder) if self.folder.is_dir() else ():
            if stat.S_ISLNK(status.st_mode):
                raise InputError(f"cannot use `{self.folder / name}` as a cache: it is a link", hint="remove the link")

    def _is_of_this_run(self) -> bool:
        try:
            return self._storage.read(RUN) == self._run
        except AbsentError:
            return False

    def _kept(self) -> list[tuple[Manifest, bytes]]:
        try:
            self._check_own()
            if not self._is_of_this_run():
                return []
            return [(one, read_state(self._storage, one)) for one in committed(self._storage)]
        except InputError:
            return []

    def _remove(self, old: Manifest) -> None:
        self._storage.delete(manifest_key(old.step))
        self._storage.delete(state_key(old.step))


def _is_ours(key: str) -> bool:
    """Whether this class writes a file of this name, or a partial one."""
    folder, slash, name = key.rpartition("/")
    name = whole_name(name) or name
    if not folder:
        return name in {RUN, METRICS}
    return name in {"state.pt", "manifest.json"} and committed_step(f"{folder}{slash}manifest.json") is not None
