"""A submitted job is told from every other, and still compares as it was rendered."""

import pytest

from launcher.jobs.identity import anonymous, identified
from trainer.layout import JOB


@pytest.fixture
def job():
    containers = [{"name": "pytorch", "env": [{"name": "A", "value": "1"}]}, {"name": "sidecar"}]
    return {"spec": {"pytorchReplicaSpecs": {"Worker": {"template": {"spec": {"containers": containers}}}}}}


def variables(job):
    containers = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    return [{entry["name"]: entry["value"] for entry in container.get("env", ())} for container in containers]


def test_each_submission_has_an_identity_of_its_own(job):
    """A job that is deleted and submitted again is another writer."""
    one, other = variables(identified(job))[0], variables(identified(job))[0]
    assert one[JOB] != other[JOB]
    assert one["A"] == "1"


def test_identity_is_set_in_the_trainers_container_only(job):
    """A sidecar's own environment is its own."""
    assert variables(identified(job))[1] == {}


def test_job_without_its_identity_is_the_one_that_was_rendered(job):
    """Submitting the same again must change nothing."""
    assert anonymous(identified(job)) == job
