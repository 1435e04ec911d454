"""The newest state that could not be written to the run's prefix, on this node's disk: a worker that is started again here finds it."""

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from trainer.checkpoint import commit, read_state
from trainer.errors import InputError, KnownError
from trainer.layout import METRICS, manifest_key, state_key
from trainer.manifests import Manifest, committed
from trainer.storage import AbsentError, LocalStorage, Storage

RUN: Final = "run.json"


class Spool:
    """A place for one state of one run."""

    def __init__(self, cache: Path, url: str, born_s: float) -> None:
        self._folder = cache / "unpublished" / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._storage: Storage = LocalStorage(str(self._folder))
        self._run = json.dumps({"url": url, "born_s": born_s}).encode()
        self._is_empty = False

    def keep(self, manifest: Manifest, content: bytes, metrics: bytes | None = None) -> None:
        """Keep this state in place of the one before, with the metrics.jsonl that could not be written before it.

        A disk that is full keeps none, and training goes on.
        """
        with suppress(KnownError):
            if not self._is_of_this_run():
                self.clear()
            before = committed(self._storage)
            if any(one.step >= manifest.step for one in before):
                return
            self._is_empty = False
            self._storage.write(RUN, self._run)
            if metrics is not None:
                self._storage.write(METRICS, metrics)
            else:
                self._storage.delete(METRICS)
            self._storage.write(state_key(manifest.step), content)
            commit(self._storage, manifest)
            for old in before:
                self._remove(old)

    def clear(self) -> None:
        """Forget what was kept: the run's prefix has it, or something newer. What a killed start has half-written goes too."""
        if not self._is_empty:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._is_empty = not self._folder.exists()

    def hand_over(self, storage: Storage, newest_step: int) -> int | None:
        """Commit what was kept to the run's prefix, where it is of this run and newer; its step.

        Raises: KnownError when the prefix can't be written.
        """
        for manifest, content in self._kept():
            if manifest.step > newest_step:
                with suppress(AbsentError):
                    storage.write(METRICS, self._storage.read(METRICS))
                storage.write(state_key(manifest.step), content)
                commit(storage, manifest)
                self.clear()
                return manifest.step
        self.clear()
        return None

    def _is_of_this_run(self) -> bool:
        try:
            return self._storage.read(RUN) == self._run
        except AbsentError:
            return False

    def _kept(self) -> list[tuple[Manifest, bytes]]:
        try:
            if not self._is_of_this_run():
                return []
            return [(one, read_state(self._storage, one)) for one in reversed(committed(self._storage))]
        except InputError:
            return []

    def _remove(self, old: Manifest) -> None:
        self._storage.delete(manifest_key(old.step))
        self._storage.delete(state_key(old.step))
