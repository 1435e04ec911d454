"""Follow a job's log: one thread reads each pod's log, one looks at the job and its pods, and the caller's prints.

The end of a stream never decides anything: the job object says when the job is over, and then every pod's log is read to
its end first.
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

from launcher.cluster.client import Cluster
from launcher.cluster.errors import ForbiddenError, InvalidError, NotFoundError, UnreachableError
from launcher.cluster.resources import JOB_LABEL, JOBS, PODS, Object
from launcher.logs.lines import Line
from launcher.logs.pod_stream import PodLog, Sighting, sighting
from launcher.status.snapshot import State, is_over, outcome, wanted_pods
from trainer.errors import RemoteError

Report = Callable[[str], None]

ROOM: Final = 10_000
"""Lines that wait to be printed before the threads that read wait too."""

ROOM_CHARS: Final = 64 << 20
"""The same for how long they are, all together."""

ATTEMPTS: Final = 5
"""How often in a row a log may fail before the user is told of it; of what can't change any more the rest is given up."""


@dataclass(frozen=True)
class Pace:
    """How often things are looked at, and how long they are waited for."""

    poll_s: float = 2.0
    """Between looks at the job and its pods."""

    stall_s: float = 60.0
    """A stream that is silent for so long is asked for again: they are known to stall (kubernetes-client/python#2426)."""

    looks_after_end: int = 45
    """How often to look for the ends of logs once the job is over: longer than a stalled stream takes."""

    failed_looks: int = 60
    """How often in a row a look may fail before the job is given up."""


@dataclass(frozen=True)
class Ending:
    """How a job ended, and the job as it was last seen."""

    state: State | Literal["Deleted"]
    job: Object


@dataclass(frozen=True)
class View:
    """One look at a job and its pods."""

    number: int
    job: Object

    pods: Mapping[str, Sighting]
    """By name."""

    is_there: bool = True
    """False when the job is gone, or another has taken its name."""

    @property
    def is_over(self) -> bool:
        """Whether no pod will be started any more."""
        return not self.is_there or is_over(self.job)


def first_view(cluster: Cluster, name: str) -> View:
    """The job and its pods. Raises: NotFoundError when there is no such job, and other RemoteErrors."""
    job = cluster.get(JOBS, name)
    return View(0, job, _pods(cluster, job))


def next_view(cluster: Cluster, view: View) -> View:
    """The job and its pods as they are now. Raises: RemoteError."""
    try:
        job = cluster.get(JOBS, view.job["metadata"]["name"])
    except NotFoundError:
        job = None
    is_there = job is not None and job["metadata"]["uid"] == view.job["metadata"]["uid"]
    seen = job if job is not None and is_there else view.job
    return View(view.number + 1, seen, _pods(cluster, seen), is_there)


def _pods(cluster: Cluster, job: Object) -> dict[str, Sighting]:
    """The job's pods, and not those of another job that had its name, or has it now."""
    metadata = job["metadata"]
    return {
        pod["metadata"]["name"]: sighting(pod)
        for pod in cluster.list(PODS, labels=f"{JOB_LABEL}={metadata['name']}")
        if metadata["uid"] in {owner["uid"] for owner in pod["metadata"].get("ownerReferences") or ()}
    }


@dataclass(frozen=True)
class _Words:
    """Something to be said to the user."""

    text: str


@dataclass(frozen=True)
class _Report:
    """Whether, as of a view, all lines of a pod have been handed over."""

    pod: str
    number: int
    is_complete: bool


_Item = Line | _Words | _Report | View | Exception


class _ClosedError(Exception):
    """Nobody listens any more."""


class _Channel:
    """What the threads share: items for the one that prints, and the newest view for those that read."""

    def __init__(self, view: View) -> None:
        lock = threading.Lock()
        self._filled, self._emptied, self._viewed = (threading.Condition(lock) for _ in range(3))
        self._items: deque[_Item] = deque([view])
        self._chars = 0
        self._is_closed = False
        self.view = view

    def put(self, item: _Item) -> None:
        """Hand over an item. Raises: _ClosedError."""
        with self._emptied:
            self._emptied.wait_for(lambda: self._has_room() or self._is_closed)
            if self._is_closed:
                raise _ClosedError
            self._items.append(item)
            self._chars += len(item.text) if isinstance(item, Line) else 0
            self._filled.notify()

    def _has_room(self) -> bool:
        return len(self._items) < ROOM and self._chars < ROOM_CHARS

    def take(self) -> list[_Item]:
        """All items that are there, at least one; waits for it."""
        with self._filled:
            self._filled.wait_for(lambda: self._items)
            items = list(self._items)
            self._items.clear()
            self._chars = 0
            self._emptied.notify_all()
            return items

    def post(self, view: View) -> None:
        """Show a new view to all. Raises: _ClosedError."""
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
        """Wait. Raises: _ClosedError at once when nobody listens any more."""
        with self._viewed:
            if self._viewed.wait_for(lambda: self._is_closed, length_s):
                raise _ClosedError

    def close(self) -> None:
        """Nobody listens any more; whoever waits here leaves."""
        with self._viewed:
            self._is_closed = True
            self._viewed.notify_all()
            self._emptied.notify_all()


