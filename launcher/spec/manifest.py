"""Kubernetes objects of a job; pure, and `submit` creates exactly what `render` prints."""

import json
from collections.abc import Sequence

from launcher import kinds
from launcher.cluster.resources import Object
from launcher.output import as_yaml
from launcher.spec import pytorch_job, s3_volume, train_job
from launcher.spec.job import JobSpec


def render(spec: JobSpec) -> list[Object]:
    """The objects of a job in the order of creation, the job itself last; `auto` is a TrainJob with `runtime`, else a PyTorchJob."""
    if spec.kind.api == "trainjob":
        return [*s3_volume.volume(spec), *train_job.runtime(spec), train_job.job(spec)]
    return [*s3_volume.volume(spec), pytorch_job.job(spec)]


def to_yaml(objects: Sequence[Object]) -> str:
    """One YAML document per object, with the order of keys unchanged."""
    start = "---\n" if len(objects) > 1 else ""
    return "".join(start + as_yaml(each) for each in objects)


def to_json(objects: Sequence[Object]) -> str:
    """JSON as kubectl prints it: a single object, or a List of several."""
    shown = objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return json.dumps(shown, indent=2) + "\n"


def to_name(objects: Sequence[Object]) -> str:
    """Name of the job as kubectl prints it."""
    job = objects[-1]
    return f"{kinds.of(job).resource.named(job['metadata']['name'])}\n"
