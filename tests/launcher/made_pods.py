"""The pods that a controller makes of a job's objects, as far as the objects say so."""

from copy import deepcopy

from launcher.spec.overlay import merged
from launcher.spec.train_job import OF_TRAINER, administrators_runtime


def template_of(objects):
    """The pod template. Of a TrainJob: that of its runtime, with the fields of the trainer and the patches of the job."""
    *others, job = objects
    if job["kind"] == "PyTorchJob":
        [replica] = job["spec"]["pytorchReplicaSpecs"].values()
        return replica["template"]
    own = [each for each in others if each["kind"] == "TrainingRuntime"]
    [runtime] = own or [administrators_runtime(job["spec"]["runtimeRef"]["name"])]
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    template = deepcopy(_pods_of(runtime["spec"]))
    for patch in job["spec"].get("runtimePatches", ()):
        template = merged(template, _pods_of(patch["trainingRuntimeSpec"]))
    [container] = [each for each in template["spec"]["containers"] if each["name"] == "node"]
    trainer = job["spec"]["trainer"]
    container |= {field: trainer[theirs] for field, theirs in OF_TRAINER.items() if theirs in trainer}
    return template


def _pods_of(runtime):
    [replicated] = runtime["template"]["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]["template"]


def container_of(objects):
    """The trainer's container."""
    return template_of(objects)["spec"]["containers"][0]


def train_argv(objects):
    """What follows `-m trainer train` in the container's args."""
    args = container_of(objects)["args"]
    return args[args.index("train") + 1 :]