class Follower:
    """One job that is followed; `run` does it, in the caller's thread."""

    def __init__(
        self,
        cluster: Cluster,
        view: View,
        *,
        open_log: Callable[[Sighting | None, Report], PodLog],
        show: Callable[[Iterable[Line]], None],
        report: Report,
        waiting: Report,
        pace: Pace,
    ) -> None:
        """`open_log` gets a pod that had started before it was followed, or None; `show` gets lines as they come."""
        self._cluster = cluster
        self._open_log = open_log
        self._show = show
        self._report = report
        self._waiting = waiting
        self._pace = pace
        self._channel = _Channel(view)
        self._reports: dict[str, _Report] = {}
        self._over: View | None = None
        self._has_told_wait = False

    def run(self) -> Ending:
        """Show lines until the job is over and all are shown.

        Raises: ForbiddenError; UnreachableError when the server is gone for long; what the callables raise.
        """
        try:
            self._start(self._watch)
            while True:
                self._handle(self._channel.take())
                if self._over and self._is_read_since(self._over):
                    return Ending(outcome(self._over.job) if self._over.is_there else "Deleted", self._over.job)
        finally:
            self._channel.close()

    def _handle(self, items: Iterable[_Item]) -> None:
        for _, alike in itertools.groupby(items, key=lambda item: isinstance(item, Line)):
            group = list(alike)
            self._show(_by_time(item for item in group if isinstance(item, Line)))
            for item in group:
                self._note(item)

    def _note(self, item: _Item) -> None:
        if isinstance(item, Exception):
            raise item
        if isinstance(item, _Words):
            self._report(item.text)
        elif isinstance(item, _Report):
            self._reports[item.pod] = item
        elif isinstance(item, View):
            self._look_at(item)

    def _look_at(self, view: View) -> None:
        """Begin to read logs of new pods; say what has to start yet; note the job's end."""
        for pod in view.pods.values():
            if pod.name not in self._reports:
                self._reports[pod.name] = _Report(pod.name, -1, is_complete=False)
                had_started = view.number == 0 and bool(pod.instance)
                log = self._open_log(pod if had_started else None, lambda text: self._channel.put(_Words(text)))
                self._start(partial(self._read, pod.name, log))
        if view.is_over:
            self._over = self._over or view
            return
        wait = _awaited(view)
        if wait and not self._has_told_wait:
            try:
                self._waiting(wait)
            except RemoteError:  # who explains it asks the server too
                self._report(wait)
        self._has_told_wait = wait is not None

    def _is_read_since(self, view: View) -> bool:
        """Whether each pod's log was read to its end after that view, or it is time to leave."""
        unread = [
            report.pod for report in self._reports.values() if report.number < view.number or not report.is_complete
        ]
        if unread and self._channel.view.number - view.number > self._pace.looks_after_end:
            self._report(f"the log of {', '.join(sorted(unread))} has not ended with the job: more of it may come")
            return True
        return not unread

    def _start(self, work: Callable[[], None]) -> None:
        """Do something in a thread; what goes wrong there is raised by `run`."""

        def guarded() -> None:
            with suppress(_ClosedError):
                try:
                    work()
                except _ClosedError:
                    raise
                except Exception as problem:  # noqa: BLE001 - handed over, not swallowed
                    self._channel.put(problem)

        # A daemon: it may sit in a read of up to `stall_s` when the user leaves.
        threading.Thread(target=guarded, name="log", daemon=True).start()

    def _watch(self) -> None:
        """Look at the job again and again; a server that is gone for a while is waited for."""
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
                    self._channel.put(_Words(f"{problem.args[0]}; trying again"))
                if failed >= self._pace.failed_looks:
                    raise
            else:
                if failed:
                    self._channel.put(_Words(f"`{self._cluster.server}` answers again"))
                failed = 0

    def _read(self, name: str, log: PodLog) -> None:
        """Hand over a pod's lines, whatever becomes of it."""
        number, failed = -1, 0
        while True:
            view = self._channel.view_after(number)
            number = view.number
            pod = view.pods.get(name)
            if pod is not None and not log.is_complete(pod):
                failed = self._read_once(pod, log, failed)
            self._channel.put(_Report(name, number, pod is None or log.is_complete(pod)))

    def _read_once(self, pod: Sighting, log: PodLog, failed: int) -> int:
        """Hand over lines until a stream ends; how often in a row reading has failed."""

        def is_anothers(line: Line) -> bool:
            return self._channel.view.pods.get(pod.name, pod).wrote(line, instead_of=pod)

        try:
            for line in log.lines(pod, is_anothers):
                self._channel.put(line)
                failed = 0
        except ForbiddenError:
            raise
        except UnreachableError:
            return 0  # nothing was written for long, or the server is gone, of which the watching thread tells
        except RemoteError as problem:
            if failed + 1 == ATTEMPTS:
                self._channel.put(_Words(problem.args[0]))
                log.give_up(pod)
            return failed + 1
        return 0


def _awaited(view: View) -> str | None:
    """What has to start before the job's log is whole; None when nothing has."""
    wanted = wanted_pods(view.job)
    started = sum(bool(pod.instance) for pod in view.pods.values())
    if started >= wanted:
        return None
    if outcome(view.job) == "Suspended":
        return "waiting: the job is suspended"
    idle = sorted(pod.short for pod in view.pods.values() if not pod.instance)
    names = f": {', '.join(idle)}" if idle else ""
    return f"waiting for {wanted - started} of {wanted} pods to start{names}"


def _by_time(lines: Iterable[Line]) -> Iterator[Line]:
    """Lines of several pods in the order of their times, those of one pod in the order they came."""
    pods: dict[str, list[Line]] = {}
    for line in lines:
        pods.setdefault(line.pod, []).append(line)
    return heapq.merge(*pods.values(), key=lambda line: line.time_ns)
