"""Causes of missing volumes: claims, CSI drivers and mounts."""

import re
from typing import Final

from launcher.status.diagnose.facts import Cause, Event, Facts, Pod, at
from launcher.status.diagnose.wording import quoted, resubmit

BINDING_S: Final = 30.0
"""Maximum time to bind a claim to its volume; 15 s were measured."""

_ABSENT_CLAIM: Final = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_NO_DRIVER: Final = re.compile(r"driver name (\S+) not found in the list of registered CSI drivers")
_NO_ATTACHER: Final = re.compile(r"timed out waiting for external-attacher of (\S+) CSI driver")
_LEVEL: Final = re.compile(r"^\d{4}-\d\d-\d\dT\S+ (?:\[\w+\] )?")
_VOLUME: Final = re.compile(r'for volume "([^"]+)"')

_REASONS: Final = (
    (
        re.compile(
            r"secrets? \S+ (?:in the namespace \S+ with error: .* )?not found|failed to find the secret", re.IGNORECASE
        ),
        "the Secret with its keys does not exist",
        "create the Secret with key_id and access_key, or name another with --csi-secret",
    ),
    (
        re.compile(
            r"unexpected argument|unknown (?:mount )?option|unrecognized option|invalid option|InvalidArgument",
            re.IGNORECASE,
        ),
        "the driver does not support a mount option",
        "check mountOptions of the volume: kubectl get pv -o yaml",
    ),
    (
        re.compile(
            r"NoSuchBucket|bucket (?:or key )?(?:does not exist|not found)|no such bucket|404 Not Found", re.IGNORECASE
        ),
        "the bucket does not exist",
        "check the bucket in --data, and --s3-endpoint",
    ),
    (
        re.compile(
            r"access ?denied|forbidden|\b403\b|InvalidAccessKeyId|SignatureDoesNotMatch|no signing credentials|unauthorized|Bad Request",
            re.IGNORECASE,
        ),
        "the server refuses the keys",
        "check the Secret of --csi-secret or --s3-secret: the driver reads key_id and access_key, which need s3:ListBucket and s3:GetObject",
    ),
    (
        re.compile(
            r"connection refused|no such host|i/o timeout|could not resolve|Couldn't connect|Failed to connect to",
            re.IGNORECASE,
        ),
        "the S3 server can't be reached from the node",
        "check --s3-endpoint; the driver must reach it from the node",
    ),
    (
        re.compile(r"is not a directory|does not exist|no such file"),
        "the directory does not exist on the node",
        "--data and --output must be directories that exist on every node, or s3://BUCKET/PREFIX",
    ),
)
"""Meanings of mount errors. Source: messages of the Mountpoint drivers, s3fs and the kubelet; the first match counts."""


def claim_cause(pod: Pod, facts: Facts, message: str) -> Cause | None:
    """Why a pod waits for its claims, from the scheduler's message."""
    absent = _ABSENT_CLAIM.search(message)
    if absent:
        return Cause(
            code="claim-missing",
            why=f"there is no PersistentVolumeClaim `{quoted(absent[1])}` in namespace {facts.namespace}",
            next_step=f"kubectl get pvc -n {facts.namespace}, then {resubmit('--data-pvc NAME')}",
        )
    if "unbound immediate PersistentVolumeClaims" not in message:
        return None
    return _unbound(pod, facts)


def _unbound(pod: Pod, facts: Facts) -> Cause:
    claims = {at(claim, "metadata", "name"): claim for claim in facts.snapshot.claims}
    named = (at(volume, "persistentVolumeClaim", "claimName") for volume in at(pod.object, "spec", "volumes") or ())
    waiting = [name for name in named if name in claims and at(claims[name], "status", "phase") != "Bound"]
    if not waiting:
        return Cause(
            code="claim-pending",
            why="its PersistentVolumeClaim is being bound",
            next_step=f"kubectl get pvc -n {facts.namespace}",
        )
    name = waiting[0]
    next_step = f"kubectl describe pvc {name} -n {facts.namespace}"
    told = next(facts.events_of(name, "ProvisioningFailed", "FailedBinding", "VolumeMismatch"), None)
    volume = at(claims[name], "spec", "volumeName")
    if at(claims[name], "status", "phase") == "Lost":
        why = f"the volume of PersistentVolumeClaim `{name}` was deleted"
    elif told:
        why = f"PersistentVolumeClaim `{name}` is not bound: {quoted(told.message)}"
    elif volume and facts.aged(pod.created, BINDING_S):
        why = f"PersistentVolumeClaim `{name}` waits for the PersistentVolume `{volume}`, which does not exist or belongs to another claim"
        next_step = f"kubectl get pv {volume}"
    elif volume:
        why = f"PersistentVolumeClaim `{name}` is being bound, which can take 15 s"
    else:
        why = f"PersistentVolumeClaim `{name}` has no volume yet"
    return Cause(code="claim-pending", why=why, next_step=next_step)


def mount_cause(pod: Pod, facts: Facts) -> Cause | None:
    """Why the volumes of a scheduled pod are not mounted; None without an event about it."""
    failed = next(facts.events_of(pod.name, "FailedMount", "FailedAttachVolume", "FailedMapVolume"), None)
    if failed is None or not _is_of(pod, failed):
        return None
    driver = _NO_DRIVER.search(failed.message) or _NO_ATTACHER.search(failed.message)
    if driver:
        return Cause(
            code="csi-driver-missing",
            why=f"the CSI driver {quoted(driver[1])} is not running on node {pod.node or '?'}",
            next_step=f"kubectl get csinode {pod.node}; install the driver, or {resubmit('--csi-driver or --data-access api')}",
        )
    meaning, next_step = next(
        ((says, step) for pattern, says, step in _REASONS if pattern.search(failed.message)),
        ("", f"kubectl describe pod {pod.name} -n {facts.namespace}"),
    )
    volume = _VOLUME.search(failed.message)
    what = f"volume {quoted(volume[1])}" if volume else "a volume"
    why = f"{what} can't be mounted: {f'{meaning}: ' if meaning else ''}{_last_words(failed.message)}"
    return Cause(code="mount-failed", why=why, next_step=next_step)


def _is_of(pod: Pod, event: Event) -> bool:
    """Recreated pods have the same name; events before the pod's creation are about an earlier one."""
    return pod.created is None or event.last is None or event.last >= pod.created


def _last_words(message: str) -> str:
    """The innermost error, at the end of a message with several layers or lines."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    for mark in (" desc = ", " failed: ", '" : '):
        last = last.rpartition(mark)[2]
    return quoted(_LEVEL.sub("", last))
