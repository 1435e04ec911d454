"""Causes of missing pods: no working operator, or pods refused by the API server."""

import re
from collections.abc import Iterator
from typing import Final

from launcher.status.diagnose.facts import Cause, Event, Facts, at, conditions
from launcher.status.diagnose.wording import counted, quoted, resubmit

UNSEEN_S: Final = 30.0
"""A running operator sets the first condition of a job within seconds."""

MISSING_S: Final = 60.0
"""Maximum time for the creation of a job's pods."""

_RESTARTS: Final = frozenset(
    {
        "SuccessfulDeletePod",
        "PyTorchJobRestarting",
        "SuccessfulDelete",
        "RestartJobSetFailurePolicyAction",
        "RestartJobSetAndIgnoreMaxRestartsFailurePolicyAction",
    }
)
"""Reasons of events after which pods are created again."""

_JOB_REFUSED: Final = "JobCreationFailed"
"""Reason of the event of a JobSet whose Job is refused."""

_PASSING: Final = re.compile(r'already exists|JobSet "[^"]*" not found')
"""Refusals that a JobSet meets often, and tries again: its old Job still exists, or Kueue's webhook does not know the JobSet yet."""

_PREFIX: Final = re.compile(r'^(Error creating: |job "[^"]*" creation failed with error: )')
_QUOTA: Final = re.compile(r"exceeded quota: (\S+), requested: (.*?), used: (.*?), limited: (.*)$")
_SECURITY: Final = re.compile(r'violates PodSecurity "([^"]+)": (.*)$')
_ACCOUNT: Final = re.compile(r'serviceaccount "([^"]+)" not found')
_POD: Final = re.compile(r'pods? "([^"]+)"')


def cause(facts: Facts) -> Cause | None:
    """Why pods are missing; None when none is, or when it is too early to say."""
    missing = facts.wanted_pods - len(facts.pods)
    if missing <= 0:
        return None
    existing = {pod.name for pod in facts.pods}
    for refused in _refusals(facts):
        if _refused_pod(refused) not in existing:
            return _refused(refused, facts)
    unmade = next(facts.events_of(facts.job, "TrainJobResourcesCreationFailed"), None)
    if unmade and not facts.snapshot.beneath:
        return Cause(
            code="job-set-refused",
            why=f"Trainer cannot create its JobSet: {quoted(unmade.message)}",
            next_step=f"kubectl describe {facts.kubectl_name} -n {facts.namespace}; python -m launcher doctor",
        )
    invalid = next(facts.events_of(facts.job, "PyTorchJobFailedValidation"), None)
    if invalid:
        return Cause(
            code="job-invalid",
            why=f"the operator refuses the job: {quoted(invalid.message)}",
            next_step="its admission webhook is missing or old (kubectl get validatingwebhookconfigurations); python -m launcher doctor",
        )
    if not facts.kind.is_seen(facts.snapshot.job) and not facts.pods:
        return _operator(facts) if facts.aged(facts.created, UNSEEN_S) else None
    return _missing(facts, missing)


def _refusals(facts: Facts) -> Iterator[Event]:
    """Events about pods that were refused, of whichever controller creates them, newest first."""
    for event in reversed(facts.events):
        is_refused_job = event.reason == _JOB_REFUSED and not _PASSING.search(event.message)
        if event.reason in {"FailedCreatePod", "FailedCreate"} or is_refused_job:
            yield event


def _refused(event: Event, facts: Facts) -> Cause:
    said = _PREFIX.sub("", event.message)
    quota, security, account = _QUOTA.search(said), _SECURITY.search(said), _ACCOUNT.search(said)
    pod = quoted(_refused_pod(event).removeprefix(f"{facts.job}-")) or "a pod"
    pod = "its Job" if event.reason == _JOB_REFUSED else pod
    if quota:
        return Cause(
            code="quota-exceeded",
            why=f"{pod} can't be created: quota {quota[1]} of namespace {facts.namespace} is exceeded: requested {quoted(quota[2])}, "
            f"used {quoted(quota[3])}, limited {quoted(quota[4])}",
            next_step=f"kubectl describe quota {quota[1]} -n {facts.namespace} shows the usage; wait, delete other jobs, or {resubmit(facts.fewer_pods)}",
        )
    if security:
        return Cause(
            code="pod-security",
            why=f"{pod} can't be created: it violates PodSecurity `{quoted(security[1])}` of namespace {facts.namespace}: {quoted(security[2])}",
            next_step=_allowed_by(security[2]),
        )
    if account:
        name = quoted(account[1])
        return Cause(
            code="service-account-missing",
            why=f"{pod} can't be created: there is no service account `{name}` in namespace {facts.namespace}",
            next_step=f"kubectl create serviceaccount {name} -n {facts.namespace}; the operator then continues by itself",
        )
    if "unknown object type" in said or "failed calling webhook" in said:
        return Cause(
            code="pod-webhook",
            why=f"{pod} can't be created: a webhook of the cluster does not respond: {quoted(said)}",
            next_step="kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations; ask an administrator",
        )
    return Cause(
        code="pod-refused",
        why=f"{pod} can't be created: {quoted(said)}",
        next_step=f"kubectl describe {facts.kubectl_name} -n {facts.namespace}",
    )


