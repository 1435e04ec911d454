"""Causes of failed image pulls."""

import re
from typing import Final

from launcher.status.diagnose.facts import Cause, Container, Facts, Pod
from launcher.status.diagnose.wording import quoted, resubmit

_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
_PULLING: Final = re.compile(
    r'^(?:Back-off pulling image "[^"]*"(?:: )?)?(?:ErrImagePull: )?(?:rpc error: code = \w+ desc = )?'
)

_KINDS: Final = (
    (
        re.compile(r"toomanyrequests|\b429\b|rate limit", re.IGNORECASE),
        "image-rate-limit",
        "the registry limits the rate of pulls",
        "wait, log in with --image-pull-secret NAME, or use a copy of the image in another registry",
    ),
    (
        re.compile(
            r"\b401\b|\b403\b|unauthorized|authentication required|authorization failed|access denied|no basic auth|denied:",
            re.IGNORECASE,
        ),
        "image-auth",
        "the registry refuses access: no permission, or no such repository",
        f"kubectl create secret docker-registry NAME --docker-server=… --docker-username=…, then {resubmit('--image-pull-secret NAME')}",
    ),
    (
        re.compile(
            r"not found|manifest unknown|name unknown|does not exist|not present with pull policy", re.IGNORECASE
        ),
        "image-pull",
        "no such image or tag",
        resubmit("an --image that exists"),
    ),
    (
        re.compile(
            r"no such host|no route to host|connection refused|i/o timeout|dial tcp|deadline exceeded|x509|certificate|HTTP response to HTTPS",
            re.IGNORECASE,
        ),
        "image-pull",
        "the node can't reach the registry",
        "check the registry's name in --image, and the node's connection to it (DNS, proxy, certificate)",
    ),
    (
        re.compile(r"no match for platform|exec format error"),
        "image-pull",
        "the image is for another processor architecture",
        "build it for the nodes: --platform linux/amd64",
    ),
    (
        re.compile(r"no space left on device"),
        "image-pull",
        "the node's disk is full",
        "ask an administrator to free space on the node",
    ),
)
"""Source: messages of containerd and of registries; the first match counts."""


def cause(pod: Pod, container: Container, facts: Facts) -> Cause | None:
    """Why a container waits for its image; None when it does not."""
    if container.waiting == "InvalidImageName":
        said = container.message.rpartition(": ")[2]
        return Cause(
            code="image-name",
            why=f"`{quoted(container.image)}` is not a valid image name ({quoted(said)})",
            next_step=resubmit("--image REGISTRY/NAME:TAG, in lower case"),
        )
    if container.waiting not in _REASONS:
        return None
    said = _said(pod, container, facts)
    known = next((kind for kind in _KINDS if kind[0].search(said)), None)
    code, meaning, next_step = (
        known[1:] if known else ("image-pull", "", f"kubectl describe pod {pod.name} -n {facts.namespace}")
    )
    why = ": ".join(
        part for part in (f"image {quoted(container.image)} can't be pulled", meaning, _end_of(said)) if part
    )
    return Cause(code=code, why=why, next_step=next_step)


def _said(pod: Pod, container: Container, facts: Facts) -> str:
    """The kubelet's message; older versions report the reason only in an event."""
    said = _PULLING.sub("", container.message)
    if said:
        return said
    failed = (
        event.message
        for event in facts.events_of(pod.name, "Failed")
        if event.message.startswith("Failed to pull image")
    )
    return next(failed, "").partition('": ')[2]


def _end_of(said: str) -> str:
    """The registry's answer, without the prefixes that the runtime adds."""
    for mark in (
        "failed to do request: ",
        "failed to resolve reference ",
        "failed to copy: ",
        "failed to pull and unpack image ",
    ):
        if mark in said:
            rest = said.rpartition(mark)[2]
            return quoted(rest.partition('": ')[2] if rest.startswith('"') else rest)
    return quoted(said)
