"""A pod's state in one word, as kubectl shows it."""

from launcher.diagnose.facts import Container, at, read_pod
from launcher.resources import Object


def reason(pod: Object) -> str:
    """What kubectl's STATUS column says: `ContainerCreating`, `OOMKilled`, `Init:0/1`, `Terminating`, else the phase."""
    seen = read_pod(pod)
    word = seen.reason or seen.phase or "Unknown"
    inits = [container for container in seen.containers if container.is_init]
    for number, container in enumerate(inits):
        if _is_done(container) or (
            at(pod, "status", "containerStatuses") and container.started and not _blocks(pod, container)
        ):
            continue
        own = _word(container)
        return f"Init:{own}" if own and own != "PodInitializing" else f"Init:{number}/{len(inits)}"
    words = [_word(container) for container in seen.containers if not container.is_init]
    word = next(filter(None, words), word)
    if seen.deleted:
        return "Unknown" if seen.reason == "NodeLost" else "Terminating"
    if word == "Completed" and any(container.started for container in seen.containers if not container.is_init):
        return "Running"
    return word


def _is_done(container: Container) -> bool:
    return container.ended is not None and container.ended.exit_code == 0


def _blocks(pod: Object, container: Container) -> bool:
    """Whether what comes after an init container waits for it; a sidecar lets the others start."""
    specs = at(pod, "spec", "initContainers") or ()
    return not any(at(each, "name") == container.name and at(each, "restartPolicy") == "Always" for each in specs)


def _word(container: Container) -> str:
    if container.waiting:
        return container.waiting
    if container.ended is None:
        return ""
    if container.ended.reason:
        return container.ended.reason
    code = container.ended.exit_code or 0
    return f"Signal:{code - 128}" if code > 128 else f"ExitCode:{code}"