def _allowed_by(violations: str) -> str:
    """Next step for a pod that Pod Security refuses; jobs of earlier versions added capabilities."""
    if "securityContext.capabilities.add" in violations:
        return f"{resubmit('this version')}, whose jobs need no capability (docs/security.md), or change --overlay"
    return "submit in a namespace that allows it (docs/security.md lists the needs of each accelerator), or change --overlay"


def _refused_pod(event: Event) -> str:
    """Name of the refused pod, which the server's message has in quotes."""
    named = _POD.search(event.message)
    return named[1] if named else ""


def _operator(facts: Facts) -> Cause:
    spec = at(facts.snapshot.job, "spec")
    manager = at(spec, "runPolicy", "managedBy") or at(spec, "managedBy")
    if manager and manager not in {"kubeflow.org/training-operator", "trainer.kubeflow.org/trainjob-controller"}:
        return Cause(
            code="managed-elsewhere",
            why=f"`{quoted(str(manager))}` manages it, and has not started it",
            next_step=f"kubectl describe {facts.kubectl_name} -n {facts.namespace}",
        )
    deployment, title = facts.snapshot.operator, facts.controller.title
    if deployment is None:
        if "deployments" in facts.snapshot.denied:
            why = f"no operator has processed the job, and you may not read whether the {title} runs"
        else:
            why = f"no operator has processed the job: there is no {title} in this cluster"
        return Cause(
            code="no-operator",
            why=why,
            next_step="ask an administrator to install it (k8s/operator); python -m launcher doctor",
        )
    namespace, name = at(deployment, "metadata", "namespace") or "kubeflow", at(deployment, "metadata", "name")
    where = f"deployment {name} -n {namespace}"
    if at(deployment, "spec", "replicas") == 0:
        why, next_step = "it is scaled to zero", f"kubectl scale {where} --replicas=1"
    elif not at(deployment, "status", "availableReplicas"):
        said = conditions(deployment).get("Available")
        why = f"it is not available{f': {quoted(said.message)}' if said and said.message else ''}"
        next_step = f"kubectl describe {where}; kubectl logs {where.replace(' ', '/', 1)}"
    else:
        why = "it runs, but may be broken or watch other namespaces only"
        next_step = f"kubectl logs {where.replace(' ', '/', 1)} --tail=20"
    return Cause(code="no-operator", why=f"the {title} has not processed the job: {why}", next_step=next_step)


def _missing(facts: Facts, missing: int) -> Cause | None:
    """The operator has processed the job, but pods are missing."""
    newest = max((pod.created for pod in facts.pods if pod.created), default=facts.created)
    lately = [event.last for event in facts.events if event.reason in _RESTARTS]
    if not facts.aged(newest, MISSING_S) or any(last and not facts.aged(last, MISSING_S) for last in lately):
        return None
    if at(facts.snapshot.job, "spec", "runPolicy", "schedulingPolicy"):
        return Cause(
            code="pod-group-waiting",
            why=f"{counted(missing, 'pod')} of it {'is' if missing == 1 else 'are'} not created yet: its PodGroup waits until all its pods fit",
            next_step=f"kubectl describe podgroup {facts.job} -n {facts.namespace}",
        )
    return Cause(
        code="pods-missing",
        why=f"{counted(missing, 'pod')} of it {'is' if missing == 1 else 'are'} not created, and no event gives a reason: the {'operator' if facts.is_training else 'controller manager'} may be broken",
        next_step=facts.controller.logs
        if facts.is_training
        else f"kubectl describe {facts.kubectl_name} -n {facts.namespace}",
    )
