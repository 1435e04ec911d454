"""Checks from this machine with the user's credentials: buckets, label lists, weights and the clock."""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from launcher.doctor.runner import IN_CLUSTER, Check, skipped, warn
from launcher.spec.job import JobSpec
from launcher.spec.trust import allowed
from trainer.config import TrainConfig
from trainer.location import Location, S3Server
from trainer.runs.checks import Outcome, Step
from trainer.runs.node_checks import DISK, SHARED_MEMORY
from trainer.runs.preflight import IMAGENET, steps

INSIDE: Final = re.compile(r"[^.]+|.+\.svc|.+\.cluster\.local")
"""Host names that only the cluster's DNS resolves."""

LISTING_S: Final = 60.0
"""Time limit for labels and images: 112,120 images need 113 list requests."""


def checks(spec: JobSpec) -> list[Check]:
    """Checks that are possible from this machine, and a skipped row with the reason for each other one."""
    return [
        _check(step, _reason(step, spec))
        for step in steps(_config(spec), _server(spec))
        if step.check not in {SHARED_MEMORY, DISK}  # of a pod's node
    ]


def _check(step: Step, reason: Outcome | None) -> Check:
    slow = step.check in {"labels", "images"}
    if reason is not None:
        return Check(step.check, "here", lambda: reason)
    return Check(
        step.check,
        "here",
        step.look,
        step.needs,
        timeout_s=LISTING_S if slow else 20.0,
        late="WARN" if step.check == "images" else "FAIL",
    )


def _config(spec: JobSpec) -> TrainConfig:
    """The trainer's configuration with locations for this machine instead of paths in the container."""
    data = (
        spec.data if spec.data_at.is_bucket else spec.train.data
    )  # a bucket, even if the job reads it through a claim
    return replace(spec.train, data=data, output=spec.output)


def _reason(step: Step, spec: JobSpec) -> Outcome | None:
    """Why a step is not possible from this machine; None if it is."""
    if step.check == "weights" and not Location(spec.train.weights).is_bucket:
        return _weights_reason(spec.train.weights, spec.train.model)
    if step.check == "output" and not spec.output_at.is_bucket:
        return skipped(f"only pods can read `{spec.output}`", IN_CLUSTER)
    if step.check in {"data", "labels", "images"} and not spec.data_at.is_bucket:
        what = f"the claim `{spec.s3.claim}`" if spec.s3.claim else f"`{spec.data}`"
        return skipped(f"only pods can read {what}", IN_CLUSTER)
    host = urlsplit(spec.s3.endpoint or "").hostname or ""
    if INSIDE.fullmatch(host) and host != "localhost":
        return skipped(f"only pods can reach `{spec.s3.endpoint}`", IN_CLUSTER)
    return None


def _weights_reason(weights: str, model: str) -> Outcome | None:
    if weights == "imagenet" and model in IMAGENET:
        return warn(
            f"unless the image contains them, each node downloads ImageNet weights from `{IMAGENET[model]}`: pods need internet access",
            "--in-cluster checks it; --weights PATH, or --weights none",
        )
    return None if weights in {"none", "imagenet"} else skipped(f"only pods can read `{weights}`", IN_CLUSTER)


def _server(spec: JobSpec) -> S3Server:
    """The job's S3 server, with the user's credentials.

    Raises: InputError for an endpoint that must not get these, see `launcher.spec.trust`.
    """
    checked = any(_reason(step, spec) is None for step in steps(_config(spec)))
    uses_bucket = any(Location(place).is_bucket for place in (spec.data, spec.output, spec.train.weights))
    return S3Server(allowed(spec.s3.endpoint) if checked and uses_bucket else None, spec.s3.region)
