"""Checkpoints on their way to the run's prefix, beside training: one thread, and the newest state wins.

At most three states are in memory: one being written, the newest, and the best that the newest has overtaken, because the best is
what the run is scored with. A bucket or a disk that fails does not stop training: it is told, the newest state is kept in a spool on
this node where that has room, and the thread goes on trying.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from trainer.errors import InputError, KnownError, RemoteError, TryAgainError
from trainer.layout import METRICS, state_key
from trainer.runs.checkpoints import Scored, State, commit, manifest_of, prune
from trainer.runs.fallback import Fallback
from trainer.runs.manifest import Manifest, worth
from trainer.storage import Claim, FullError, Storage, UnreachableError

RETRY_S: Final = 5.0
TELL_EVERY_S: Final = 60.0

ROOM_S: Final = 30.0
"""How long the end of a run waits for a disk that is full or refuses: long enough for several tries, and no server that comes back."""

POLL_S: Final = 0.2

Report = Callable[[str], None]


@dataclass(frozen=True)
class _Pending:
    state: State
    epoch: float
    scored: Scored | None = None

    @property
    def worth(self) -> tuple[float, float]:
        """As `manifests.worth`; the least where it was not validated."""
        return worth(self.scored.auroc, self.scored.loss) if self.scored else worth(None, None)


class CheckpointWriter:
    """Commits states, the outcome of their validation, and small files, in a thread of its own."""

    def __init__(
        self,
        storage: Storage,
        fallback: Fallback,
        claim: Claim,
        report: Report,
        *,
        keep_last: int,
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage, self._fallback, self._claim, self._report = storage, fallback, claim, report
        self._keep_last, self._retry_s, self._clock = keep_last, retry_s, clock
        self._changed = threading.Condition()
        self._newest: _Pending | None = None
        self._best: _Pending | None = None
        self._on_its_way: _Pending | None = None
        self._scored: dict[int, Scored] = {}
        self._files: dict[str, bytes] = {}
        self._committed: dict[int, Manifest] = {}
        self._top = worth(None, None)
        self._busy = self._over = self._may_not_delete = False
        self._kept_steps: set[int] = set()
        self._fatal: Exception | None = None
        self._problem: KnownError | None = None
        self._not_kept: KnownError | None = None
        self._told_s = 0.0

    def knows(self, manifests: list[Manifest]) -> None:
        """Take note of what is committed already."""
        self._committed |= {manifest.step: manifest for manifest in manifests}
        self._top = max([self._top, *(worth(m.val_auroc, m.val_loss) for m in manifests)])

    def tidy(self) -> None:
        """Remove what earlier starts have left between two steps of their own pruning; before `working`."""
        self._prune()

    def offer(self, state: State, epoch: float) -> None:
        """Publish a state, in place of one that still waits: unless that one is the best so far."""
        with self._changed:
            waiting = self._newest
            if waiting is not None and waiting.scored is not None and self._is_top(waiting):
                self._best = waiting
            self._newest = _Pending(state, epoch)
            self._changed.notify_all()

    def validated(self, step: int, scored: Scored) -> None:
        """Publish what validation has found of the state of this step, which was offered or is committed."""
        with self._changed:
            if self._newest is not None and self._newest.state.step == step:
                self._newest = replace(self._newest, scored=scored)
            else:
                self._scored[step] = scored
            self._changed.notify_all()

    def put(self, key: str, content: bytes) -> None:
        """Write a small file, in place of what still waits under this key."""
        with self._changed:
            self._files[key] = content
            self._changed.notify_all()

    @property
    def has_failed(self) -> bool:
        """Whether the run may not go on: `check` says why."""
        return self._fatal is not None

    def check(self) -> None:
        """Raises: KnownError when another has become the run's writer; else what has ended the thread."""
        if self._fatal is not None:
            raise self._fatal

    def flush(self, gives_up: Callable[[], bool]) -> None:
        """Wait until all is in place; for a disk that takes nothing `ROOM_S` at most.

        Raises: TryAgainError when it is not once `gives_up` says so; RemoteError where the bucket has refused it, FullError or another
        InputError where the disk has; as `check`.
        """
        since_s = self._clock()
        while not self._is_lost() and self._has_work():
            disk_waited_s = self._clock() - since_s if isinstance(self._problem, InputError) else 0.0
            if gives_up() or disk_waited_s >= ROOM_S:
                self._keep_newest()
                raise self._not_in_place()
            with self._changed:
                self._changed.wait(POLL_S)
        self.check()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Publish within the block; what still waits at its end is left."""
        thread = threading.Thread(target=self._work, name="publisher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            thread.join(POLL_S)

    def _is_top(self, pending: _Pending) -> bool:
        rivals = [self._top, *([self._best.worth] if self._best else [])]
        return pending.worth > max(rivals)

    def _has_work(self) -> bool:
        return bool(self._busy or self._newest or self._best or self._scored or self._files)

    def _not_in_place(self) -> KnownError:
        problem = self._problem
        kind: type[KnownError] = TryAgainError
        if isinstance(problem, InputError):
            kind = FullError if isinstance(problem, FullError) else InputError
        elif isinstance(problem, RemoteError) and not isinstance(problem, UnreachableError):
            kind = RemoteError
        reason = str(problem.args[0]) if problem else "the bucket is too slow"
        first = "make room there; " if kind is FullError else ""
        return kind(f"cannot commit all that was trained: {reason}", hint=f"{first}{self._continues()}")

    def _continues(self) -> str:
        """From which step the same command would continue, and what of this run is lost then."""
        in_place, kept = max(self._committed, default=0), self._fallback.newest_step() or 0
        if kept > in_place:
            where = f"on this node continues from step {kept}, which is kept in `{self._fallback.folder}`"
            return f"the same command {where}{self._lost()}"
        where = (
            f"continues from step {in_place}, the newest that is committed" if in_place else "starts from the beginning"
        )
        return f"the same command {where}{self._lost()}"

    def _lost(self) -> str:
        """What could not be kept on this node either, as the end of a sentence; nothing when all that waits is kept."""
        if self._not_kept is None:
            return ""
        return f"; what was trained since is not kept on this node either: {self._not_kept.args[0]}"

    def _work(self) -> None:
        while (act := self._next_act()) is not None:
            try:
                act()
                self._went_well(published=act in (self._publish_best, self._publish_newest))
            except KnownError as problem:
                if not self._is_lost():
                    self._went_wrong(problem)
                    self._keep_newest()
            except Exception as bug:  # noqa: BLE001 - a thread that ends without a word would train on without checkpoints
                self._fatal = bug
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
            if self._fatal is not None:
                return
            if self._problem is not None:
                with self._changed:
                    self._changed.wait_for(lambda: self._over, self._retry_s)

    def _next_act(self) -> Callable[[], None] | None:
        """What to do next, once there is something; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._has_work())
            if self._over:
                return None
            self._busy = True
            if self._scored:
                return self._commit_scored
            if self._best is not None:
                return self._publish_best
            return self._publish_newest if self._newest is not None else self._write_file

    def _keep_newest(self) -> None:
        """Keep the newest state on this node if there is room, whatever else could not be written: training would go on from it."""
        with self._changed:
            pending = self._newest or self._on_its_way
        if pending is not None and pending.state.step not in self._kept_steps:
            content = pending.state.to_bytes()
            self._keep(manifest_of(content, pending.state, epoch=pending.epoch, scored=pending.scored), content)

    def _publish_best(self) -> None:
        with self._changed:
            pending = self._best
        assert pending is not None
        self._publish(pending)
        with self._changed:
            if self._best is pending:  # else a better one has taken its place meanwhile
                self._best = None

    def _publish_newest(self) -> None:
        with self._changed:
            pending, self._newest = self._newest, None
            self._on_its_way = pending
        assert pending is not None
        try:
            self._publish(pending)
        except KnownError:
            self._put_back(pending)
            raise
        finally:
            self._on_its_way = None

    def _put_back(self, pending: _Pending) -> None:
        """Keep a state that could not be published, unless a newer one has come and this is not the best."""
        with self._changed:
            pending = replace(pending, scored=self._scored.pop(pending.state.step, pending.scored))
            if self._newest is None:
                self._newest = pending
            elif self._is_top(pending):
                self._best = pending

    def _publish(self, pending: _Pending) -> None:
        """Write a state, commit it, and remove what it makes superfluous."""
        content = pending.state.to_bytes()
        step = pending.state.step
        manifest = manifest_of(content, pending.state, epoch=pending.epoch, scored=pending.scored)
        scored: Scored | None = None
        try:
            self._check_claim()  # another writer's state of this step must not be replaced
            self._storage.write(state_key(step), content)
            with self._changed:
                scored = self._scored.pop(step, None)
            if scored is not None:
                manifest = replace(manifest, val_auroc=scored.auroc, val_loss=scored.loss, validated=True)
            self._commit(manifest)
        except KnownError:
            if scored is not None:
                self.validated(step, scored)
            if not self._is_lost():
                self._keep(manifest, content)
            raise
        self.knows([manifest])
        self._fallback.clear()
        self._kept_steps.clear()
        self._prune()

    def _commit_scored(self) -> None:
        """Write the manifests of states that were committed before they were validated."""
        with self._changed:
            step, scored = next(iter(self._scored.items()))
        before = self._committed.get(step)
        if before is not None:
            manifest = replace(before, val_auroc=scored.auroc, val_loss=scored.loss, validated=True)
            self._commit(manifest)
            self.knows([manifest])
        with self._changed:
            self._scored.pop(step, None)

    def _commit(self, manifest: Manifest) -> None:
        """Commit a state after the files that were put before: who goes on from it does not write them again."""
        while self._files:
            self._write_file()
        self._check_claim()
        commit(self._storage, manifest)

    def _keep(self, manifest: Manifest, content: bytes) -> None:
        """Keep the state on this node; whether that worked is in `_not_kept`."""
        with self._changed:
            metrics = self._files.get(METRICS)
        try:
            self._fallback.keep(manifest, content, metrics)
        except KnownError as problem:
            self._not_kept = problem
        else:
            self._not_kept = None
            self._kept_steps.add(manifest.step)

    def _write_file(self) -> None:
        with self._changed:
            key, content = next(iter(self._files.items()))
        self._check_claim()
        self._storage.write(key, content)
        with self._changed:
            if self._files.get(key) is content:
                del self._files[key]

    def _prune(self) -> None:
        try:
            self._claim.check()  # another writer's checkpoints would be superfluous to this one
            self._committed = prune(self._storage, self._committed, keep_last=self._keep_last)
        except UnreachableError:  # the next checkpoint tries again
            return
        except KnownError as problem:
            if not self._may_not_delete:
                self._may_not_delete = True
                self._report(f"old checkpoints stay: {problem.args[0]}")

    def _check_claim(self) -> None:
        if self._over:  # the claim is about to be given back
            raise TryAgainError("the run ends")
        try:
            self._claim.check()
        except RemoteError:  # who could not ask was not replaced
            raise
        except KnownError as problem:
            self._fatal = problem
            raise

    def _is_lost(self) -> bool:
        """Whether this process may not write to the run any more; from then on it keeps no state on this node either.

        A write to a folder that was removed fails before the claim is checked again, so each failed write asks here.
        """
        problem = self._claim.lost()
        if self._fatal is None and problem is not None:
            self._fatal = problem
        return self._fatal is not None

    def _went_well(self, *, published: bool) -> None:
        """Note what was written; a small file may find room where a state that waits does not."""
        if self._problem is not None and (published or not (self._newest or self._best)):
            self._problem = self._not_kept = None
            self._report("checkpoints can be written again")

    def _went_wrong(self, problem: KnownError) -> None:
        if self._fatal is not None or self._over:  # training does not go on, and its end tells why
            return
        now_s = self._clock()
        if self._problem is None or now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            self._report(f"training goes on without checkpoints for now: {problem.args[0]}{self._lost()}")
        self._problem = problem
