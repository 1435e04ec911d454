"""State of a pod in one word, as in kubectl's STATUS column."""

from launcher.cluster.resources import Object
from launcher.status.diagnose.facts import Container, Pod, at, read_pod


def reason(pod: Object) -> str:
    """The STATUS column of kubectl: `ContainerCreating`, `OOMKilled`, `Init:0/1`, `Terminating`, else the phase."""
    seen = read_pod(pod)
    if seen.deleted:
        return "Unknown" if seen.reason == "NodeLost" else "Terminating"
    return _init_word(pod, seen) or _main_word(seen)


def _init_word(pod: Object, seen: Pod) -> str:
    """State of the first init container that has not completed; a running sidecar does not block the others."""
    sidecars = {
        at(each, "name") for each in at(pod, "spec", "initContainers") or () if at(each, "restartPolicy") == "Always"
    }
    inits = [container for container in seen.containers if container.is_init]
    for number, container in enumerate(inits):
        if _is_done(container) or (container.started and container.name in sidecars):
            continue
        own = _word(container)
        return f"Init:{own}" if own not in {"", "PodInitializing"} else f"Init:{number}/{len(inits)}"
    return ""


def _main_word(seen: Pod) -> str:
    mains = [container for container in seen.containers if not container.is_init]
    word = next(filter(None, map(_word, mains)), "")
    if word == "Completed" and any(container.started for container in mains):
        return "Running"
    gate = seen.conditions.get("PodScheduled")
    gated = gate.reason if gate and gate.reason == "SchedulingGated" else ""
    return word or seen.reason or gated or seen.phase or "Unknown"


def _is_done(container: Container) -> bool:
    return container.ended is not None and container.ended.exit_code == 0


def _word(container: Container) -> str:
    if container.waiting:
        return container.waiting
    if container.ended is None:
        return ""
    if container.ended.reason:
        return container.ended.reason
    code = container.ended.exit_code or 0
    return f"Signal:{code - 128}" if code > 128 else f"ExitCode:{code}"
