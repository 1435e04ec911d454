"""Selection of the committed checkpoints that a run keeps, and deletion of the others."""

from collections.abc import Callable, Iterable

from trainer.errors import KnownError
from trainer.runs.checkpoints import prune
from trainer.runs.manifest import Manifest, worth
from trainer.storage import Claim, Storage, UnreachableError


class Retention:
    """The committed checkpoints of a run; only the newest and the best are kept."""

    def __init__(self, storage: Storage, claim: Claim, report: Callable[[str], None], *, keep_last: int) -> None:
        self._storage, self._claim, self._report, self._keep_last = storage, claim, report, keep_last
        self._committed: dict[int, Manifest] = {}
        self._top = worth(None, None)
        self._has_reported = False

    @property
    def top(self) -> tuple[float, float]:
        """The highest `manifest.worth` of all checkpoints so far."""
        return self._top

    @property
    def newest_step(self) -> int:
        """Step of the newest committed checkpoint, 0 without any."""
        return max(self._committed, default=0)

    def get(self, step: int) -> Manifest | None:
        """The manifest of a committed checkpoint."""
        return self._committed.get(step)

    def add(self, manifests: Iterable[Manifest]) -> None:
        """Record committed checkpoints, or new manifests of known ones."""
        for manifest in manifests:
            self._committed[manifest.step] = manifest
            self._top = max(self._top, worth(manifest.val_auroc, manifest.val_loss))

    def prune(self) -> None:
        """Delete all but the newest and the best; a failure is reported once and training continues."""
        try:
            self._claim.check()  # otherwise it would delete another writer's checkpoints as surplus
            self._committed = prune(self._storage, self._committed, keep_last=self._keep_last)
        except UnreachableError:  # the next checkpoint tries again
            return
        except KnownError as problem:
            if not self._has_reported:
                self._has_reported = True
                self._report(f"old checkpoints are kept: {problem.args[0]}")
