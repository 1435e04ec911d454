"""What `launcher prepare` refuses before anything is sent to a cluster."""

import pytest

from launcher.spec.options import PodOptions
from launcher.spec.prepare import PrepareBuckets, PreparePolicy, PrepareSpec
from trainer.errors import InputError


def spec(**changes):
    given = {"image": "i:1", "data": "s3://raw/nih", "out": "s3://packed/nih", "name": "p1", "namespace": "cxr"}
    return PrepareSpec(**given | changes)


def test_flags_of_the_trainer_follow_with_the_paths_of_the_container():
    config = spec(prepare_flags=("--pack-side", "320"), cpus=8).config
    assert (config.data, config.out, config.pack_side, config.workers) == ("s3://raw/nih", "s3://packed/nih", 320, 8)
    config = spec(data="/srv/raw", out="/srv/packed").config
    assert (config.data, config.out) == ("/data", "/output")
    assert spec(data="", s3=PrepareBuckets(claim="nih")).config.data == "/data"


def test_memory_grows_with_the_processes_that_decode():
    assert spec(cpus=4).memory_limit == "6Gi"
    assert spec(cpus=4, memory="512Mi").memory_limit == "512Mi"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pods": 0}, "cannot use --pods 0: it must be 1 to 1000"),
        ({"cpus": 257}, "cannot use --cpus 257"),
        ({"memory": "6G"}, "cannot use `6G` as an amount of memory"),
        ({"data": "raw"}, "must be `s3://BUCKET/PREFIX` or an absolute directory (from `--data`)"),
        ({"out": "packed"}, "an absolute directory (from `--out`)"),
        ({"data": ""}, "(from `--data`)"),
        ({"s3": PrepareBuckets(claim="nih")}, "cannot use both --data and --data-pvc"),
        ({"out": "s3://raw/nih"}, "cannot prepare `s3://raw/nih` into `s3://raw/nih`: one is in the other"),
        ({"out": "s3://raw/nih/packed"}, "one is in the other (from `--out`)"),
        ({"out": "s3://raw"}, "one is in the other"),
        ({"name": "x" * 60}, "at most 53"),
        ({"name": "A"}, "`A`"),
        ({"namespace": "A"}, "as a namespace"),
        ({"image": "a b"}, "as an image"),
        ({"prepare_flags": ("--parts", "1/2")}, "cannot use `--parts` after `--`"),
        ({"prepare_flags": ("--data=x",)}, "cannot use `--data` after `--`"),
        ({"prepare_flags": ("--epochs", "3")}, "cannot use the flags of `trainer prepare`"),
        ({"prepare_flags": ("--pack-side", "1")}, "--pack-side 1"),
    ],
)
def test_jobs_that_no_cluster_could_run_are_refused_by_name(changes, words):
    with pytest.raises(InputError) as refusal:
        spec(**changes)
    assert words in str(refusal.value)


def test_siblings_are_not_in_one_another():
    """`raw` and `raw-2` share a beginning, but no folder."""
    assert spec(data="s3://b/raw", out="s3://b/raw-2").out == "s3://b/raw-2"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PreparePolicy(backoff=-1), "--backoff"),
        (lambda: PreparePolicy(ttl="soon"), "--ttl"),
        (lambda: PreparePolicy(queue_priority="high"), "without --queue"),
        (lambda: PrepareBuckets(endpoint="minio:9000"), "--s3-endpoint"),
        (lambda: PrepareBuckets(claim="A"), "--data-pvc"),
        (lambda: PodOptions(label=("app.kubernetes.io/component=x",)), "reserved"),
    ],
)
def test_options_are_checked_as_those_of_training_jobs(make, words):
    with pytest.raises(InputError, match=words):
        make()
