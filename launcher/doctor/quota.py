"""Whether a namespace's quotas leave room for a job; pure."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from launcher.cluster.capacity import quantity, requests, shown
from launcher.cluster.resources import Object
from launcher.doctor.fit import PodSet
from launcher.doctor.runner import fail, ok, warn
from trainer.runs.probe import Outcome


def quota(pod_set: PodSet, quotas: Iterable[Object], *, priority_class: str | None, claims: int) -> Outcome:
    """Whether all pods, with so many claims, have room in each quota: now, when others are over, or never."""
    concerning = [each for each in quotas if _concerns(each, priority_class)]
    if not concerning:
        return ok("no quota limits this namespace's jobs")
    needs = _needs(pod_set, claims)
    never, not_now = [], []
    for each in concerning:
        name = each["metadata"]["name"]
        status = each.get("status", {})
        hard = _numbers(status.get("hard") or each.get("spec", {}).get("hard"))
        used = _numbers(status.get("used"))
        for resource, most in hard.items():
            need = needs.get(resource, Fraction(0))
            text = f"`{name}` allows {_shown(resource, most)} {resource}, the job takes {_shown(resource, need)}"
            if need > most:
                never.append(text)
            elif need and need + used.get(resource, Fraction(0)) > most:
                not_now.append(f"{text}, {_shown(resource, used[resource])} are in use")
    if never:
        return fail(f"can never fit: {'; '.join(never)}", "fewer --workers, or ask an administrator for a larger quota")
    if not_now:
        return warn(f"no room now: {'; '.join(not_now)}", "wait until others are over")
    unlimited = _unlimited(pod_set, concerning)
    if unlimited:
        return warn(
            f"a quota counts {', '.join(unlimited)}, of which the job's container sets none",
            "a LimitRange must give it a default, or --overlay set it",
        )
    names = ", ".join(f"`{each['metadata']['name']}`" for each in concerning)
    return ok(f"there is room in {names}")


def _needs(pod_set: PodSet, claims: int) -> dict[str, Fraction]:
    """What counts against a quota, by the quota's names for it; the operator makes a Service for each pod."""
    needs = {
        "persistentvolumeclaims": Fraction(claims),
        "services": Fraction(pod_set.pods),
        "count/pytorchjobs.kubeflow.org": Fraction(1),
    }
    for name, amount in requests(pod_set.pod_spec).items():
        needs |= {name: amount * pod_set.pods, f"requests.{name}": amount * pod_set.pods}
    for name, amount in _limits(pod_set).items():
        needs[f"limits.{name}"] = amount * pod_set.pods
    core = {f"count/{name}": needs[name] for name in ("pods", "services", "persistentvolumeclaims")}
    return needs | core


def _limits(pod_set: PodSet) -> dict[str, Fraction]:
    """A pod's limits, its containers together."""
    limits: dict[str, Fraction] = {}
    for container in pod_set.pod_spec.get("containers") or ():
        for name, amount in _numbers((container.get("resources") or {}).get("limits")).items():
            limits[name] = limits.get(name, Fraction(0)) + amount
    return limits


def _unlimited(pod_set: PodSet, quotas: Iterable[Object]) -> list[str]:
    """What a quota counts and the pods do not say: the API server refuses such pods."""
    counted = {name for each in quotas for name in each.get("spec", {}).get("hard") or ()}
    limits = _limits(pod_set)
    return sorted(
        name for name in counted & {"limits.cpu", "limits.memory"} if name.removeprefix("limits.") not in limits
    )


def _concerns(quota: Object, priority_class: str | None) -> bool:
    """Whether it counts pods like ours: they have requests, no deadline, and perhaps a priority class.

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
    """What can be read of a list of amounts."""
    read = {}
    for name, text in (quantities or {}).items():
        try:
            read[name] = quantity(text)
        except ValueError:
            continue
    return read


def _shown(resource: str, amount: Fraction) -> str:
    return shown(resource.removeprefix("requests.").removeprefix("limits."), amount)
