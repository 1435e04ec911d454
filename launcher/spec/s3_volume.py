"""How a job's pods reach buckets: the volume that mounts one, and the variables for those who speak S3 themselves."""

from collections.abc import Iterator
from typing import Final

from launcher.cluster.resources import Object
from launcher.spec.job import JobSpec, labels
from trainer.location import Location

VOLUME_NAME_LENGTH: Final = 63
"""Mountpoint's driver makes the volume's name a label."""

SCALITY: Final = "s3.csi.scality.com"

KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Of the Secret, and the variables in the container."""


def environment(spec: JobSpec) -> Iterator[Object]:
    """Variables by which the trainer finds and opens buckets; none where it uses none. Keys stay in their Secret."""
    if not (spec.output_at.is_bucket or spec.reads_bucket or Location(spec.train.weights).is_bucket):
        return
    if spec.s3.endpoint:
        yield {"name": "AWS_ENDPOINT_URL", "value": spec.s3.endpoint}
    if spec.s3.region:
        yield from ({"name": name, "value": spec.s3.region} for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    if spec.s3.secret:
        for key in KEYS:
            yield {"name": key, "valueFrom": {"secretKeyRef": {"name": spec.s3.secret, "key": key}}}


def claim_name(spec: JobSpec) -> str:
    """The claim that the pods mount."""
    return spec.s3.claim or f"{spec.name}-data"


def volume(spec: JobSpec) -> list[Object]:
    """The bucket as a volume, and the claim that only this job makes on it; nothing where none is made."""
    if not spec.mounts_bucket:
        return []
    name = _volume_name(spec)
    access = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    size = {"storage": "1Gi"}  # must be there, means nothing
    persistent = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": labels(spec)},
        "spec": {
            "capacity": size,
            **access,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": spec.namespace, "name": claim_name(spec)},
            "mountOptions": list(_mount_options(spec)),
            "csi": {"driver": spec.s3.csi_driver, "volumeHandle": name, **_source(spec)},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim_name(spec), "namespace": spec.namespace, "labels": labels(spec)},
        "spec": {**access, "volumeName": name, "resources": {"requests": size}},
    }
    return [persistent, claim]


def _mount_options(spec: JobSpec) -> Iterator[str]:
    """Source: the drivers' own documentation; Scality's takes its endpoint at installation and drops one that is given here."""
    prefix = spec.data_at.prefix
    yield "allow-other"  # else only root may read
    yield "read-only"
    if prefix:
        yield f"prefix {prefix}"
    if spec.s3.region:
        yield f"region {spec.s3.region}"
    if spec.s3.endpoint and spec.s3.csi_driver != SCALITY:
        yield f"endpoint-url {spec.s3.endpoint}"
        yield "force-path-style"


def _source(spec: JobSpec) -> Object:
    """Bucket and credentials of the volume."""
    attributes = {"bucketName": spec.data_at.bucket}
    secret = spec.s3.csi_secret or spec.s3.secret
    if spec.s3.csi_driver == SCALITY and secret:
        reference = {"name": secret, "namespace": spec.namespace}
        return {"nodePublishSecretRef": reference, "volumeAttributes": attributes | {"authenticationSource": "secret"}}
    if spec.s3.csi_driver != SCALITY and spec.pod.service_account and not secret:
        region = {"stsRegion": spec.s3.region} if spec.s3.region else {}
        return {"volumeAttributes": attributes | {"authenticationSource": "pod"} | region}
    return {"volumeAttributes": attributes}


def _volume_name(spec: JobSpec) -> str:
    """Unique in the cluster; the dot, which neither part can hold, keeps `a-b`/`c` and `a`/`b-c` apart."""
    name = f"{spec.namespace}.{spec.name}"
    if len(name) <= VOLUME_NAME_LENGTH:
        return name
    import hashlib  # noqa: PLC0415 - long names are rare, and it loads OpenSSL

    return f"{name[: VOLUME_NAME_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
