"""Kinds of jobs: one module per kind with the same interface, and requests to a cluster for jobs of any kind.

`pytorchjob.py`, `trainjob.py`, `batchjob.py` and the modules of the same kinds in `launcher/spec/` hide the fields of one kind from all other code.
Only what no other kind has is named elsewhere: the runtime of a TrainJob, and the JobSet and the Jobs beneath it.
"""

from collections.abc import Iterable, Iterator, Mapping
from re import Pattern
from typing import Final, Literal, Protocol

from launcher.cluster.resources import Object, Resource
from launcher.kinds import batchjob, pytorchjob, trainjob
from launcher.kinds.state import Propagation, State

Api = Literal["pytorchjob", "trainjob", "job"]

Choice = Literal["auto", "pytorchjob", "trainjob", "job"]
"""Value of `--api` that selects an existing job."""

TrainingChoice = Literal["auto", "pytorchjob", "trainjob"]
"""Value of `--api` of a training job."""


class JobKind(Protocol):
    """Interface of a kind of jobs."""

    @property
    def api(self) -> Api: ...

    @property
    def resource(self) -> Resource: ...

    @property
    def container(self) -> str:
        """Name of the trainer's container in a pod."""
        ...

    @property
    def job_label(self) -> str:
        """Label of pods and Services with the name of their job."""
        ...

    @property
    def index_label(self) -> str:
        """Label of pods with their index; the pod with index 0 has rank 0."""
        ...

    @property
    def selector(self) -> str:
        """Label selector of the jobs of this kind, and of their pods, among all of its resource; empty where all are of this kind."""
        ...

    @property
    def propagation(self) -> Propagation:
        """Propagation policy of its deletion."""
        ...

    @property
    def resumed(self) -> str:
        """Merge patch in JSON that starts a suspended job."""
        ...

    def outcome(self, job: Object) -> State:
        """State of the job, even if it is being deleted."""
        ...

    def is_seen(self, job: Object) -> bool:
        """Whether its controller has processed it."""
        ...

    def is_suspended(self, job: Object) -> bool:
        """Whether its specification asks for no pods for now."""
        ...

    def smallest(self, name: str, labels: Mapping[str, str]) -> Object:
        """A job with no more than its webhook demands, for a dry run."""
        ...

    def wanted_pods(self, job: Object) -> int:
        """Number of pods in its specification."""
        ...

    def pod_spec(self, job: Object) -> Object:
        """Specification of its pods, as far as the job itself has it: the trainer's container first."""
        ...

    def variables(self, job: Object) -> Iterator[Object]:
        """The parts of the job whose `env` is that of the trainer's container."""
        ...

    def pod_names(self, job: Object) -> "Pattern[str]":
        """Names of its pods, including deleted ones; not those of a job whose name only begins like this one's."""
        ...

    def last_pod(self, name: str, pods: int) -> str:
        """Longest name that its controller gives to an object of a job with this name and number of pods."""
        ...

    def made(self, pods: int) -> Mapping[Resource, int]:
        """Number of objects of each resource, without pods, that exist for a job with this number of pods."""
        ...

    def place(self, pod: Object) -> tuple[str, int]:
        """Role and index of a pod."""
        ...

    def owns(self, job: Object, pod: Object) -> bool:
        """Whether a pod with this job's label is its own, not that of an earlier or later job of the same name."""
        ...


TRAINING: Final[tuple[JobKind, ...]] = (pytorchjob, trainjob)
"""Kinds of training jobs."""

KINDS: Final[tuple[JobKind, ...]] = (*TRAINING, batchjob)
"""All kinds. Pods of a TrainJob have the label of a Job, too, so that they must be looked for before those of a Job."""


def of_api(api: TrainingChoice) -> JobKind:
    """The kind that `--api` names; PyTorchJob for `auto`."""
    return next(kind for kind in TRAINING if api in {"auto", kind.api})


def training_api(kind: JobKind) -> TrainingChoice:
    """The value of `--api` for this kind of training jobs."""
    return "trainjob" if kind is KINDS[1] else "pytorchjob"


def of(job: Object) -> JobKind:
    """The kind of a job's object."""
    return next((kind for kind in KINDS if kind.resource.kind == job.get("kind")), KINDS[0])


def identified(kind: JobKind, job: Object) -> Object:
    """The job with its kind, which `of` needs."""
    return {"apiVersion": kind.resource.group_version, "kind": kind.resource.kind} | job


def of_pod(pod: Object) -> JobKind:
    """The kind of the job of a pod."""
    labels = pod["metadata"].get("labels") or {}
    return next((kind for kind in KINDS if kind.job_label in labels), KINDS[0])


def short_name(pod: Object) -> str:
    """`worker-3`, `master-0`, `node-3`: the pod's name without the job's."""
    role, index = of_pod(pod).place(pod)
    return f"{role}-{index}" if role else str(pod["metadata"]["name"])


def job_of(pod: Object) -> str:
    """Name of the pod's job; empty for another pod."""
    return str((pod["metadata"].get("labels") or {}).get(of_pod(pod).job_label, ""))


def newest(job: Object, pods: Iterable[Object]) -> list[Object]:
    """A job's pods in the order of their places; of several in one place, as after a restart, the newest."""
    kind = of(job)
    by_place: dict[object, Object] = {}
    for pod in sorted(pods, key=lambda each: str(each["metadata"].get("creationTimestamp") or "")):
        by_place[kind.place(pod) if kind.place(pod)[0] else pod["metadata"]["name"]] = pod
    return sorted(by_place.values(), key=kind.place)
