"""The job that the flags of `render`, `submit` and `doctor` make."""

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
    """The job, on the claim that an administrator made for its data set, where there is one."""
    from launcher.jobs.find import claim_for  # noqa: PLC0415 - only for commands that talk to a cluster

    claim = claim_for(cluster, job.data) if job.mounts_bucket else None
    if not claim:
        return job
    report(f"{job.data} is read through the claim {claim}")
    return dataclasses.replace(job, s3=dataclasses.replace(job.s3, claim=claim))
