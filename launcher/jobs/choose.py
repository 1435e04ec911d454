"""Choose the kind of a job, and the runtime of a TrainJob, by what the cluster serves and permits."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ForbiddenError, NotServedError
from launcher.cluster.resources import RUNTIMES
from launcher.kinds import lookup
from launcher.kinds.kueue import manages
from launcher.spec.job import JobSpec
from launcher.spec.train_job import OF_ADMINISTRATORS
from trainer.errors import RemoteError

Report = Callable[[str], None]


def with_kind(cluster: Cluster, spec: JobSpec, report: Report) -> JobSpec:
    """The job with a kind that the cluster serves, and with a runtime if it is a TrainJob; reports what was chosen and why.

    Raises: NotServedError when the cluster serves no kind; ForbiddenError when the user may not create a runtime and there is none
    of an administrator; InputError for flags that the kind does not support.
    """
    return with_runtime(cluster, with_served_kind(cluster, spec, report), report)


def with_served_kind(cluster: Cluster, spec: JobSpec, report: Report) -> JobSpec:
    """The job with a kind that the cluster serves. Raises: as `with_kind`."""
    kind, reason = _kind_and_reason(cluster, spec)
    if reason:
        report(f"{kind.resource.kind}: {reason} (from `--api auto`)")
    return replace(spec, api=kinds.training_api(kind)) if kind is not kinds.of_api(spec.api) else spec


def _kind_and_reason(cluster: Cluster, spec: JobSpec) -> tuple[kinds.JobKind, str]:
    """The job's kind, and the reason for the choice; empty if the user chose it."""
    if spec.api != "auto":
        return spec.kind, ""
    if spec.runtime is not None:
        return kinds.of_api("trainjob"), "`--runtime` is for TrainJobs"
    served = [kind for kind in kinds.TRAINING if cluster.serves(kind.resource)]
    if not served:
        names = " nor ".join(kind.resource.plural for kind in kinds.TRAINING)
        raise NotServedError(
            f"cannot create a job: the cluster serves neither {names}",
            hint="install the training operator or Kubeflow Trainer: see k8s/operator",
        )
    if served[0] is not kinds.TRAINING[0]:
        return served[0], f"the cluster does not serve {kinds.TRAINING[0].resource.plural}"
    return _of_existing(cluster, spec.name) or _of_queue(cluster, spec, served) or (served[0], "the cluster serves it")


def _of_existing(cluster: Cluster, name: str) -> tuple[kinds.JobKind, str] | None:
    """The kind of the only job of this name: the same command must find it unchanged, whatever is served by now."""
    with suppress(RemoteError):
        found = lookup.find_all(cluster, name)
        if len(found) == 1:
            return kinds.of(found[0]), "a job of this name exists"
    return None


def _of_queue(cluster: Cluster, spec: JobSpec, served: Sequence[kinds.JobKind]) -> tuple[kinds.JobKind, str] | None:
    """Another kind, where Kueue does not manage the first; that it manages the other may show only when the job is created."""
    queue, (first, *others) = spec.policy.queue, served
    if not queue or not others or manages(cluster, first, queue) is not False:
        return None
    states = {kind.api: manages(cluster, kind, queue) for kind in others}
    held = next((kind for kind in others if states[kind.api] is not False), None)
    if held is None:
        return None
    known = f"Kueue manages {held.resource.kind}s, but not" if states[held.api] else "Kueue does not manage"
    return held, f"{known} {first.resource.kind}s"


def with_runtime(cluster: Cluster, spec: JobSpec, report: Report) -> JobSpec:
    """The job; a TrainJob with the runtime of an administrator, if the user may not create one. Raises: ForbiddenError."""
    if spec.kind.api != "trainjob" or spec.runtime is not None or cluster.may("create", RUNTIMES):
        return spec
    label = ",".join(f"{key}={value}" for key, value in OF_ADMINISTRATORS.items())
    found = sorted(each["metadata"]["name"] for each in cluster.list(RUNTIMES, labels=label))
    if not found:
        raise ForbiddenError(
            f"cannot create a TrainJob: you may not create trainingruntimes, and no administrator made one in namespace {cluster.namespace}",
            hint="ask an administrator for k8s/components/trainer-runtime, or for the permission (k8s/base)",
        )
    report(f"the runtime {found[0]} of an administrator is used: you may not create trainingruntimes")
    return replace(spec, runtime=found[0])
