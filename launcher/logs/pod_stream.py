"""The log of one pod name, without lost or repeated lines across broken streams, container restarts and replaced pods.

A log stream of the API server does not name its container and starts at whole seconds. It can end because of the container, the
connection or the kubelet, even within a line. Therefore all lines are read with timestamps, new streams overlap by some seconds
and known lines are dropped, and the log of an ended container is read repeatedly until nothing new arrives.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from launcher import kinds
from launcher.cluster.errors import InvalidError, NotFoundError
from launcher.cluster.resources import Object
from launcher.logs.lines import KEEP_S, SECOND, Line, Memory, Stamped, stamped, whole_second


class Fetch(Protocol):
    """Interface of `launcher.cluster.client.Cluster.log`."""

    def __call__(
        self,
        pod: str,
        *,
        container: str,
        follow: bool,
        previous: bool,
        since_time: str | None,
        tail: int | None,
        read_timeout_s: float,
    ) -> Iterator[bytes]:
        """Lines with timestamps and newlines; a line without a newline was cut off."""


@dataclass(frozen=True)
class PodState:
    """State of one pod that concerns its log."""

    name: str
    short: str
    uid: str

    container: str
    """Name of the container with the log."""

    instance: str
    """ID of the container whose log the server returns, running or ended; empty before the first start."""

    earlier: str
    """ID of the previous container in the same pod, whose log is also kept; empty without one."""

    running: bool
    """Whether the container runs, so that its log may grow."""

    started_ns: int
    """Start time of that container, in whole seconds; 0 before the first start."""

    created: str = ""
    """Creation time of the pod, in the server's format."""

    def wrote(self, line: Line, instead_of: "PodState") -> bool:
        """Whether this container wrote a line of a stream that was opened for an earlier container.

        Within a pod, the start time in seconds decides. A replacement pod may be on a node with a different clock, and the old
        pod's log is available nowhere else: only a line that is later by a wide margin counts as the new pod's.
        """
        margin_s = 1 if self.uid == instead_of.uid else KEEP_S
        is_another = bool(self.instance) and self.instance != instead_of.instance
        return is_another and line.time_ns >= self.started_ns + margin_s * SECOND


def pod_state(pod: Object) -> PodState:
    """Read the state of a pod object.

    Source: the choice of the container is that of Kubernetes 1.34, pkg/kubelet/kubelet_pods.go, validateContainerLogStatus.
    """
    status = pod.get("status") or {}
    name = kinds.of_pod(pod).container
    container: Object = next((c for c in status.get("containerStatuses") or () if c["name"] == name), {})
    alive, last = _running(container), _ended(container.get("lastState"))
    now = alive or _ended(container.get("state")) or last
    metadata = pod["metadata"]
    return PodState(
        metadata["name"],
        kinds.short_name(pod),
        metadata["uid"],
        name,
        instance=now.get("containerID", ""),
        earlier="" if last is now else last.get("containerID", ""),
        running=bool(alive),
        started_ns=stamped(now.get("startedAt", "").encode()).time_ns or 0,
        created=str(metadata.get("creationTimestamp") or ""),
    )


def _running(container: Object) -> Object:
    running = (container.get("state") or {}).get("running")
    return {} if running is None else {"containerID": container.get("containerID", "")} | running


def _ended(state: Object | None) -> Object:
    # An entry without a container ID is of a container that never ran and has no log.
    ended: Object = (state or {}).get("terminated") or {}
    return ended if ended.get("containerID") else {}


