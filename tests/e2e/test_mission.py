"""The mission's line on a real cluster, from doctor to delete, on real X-rays in a mounted bucket."""

import json

import pytest
from cluster_site import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("driver", "of_api"),
    [("s3.csi.aws.com", "pytorchjob"), ("s3.csi.scality.com", "pytorchjob"), ("s3.csi.scality.com", "trainjob")],
    indirect=["of_api"],
)
def test_doctor_submit_logs_status_pull_and_delete_work_in_sequence(mounts, of_api, bucket, x_rays, driver):
    """What an engineer types, in this order; nothing may be left at the end. Names are short: the stand-in for the driver needs it."""
    mounts(driver)
    stored, api = of_api, of_api.api
    name = f"{api.name[:1]}-{driver.split('.')[2]}"
    job = [
        *("--accelerator", "cpu", "--workers", "2", "--workers-per-node", "1", "--name", name),
        *("--data", x_rays, "--csi-driver", driver),
    ]
    recipe = ["--", "--preset", "smoke", "--model", "densenet_tiny", "--split", "patients:70/10/20", "--epochs", "2"]

    rows = json.loads(stored.launcher("doctor", *job, "-o", "json", *recipe).stdout)["checks"]
    assert {row["status"] for row in rows} <= {"OK", "WARN", "skipped"}

    submitted = stored.launcher("submit", *job, *recipe)
    assert submitted.stdout == f"{api.name}.{api.group}/{name}\n"
    assert "kubectl logs" in submitted.stderr
    assert "unchanged" in stored.launcher("submit", *job, *recipe).stderr

    followed = stored.launcher("logs", name, "-f")
    assert "[rank 0] training on 2 x cpu" in followed.stdout
    assert "results " in followed.stdout

    stored.launcher("wait", name)
    status = json.loads(stored.launcher("status", name, "-o", "json").stdout)
    assert status["state"] == "Succeeded"
    assert name in stored.launcher("list").stdout

    selector = f"{api.job_label}={name}"
    plain = stored.kubectl("logs", "-l", selector, "-c", api.container, "--tail=-1", "--prefix")
    assert "mean AUROC" in plain
    assert stored.over(name)

    results = json.loads((bucket.folder / bucket.name / "runs" / name / "results.json").read_text())
    assert {"val", "test"} <= set(results)
    manifest = stored.kubectl("get", f"{api.name},pods,pv,pvc", "-o", "yaml")
    assert bucket.secret not in manifest

    stored.launcher("delete", name, "-y")
    beneath = ("trainingruntimes", "jobsets", "jobs") if api.name == "trainjob" else ()
    for kind in (api.name, "pods", "services", "pvc", *beneath):
        assert not [each for each in stored.objects(kind) if each["metadata"]["name"].startswith(name)], kind
    volumes = stored.objects("pv", "-l", f"app.kubernetes.io/instance={name}")
    assert volumes == []


def test_data_can_be_read_without_a_mount(stored, bucket, phantoms):
    """`--data-access api` needs no driver and no right to make volumes; a job of ours runs under Pod Security `restricted`."""
    from cluster_site import TINY

    stored.launcher(
        "submit",
        *("--accelerator", "cpu", "--workers", "2", "--name", "by-api", "--data", phantoms, "--data-access", "api"),
        *("--wait", "--", *TINY, "--epochs", "1"),
    )
    assert (bucket.folder / bucket.name / "runs/by-api/results.json").is_file()
    assert stored.objects("pvc") == []
    wait_until("no pod of the job runs", lambda: not running(stored, "by-api"), 60)
    stored.launcher("delete", "by-api", "-y")


def running(site, job):
    return [pod for pod in site.pods(job) if pod["status"].get("phase") in {"Running", "Pending"}]
