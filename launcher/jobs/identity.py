"""What tells one submitted job from every other: a variable of its workers, by which they know a run's earlier starts as their own.

It is made up when the job is created. A job's name would not do: another cluster, or a later job, may have the same one, and two
of them must not write to one run. Neither would its UID: pods are not told it.
"""

import uuid
from collections.abc import Iterator
from copy import deepcopy

from launcher.cluster.resources import Object
from launcher.spec.manifest import CONTAINER
from trainer.layout import JOB


def identified(job: Object) -> Object:
    """The job with an identity of its own."""
    job = deepcopy(job)
    identity = uuid.uuid4().hex
    for container in _containers(job):
        container["env"] = [*container.get("env", ()), {"name": JOB, "value": identity}]
    return job


def anonymous(job: Object) -> Object:
    """The job without its identity, as it was rendered."""
    job = deepcopy(job)
    for container in _containers(job):
        container["env"] = [entry for entry in container.get("env", ()) if entry["name"] != JOB]
    return job


def _containers(job: Object) -> Iterator[Object]:
    for replica in job["spec"]["pytorchReplicaSpecs"].values():
        containers = replica["template"]["spec"].get("containers", ())
        yield from (container for container in containers if container["name"] == CONTAINER)
