"""Typed values of Kubernetes objects for a diagnosis; missing fields are empty or None."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from launcher import kinds
from launcher.cluster.capacity import Devices, extended, requests
from launcher.cluster.dra import served_devices
from launcher.cluster.operator import Controller, controller_of
from launcher.cluster.resources import BATCH_JOBS, JOB_SETS, Object
from launcher.status.diagnose.wording import lasting
from launcher.status.snapshot import Snapshot

RECENT_S: Final = 600.0
"""Age up to which an event of a recreated pod explains its job; the server stops updating repeated events."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Cause of a problem of a pod or the job; `why` is the end of a sentence about it."""

    code: str
    why: str
    next_step: str

    is_a_consequence: bool | None = False
    """Whether another pod's failure caused it; None if unknown."""

    since: datetime | None = None
    """Start of the wait of a job, if not its creation."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of an object."""

    about: str
    reason: str
    message: str
    last: datetime | None
    count: int
    """Number of occurrences known to the server."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition of an object."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, kw_only=True)
class End:
    """How a container ended."""

    exit_code: int | None
    reason: str
    message: str
    at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of a pod as the kubelet sees it."""

    name: str
    image: str
    is_init: bool
    restarts: int
    waiting: str
    """Reason of the waiting state, empty in another state."""

    message: str
    """Message of the waiting state."""

    started: datetime | None
    """Start time, None when it is not running."""

    ended: End | None
    """Its termination, None while it has not ended."""

    earlier: End | None
    """Termination of the previous container, before the restart."""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod of the job."""

    object: Object
    name: str
    short: str
    phase: str
    reason: str
    message: str
    node: str
    created: datetime | None
    deleted: datetime | None
    """End of its grace period; None when it is not being deleted."""

    containers: tuple[Container, ...]
    """Init containers first."""

    conditions: Mapping[str, Condition]

    @property
    def containers_ended(self) -> bool:
        """Whether all its containers have ended."""
        return bool(self.containers) and all(container.ended for container in self.containers)


@dataclass(frozen=True)
class Facts:
    """Typed view of a snapshot."""

    snapshot: Snapshot

    @property
    def now(self) -> datetime:
        return self.snapshot.now

    @property
    def kind(self) -> kinds.JobKind:
        """The job's kind."""
        return kinds.of(self.snapshot.job)

    @property
    def is_training(self) -> bool:
        """Whether it is a training job."""
        return self.kind in kinds.TRAINING

    @property
    def fewer_pods(self) -> str:
        """The change of flags after which a job needs fewer pods."""
        return "fewer --workers" if self.is_training else "fewer --pods"

    @property
    def smaller_pods(self) -> str:
        """The change of flags after which each pod needs less."""
        return "fewer --workers-per-node" if self.is_training else "fewer --cpus"

    @property
    def controller(self) -> Controller:
        """The controller of the job's kind."""
        return controller_of(self.kind.resource)

    @property
    def kubectl_name(self) -> str:
        """The job as kubectl's commands name it: `pytorchjob NAME`."""
        return f"{self.kind.api} {self.job}"

    @property
    def wanted_pods(self) -> int:
        """Number of pods in the job's specification."""
        return self.kind.wanted_pods(self.snapshot.job)

    @property
    def job(self) -> str:
        """The job's name."""
        return str(at(self.snapshot.job, "metadata", "name") or "JOB")

    @property
    def namespace(self) -> str:
        return str(at(self.snapshot.job, "metadata", "namespace") or "default")

    @property
    def created(self) -> datetime | None:
        return moment(at(self.snapshot.job, "metadata", "creationTimestamp"))

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        return tuple(read_pod(each) for each in self.snapshot.pods)

    @cached_property
    def events(self) -> tuple[Event, ...]:
        return tuple(_event(each) for each in self.snapshot.events)

    @cached_property
    def devices(self) -> Devices:
        """Devices of DRA drivers for what the pods request."""
        wanted = {name for each in self.snapshot.pods for name in requests(at(each, "spec") or {})}
        return served_devices(self.snapshot.devices, self.snapshot.nodes, extended(wanted))

    @cached_property
    def conditions(self) -> Mapping[str, Condition]:
        """The job's."""
        return conditions(self.snapshot.job)

    @property
    def restarts(self) -> int:
        """How often the JobSet has started all pods again."""
        return next((int(at(each, "status", "restarts") or 0) for each in self._beneath(JOB_SETS.kind)), 0)

    @property
    def failed_job(self) -> Condition | None:
        """Why the Job beneath a TrainJob has failed; None if it has not."""
        found = (conditions(each).get("Failed") for each in self._beneath(BATCH_JOBS.kind))
        return next((each for each in found if each and each.status == "True"), None)

    def _beneath(self, kind: str) -> Iterator[Object]:
        return (each for each in self.snapshot.beneath if at(each, "kind") == kind)

    @property
    def logs(self) -> str:
        """Command that prints the job's logs."""
        return f"python -m launcher logs {self.job} -n {self.namespace}"

    @property
    def longer_deadline(self) -> str:
        """Command that continues a finished job with another deadline."""
        if not self.is_training:
            return f"python -m launcher delete {self.job} -n {self.namespace}, then launcher prepare with a longer --deadline: parts that are done are kept"
        return f"python -m launcher resume {self.job} -n {self.namespace} --set deadline=…"

    @property
    def described(self) -> str:
        """Command that describes the job's pods."""
        return f"kubectl describe pods -n {self.namespace} -l {self.kind.job_label}={self.job}"

    def events_of(self, about: str, *reasons: str) -> Iterator[Event]:
        """Events of an object with these reasons, or all, newest first."""
        return (
            event
            for event in reversed(self.events)
            if event.about == about and event.reason in (reasons or (event.reason,))
        )

    def recent(self, since: datetime | None, now: datetime | None = None) -> bool:
        """Whether a time is recent, relative to `now` if given."""
        return since is not None and ((now or self.now) - since).total_seconds() <= RECENT_S

    def ago(self, since: datetime | None) -> str:
        """Time since then, for a message."""
        return lasting(since, self.now)

    def aged(self, since: datetime | None, seconds: float) -> bool:
        """Whether at least this time has passed; True for an unknown start."""
        return since is None or (self.now - since).total_seconds() >= seconds


