"""What a process finds out about its surroundings before a run, on directories and on a server with S3's semantics."""

import json
import tempfile
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import PurePosixPath

import boto3
import pytest

from trainer.config import from_argv
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError
from trainer.location import Location
from trainer.runs import checks, preflight
from trainer.storage import CredentialsError, NotPermittedError

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """A data set in the NIH layout."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(folder, images=40, seed=0, side=32, progress=lambda _: None)
    return folder


@pytest.fixture
def config(phantoms, tmp_path):
    places = ["--data", str(phantoms), "--output", str(tmp_path / "runs"), "--cache-dir", str(tmp_path / "cache")]
    return from_argv([*places, "--name", "t", "--preset", "smoke", "--split", "patients:70/10/20"])


@pytest.fixture
def in_bucket(config, phantoms, s3):
    """The same data set under a prefix of a bucket."""
    client = boto3.client("s3")
    for path in phantoms.rglob("*"):
        if path.is_file():
            client.put_object(Bucket="cxr", Key=f"nih/{path.relative_to(phantoms)}", Body=path.read_bytes())
    return replace(config, data="s3://cxr/nih", output="s3://cxr/runs")


def put(*keys, content=b"x"):
    for key in keys:
        boto3.client("s3").put_object(Bucket="cxr", Key=key, Body=content)


def rows(config):
    lines = (row.as_json() for row in checks.results(preflight.steps(config)))
    return {row.pop("check"): row for row in map(json.loads, lines)}


@pytest.mark.parametrize("place", ["directory", "bucket"])
def test_every_check_passes_where_data_and_output_are_usable(place, config, request):
    """The same looks, whether data and output lie in directories or in a bucket."""
    config = config if place == "directory" else request.getfixturevalue("in_bucket")
    found = rows(config)
    assert {row["status"] for row in found.values()} == {"OK"}
    assert ("S3 server" in found) == (place == "bucket")
    assert found["labels"]["found"].startswith("layout nih: ")
    assert found["images"]["found"] == "all 40 images exist"


def test_checking_the_output_leaves_nothing_there(in_bucket):
    """The object that finds out whether one may write would be taken for a run."""
    assert preflight.output(Location("s3://cxr/runs")).status == "OK"
    assert boto3.client("s3").list_objects_v2(Bucket="cxr", Prefix="runs").get("KeyCount") == 0


def test_checks_that_depend_on_a_failed_one_are_skipped(config, tmp_path):
    """One wrong path is one failure, not four."""
    found = rows(replace(config, data=str(tmp_path / "typo")))
    assert {check: row["status"] for check, row in found.items() if row["status"] != "OK"} == {
        "data": "FAIL",
        "labels": "skipped",
        "images": "skipped",
        "disk": "skipped",
    }
    assert found["labels"]["found"] == "needs `data`"


@pytest.mark.parametrize(
    ("data", "words"),
    [("s3://nobodys/nih", "no such bucket"), ("s3://cxr/typo", "no data set found in `s3://cxr/typo`")],
)
def test_a_wrong_bucket_or_prefix_is_named(in_bucket, data, words):
    """The two most likely typing errors."""
    found = rows(replace(in_bucket, data=data))
    assert found["data"]["status"] == "FAIL"
    assert words in found["data"]["found"]
    assert found["output"]["status"] == "OK"


def test_unreachable_s3_server_is_distinguished_quickly(in_bucket, monkeypatch):
    """With the client's usual retries each of the looks would take half a minute to say so."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = rows(in_bucket)
    assert found["S3 server"]["status"] == "FAIL"
    assert "127.0.0.1:9" in found["S3 server"]["found"]
    assert {found[check]["status"] for check in ("clock", "output", "data", "labels", "images")} == {"skipped"}


def test_missing_images_in_a_bucket_are_counted_and_the_first_named(in_bucket):
    """A half-finished upload has all its label lists."""
    client = boto3.client("s3")
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket="cxr", Prefix="nih/images")["Contents"]]
    for key in keys[:3]:
        client.delete_object(Bucket="cxr", Key=key)
    found = preflight.images(in_bucket, Location(in_bucket.data))
    assert found.status == "FAIL"
    assert "3 of 40 images" in found.found


def test_folder_markers_change_no_check(in_bucket):
    """A data set whose folders were made in a console is as good as another."""
    put("nih/", "nih/images", "nih/images/", "nih/images_$folder$", content=b"")
    assert {row["status"] for row in rows(in_bucket).values()} == {"OK"}


@pytest.mark.parametrize("marker", ["odd/", "odd/train/", "odd/train"])
def test_folder_marker_is_no_data_set(in_bucket, marker):
    """It could be listed and read."""
    put(marker, content=b"")
    assert rows(replace(in_bucket, data="s3://cxr/odd"))["data"]["status"] == "FAIL"


@pytest.mark.parametrize("key", ["nih/images", "nih/images/", "nih/images//a.png", "nih//a.png"])
def test_object_that_training_refuses_fails_the_check(in_bucket, key):
    """Its name cannot be one of a file."""
    put(key)
    found = rows(in_bucket)["images"]
    assert found["status"] == "FAIL"
    assert f"`{key.removeprefix('nih/')}`: " in found["found"]


def test_file_in_place_of_a_class_folder_fails_the_check(in_bucket):
    put(
        "k/train/A",
        *(f"k/{part}/{kind}/person{n}_virus_{n}.jpeg" for part in ("train", "test") for kind in "AB" for n in range(9)),
    )
    found = rows(replace(in_bucket, data="s3://cxr/k", split="patients:70/10/20"))
    assert {check: row["status"] for check, row in found.items() if row["status"] != "OK"} == {"images": "FAIL"}
    assert "`train/A`: it has content, but other objects need a folder" in found["images"]["found"]


