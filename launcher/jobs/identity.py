"""Identity of a submitted job: an environment variable by which its workers recognise earlier starts of the run as their own.

It is a random value, created with the job. The job's name is not unique: another cluster or a later job may have the same name, and
two of them must not write to one run. The UID is unique, but pods do not get it.
"""

import uuid
from copy import deepcopy

from launcher import kinds
from launcher.cluster.resources import Object
from trainer.layout import JOB


def identified(job: Object) -> Object:
    """The job with a new identity."""
    job = deepcopy(job)
    identity = uuid.uuid4().hex
    for container in kinds.of(job).variables(job):
        container["env"] = [*container.get("env", ()), {"name": JOB, "value": identity}]
    return job


def anonymous(job: Object) -> Object:
    """The job without its identity, as rendered."""
    job = deepcopy(job)
    for container in kinds.of(job).variables(job):
        container["env"] = [entry for entry in container.get("env", ()) if entry["name"] != JOB]
    return job
