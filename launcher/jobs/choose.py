"""Choose the kind of a job, and the runtime of a TrainJob, by what the cluster serves and permits."""

from collections.abc import Callable
from dataclasses import replace

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ForbiddenError, NotServedError
from launcher.cluster.resources import RUNTIMES
from launcher.spec.job import JobSpec
from launcher.spec.train_job import OF_ADMINISTRATORS

Report = Callable[[str], None]


def with_kind(cluster: Cluster, spec: JobSpec, report: Report) -> JobSpec:
    """The job with a kind that the cluster serves, and with a runtime if it is a TrainJob; reports what was chosen and why.

    Raises: NotServedError when the cluster serves no kind; ForbiddenError when the user may not create a runtime and there is none
    of an administrator; InputError for flags that the kind does not support.
    """
    chosen, reason = _chosen(cluster, spec)
    if reason:
        report(f"{chosen.kind.resource.kind}: {reason} (from `--api auto`)")
    return _with_runtime(cluster, chosen, report) if chosen.kind.api == "trainjob" else chosen


def _chosen(cluster: Cluster, spec: JobSpec) -> tuple[JobSpec, str]:
    """The job with its kind, and the reason for the choice; empty if the user chose it."""
    if spec.api != "auto":
        return spec, ""
    if spec.runtime is not None:
        return replace(spec, api="trainjob"), "`--runtime` is for TrainJobs"
    served = [kind for kind in kinds.KINDS if cluster.serves(kind.resource)]
    if not served:
        names = " nor ".join(kind.resource.plural for kind in kinds.KINDS)
        raise NotServedError(
            f"cannot create a job: the cluster serves neither {names}",
            hint="install the training operator or Kubeflow Trainer: see k8s/operator",
        )
    kind, others = served[0], kinds.KINDS[1:]
    if kind in others:
        return replace(spec, api=kind.api), f"the cluster does not serve {kinds.KINDS[0].resource.plural}"
    return spec, "the cluster serves it"


def _with_runtime(cluster: Cluster, spec: JobSpec, report: Report) -> JobSpec:
    """The TrainJob with the runtime of an administrator, if the user may not create one."""
    if spec.runtime is not None or cluster.may("create", RUNTIMES):
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
