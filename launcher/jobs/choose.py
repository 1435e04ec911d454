"""Choose the kind of a job, and the runtime of a TrainJob, by what the cluster serves and permits."""

from collections.abc import Callable
from dataclasses import replace

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ForbiddenError, NotServedError
from launcher.cluster.resources import RUNTIMES
from launcher.kinds.kueue import manages
from launcher.spec.job import JobSpec
from launcher.spec.train_job import OF_ADMINISTRATORS

Report = Callable[[str], None]


def with_kind(cluster: Cluster, spec: JobSpec, report: Report) -> JobSpec:
    """The job with a kind that the cluster serves, and with a runtime if it is a TrainJob; reports what was chosen and why.

    Raises: NotServedError when the cluster serves no kind; ForbiddenError when the user may not create a runtime and there is none
    of an administrator; InputError for flags that the kind does not support.
    """
    kind, reason = _kind_and_reason(cluster, spec)
    if reason:
        report(f"{kind.resource.kind}: {reason} (from `--api auto`)")
    chosen = replace(spec, api=kind.api) if kind is not spec.kind else spec
    return _with_runtime(cluster, chosen, report) if kind.api == "trainjob" else chosen


def _kind_and_reason(cluster: Cluster, spec: JobSpec) -> tuple[kinds.JobKind, str]:
    """The job's kind, and the reason for the choice; empty if the user chose it."""
    if spec.api != "auto":
        return spec.kind, ""
    if spec.runtime is not None:
        return kinds.of_api("trainjob"), "`--runtime` is for TrainJobs"
    served = [kind for kind in kinds.KINDS if cluster.serves(kind.resource)]
    if not served:
        names = " nor ".join(kind.resource.plural for kind in kinds.KINDS)
        raise NotServedError(
            f"cannot create a job: the cluster serves neither {names}",
            hint="install the training operator or Kubeflow Trainer: see k8s/operator",
        )
    if served[0] is not kinds.KINDS[0]:
        return served[0], f"the cluster does not serve {kinds.KINDS[0].resource.plural}"
    queue, others = spec.policy.queue, served[1:]
    if queue and others and manages(cluster, served[0], queue) is False:
        held = next((kind for kind in others if manages(cluster, kind, queue)), None)
        if held is not None:
            return held, f"Kueue manages {held.resource.kind}s, but not {served[0].resource.kind}s"
    return served[0], "the cluster serves it"


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
