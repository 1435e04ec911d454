"""The log of one pod, read on over cuts, restarts of its container and successors of its name: no line lost, none twice.

What makes this hard: a stream of the API server does not say whose log it is, it starts at whole seconds, and its end may
be a container's, a connection's or kubelet's, in the middle of a line too. So every line comes with its time, new streams
start some seconds early and what was seen is left out; and when a container has ended its log is read again until nothing
new comes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from launcher.cluster.errors import InvalidError, NotFoundError
from launcher.cluster.resources import Object
from launcher.logs.lines import KEEP_S, SECOND, Line, Memory, Stamped, stamped, whole_second
from launcher.spec.manifest import CONTAINER
from launcher.status.snapshot import short_name


class Fetch(Protocol):
    """What is needed of `launcher.cluster.client.Cluster.log`."""

    def __call__(
        self, pod: str, *, follow: bool, previous: bool, since_time: str | None, tail: int | None, read_timeout_s: float
    ) -> Iterator[bytes]:
        """Lines with their times and their ends; one without an end was cut off."""


@dataclass(frozen=True)
class Sighting:
    """One pod at one moment, as far as its log goes."""

    name: str
    short: str
    uid: str

    instance: str
    """ID of the container that the pod's log is of, running or not; empty while none has started."""

    earlier: str
    """ID of the one before it in the same pod, whose log is kept too; empty when there is none."""

    running: bool
    """Whether the log may still grow by itself."""

    started_ns: int
    """When that container was started, to the second; 0 while none was."""

    def wrote(self, line: Line, instead_of: "Sighting") -> bool:
        """Whether a line of a stream that was asked for as another container's is this one's.

        In a pod they are told apart by time, to the second. A pod that was made anew may be on a node whose clock differs,
        and what its forerunner wrote can be had nowhere else: only what is later by far is taken for the new one's.
        """
        margin_s = 1 if self.uid == instead_of.uid else KEEP_S
        is_another = bool(self.instance) and self.instance != instead_of.instance
        return is_another and line.time_ns >= self.started_ns + margin_s * SECOND


def sighting(pod: Object) -> Sighting:
    """What an object of the API says of the pod's log.

    Source: which container a log is of: Kubernetes 1.34, pkg/kubelet/kubelet_pods.go, validateContainerLogStatus.
    """
    status = pod.get("status") or {}
    container: Object = next((c for c in status.get("containerStatuses") or () if c["name"] == CONTAINER), {})
    alive, last = _running(container), _ended(container.get("lastState"))
    now = alive or _ended(container.get("state")) or last
    metadata = pod["metadata"]
    return Sighting(
        metadata["name"],
        short_name(pod),
        metadata["uid"],
        instance=now.get("containerID", ""),
        earlier="" if last is now else last.get("containerID", ""),
        running=bool(alive),
        started_ns=stamped(now.get("startedAt", "").encode()).time_ns or 0,
    )


def _running(container: Object) -> Object:
    running = (container.get("state") or {}).get("running")
    return {} if running is None else {"containerID": container.get("containerID", "")} | running


def _ended(state: Object | None) -> Object:
    """What is said of a container that has ended; nothing where it never was."""
    ended: Object = (state or {}).get("terminated") or {}
    return ended if ended.get("containerID") else {}


class PodLog:
    """What of one pod name's log has been read; for one thread."""

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

    def begin_late(self, pod: Sighting, *, tail: int | None, since_ns: int | None) -> None:
        """The log is wanted from here on: not what containers before this one wrote, and no more than the limits say."""
        self._uid, self._is_new_pod = pod.uid, False
        self._complete.add(pod.earlier)
        self._memory = Memory(since_ns)
        self._tail = tail

    def is_complete(self, pod: Sighting) -> bool:
        """Whether nothing more can come from the container that the pod's log is of."""
        return not pod.instance or (not pod.running and pod.instance in self._complete)

    def give_up(self, pod: Sighting) -> None:
        """The rest of a container that has ended can't be had."""
        if not pod.running:
            self._complete.add(pod.instance)

    def lines(self, pod: Sighting, is_anothers: Callable[[Line], bool]) -> Iterator[Line]:
        """New lines, until the stream ends or a line is found to be of a container that came after this one.

        Raises: UnreachableError when a stream breaks or stalls, and what else `fetch` raises; call again to go on.
        """
        self._turn_to(pod)
        if pod.earlier and pod.earlier not in self._complete:
            yield from self._missed(pod)
        if self._tail is not None:
            yield from self._newest(pod, self._tail)
        if not pod.running:
            yield from self._all(pod, pod.instance)
            return
        for line in self._once(pod, follow=True):
            yield line
            if is_anothers(line):
                return

    def so_far(self, pod: Sighting, *, previous: bool) -> Iterator[Line]:
        """New lines up to now. Raises: like `lines`."""
        if self._tail is not None:
            yield from self._newest(pod, self._tail, previous=previous)
        elif previous or not pod.running:
            yield from self._all(pod, pod.earlier if previous else pod.instance, previous=previous)
        else:
            yield from self._once(pod)

    def _turn_to(self, pod: Sighting) -> None:
        if pod.uid != self._uid:
            self._uid, self._is_new_pod, self._tail = pod.uid, True, None
        if self._instance not in {"", pod.instance}:
            self._report(f"{pod.short} was started again")
        self._instance = pod.instance

    def _missed(self, pod: Sighting) -> Iterator[Line]:
        """What the container before this one wrote since it was last read; usually nothing."""
        try:
            yield from self._all(pod, pod.earlier, previous=True)
        except (InvalidError, NotFoundError) as problem:
            self._report(f"{pod.short}: last lines of its container before this one may be missing: {problem.args[0]}")
            self._complete.add(pod.earlier)

    def _all(self, pod: Sighting, instance: str, *, previous: bool = False) -> Iterator[Line]:
        """The log of a container that has ended: read until nothing new comes, and at least twice.

        The API server ends a stream in good order when kubelet breaks it off. Source: Kubernetes 1.34,
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
        if rest.time_ns is not None:  # the program's last words had no line end
            yield from self._as_lines(pod, self._memory.unseen([rest]))
        self._cut = ""
        self._complete.add(instance)

    def _newest(self, pod: Sighting, count: int, *, previous: bool = False) -> Iterator[Line]:
        """The last lines; of none the last one's time is needed, to go on from there."""
        try:
            for line in self._once(pod, tail=max(count, 1), previous=previous):
                if count:
                    yield line
            self._tail = None
        finally:
            if not self._memory.is_empty:
                self._memory.begin_here()
                self._tail = None

    def _once(
        self, pod: Sighting, *, follow: bool = False, previous: bool = False, tail: int | None = None
    ) -> Iterator[Line]:
        """The new lines of one stream; remembers what was cut off at its end."""
        since_ns = None if self._is_new_pod else self._memory.since_ns
        cut, self._cut = self._cut, ""
        stream = self._fetch(
            pod.name,
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

    def _as_lines(self, pod: Sighting, lines: Iterator[Stamped]) -> Iterator[Line]:
        for line in lines:
            if line.time_ns is None:
                self._report(f"{pod.short}: {line.text}")
            else:
                self._is_new_pod = False
                yield Line(line.time_ns, line.stamp, pod.short, line.text)