def test_class_folders_in_a_bucket_are_read_without_downloading_images(in_bucket, tmp_path, monkeypatch):
    """Nothing but names is needed of 5,856 pictures; a name that points outside the data set makes no file."""
    put(
        *(
            f"kermany/{part}/{kind}/person{n}_virus_{n}.jpeg"
            for part in ("train", "test")
            for kind in "AB"
            for n in range(9)
        )
    )
    put("kermany/train/../../escaped.png")
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    found = preflight.labels(
        replace(in_bucket, data="s3://cxr/kermany", split="patients:70/10/20"), Location("s3://cxr/kermany")
    )
    assert found.status == "OK", found
    assert found.found.startswith("layout folders: ")
    assert list(copies.iterdir()) == []


def test_label_problems_name_the_bucket_and_not_a_copy(in_bucket):
    """A path of a temporary directory tells the user nothing."""
    put("odd/labels.csv")
    with pytest.raises(InputError) as refusal:
        preflight.labels(replace(in_bucket, data="s3://cxr/odd"), Location("s3://cxr/odd"))
    assert "labels-" not in str(refusal.value)
    assert "s3://cxr/odd" in str(refusal.value)


@pytest.mark.parametrize(
    ("late_s", "status", "words"),
    [
        (0, "OK", "0 s"),
        (-30, "OK", "30 s behind"),
        (61, "WARN", "61 s ahead of"),
        (-299, "WARN", "299 s behind"),
        (301, "FAIL", "301 s ahead of"),
        (-86400, "FAIL", "86400 s behind"),
    ],
)
def test_clock_skew_warns_or_fails_by_its_size(late_s, status, words):
    """A wrong clock looks like wrong keys."""
    found = preflight.skew(NOON, NOON + timedelta(seconds=late_s), "it")
    assert (found.status, words in found.found) == (status, True)


def test_server_without_a_date_header_skips_the_clock_check():
    assert preflight.skew(None, NOON, "it").status == "skipped"


@pytest.mark.parametrize(("wanted", "status"), [("none", "OK"), ("there.pt", "OK"), ("typo.pt", "FAIL")])
def test_weights_are_checked(wanted, status, tmp_path):
    """A pod should not find out after it holds eight cards."""
    (tmp_path / "there.pt").write_bytes(b"PK\x03\x04")
    assert (
        preflight.weights(Location(wanted if wanted == "none" else str(tmp_path / wanted)), "densenet121").status
        == status
    )


def test_labels_that_are_no_classes_fail_the_check_for_cross_entropy(config):
    """What training refuses, `doctor` tells."""
    found = rows(replace(config, loss="cross_entropy"))["labels"]
    assert found["status"] == "FAIL"
    assert "--loss bce" in found["fix"]


def test_weights_in_a_bucket_are_checked(s3):
    boto3.client("s3").put_object(Bucket="cxr", Key="w/first.pt", Body=b"PK\x03\x04")
    assert preflight.weights(Location("s3://cxr/w/first.pt"), "densenet121").status == "OK"
    assert preflight.weights(Location("s3://cxr/w/first.p"), "densenet121").status == "FAIL"


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "it is empty"), (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"), (b"<html>", "HTML")],
)
def test_file_that_has_no_weights_is_named_before_a_job(tmp_path, s3, content, what):
    """Eight cards would wait for the pod to find out."""
    (tmp_path / "w.pt").write_bytes(content)
    boto3.client("s3").put_object(Bucket="cxr", Key="w/w.pt", Body=content)
    for place in (str(tmp_path / "w.pt"), "s3://cxr/w/w.pt"):
        found = preflight.weights(Location(place), "densenet121")
        assert found.status == "FAIL"
        assert what in found.found
        assert found.fix


@pytest.mark.parametrize("model", preflight.IMAGENET)
def test_imagenet_weights_that_the_image_carries_are_found(tmp_path, monkeypatch, model):
    """Pods often have no internet; the file of another model is of no use."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(preflight.urllib.request, "urlopen", unreachable)
    carried = tmp_path / "hub/checkpoints" / PurePosixPath(preflight.IMAGENET[model]).name
    carried.parent.mkdir(parents=True)
    carried.touch()
    assert {one for one in preflight.IMAGENET if preflight.weights(Location("imagenet"), one).status == "OK"} == {model}
    assert preflight.weights(Location("imagenet"), "densenet_tiny").status == "FAIL"


def unreachable(*_args, **_options):
    raise OSError("no internet here")


def test_checked_urls_of_imagenet_weights_are_those_that_training_uses():
    """They are written out in the preflight, which must not load torch."""
    from trainer.models import pretrained

    assert {model: source.url for model, source in pretrained.IMAGENET.items()} == preflight.IMAGENET


def test_a_finding_is_one_line_whatever_the_error_holds():
    """Rows are lines of JSON and of a table, and names in a bucket are anybody's."""
    outcome = checks.refused(InputError("cannot:\n  one\n  two\x1b[2J" + "x" * 2000, hint="a\nb"))
    assert outcome.found.isprintable()
    assert outcome.fix.isprintable()
    assert outcome.found.startswith("cannot:; one; two")
    assert len(outcome.found) < 700


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("SignatureDoesNotMatch", CredentialsError),
        ("InvalidAccessKeyId", CredentialsError),
        ("AccessDenied", NotPermittedError),
    ],
)
def test_wrong_credentials_are_not_reported_as_missing_rights(code, kind, monkeypatch):
    """Who has the wrong Secret must not go and ask for permissions."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            content = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "wrong-key")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(kind):
            preflight.data(Location("s3://cxr/nih"))
        server.shutdown()
        thread.join()
