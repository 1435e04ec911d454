"""Follow a job's log: one thread per pod reads its log, one polls the job and its pods, and the caller's thread prints.

The end of a stream does not mean that a container ended. Only the conditions of the job show that it has finished; then every
pod's log is read to its end before following stops.
"""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ForbiddenError, InvalidError, NotFoundError, UnreachableError
from launcher.cluster.resources import PODS, Object
from launcher.kinds import lookup
from launcher.kinds.state import State
from launcher.logs.lines import Line
from launcher.logs.pod_stream import PodLog, PodState, pod_state
from launcher.status.snapshot import is_over, outcome
from trainer.errors import RemoteError

Report = Callable[[str], None]

QUEUED_LINES: Final = 10_000
"""Limit of lines that wait to be printed; then the reading threads wait."""

QUEUED_CHARS: Final = 64 << 20
"""The same limit for the total length of these lines."""

ATTEMPTS: Final = 5
"""Consecutive failures to read a log before the user is told; the rest of an ended container's log is then given up."""


@dataclass(frozen=True)
class Pace:
    """Polling intervals and limits."""

    poll_s: float = 2.0
    """Interval between reads of the job and its pods."""

    stall_s: float = 60.0
    """Silence after which a stream is reopened: streams are known to stall (kubernetes-client/python#2426)."""

    polls_after_end: int = 45
    """Polls to wait for the ends of logs after the job has finished; together longer than `stall_s`."""

    failed_polls: int = 60
    """Consecutive failed polls before following is given up."""


@dataclass(frozen=True)
class Outcome:
    """The final state of a job, and its last known object."""

    state: State | Literal["Deleted"]
    job: Object


@dataclass(frozen=True)
class View:
    """A job and its pods at one poll."""

    number: int
    job: Object

    pods: Mapping[str, PodState]
    """Pods by name."""

    exists: bool = True
    """False when the job was deleted, or another job has its name."""

    @property
    def is_over(self) -> bool:
        """Whether the job has finished: no pod will start any more."""
        return not self.exists or is_over(self.job)


def first_view(cluster: Cluster, name: str, api: kinds.Choice = "auto") -> View:
    """The job and its pods. Raises: NotFoundError when the job does not exist, and as `lookup.get`."""
    job = lookup.get(cluster, name, api)
    return View(0, job, _pods(cluster, job))


def next_view(cluster: Cluster, view: View) -> View:
    """The current job and its pods. Raises: RemoteError."""
    try:
        job = lookup.again(cluster, view.job)
    except NotFoundError:
        job = None
    exists = job is not None and job["metadata"]["uid"] == view.job["metadata"]["uid"]
    current = job if job is not None and exists else view.job
    return View(view.number + 1, current, _pods(cluster, current), exists)


def _pods(cluster: Cluster, job: Object) -> dict[str, PodState]:
    """The job's pods. The label alone would also match pods of an earlier or later job of the same name."""
    kind = kinds.of(job)
    return {
        pod["metadata"]["name"]: pod_state(pod)
        for pod in cluster.list(PODS, labels=f"{kind.job_label}={job['metadata']['name']}")
        if kind.owns(job, pod)
    }


@dataclass(frozen=True)
class _Message:
    """A message for the user."""

    text: str


@dataclass(frozen=True)
class _Progress:
    """Whether all lines of a pod up to a view were passed on."""

    pod: str
    number: int
    is_complete: bool


_Item = Line | _Message | _Progress | View | Exception


class _ClosedError(Exception):
    """The caller has stopped following."""


