"""Checks of data, output and weights from this machine."""

from doctor_samples import summary
from submitted import spec

from launcher.doctor import checks, from_here
from launcher.doctor.runner import run
from launcher.spec.options import S3Options


def test_paths_that_only_pods_see_are_not_checked_from_here():
    """A claim, a directory of the nodes, and a server that only the cluster's DNS knows."""
    claimed = run(from_here.checks(spec(data="", output="/srv/runs", s3=S3Options(claim="xrays"))))
    assert {row.status for row in claimed if row.check != "weights"} == {"skipped"}
    inner = spec(s3=S3Options(endpoint="http://minio.storage.svc:9000"), train_flags=("--weights", "none"))
    rows = {row.check: row for row in run(from_here.checks(inner))}
    assert rows["output"].found == "only pods can reach `http://minio.storage.svc:9000`"
    assert rows["output"].fix.startswith("--in-cluster")
    assert rows["weights"].status == "OK"


def test_weights_that_need_the_internet_are_warned_of():
    """The user's machine may have internet where pods have none."""
    rows = {row.check: row for row in run(from_here.checks(spec(data="/srv", output="/srv")))}
    assert rows["weights"].status == "WARN"
    assert "from `https://download.pytorch.org/models/densenet121-a639ec97.pth`" in rows["weights"].found


def test_endpoint_of_the_job_is_checked_and_the_environment_unchanged(s3_server, s3, monkeypatch):
    """What another command of this shell uses must stay; what pods will use is what matters."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    job = spec(s3=S3Options(endpoint=s3_server, access="api"), train_flags=("--weights", "none"))
    rows = checks.doctor(job, None)
    import os

    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert summary(rows) | {"data": "", "labels": "", "images": ""} == {
        **dict.fromkeys(("S3 server", "clock", "output", "weights"), "OK"),
        **dict.fromkeys(("data", "labels", "images"), ""),
    }
    assert summary(rows)["data"] == "FAIL"  # the bucket is empty
    assert {row.where for row in rows} == {"here"}
