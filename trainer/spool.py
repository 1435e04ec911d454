"""States that could not be written to the run's prefix, on this node's disk: a worker that is started again here finds them.

The newest, and the best of those before it: with the one training goes on, with the other the run may have to be scored.
"""

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from trainer.checkpoint import commit, read_state, worth_keeping
from trainer.errors import InputError, KnownError
from trainer.layout import METRICS, manifest_key, state_key
from trainer.manifests import Manifest, committed
from trainer.storage import AbsentError, LocalStorage, Storage

RUN: Final = "run.json"


class Spool:
    """A place for such states of one run."""

    def __init__(self, cache: Path, url: str, born_s: float) -> None:
        self._folder = cache / "unpublished" / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._storage: Storage = LocalStorage(str(self._folder))
        self._run = json.dumps({"url": url, "born_s": born_s}).encode()
        self._is_empty = False

    def keep(self, manifest: Manifest, content: bytes, metrics: bytes | None = None) -> None:
        """Keep this state if it is the newest or the best, with the metrics.jsonl that could not be written before it.

        A disk that is full keeps none, and training goes on.
        """
        with suppress(KnownError):
            if not self._is_of_this_run():
                self.clear()
            before = committed(self._storage)
            others = [one for one in before if one.step != manifest.step]
            worth = worth_keeping([*others, manifest], keep_last=1)
            if manifest in before or manifest.step not in worth:
                return
            self._is_empty = False
            self._storage.write(RUN, self._run)
            if metrics is not None:
                self._storage.write(METRICS, metrics)
            else:  # the prefix has it by now
                self._storage.delete(METRICS)
            self._storage.write(state_key(manifest.step), content)
            commit(self._storage, manifest)
            for other in others:
                if other.step not in worth:
                    self._remove(other)

    def clear(self) -> None:
        """Forget what was kept: the run's prefix has it, or something newer. What a killed start has half-written goes too."""
        if not self._is_empty:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._is_empty = not self._folder.exists()

    def hand_over(self, storage: Storage, newest_step: int) -> list[int]:
        """Commit what was kept to the run's prefix, where it is of this run and newer; its steps.

        Raises: KnownError when the prefix can't be written.
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

    def _is_of_this_run(self) -> bool:
        try:
            return self._storage.read(RUN) == self._run
        except AbsentError:
            return False

    def _kept(self) -> list[tuple[Manifest, bytes]]:
        try:
            if not self._is_of_this_run():
                return []
            return [(one, read_state(self._storage, one)) for one in committed(self._storage)]
        except InputError:
            return []

    def _remove(self, old: Manifest) -> None:
        self._storage.delete(manifest_key(old.step))
        self._storage.delete(state_key(old.step))
