"""Jobs, their recorded settings and the claims for their data, as they are found in the cluster."""

import pytest
from submitted import JOB_PATH, POD_PATH, spec

from launcher.cluster.resources import DATA
from launcher.jobs import submit
from launcher.jobs.find import find_admin_claim, list_jobs, settings_of
from launcher.kinds.lookup import get as get_job
from launcher.kinds.pytorchjob import job_label
from launcher.spec.manifest import render
from trainer.errors import InputError


def test_claim_of_an_administrator_is_found_by_its_annotation(cluster, api):
    """So that nobody has to know its name."""
    claim = {"metadata": {"name": "cxr", "annotations": {DATA: "s3://cxr/nih/"}}, "status": {"phase": "Bound"}}
    api.state.put("/api/v1/namespaces/team-a/persistentvolumeclaims/cxr", claim)
    assert find_admin_claim(cluster, "s3://cxr/nih") == "cxr"
    assert find_admin_claim(cluster, "s3://cxr/other") is None
    api.state.forbidden.add(("list", "persistentvolumeclaims"))
    assert find_admin_claim(cluster, "s3://cxr/nih") is None


def test_recorded_settings_of_a_job_recreate_it(cluster):
    """What `clone` starts from; without the name, and without secrets because there are none."""
    made = spec(train_flags=("--epochs", "3"), workers=2)
    submit.submit(cluster, render(made))
    settings = settings_of(get_job(cluster, "t1"))
    assert settings == {
        "accelerator": "cpu",
        "workers": "2",
        "image": "i",
        "data": "s3://cxr/nih",
        "output": "s3://cxr/runs",
        "train_flags": ["--epochs", "3"],
    }
    with pytest.raises(InputError, match="the launcher did not create it"):
        settings_of({"metadata": {"name": "x"}})


def test_list_takes_a_request_for_each_kind_and_one_for_pods_however_many_jobs_there_are(cluster, api):
    """A request for each would take minutes with hundreds."""
    for number in range(30):
        api.state.put(f"{JOB_PATH}/j{number}", {"metadata": {"name": f"j{number}", "namespace": "team-a"}})
        labels = {job_label: f"j{number}"}
        api.state.put(f"{POD_PATH}/p{number}", {"metadata": {"name": f"p{number}", "labels": labels}})
    found, pods = list_jobs(cluster, everywhere=False)
    assert (len(found), len(pods)) == (30, 30)
    assert len(api.state.requests) == 4
