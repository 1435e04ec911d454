"""Why the operator makes no pods: it is not there, or the API server refuses what it makes."""

import re
from typing import Final

from launcher.status.diagnose.facts import Cause, Event, Facts, at, conditions
from launcher.status.diagnose.wording import counted, quoted, resubmit
from launcher.status.snapshot import wanted_pods

UNSEEN_S: Final = 30.0
"""A running operator gives a job its first condition within seconds."""

MISSING_S: Final = 60.0
"""How long making a job's pods may take."""

_QUOTA: Final = re.compile(r"exceeded quota: (\S+), requested: (.*?), used: (.*?), limited: (.*)$")
_SECURITY: Final = re.compile(r'violates PodSecurity "([^"]+)": (.*)$')
_ACCOUNT: Final = re.compile(r'serviceaccount "([^"]+)" not found')
_POD: Final = re.compile(r'pods? "([^"]+)"')


def cause(facts: Facts) -> Cause | None:
    """Why pods are missing, None when none is or nobody can tell yet."""
    missing = wanted_pods(facts.snapshot.job) - len(facts.pods)
    if missing <= 0:
        return None
    there = {pod.name for pod in facts.pods}
    for refused in facts.told(facts.job, "FailedCreatePod"):
        if _refused_pod(refused) not in there:
            return _refused(refused, facts)
    invalid = next(facts.told(facts.job, "PyTorchJobFailedValidation"), None)
    if invalid:
        return Cause(
            code="job-invalid",
            why=f"the operator refuses the job: {quoted(invalid.message)}",
            next_step="its admission webhook is missing or old (kubectl get validatingwebhookconfigurations); python -m launcher doctor",
        )
    if not facts.conditions and not facts.pods:
        return _operator(facts) if facts.aged(facts.created, UNSEEN_S) else None
    return _missing(facts, missing)


def _refused(event: Event, facts: Facts) -> Cause:
    """The API server does not let a pod be made."""
    said = event.message.removeprefix("Error creating: ")
    quota, security, account = _QUOTA.search(said), _SECURITY.search(said), _ACCOUNT.search(said)
    pod = quoted(_refused_pod(event).removeprefix(f"{facts.job}-")) or "a pod"
    if quota:
        return Cause(
            code="quota-exceeded",
            why=f"{pod} can't be made: quota {quota[1]} of namespace {facts.namespace} is exceeded: requested {quoted(quota[2])}, "
            f"used {quoted(quota[3])}, limited {quoted(quota[4])}",
            next_step=f"kubectl describe quota {quota[1]} -n {facts.namespace} shows the use; wait, end other jobs, or {resubmit('fewer --workers')}",
        )
    if security:
        return Cause(
            code="pod-security",
            why=f"{pod} can't be made: it violates PodSecurity `{quoted(security[1])}` of namespace {facts.namespace}: {quoted(security[2])}",
            next_step=_allowed_by(security[2]),
        )
    if account:
        name = quoted(account[1])
        return Cause(
            code="service-account-missing",
            why=f"{pod} can't be made: there is no service account `{name}` in namespace {facts.namespace}",
            next_step=f"kubectl create serviceaccount {name} -n {facts.namespace}; the operator then goes on by itself",
        )
    if "unknown object type" in said or "failed calling webhook" in said:
        return Cause(
            code="pod-webhook",
            why=f"{pod} can't be made: a webhook of the cluster can't be asked: {quoted(said)}",
            next_step="kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations; tell an administrator",
        )
    return Cause(
        code="pod-refused",
        why=f"{pod} can't be made: {quoted(said)}",
        next_step=f"kubectl describe pytorchjob {facts.job} -n {facts.namespace}",
    )


def _allowed_by(violations: str) -> str:
    """What to do about a pod that Pod Security refuses; jobs of earlier versions asked for capabilities."""
    if "securityContext.capabilities.add" in violations:
        return f"{resubmit('this version')}, whose jobs need no capability (docs/security.md), or change --overlay"
    return "submit in a namespace that allows it (docs/security.md says what each accelerator needs and why), or change --overlay"


def _refused_pod(event: Event) -> str:
    """The pod's name; the server tells it in quotes."""
    named = _POD.search(event.message)
    return named[1] if named else ""


def _operator(facts: Facts) -> Cause:
    """Nobody has looked at the job."""
    manager = at(facts.snapshot.job, "spec", "runPolicy", "managedBy")
    if manager and manager != "kubeflow.org/training-operator":
        return Cause(
            code="managed-elsewhere",
            why=f"`{quoted(str(manager))}` is to run it, and has not begun",
            next_step=f"kubectl describe pytorchjob {facts.job} -n {facts.namespace}",
        )
    deployment = facts.snapshot.operator
    if deployment is None:
        if "deployments" in facts.snapshot.denied:
            why = "no one has looked at the job, and your rights do not show whether the training operator runs"
        else:
            why = "no one has looked at the job: there is no training operator in this cluster"
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
        why = "it runs, and may be broken or watch other namespaces only"
        next_step = f"kubectl logs {where.replace(' ', '/', 1)} --tail=20"
    return Cause(code="no-operator", why=f"the training operator has not looked at the job: {why}", next_step=next_step)


def _missing(facts: Facts, missing: int) -> Cause | None:
    """The operator has seen the job, and its pods are not there."""
    newest = max((pod.created for pod in facts.pods if pod.created), default=facts.created)
    lately = [event.last for event in facts.events if event.reason in {"SuccessfulDeletePod", "PyTorchJobRestarting"}]
    if not facts.aged(newest, MISSING_S) or any(last and not facts.aged(last, MISSING_S) for last in lately):
        return None
    if at(facts.snapshot.job, "spec", "runPolicy", "schedulingPolicy"):
        return Cause(
            code="pod-group-waiting",
            why=f"{counted(missing, 'pod')} of it {'is' if missing == 1 else 'are'} not made yet: its PodGroup waits until the whole gang fits",
            next_step=f"kubectl describe podgroup {facts.job} -n {facts.namespace}",
        )
    return Cause(
        code="pods-missing",
        why=f"{counted(missing, 'pod')} of it {'is' if missing == 1 else 'are'} not made, and no event says why: the operator may be broken",
        next_step="kubectl logs -n kubeflow deployment/training-operator --tail=20",
    )
