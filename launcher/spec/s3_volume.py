"""Access of a job's pods to buckets: a volume that mounts the data set, and environment variables for S3 clients."""

from collections.abc import Iterator
from typing import Final

from launcher.cluster.resources import Object
from launcher.spec.job import JobSpec, labels
from launcher.spec.options import BucketOptions
from trainer.location import Location

VOLUME_NAME_LENGTH: Final = 63
"""Maximum length of a volume's name: the Mountpoint driver uses it as a label value."""

SCALITY: Final = "s3.csi.scality.com"

KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Keys of the Secret, and names of the variables in the container."""


def environment(spec: JobSpec) -> Iterator[Object]:
    """Environment variables for S3, if the trainer uses buckets; access keys are references to their Secret."""
    if spec.output_at.is_bucket or spec.reads_bucket or Location(spec.train.weights).is_bucket:
        yield from variables(spec.s3)


def variables(s3: BucketOptions) -> Iterator[Object]:
    """Environment variables of S3 clients."""
    if s3.endpoint:
        yield {"name": "AWS_ENDPOINT_URL", "value": s3.endpoint}
    if s3.region:
        yield from ({"name": name, "value": s3.region} for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    if s3.secret:
        for key in KEYS:
            yield {"name": key, "valueFrom": {"secretKeyRef": {"name": s3.secret, "key": key}}}


def claim_name(spec: JobSpec) -> str:
    """Name of the claim that the pods mount."""
    return spec.s3.claim or f"{spec.name}-data"


def volume(spec: JobSpec) -> list[Object]:
    """PersistentVolume for the bucket and the job's own claim for it; empty if the job mounts no bucket."""
    if not spec.mounts_bucket:
        return []
    name = _volume_name(spec)
    access = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    size = {"storage": "1Gi"}  # required by the API, ignored by the driver
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
    """Source: documentation of the drivers; Scality's has its endpoint from its installation and ignores one given here."""
    prefix = spec.data_at.prefix
    yield "allow-other"  # without it, only root can read the mount
    yield "read-only"
    if prefix:
        yield f"prefix {prefix}"
    if spec.s3.region:
        yield f"region {spec.s3.region}"
    if spec.s3.endpoint and spec.s3.csi_driver != SCALITY:
        yield f"endpoint-url {spec.s3.endpoint}"
        yield "force-path-style"


def _source(spec: JobSpec) -> Object:
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
    """Volumes are not namespaced: the dot, which neither part can contain, keeps `a-b`/`c` and `a`/`b-c` distinct."""
    name = f"{spec.namespace}.{spec.name}"
    if len(name) <= VOLUME_NAME_LENGTH:
        return name
    import hashlib  # noqa: PLC0415 - loads OpenSSL, and long names are rare

    kept = name[: VOLUME_NAME_LENGTH - 9].rstrip(".")  # a part of a name may not begin with a dash
    return f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
