"""A data set prepared by three pods on the cluster: the same index as one process writes, whatever happens to a pod."""

import json
import tarfile
from dataclasses import replace

import pytest
from cluster_site import Api, wait_until

from trainer.data.packs.index import INDEX
from trainer.data.preparing.prepare import prepare
from trainer.data.synthetic import write_phantoms
from trainer.prepare_config import PrepareConfig
from trainer.runtime.console import Reporter

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

JOBS = Api("job", "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index", "prepare", "batch")
IMAGES, ARCHIVES, SIDE = 240, 6, 512
SMALL = json.dumps(
    {"spec": {"containers": [{"name": "pytorch", "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}}]}}
)
"""Three pods on one node of two processors; their limits stay."""


@pytest.fixture(scope="module")
def raw(bucket):
    """A data set in archives in the bucket: its folder on the server's disk, and its address."""
    folder = bucket.folder / bucket.name / "raw"
    write_phantoms(folder, images=IMAGES, side=SIDE)
    images = sorted((folder / "images").iterdir())
    for number in range(ARCHIVES):
        with tarfile.open(folder / f"images_{number}.tar.gz", "w:gz", compresslevel=1) as archive:
            for path in images[number::ARCHIVES]:
                archive.add(path, f"images/{path.name}")
    for path in images:
        path.unlink()
    (folder / "images").rmdir()
    return folder, f"s3://{bucket.name}/raw"


@pytest.fixture
def place(stored):
    return replace(stored, api=JOBS)


@pytest.fixture
def start(place):
    """Creates a job of three pods that is gone after the test."""
    made = []

    def create(name, data, out, *more):
        made.append(name)
        flags = ["--pods", 3, "--cpus", 1, "--memory", "2Gi", "--overlay", SMALL, "--backoff", 2, *more]
        return place.launcher("prepare", *flags, "--data", data, "--out", out, "--name", name, "--", "--pack-side", 64)

    yield create
    for name in made:
        place.launcher("delete", name, "-y", code=None)


def local_index(folder, out):
    return prepare(PrepareConfig(data=str(folder), out=str(out), pack_side=64, workers=1), Reporter(None)).index_sha256


def is_running(pod):
    return any("running" in each["state"] for each in pod["status"].get("containerStatuses", ()))


def test_pod_deleted_midway_changes_nothing_of_the_result(place, start, raw, bucket, tmp_path):
    """Also the commands of a training job work for it."""
    folder, data = raw
    assert start("p1", data, f"s3://{bucket.name}/packed").stdout == "job.batch/p1\n"
    wait_until("a second pod runs", lambda: any(map(is_running, place.pods("p1")[1:2])))
    victim = place.pod("p1", 1)
    place.kubectl("delete", "pod", victim["metadata"]["name"], "--grace-period=0", "--force")
    listed = json.loads(place.launcher("list", "-o", "json").stdout)["jobs"]
    assert [(job["name"], job["api"], job["pods"]) for job in listed] == [("p1", "job", 3)]
    assert place.launcher("wait", "p1", "--timeout", "600s").stdout == "Succeeded\n"
    assert place.pod("p1", 1)["metadata"]["uid"] != victim["metadata"]["uid"]
    packed = bucket.folder / bucket.name / "packed"
    assert local_index(folder, tmp_path / "packed") is not None
    assert (packed / INDEX).read_bytes() == (tmp_path / "packed" / INDEX).read_bytes()
    shards = [path.name for path in (tmp_path / "packed").glob("shard-*.bin")]
    assert len(shards) == ARCHIVES
    for name in shards:
        assert (packed / name).read_bytes() == (tmp_path / "packed" / name).read_bytes()
    status = place.launcher("status", "p1").stdout
    assert "share-2" in status
    assert "Succeeded" in status
    assert f"s3://{bucket.name}/packed" in place.launcher("logs", "p1").stdout
    assert "job.batch/p1" in place.launcher("delete", "p1", "-y").stdout
    assert place.objects("pods", "-l", "batch.kubernetes.io/job-name=p1") == []


def test_command_that_follows_prints_the_log_of_all_shares_and_ends_with_the_job(start, raw, bucket):
    said = start("p4", raw[1], f"s3://{bucket.name}/packed-4", "--follow").stdout
    assert all(f"[share-{index}] " in said for index in range(3))
    assert "sha256 of its index" in said


def test_bad_archive_fails_the_job_once_with_its_name(place, start, raw, bucket):
    """Exit code 2 has no second pod, although `--backoff` allows two."""
    folder, _ = raw
    bad = bucket.folder / bucket.name / "bad"
    bad.mkdir()
    for path in folder.iterdir():
        content = path.read_bytes()
        (bad / path.name).write_bytes(content[: len(content) // 2] if path.name == "images_4.tar.gz" else content)
    start("p2", f"s3://{bucket.name}/bad", f"s3://{bucket.name}/packed-bad")
    place.launcher("wait", "p2", "--timeout", "600s", code=3)
    diagnosis = json.loads(place.launcher("status", "p2", "-o", "json").stdout)["diagnosis"]
    assert diagnosis["code"] == "bad-input"
    assert "images_4.tar.gz" in diagnosis["sentence"]
    failed = [pod for pod in place.objects("pods", "-l", f"{JOBS.job_label}=p2") if pod["status"]["phase"] == "Failed"]
    codes = [
        state["state"].get("terminated", {}).get("exitCode")
        for pod in failed
        for state in pod["status"]["containerStatuses"]
    ]
    assert codes.count(2) == 1
    assert not (bucket.folder / bucket.name / "packed-bad" / INDEX).exists()
    assert (
        "cannot submit `p2`"
        in place.launcher(
            *(
                "prepare",
                "--data",
                f"s3://{bucket.name}/bad",
                "--out",
                f"s3://{bucket.name}/packed-bad",
                "--name",
                "p2",
            ),
            code=2,
        ).stderr
    )


def test_server_dry_run_is_validated_by_the_server(place, bucket, raw):
    flags = ["--data", raw[1], "--out", f"s3://{bucket.name}/never", "--pods", 3, "--name", "p3"]
    assert "would be created" in place.launcher("prepare", *flags, "--dry-run", "server").stderr
    assert place.objects("jobs", "--field-selector", "metadata.name=p3") == []