class PodLog:
    """Reader of the log of one pod name; used by one thread."""

    def __init__(self, fetch: Fetch, *, report: Callable[[str], None], stall_s: float) -> None:
        self._fetch = fetch
        self._report = report
        self._stall_s = stall_s
        self._memory = Memory()
        self._tail: int | None = None
        self._uid = self._instance = ""
        self._is_new_pod = True
        self._complete: set[str] = set()
        self._cut = ""

    def begin_late(self, pod: PodState, *, tail: int | None, since_ns: int | None) -> None:
        """Start with the current container, within the limits of `tail` and `since_ns`; skip logs of earlier containers."""
        self._uid, self._is_new_pod = pod.uid, False
        self._complete.add(pod.earlier)
        self._memory = Memory(since_ns)
        self._tail = tail

    def is_complete(self, pod: PodState) -> bool:
        """Whether the log of the pod's container was read to its end."""
        return not pod.instance or (not pod.running and pod.instance in self._complete)

    def give_up(self, pod: PodState) -> None:
        """Treat the log of an ended container as complete: its rest can't be read."""
        if not pod.running:
            self._complete.add(pod.instance)

    def lines(self, pod: PodState, is_of_successor: Callable[[Line], bool]) -> Iterator[Line]:
        """New lines, until the stream ends or `is_of_successor` finds a line of a later container.

        Raises: UnreachableError when a stream breaks or stalls, and other errors of `fetch`; call again to continue.
        """
        self._select(pod)
        if pod.earlier and pod.earlier not in self._complete:
            yield from self._rest_of_earlier(pod)
        if self._tail is not None:
            yield from self._newest(pod, self._tail)
        if not pod.running:
            yield from self._all(pod, pod.instance)
            return
        for line in self._once(pod, follow=True):
            yield line
            if is_of_successor(line):
                return

    def so_far(self, pod: PodState, *, previous: bool) -> Iterator[Line]:
        """New lines up to now, without following. Raises: like `lines`."""
        if self._tail is not None:
            yield from self._newest(pod, self._tail, previous=previous)
        elif previous or not pod.running:
            yield from self._all(pod, pod.earlier if previous else pod.instance, previous=previous)
        else:
            yield from self._once(pod)

    def _select(self, pod: PodState) -> None:
        if pod.uid != self._uid:
            self._uid, self._is_new_pod, self._tail = pod.uid, True, None
        if self._instance not in {"", pod.instance}:
            self._report(f"{pod.short} was restarted")
        self._instance = pod.instance

    def _rest_of_earlier(self, pod: PodState) -> Iterator[Line]:
        """Unread lines of the previous container; usually none."""
        try:
            yield from self._all(pod, pod.earlier, previous=True)
        except (InvalidError, NotFoundError) as problem:
            self._report(f"{pod.short}: the last lines of its previous container may be missing: {problem.args[0]}")
            self._complete.add(pod.earlier)

    def _all(self, pod: PodState, instance: str, *, previous: bool = False) -> Iterator[Line]:
        """The rest of an ended container's log: read at least twice, until nothing new arrives.

        The API server ends a stream without an error when the kubelet breaks it off. Source: Kubernetes 1.34,
        staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/writers.go, StreamObject.
        """
        streams, is_quiet = 0, False
        while streams < 2 or not is_quiet:
            cut, is_quiet = self._cut, True
            for line in self._once(pod, previous=previous):
                is_quiet = False
                yield line
            is_quiet = is_quiet and self._cut == cut
            streams += 1
        rest = stamped(self._cut.encode())
        if rest.time_ns is not None:  # the program's last line had no newline
            yield from self._as_lines(pod, self._memory.unseen([rest]))
        self._cut = ""
        self._complete.add(instance)

    def _newest(self, pod: PodState, count: int, *, previous: bool = False) -> Iterator[Line]:
        """The last `count` lines. For 0, one line is still read: its time is where the next stream starts."""
        try:
            for line in self._once(pod, tail=max(count, 1), previous=previous):
                if count:
                    yield line
            self._tail = None
        finally:
            if not self._memory.is_empty:
                self._memory.drop_earlier()
                self._tail = None

    def _once(
        self, pod: PodState, *, follow: bool = False, previous: bool = False, tail: int | None = None
    ) -> Iterator[Line]:
        """The new lines of one stream; an incomplete last line is kept in `_cut`."""
        since_ns = None if self._is_new_pod else self._memory.since_ns
        cut, self._cut = self._cut, ""
        stream = self._fetch(
            pod.name,
            container=pod.container,
            follow=follow,
            previous=previous,
            since_time=None if since_ns is None else whole_second(since_ns),
            tail=tail,
            read_timeout_s=self._stall_s,
        )
        yield from self._as_lines(pod, self._memory.unseen(self._ended_lines(stream)))
        if cut and self._cut == cut and stamped(cut.encode()).time_ns is None:
            self._report(f"{pod.short}: {cut}")

    def _ended_lines(self, stream: Iterator[bytes]) -> Iterator[Stamped]:
        for raw in stream:
            if raw.endswith(b"\n"):
                yield stamped(raw)
            else:
                self._cut = raw.decode(errors="replace")

    def _as_lines(self, pod: PodState, lines: Iterator[Stamped]) -> Iterator[Line]:
        for line in lines:
            if line.time_ns is None:
                self._report(f"{pod.short}: {line.text}")
            else:
                self._is_new_pod = False
                yield Line(line.time_ns, line.stamp, pod.short, line.text)
