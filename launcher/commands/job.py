"""Parameters of the commands that build a job from flags: `render`, `submit` and `doctor`."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from launcher.cluster.access import Access
from launcher.commands.terminal import report
from launcher.settings.sources import Sources
from launcher.spec.job import JobSpec

if TYPE_CHECKING:
    from launcher.cluster.client import Cluster

Job = Annotated[JobSpec, Parameter(name="*")]
From = Annotated[Sources, Parameter(name="*")]
Through = Annotated[Access, Parameter(name="*")]


def with_claim(cluster: "Cluster", job: JobSpec) -> JobSpec:
    """The job with the claim that an administrator made for its data set, if one exists."""
    from launcher.jobs.find import claim_for  # noqa: PLC0415 - only for commands that use a cluster

    claim = claim_for(cluster, job.data) if job.mounts_bucket else None
    if not claim:
        return job
    report(f"{job.data} is read through the claim {claim}")
    return dataclasses.replace(job, s3=dataclasses.replace(job.s3, claim=claim))
