"""Which resources a job may request as its accelerator, and what a MIG device changes."""

import json
from dataclasses import replace

import pytest
from submitted import spec

from launcher.spec.fields import settings_of
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from trainer.errors import InputError

MIG = "nvidia.com/mig-1g.10gb"
MIG_CLASS = "deviceclass.resource.kubernetes.io/mig.nvidia.com"


def container_of(job):
    [role] = render(job)[-1]["spec"]["pytorchReplicaSpecs"].values()
    return role["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("accelerator", "resource"),
    [
        ("cuda", "nvidia.com/gpu"),
        ("cuda", "nvidia.com/gpu.shared"),
        ("cuda", "example.com/gpu"),
        ("cuda", "deviceclass.resource.kubernetes.io/gpu.nvidia.com"),
        ("gaudi", "habana.ai/gaudi"),
        ("gaudi", "intel.com/gaudi"),
        ("gaudi", "deviceclass.resource.kubernetes.io/gaudi.intel.com"),
    ],
)
def test_resource_replaces_that_of_the_accelerator_and_nothing_else(accelerator, resource):
    """Memory, huge pages and variables are the accelerator's, whatever its devices are called."""
    plain = container_of(spec(accelerator=accelerator, workers=4))
    named = container_of(spec(accelerator=accelerator, workers=4, resource=resource))
    for kind in ("requests", "limits"):
        [usual] = [name for name in plain["resources"][kind] if "/" in name]
        assert plain["resources"][kind].pop(usual) == named["resources"][kind].pop(resource) == 4
    assert named == plain


@pytest.mark.parametrize(
    ("accelerator", "resource", "reason"),
    [
        ("cpu", "nvidia.com/gpu", "`--accelerator cpu` uses none"),
        ("gaudi", "nvidia.com/gpu", "`nvidia.com` is for `--accelerator cuda`"),
        ("gaudi", MIG, "`nvidia.com` is for `--accelerator cuda`"),
        ("cuda", "habana.ai/gaudi", "`habana.ai` is for `--accelerator gaudi`"),
        ("cuda", "intel.com/gaudi", "`intel.com` is for `--accelerator gaudi`"),
        ("gaudi", "gpu.intel.com/xe", "`gpu.intel.com` is for another accelerator"),
        ("gaudi", "deviceclass.resource.kubernetes.io/gpu.intel.com", "`gpu.intel.com` is for another accelerator"),
        ("cuda", "deviceclass.resource.kubernetes.io/gaudi.intel.com", "`intel.com` is for"),
        ("cuda", "amd.com/gpu", "`amd.com` is for another accelerator"),
        ("cuda", "vpc.amazonaws.com/efa", "`amazonaws.com` is for another accelerator"),
        ("cuda", "requests.nvidia.com/gpu", "the prefix `requests.` is for quotas"),
        ("cuda", "kubernetes.io/gpu", "`kubernetes.io/` is for Kubernetes' own"),
        ("cuda", "node.kubernetes.io/gpu", "`kubernetes.io/` is for Kubernetes' own"),
        ("cuda", "alpha.kubernetes.io/nvidia-gpu", "`kubernetes.io/` is for Kubernetes' own"),
        *(("cuda", name, "must be DOMAIN/NAME") for name in ("", "gpu", "cpu", "memory", "hugepages-2Mi", "a/b/c")),
        *(("cuda", name, "must be DOMAIN/NAME") for name in ("Nvidia.com/gpu", "nvidia.com/", "/gpu", "x.com/gpu=1")),
        *(("cuda", name, "must be DOMAIN/NAME") for name in ("x.com/-gpu", "x..com/gpu", "x.com/g\npu", "x.com/gpü")),
        ("cuda", f"x.com/{'g' * 64}", "must be DOMAIN/NAME"),
        ("cuda", f"{'.'.join(['d' * 60] * 5)}/gpu", "must be DOMAIN/NAME"),
    ],
)
def test_resource_that_cannot_be_the_accelerator_is_refused_by_name(accelerator, resource, reason):
    """The scheduler would look for it for ever, or the pod would get another vendor's device."""
    with pytest.raises(InputError) as refused:
        spec(accelerator=accelerator, workers=1, resource=resource)
    assert reason in str(refused.value)
    assert "(from `--resource`)" in str(refused.value)
    assert refused.value.hint


def test_longest_name_that_a_quota_can_hold_is_accepted():
    """`requests.` and the domain have at most 253 characters together."""
    domain = ".".join(["d" * 60] * 4)
    assert len(domain) == 243
    assert spec(accelerator="cuda", workers=1, resource=f"{domain}/{'g' * 63}").resource
    with pytest.raises(InputError, match="DOMAIN/NAME"):
        spec(accelerator="cuda", workers=1, resource=f"{domain}dd/gpu")


@pytest.mark.parametrize("resource", [MIG, MIG_CLASS])
def test_mig_job_has_one_worker_in_each_pod(resource):
    """CUDA uses one MIG device per process, and all workers of a pod see the same first one."""
    job = spec(accelerator="cuda", workers=8, resource=resource)
    assert (job.per_node, job.nodes) == (1, 8)
    assert container_of(job)["resources"]["limits"][resource] == 1
    assert replace(job, workers_per_node=1).nodes == 8


@pytest.mark.parametrize("resource", [MIG, MIG_CLASS])
@pytest.mark.parametrize("per_node", [2, 4])
def test_several_workers_in_a_pod_with_mig_are_refused_with_the_reason(per_node, resource):
    """Else all but one of them would fail after the pod has started."""
    with pytest.raises(InputError) as refused:
        spec(accelerator="cuda", workers=8, resource=resource, workers_per_node=per_node)
    assert f"--workers-per-node {per_node} on {resource}: it must be 1; a process can use only one MIG device" in str(
        refused.value
    )
    assert refused.value.hint == "--workers-per-node 1"


def test_settings_of_a_job_carry_its_resource():
    """`clone`, `resume` and `scale` make their jobs from these settings."""
    job = spec(accelerator="cuda", workers=2, resource=MIG)
    kept = json.loads(render(job)[-1]["metadata"]["annotations"]["chexnet-launcher/settings"])
    assert kept == settings_of(job)
    assert kept["resource"] == MIG
    again = JobSpec.from_settings(
        {key: (value,) if isinstance(value, str) else tuple(value) for key, value in kept.items()}
        | {"name": (job.name,), "namespace": (job.namespace,)}
    )
    assert again == job
