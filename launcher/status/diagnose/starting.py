"""Causes of containers that do not start, and of waiting init containers."""

import re
from typing import Final

from launcher.status.diagnose import images, volumes
from launcher.status.diagnose.facts import Cause, Container, Facts, Pod
from launcher.status.diagnose.wording import quoted, resubmit

SLOW_S: Final = 60.0
"""Normal time to create a container, without its image."""

UNSTARTED: Final = frozenset(
    {
        "CreateContainerError",
        "RunContainerError",
        "StartError",
        "ContainerCannotRun",
        "PostStartHookError",
        "PreStartHookError",
    }
)
"""Reasons of containers that never ran."""

_SECRET: Final = re.compile(r'secret "([^"]+)" not found')
_KEY: Final = re.compile(r"couldn't find key (\S+) in Secret (\S+)")
_CONFIG_MAP: Final = re.compile(r'configmap "([^"]+)" not found')
_COMMAND: Final = re.compile(r'exec: "([^"]+)": (.*?)(?:: unknown)?$')


def cause(pod: Pod, facts: Facts) -> Cause | None:
    """Why a scheduled pod has not started; None when all its containers have."""
    for container in pod.containers:
        found = images.cause(pod, container, facts) or _configuration(container, facts) or _start(container, facts)
        if found:
            return found
    if pod.phase != "Pending" or not pod.node:
        return None
    mount = volumes.mount_cause(pod, facts)
    return mount or _init(pod, facts) or _slow(pod, facts)


def _configuration(container: Container, facts: Facts) -> Cause | None:
    if container.waiting != "CreateContainerConfigError":
        return None
    said = container.message
    secret, key, config_map = _SECRET.search(said), _KEY.search(said), _CONFIG_MAP.search(said)
    if secret:
        name = quoted(secret[1])
        return Cause(
            code="secret-missing",
            why=f"there is no Secret `{name}` in namespace {facts.namespace}",
            next_step=f"kubectl create secret generic {name} -n {facts.namespace} --from-literal=AWS_ACCESS_KEY_ID=… "
            "--from-literal=AWS_SECRET_ACCESS_KEY=…; the pod then starts by itself",
        )
    if key:
        return Cause(
            code="secret-key-missing",
            why=f"the Secret `{quoted(key[2].rpartition('/')[2])}` has no key `{quoted(key[1])}`",
            next_step=f"kubectl describe secret {quoted(key[2].rpartition('/')[2])} -n {facts.namespace} shows its keys; the pod starts when the key exists",
        )
    if config_map:
        return Cause(
            code="config-map-missing",
            why=f"there is no ConfigMap `{quoted(config_map[1])}` in namespace {facts.namespace}",
            next_step=f"kubectl create configmap {quoted(config_map[1])} -n {facts.namespace} …; the pod then starts by itself",
        )
    if "runAsNonRoot" in said or "non-root" in said:
        return Cause(
            code="image-runs-as-root",
            why=f"the image {quoted(container.image)} runs as root, which the pod does not allow: {quoted(said)}",
            next_step="build the image with a USER number, as Dockerfile.cuda and Dockerfile.hpu do",
        )
    return Cause(code="container-config", why=quoted(said) or "it can't be set up", next_step=facts.described)


def _start(container: Container, facts: Facts) -> Cause | None:
    failed = container.ended if container.ended and container.ended.reason in UNSTARTED else None
    if container.waiting not in UNSTARTED and failed is None:
        return None
    return unstarted_cause(failed.message if failed else container.message, facts)


def unstarted_cause(said: str, facts: Facts) -> Cause:
    """The cause from the runtime's message for a container that can't start."""
    command = _COMMAND.search(said)
    if command:
        return Cause(
            code="container-start",
            why=f"its image can't run `{quoted(command[1])}`: {quoted(command[2])}",
            next_step=resubmit("an --image that contains the trainer (Dockerfile.cuda, Dockerfile.hpu)"),
        )
    return Cause(code="container-start", why=f"the container can't start: {quoted(said)}", next_step=facts.described)


def _init(pod: Pod, facts: Facts) -> Cause | None:
    for container in pod.containers:
        if not container.is_init:
            continue
        ended = container.ended or container.earlier
        if ended and ended.exit_code:
            return Cause(
                code="init-failed",
                why=f"init container {container.name} ended with exit code {ended.exit_code}"
                + (f": {quoted(ended.message)}" if ended.message else ""),
                next_step=f"kubectl logs {pod.name} -c {container.name} -n {facts.namespace}",
            )
        if container.started and facts.aged(container.started, SLOW_S):
            what = ", which waits until the master's name resolves" if container.name == "init-pytorch" else ""
            return Cause(
                code="init-waiting",
                why=f"init container {container.name} has been running for {facts.ago(container.started)}{what}",
                next_step=f"kubectl logs {pod.name} -c {container.name} -n {facts.namespace}",
            )
    return None


def _slow(pod: Pod, facts: Facts) -> Cause | None:
    scheduled = pod.conditions.get("PodScheduled")
    since = (scheduled.since if scheduled else None) or pod.created
    if not facts.aged(since, SLOW_S) or any(container.ended for container in pod.containers if not container.is_init):
        return None
    pulling = next(facts.events_of(pod.name, "Pulling", "Pulled"), None)
    if pulling and pulling.reason == "Pulling":
        return Cause(
            code="image-pulling",
            why=f"its image has been pulling for {facts.ago(pulling.last)}",
            next_step="wait: an image with torch has several GB; a copy near the cluster is faster",
        )
    sandbox = next(facts.events_of(pod.name, "FailedCreatePodSandBox", "NetworkNotReady"), None)
    if sandbox:
        return Cause(
            code="sandbox-failed",
            why=f"node {pod.node} can't set up the pod: {quoted(sandbox.message)}",
            next_step=f"ask an administrator of node {pod.node}",
        )
    return Cause(
        code="container-creating",
        why=f"node {pod.node} has been creating its containers for {facts.ago(since)} without an event: volumes, network or the node's kubelet are slow",
        next_step=f"{facts.described}; kubectl describe node {pod.node}",
    )
