"""The Job of `launcher prepare`: golden manifests, the schema of Kubernetes, and what the fields are for.

UPDATE_GOLDEN=1 rewrites the golden manifests; `make golden` sets it.
"""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from schemas import check_object, metadata_problems

from launcher.spec.manifest import to_name, to_yaml
from launcher.spec.options import PodOptions
from launcher.spec.overlay import Overlay
from launcher.spec.prepare import PrepareBuckets, PreparePolicy, PrepareSpec
from launcher.spec.prepare_job import job

GOLDEN = Path(__file__).with_name("golden")

BASE = {"image": "registry.example/chexnet:1", "namespace": "cxr"}

JOBS = {
    "prepare-in-buckets": PrepareSpec(
        **BASE,
        name="prepare-in-buckets",
        pods=16,
        data="s3://raw/nih",
        out="s3://packed/nih-320",
        s3=PrepareBuckets(endpoint="http://s3.example:9000", region="eu-1", secret="s3"),
        pod=PodOptions(
            service_account="packer",
            image_pull_secret=("pull",),
            node_selector=("pool=cpu",),
            toleration=("batch:NoSchedule",),
            label=("team=radiology",),
            env=("A=1",),
            env_from_secret=("B=more:b", "all"),
        ),
        policy=PreparePolicy(
            queue="team", queue_priority="low", priority_class="low", ttl="1h", deadline="8h", backoff=5
        ),
        prepare_flags=("--pack-side", "320"),
    ),
    "prepare-in-directories": PrepareSpec(**BASE, name="prepare-in-directories", data="/srv/raw", out="/srv/packed"),
    "prepare-from-a-claim": PrepareSpec(
        **BASE,
        name="prepare-from-a-claim",
        pods=3,
        cpus=2,
        memory="3Gi",
        out="s3://packed/nih",
        s3=PrepareBuckets(claim="raw"),
        pod=PodOptions(
            overlay=Overlay({"spec": {"containers": [{"name": "pytorch", "env": [{"name": "C", "value": "2"}]}]}})
        ),
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_rendered_jobs_equal_their_golden_manifests(name):
    path = GOLDEN / f"{name}.yaml"
    text = to_yaml([job(JOBS[name])])
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "`make golden` rewrites it"


@pytest.mark.parametrize("name", JOBS)
def test_jobs_fit_the_schema_of_kubernetes(name):
    made = job(JOBS[name])
    check_object(made)
    assert metadata_problems(made["metadata"]) == []
    assert metadata_problems(made["spec"]["template"]["metadata"]) == []


def test_schema_refuses_an_unknown_field():
    made = job(JOBS["prepare-in-directories"])
    made["spec"]["backoffLimitPerIndexes"] = 3
    with pytest.raises(Exception, match="backoffLimitPerIndexes"):
        check_object(made)


def test_name_is_printed_as_kubectl_does():
    assert to_name([job(JOBS["prepare-in-directories"])]) == "job.batch/prepare-in-directories\n"


def test_overlay_names_the_container_as_for_training_jobs():
    [container] = job(JOBS["prepare-from-a-claim"])["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "prepare"
    assert {"name": "C", "value": "2"} in container["env"]


def test_bad_input_fails_the_job_and_an_eviction_does_not_count():
    rules = job(JOBS["prepare-in-directories"])["spec"]["podFailurePolicy"]["rules"]
    assert [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in rules] == [
        ("FailJob", [2]),
        ("Ignore", None),
    ]


@pytest.mark.parametrize(("index", "share"), [("0", "1/16"), ("15", "16/16")])
def test_each_pod_prepares_the_share_of_its_index(index, share, tmp_path):
    """The command itself, with a `python` that prints what it is given."""
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    container = job(JOBS["prepare-in-buckets"])["spec"]["template"]["spec"]["containers"][0]
    done = subprocess.run(
        [*container["command"], *container["args"], "with a space"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": index},
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[:3] == ["-m", "trainer", "prepare"]
    assert words[-2:] == ["with a space", f"--parts={share}"]
    assert "--pack-side=320" in words


def test_limit_of_processors_equals_the_request():
    """The trainer counts its processors by the limit of its cgroup."""
    [container] = job(JOBS["prepare-from-a-claim"])["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"cpu": "2", "memory": "3Gi"}


def test_objects_hold_no_key_only_references(tmp_path):
    text = yaml.safe_dump(job(JOBS["prepare-in-buckets"]))
    assert "secretKeyRef" in text
    assert "AWS_SECRET_ACCESS_KEY" in text
