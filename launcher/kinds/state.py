"""State of a job, the same words for every kind."""

from typing import Literal

from launcher.cluster.resources import Object

State = Literal["Pending", "Created", "Running", "Restarting", "Suspended", "Succeeded", "Failed", "Deleting"]

Propagation = Literal["Foreground", "Background"]
"""Whether a job exists until its pods are gone. Source: Kubernetes, DeleteOptions."""


def true_conditions(job: Object) -> set[str]:
    """Types of the job's conditions that hold."""
    return {entry["type"] for entry in job.get("status", {}).get("conditions") or () if entry["status"] == "True"}
