"""Uploads checkpoints to the run's prefix in a background thread; a newer state replaces one that is still queued.

At most three states are in memory: one being uploaded, the newest, and the best that a newer one has replaced, because the run is
evaluated with the best. A failing bucket or disk does not stop training: the failure is logged, the newest state is kept on this
node if there is room (`fallback`), and the thread retries.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from trainer.errors import InputError, KnownError, RemoteError, TryAgainError
from trainer.layout import METRICS, state_key
from trainer.runs.checkpoints import Scored, State, commit, manifest_of
from trainer.runs.fallback import Fallback
from trainer.runs.manifest import Manifest, worth
from trainer.runs.retention import Retention
from trainer.storage import Claim, FullError, Storage, UnreachableError

RETRY_S: Final = 5.0
REPORT_EVERY_S: Final = 60.0

DISK_RETRY_S: Final = 30.0
"""How long the end of a run retries a full or failing disk: several attempts, because a disk does not recover by itself as a server does."""

POLL_S: Final = 0.2

Report = Callable[[str], None]


@dataclass(frozen=True)
class _Pending:
    state: State
    epoch: float
    scored: Scored | None = None

    @property
    def worth(self) -> tuple[float, float]:
        """As `manifest.worth`; the lowest without validation."""
        return worth(self.scored.auroc, self.scored.loss) if self.scored else worth(None, None)


class CheckpointWriter:
    """Uploads and commits states, their validation scores and small files, in a background thread."""

    def __init__(
        self,
        storage: Storage,
        fallback: Fallback,
        claim: Claim,
        retention: Retention,
        report: Report,
        *,
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage, self._fallback, self._claim, self._report = storage, fallback, claim, report
        self._retention, self._retry_s, self._clock = retention, retry_s, clock
        self._changed = threading.Condition()
        self._newest: _Pending | None = None
        self._best: _Pending | None = None
        self._uploading: _Pending | None = None
        self._scored: dict[int, Scored] = {}
        self._files: dict[str, bytes] = {}
        self._busy = self._closing = False
        self._fatal: BaseException | None = None
        self._problem: KnownError | None = None
        self._reported_s = 0.0

    def queue_state(self, state: State, epoch: float) -> None:
        """Queue a state for upload. It replaces a queued one, unless that is the best so far."""
        with self._changed:
            waiting = self._newest
            if waiting is not None and waiting.scored is not None and self._is_top(waiting):
                self._best = waiting
            self._newest = _Pending(state, epoch)
            self._changed.notify_all()

    def queue_scores(self, step: int, scored: Scored) -> None:
        """Queue the validation scores of a step whose state was queued or is committed."""
        with self._changed:
            if self._newest is not None and self._newest.state.step == step:
                self._newest = replace(self._newest, scored=scored)
            else:
                self._scored[step] = scored
            self._changed.notify_all()

    def queue_file(self, key: str, content: bytes) -> None:
        """Queue a small file. It replaces a queued one of the same key."""
        with self._changed:
            self._files[key] = content
            self._changed.notify_all()

    @property
    def has_failed(self) -> bool:
        """Whether the run must stop: `raise_if_failed` raises the reason."""
        return self._fatal is not None

    def raise_if_failed(self) -> None:
        """Raises: KnownError when another job has become the run's writer; else the exception that ended the thread."""
        if self._fatal is not None:
            raise self._fatal

    def flush(self, should_give_up: Callable[[], bool]) -> None:
        """Wait until the queue is empty, for a failing disk `DISK_RETRY_S` at most.

        Raises: TryAgainError when it is not and `should_give_up` returns true; RemoteError when the bucket refused a request, FullError
        or another InputError when the disk failed; as `raise_if_failed`.
        """
        since_s = self._clock()
        while not self._is_lost() and self._has_work():
            disk_waited_s = self._clock() - since_s if isinstance(self._problem, InputError) else 0.0
            if should_give_up() or disk_waited_s >= DISK_RETRY_S:
                self._keep_newest()
                raise self._not_uploaded()
            with self._changed:
                self._changed.wait(POLL_S)
        self.raise_if_failed()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the thread within the block; what is queued at its end is not uploaded."""
        thread = threading.Thread(target=self._work, name="checkpoint-writer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            thread.join(POLL_S)

    def _is_top(self, pending: _Pending) -> bool:
        rivals = [self._retention.top, *([self._best.worth] if self._best else [])]
        return pending.worth > max(rivals)

    def _has_work(self) -> bool:
        return bool(self._busy or self._newest or self._best or self._scored or self._files)

    def _not_uploaded(self) -> KnownError:
        problem = self._problem
        kind: type[KnownError] = TryAgainError
        if isinstance(problem, InputError):
            kind = FullError if isinstance(problem, FullError) else InputError
        elif isinstance(problem, RemoteError) and not isinstance(problem, UnreachableError):
            kind = RemoteError
        reason = str(problem.args[0]) if problem else "the output is too slow"
        first = "free space on that disk; " if kind is FullError else ""
        return kind(f"cannot save all training progress: {reason}", hint=f"{first}{self._continues()}")

    def _continues(self) -> str:
        """From which step the same command would continue, and what would be lost."""
        committed, kept = self._retention.newest_step, self._fallback.newest_step() or 0
        if kept > committed:
            where = f"on this node continues from step {kept}, which is kept in `{self._fallback.folder}`"
            return f"the same command {where}{self._unsaved_clause()}"
        where = (
            f"continues from step {committed}, the newest that is committed"
            if committed
            else "starts from the beginning"
        )
        return f"the same command {where}{self._unsaved_clause()}"

    def _unsaved_clause(self) -> str:
        """The end of a sentence about states that could not be kept on this node either; empty without any."""
        problem = self._fallback.problem  # read once: the other thread may reset it
        return (
            ""
            if problem is None
            else f"; training since then could not be saved on this node either: {problem.args[0]}"
        )

    def _work(self) -> None:
        while (task := self._next_task()) is not None:
            try:
                self._attempt(task)
            except BaseException as bug:  # noqa: BLE001 - if the thread ended silently, training would continue without checkpoints
                self._fatal = bug
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
            if self._fatal is not None:
                return
            if self._problem is not None:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, self._retry_s)

    def _attempt(self, task: Callable[[], None]) -> None:
        try:
            task()
            self._reset_failure(uploaded=task in (self._upload_best, self._upload_newest))
        except KnownError as problem:
            if not self._is_lost():
                self._note_failure(problem)
                self._keep_newest()

    def _next_task(self) -> Callable[[], None] | None:
        """The next task, once there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._has_work())
            if self._closing:
                return None
            self._busy = True
            if self._scored:
                return self._commit_scored
            if self._best is not None:
                return self._upload_best
            if self._newest is not None:
                return self._upload_newest
            return partial(self._write_file, next(iter(self._files)))

    def _keep_newest(self) -> None:
        """Keep the newest state on this node if there is room, whichever upload failed: a restarted worker continues from it."""
        with self._changed:
            pending = self._newest or self._uploading
        if pending is not None and pending.state.step not in self._fallback.kept_steps:
            content = pending.state.to_bytes()
            self._keep_on_node(manifest_of(content, pending.state, epoch=pending.epoch, scored=pending.scored), content)

    def _upload_best(self) -> None:
        with self._changed:
            pending = self._best
        assert pending is not None
        self._upload(pending)
        with self._changed:
            if self._best is pending:  # else a better one has replaced it meanwhile
                self._best = None

    def _upload_newest(self) -> None:
        with self._changed:
            pending, self._newest = self._newest, None
            self._uploading = pending
        assert pending is not None
        try:
            self._upload(pending)
        except KnownError:
            self._put_back(pending)
            raise
        finally:
            self._uploading = None

    def _put_back(self, pending: _Pending) -> None:
        """Queue a state again whose upload failed, unless a newer one is queued and this is not the best."""
        with self._changed:
            pending = replace(pending, scored=self._scored.pop(pending.state.step, pending.scored))
            if self._newest is None:
                self._newest = pending
            elif self._is_top(pending):
                self._best = pending

    def _upload(self, pending: _Pending) -> None:
        """Upload a state, commit it, and delete checkpoints that are no longer kept.

        Small files are written first: they may fit on a disk where the state does not, and one that fails costs no upload of a state.
        """
        content = pending.state.to_bytes()
        step = pending.state.step
        manifest = manifest_of(content, pending.state, epoch=pending.epoch, scored=pending.scored)
        scored: Scored | None = None
        try:
            self._write_queued_files()
            self._check_claim()  # another writer's state of this step must not be replaced
            self._storage.write(state_key(step), content)
            with self._changed:
                scored = self._scored.pop(step, None)
            if scored is not None:
                manifest = replace(manifest, val_auroc=scored.auroc, val_loss=scored.loss, validated=True)
            self._commit(manifest)
        except KnownError:
            if scored is not None:
                self.queue_scores(step, scored)
            if not self._is_lost():
                self._keep_on_node(manifest, content)
            raise
        self._retention.add([manifest])
        self._fallback.clear()
        self._retention.prune()

    def _commit_scored(self) -> None:
        """Update the checkpoint manifest of a state that was committed before its validation."""
        with self._changed:
            step, scored = next(iter(self._scored.items()))
        before = self._retention.get(step)
        if before is not None:
            manifest = replace(before, val_auroc=scored.auroc, val_loss=scored.loss, validated=True)
            self._commit(manifest)
            self._retention.add([manifest])
        with self._changed:
            self._scored.pop(step, None)

    def _commit(self, manifest: Manifest) -> None:
        """Commit a state after the files queued before it or its scores: a run that resumes from it does not write them again."""
        self._write_queued_files()
        self._check_claim()
        commit(self._storage, manifest)

    def _keep_on_node(self, manifest: Manifest, content: bytes) -> None:
        with self._changed:
            metrics = self._files.get(METRICS)
        self._fallback.try_keep(manifest, content, metrics)

    def _write_queued_files(self) -> None:
        """Write the small files; those that are queued meanwhile wait: epochs may be shorter than an upload, which would never end."""
        with self._changed:
            queued = list(self._files)
        for key in queued:
            self._write_file(key)

    def _write_file(self, key: str) -> None:
        with self._changed:
            content = self._files[key]
        self._check_claim()
        self._storage.write(key, content)
        with self._changed:
            if self._files.get(key) is content:
                del self._files[key]

    def _check_claim(self) -> None:
        if self._closing:  # the claim is about to be released
            raise TryAgainError("the run ends")
        try:
            self._claim.check()
        except RemoteError:  # an unreachable bucket does not mean that the claim is lost
            raise
        except KnownError as problem:
            self._fatal = problem
            raise

    def _is_lost(self) -> bool:
        """Whether this process must no longer write to the run; from then on it keeps no state on this node either.

        A write to a removed directory fails before the next check of the claim, so each failed write checks here.
        """
        problem = self._claim.lost()
        if self._fatal is None and problem is not None:
            self._fatal = problem
        return self._fatal is not None

    def _reset_failure(self, *, uploaded: bool) -> None:
        """Reset the failure. A small file may fit on a full disk where a queued state does not."""
        if self._problem is not None and (uploaded or not (self._newest or self._best)):
            self._problem = self._fallback.problem = None
            self._report("checkpoint upload works again")

    def _note_failure(self, problem: KnownError) -> None:
        if self._fatal is not None or self._closing:  # training stops, and its error gives the reason
            return
        now_s = self._clock()
        if self._problem is None or now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            self._report(
                f"checkpoint upload failed (training continues, retrying): {problem.args[0]}{self._unsaved_clause()}"
            )
        self._problem = problem