def at(found: Any, *path: str) -> Any:  # noqa: ANN401 - JSON
    """Value at a path in an object; None if the path does not exist."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def conditions(of: Object | None) -> Mapping[str, Condition]:
    """An object's conditions by their type."""
    found = (_condition(entry) for entry in at(of, "status", "conditions") or ())
    return {condition.type: condition for condition in found}


def moment(text: Any) -> datetime | None:  # noqa: ANN401 - JSON
    """Parse a Kubernetes time, with or without fractions of a second."""
    if not isinstance(text, str):
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _words(found: Any, *path: str) -> str:  # noqa: ANN401 - JSON
    return str(at(found, *path) or "")


def _condition(entry: Object) -> Condition:
    return Condition(
        type=_words(entry, "type"),
        status=_words(entry, "status"),
        reason=_words(entry, "reason"),
        message=_words(entry, "message"),
        since=moment(at(entry, "lastTransitionTime")),
    )


def _event(event: Object) -> Event:
    times = (at(event, "series", "lastObservedTime"), at(event, "lastTimestamp"), at(event, "eventTime"))
    return Event(
        about=_words(event, "involvedObject", "name"),
        reason=_words(event, "reason"),
        message=_words(event, "message"),
        count=int(at(event, "series", "count") or at(event, "count") or 1),
        last=next((found for found in map(moment, times) if found), moment(at(event, "metadata", "creationTimestamp"))),
    )


def read_pod(pod: Object) -> Pod:
    status = {"init": at(pod, "status", "initContainerStatuses"), "main": at(pod, "status", "containerStatuses")}
    return Pod(
        object=pod,
        name=_words(pod, "metadata", "name"),
        short=kinds.short_name(pod),
        phase=_words(pod, "status", "phase"),
        reason=_words(pod, "status", "reason"),
        message=_words(pod, "status", "message"),
        node=_words(pod, "spec", "nodeName"),
        created=moment(at(pod, "metadata", "creationTimestamp")),
        deleted=moment(at(pod, "metadata", "deletionTimestamp")),
        containers=tuple(_container(entry, is_init=kind == "init") for kind in status for entry in status[kind] or ()),
        conditions=conditions(pod),
    )


def _container(status: Object, *, is_init: bool) -> Container:
    waiting = at(status, "state", "waiting")
    return Container(
        name=_words(status, "name"),
        image=_words(status, "image"),
        is_init=is_init,
        restarts=int(at(status, "restartCount") or 0),
        waiting=_words(waiting, "reason"),
        message=_words(waiting, "message"),
        started=moment(at(status, "state", "running", "startedAt")),
        ended=_end(at(status, "state", "terminated")),
        earlier=_end(at(status, "lastState", "terminated")),
    )


def _end(terminated: Any) -> End | None:  # noqa: ANN401 - JSON
    if not isinstance(terminated, dict):
        return None
    code = at(terminated, "exitCode")
    return End(
        exit_code=int(code) if code is not None else None,
        reason=_words(terminated, "reason"),
        message=_words(terminated, "message"),
        at=moment(at(terminated, "finishedAt")),
    )
