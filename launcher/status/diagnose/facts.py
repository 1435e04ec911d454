"""What a diagnosis reads of Kubernetes objects, as values; whatever an object lacks is empty or None."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from launcher.cluster.resources import JOB_LABEL, Object
from launcher.status.diagnose.wording import lasting
from launcher.status.snapshot import Snapshot, short_name

RECENT_S: Final = 600.0
"""How long an event about a pod that was made anew still explains its job; the server stops telling of repeated ones."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a pod or the job is not well; `why` ends the sentence that names it."""

    code: str
    why: str
    next_step: str

    is_a_consequence: bool | None = False
    """Whether another pod's failure brought it about; None where nothing says so, nor otherwise."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a component has told about an object."""

    about: str
    reason: str
    message: str
    last: datetime | None
    count: int
    """How often, as far as the server has told."""


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
    """Why it waits, empty when it does not."""

    message: str
    """Of its waiting."""

    started: datetime | None
    """Since when it runs, None when it does not."""

    ended: End | None
    """It is over."""

    earlier: End | None
    """How it ended before it was started again."""


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
    """When it has to be gone, with its grace period; None when nobody deletes it."""

    containers: tuple[Container, ...]
    """Init containers first."""

    conditions: Mapping[str, Condition]

    @property
    def containers_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return bool(self.containers) and all(container.ended for container in self.containers)


@dataclass(frozen=True)
class Facts:
    """A snapshot, read."""

    snapshot: Snapshot

    @property
    def now(self) -> datetime:
        return self.snapshot.now

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
    def conditions(self) -> Mapping[str, Condition]:
        """The job's."""
        return conditions(self.snapshot.job)

    @property
    def logs(self) -> str:
        """The command that shows what the job printed."""
        return f"python -m launcher logs {self.job} -n {self.namespace}"

    @property
    def described(self) -> str:
        """The command that shows everything about the job's pods."""
        return f"kubectl describe pods -n {self.namespace} -l {JOB_LABEL}={self.job}"

    def told(self, about: str, *reasons: str) -> Iterator[Event]:
        """Events of these reasons about an object, the newest first; without reasons all of them."""
        return (
            event
            for event in reversed(self.events)
            if event.about == about and event.reason in (reasons or (event.reason,))
        )

    def recent(self, since: datetime | None, now: datetime | None = None) -> bool:
        """Whether something was lately, or not long before the moment given."""
        return since is not None and ((now or self.now) - since).total_seconds() <= RECENT_S

    def ago(self, since: datetime | None) -> str:
        """How long something has lasted."""
        return lasting(since, self.now)

    def aged(self, since: datetime | None, seconds: float) -> bool:
        """Whether something has lasted so long; what has no beginning has."""
        return since is None or (self.now - since).total_seconds() >= seconds


def at(found: Any, *path: str) -> Any:  # noqa: ANN401 - JSON
    """What lies at a path into an object, None where it ends before."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def conditions(of: Object | None) -> Mapping[str, Condition]:
    """An object's conditions by their type."""
    found = (_condition(entry) for entry in at(of, "status", "conditions") or ())
    return {condition.type: condition for condition in found}


def moment(text: Any) -> datetime | None:  # noqa: ANN401 - JSON
    """A time as Kubernetes writes it, with or without fractions of a second."""
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
        short=short_name(pod),
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