class _Channel:
    """State shared by the threads: items for the printing thread, and the newest view for the reading threads."""

    def __init__(self, view: View) -> None:
        lock = threading.Lock()
        self._filled, self._emptied, self._viewed = (threading.Condition(lock) for _ in range(3))
        self._items: deque[_Item] = deque([view])
        self._chars = 0
        self._is_closed = False
        self.view = view

    def put(self, item: _Item) -> None:
        """Add an item; waits while the queue is full. Raises: _ClosedError."""
        with self._emptied:
            self._emptied.wait_for(lambda: self._has_room() or self._is_closed)
            if self._is_closed:
                raise _ClosedError
            self._items.append(item)
            self._chars += len(item.text) if isinstance(item, Line) else 0
            self._filled.notify()

    def _has_room(self) -> bool:
        return len(self._items) < QUEUED_LINES and self._chars < QUEUED_CHARS

    def take(self) -> list[_Item]:
        """All queued items; waits for at least one."""
        with self._filled:
            self._filled.wait_for(lambda: self._items)
            items = list(self._items)
            self._items.clear()
            self._chars = 0
            self._emptied.notify_all()
            return items

    def post(self, view: View) -> None:
        """Publish a new view. Raises: _ClosedError."""
        with self._viewed:
            self.view = view
            self._viewed.notify_all()
        self.put(view)

    def view_after(self, number: int) -> View:
        """The newest view, once it is newer than `number`. Raises: _ClosedError."""
        with self._viewed:
            self._viewed.wait_for(lambda: self.view.number > number or self._is_closed)
            if self._is_closed:
                raise _ClosedError
            return self.view

    def pause(self, length_s: float) -> None:
        """Wait. Raises: _ClosedError as soon as the channel is closed."""
        with self._viewed:
            if self._viewed.wait_for(lambda: self._is_closed, length_s):
                raise _ClosedError

    def close(self) -> None:
        """Close the channel and wake up all waiting threads."""
        with self._viewed:
            self._is_closed = True
            self._viewed.notify_all()
            self._emptied.notify_all()


