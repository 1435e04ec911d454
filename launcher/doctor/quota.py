"""Check that a namespace's resource quotas allow a job; pure."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from launcher.cluster.capacity import quantity, requests, shown
from launcher.cluster.resources import CLAIMS, RUNTIMES, Object, Resource
from launcher.doctor.fit import PodSet
from launcher.doctor.runner import fail, ok, warn
from launcher.spec.job import JobSpec
from trainer.runs.checks import Outcome


def quota(
    pod_set: PodSet, quotas: Iterable[Object], *, priority_class: str | None, made: Mapping[Resource, int]
) -> Outcome:
    """Check whether each quota allows all pods, and `made` beside them, now, after other jobs have ended, or never."""
    concerning = [each for each in quotas if _concerns(each, priority_class)]
    if not concerning:
        return ok("no quota applies to jobs in this namespace")
    needs = _needs(pod_set, made)
    never, not_now = [], []
    for each in concerning:
        name = each["metadata"]["name"]
        status = each.get("status", {})
        hard = _numbers(status.get("hard") or each.get("spec", {}).get("hard"))
        used = _numbers(status.get("used"))
        for resource, most in hard.items():
            need = needs.get(resource, Fraction(0))
            text = f"`{name}` allows {_shown(resource, most)} {resource}, the job needs {_shown(resource, need)}"
            if need > most:
                never.append(text)
            elif need and need + used.get(resource, Fraction(0)) > most:
                not_now.append(f"{text}, {_shown(resource, used[resource])} are in use")
    if never:
        return fail(f"can never fit: {'; '.join(never)}", "fewer --workers, or ask an administrator for a larger quota")
    if not_now:
        return warn(f"exceeded now: {'; '.join(not_now)}", "wait until other jobs have ended")
    unlimited = _unlimited(pod_set, concerning)
    if unlimited:
        return warn(
            f"a quota requires {', '.join(unlimited)}, which the job's container does not set",
            "set a default with a LimitRange, or the limit with --overlay",
        )
    names = ", ".join(f"`{each['metadata']['name']}`" for each in concerning)
    return ok(f"within {names}")


def made_for(spec: JobSpec) -> dict[Resource, int]:
    """Numbers of the objects that exist for a job beside its pods: those of its controller, and those that `submit` creates."""
    own = {CLAIMS: spec.mounts_bucket, RUNTIMES: spec.kind.api == "trainjob" and spec.runtime is None}
    return {**spec.kind.made(spec.nodes), **{each: 1 for each, exists in own.items() if exists}}


def _needs(pod_set: PodSet, made: Mapping[Resource, int]) -> dict[str, Fraction]:
    """Amounts by the names in quotas; objects of the core group have two. Source: the Kubernetes documentation, Resource Quotas."""
    needs = {f"count/{each.plural}{'.' * bool(each.group)}{each.group}": Fraction(made[each]) for each in made}
    for name, amount in requests(pod_set.pod_spec).items():
        needs |= {name: amount * pod_set.pods, f"requests.{name}": amount * pod_set.pods}
    for name, amount in _limits(pod_set).items():
        needs[f"limits.{name}"] = amount * pod_set.pods
    core = {each.plural: Fraction(made[each]) for each in made if not each.group}
    return needs | core | {"count/pods": needs["pods"]}


def _limits(pod_set: PodSet) -> dict[str, Fraction]:
    """Sum of the limits of a pod's containers."""
    limits: dict[str, Fraction] = {}
    for container in pod_set.pod_spec.get("containers") or ():
        for name, amount in _numbers((container.get("resources") or {}).get("limits")).items():
            limits[name] = limits.get(name, Fraction(0)) + amount
    return limits


def _unlimited(pod_set: PodSet, quotas: Iterable[Object]) -> list[str]:
    """Limits that a quota covers and the pods do not set: the API server refuses such pods."""
    counted = {name for each in quotas for name in each.get("spec", {}).get("hard") or ()}
    limits = _limits(pod_set)
    return sorted(
        name for name in counted & {"limits.cpu", "limits.memory"} if name.removeprefix("limits.") not in limits
    )


def _concerns(quota: Object, priority_class: str | None) -> bool:
    """Whether a quota applies to the job's pods, which have requests, no deadline, and perhaps a priority class.

    Source: the Kubernetes documentation, Resource Quotas, quota scopes.
    """
    spec = quota.get("spec", {})
    scopes = set(spec.get("scopes") or ())
    if scopes & {"Terminating", "BestEffort", "CrossNamespacePodAffinity"}:
        return False
    expressions = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_in_scope(each, priority_class) for each in expressions)


def _in_scope(expression: Object, priority_class: str | None) -> bool:
    name = expression.get("scopeName")
    if name != "PriorityClass":
        return name not in {"Terminating", "BestEffort", "CrossNamespacePodAffinity"}
    values = expression.get("values") or ()
    return {
        "In": priority_class in values,
        "NotIn": priority_class not in values,
        "Exists": priority_class is not None,
        "DoesNotExist": priority_class is None,
    }.get(str(expression.get("operator")), True)


def _numbers(quantities: Mapping[str, str] | None) -> dict[str, Fraction]:
    """The valid quantities of a list."""
    read = {}
    for name, text in (quantities or {}).items():
        try:
            read[name] = quantity(text)
        except ValueError:
            continue
    return read


def _shown(resource: str, amount: Fraction) -> str:
    return shown(resource.removeprefix("requests.").removeprefix("limits."), amount)