class Follower:
    """Follower of one job; `run` prints in the caller's thread."""

    def __init__(
        self,
        cluster: Cluster,
        view: View,
        *,
        open_log: Callable[[PodState | None, Report], PodLog],
        show: Callable[[Iterable[Line]], None],
        report: Report,
        waiting: Report,
        pace: Pace,
    ) -> None:
        """`open_log` gets a pod that had already started, or None; `show` gets lines as they arrive."""
        self._cluster = cluster
        self._open_log = open_log
        self._show = show
        self._report = report
        self._waiting = waiting
        self._pace = pace
        self._channel = _Channel(view)
        self._progress: dict[str, _Progress] = {}
        self._over: View | None = None
        self._has_reported_wait = False

    def run(self) -> Outcome:
        """Print lines until the job has finished and all are printed.

        Raises: ForbiddenError; UnreachableError when the server stays unreachable; what the callables raise.
        """
        try:
            self._start(self._watch)
            while True:
                self._handle(self._channel.take())
                if self._over and self._is_read_since(self._over):
                    return Outcome(outcome(self._over.job) if self._over.exists else "Deleted", self._over.job)
        finally:
            self._channel.close()

    def _handle(self, items: Iterable[_Item]) -> None:
        for _, alike in itertools.groupby(items, key=lambda item: isinstance(item, Line)):
            group = list(alike)
            self._show(_by_time(item for item in group if isinstance(item, Line)))
            for item in group:
                self._handle_item(item)

    def _handle_item(self, item: _Item) -> None:
        if isinstance(item, Exception):
            raise item
        if isinstance(item, _Message):
            self._report(item.text)
        elif isinstance(item, _Progress):
            self._progress[item.pod] = item
        elif isinstance(item, View):
            self._handle_view(item)

    def _handle_view(self, view: View) -> None:
        """Start readers for new pods, report pods that have not started, and record the job's end."""
        for pod in view.pods.values():
            if pod.name not in self._progress:
                self._progress[pod.name] = _Progress(pod.name, -1, is_complete=False)
                had_started = view.number == 0 and bool(pod.instance)
                log = self._open_log(pod if had_started else None, lambda text: self._channel.put(_Message(text)))
                self._start(partial(self._read, pod.name, log))
        if view.is_over:
            self._over = self._over or view
            return
        wait = _awaited(view)
        if wait and not self._has_reported_wait:
            try:
                self._waiting(wait)
            except RemoteError:  # `waiting` reads the reason from the server, which may fail
                self._report(wait)
        self._has_reported_wait = wait is not None

    def _is_read_since(self, view: View) -> bool:
        """Whether each pod's log was read to its end after that view, or the time for that is over."""
        unread = [each.pod for each in self._progress.values() if each.number < view.number or not each.is_complete]
        if unread and self._channel.view.number - view.number > self._pace.polls_after_end:
            self._report(f"the log of {', '.join(sorted(unread))} has not ended with the job: it may be incomplete")
            return True
        return not unread

    def _start(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread; `run` raises its exceptions."""

        def guarded() -> None:
            with suppress(_ClosedError):
                try:
                    work()
                except _ClosedError:
                    raise
                except Exception as problem:  # noqa: BLE001 - passed on to `run`
                    self._channel.put(problem)

        # A daemon thread: it may be in a read of up to `stall_s` when the user presses Ctrl-C.
        threading.Thread(target=guarded, name="log", daemon=True).start()

    def _watch(self) -> None:
        """Poll the job; a temporarily unreachable server is retried."""
        failed = 0
        while True:
            self._channel.pause(self._pace.poll_s)
            try:
                self._channel.post(next_view(self._cluster, self._channel.view))
            except (ForbiddenError, InvalidError):
                raise
            except RemoteError as problem:
                failed += 1
                if failed == 1:
                    self._channel.put(_Message(f"{problem.args[0]}; trying again"))
                if failed >= self._pace.failed_polls:
                    raise
            else:
                if failed:
                    self._channel.put(_Message(f"`{self._cluster.server}` answers again"))
                failed = 0

    def _read(self, name: str, log: PodLog) -> None:
        """Pass on the lines of a pod name, across restarts and replacements of the pod."""
        number, failed = -1, 0
        while True:
            view = self._channel.view_after(number)
            number = view.number
            pod = view.pods.get(name)
            if pod is not None and not log.is_complete(pod):
                failed = self._read_once(pod, log, failed)
            self._channel.put(_Progress(name, number, pod is None or log.is_complete(pod)))

    def _read_once(self, pod: PodState, log: PodLog, failed: int) -> int:
        """Pass on lines until a stream ends; returns the number of consecutive failures."""

        def is_of_successor(line: Line) -> bool:
            return self._channel.view.pods.get(pod.name, pod).wrote(line, instead_of=pod)

        try:
            for line in log.lines(pod, is_of_successor):
                self._channel.put(line)
                failed = 0
        except ForbiddenError:
            raise
        except UnreachableError:
            return 0  # a silent stream, or an unreachable server, which the polling thread reports
        except RemoteError as problem:
            if failed + 1 == ATTEMPTS:
                self._channel.put(_Message(problem.args[0]))
                log.give_up(pod)
            return failed + 1
        return 0


def _awaited(view: View) -> str | None:
    """Report on pods that have not started; None when all have."""
    wanted = kinds.of(view.job).wanted_pods(view.job)
    newest = {pod.short: pod for pod in sorted(view.pods.values(), key=lambda each: each.created)}
    started = sum(bool(pod.instance) for pod in newest.values())
    if started >= wanted:
        return None
    if outcome(view.job) == "Suspended":
        return "waiting: the job is suspended"
    idle = sorted(pod.short for pod in newest.values() if not pod.instance)
    names = f": {', '.join(idle)}" if idle else ""
    return f"waiting for {wanted - started} of {wanted} pods to start{names}"


def _by_time(lines: Iterable[Line]) -> Iterator[Line]:
    """Lines sorted by time across pods; lines of one pod keep their order."""
    pods: dict[str, list[Line]] = {}
    for line in lines:
        pods.setdefault(line.pod, []).append(line)
    return heapq.merge(*pods.values(), key=lambda line: line.time_ns)
