"""A bucket of a real server: signatures that count, objects that survive it, and none of the newer inventions."""

import boto3
import pytest
from faultproxy import CutAnswer, FaultProxy

from trainer.errors import RemoteError
from trainer.location import Location
from trainer.storage import CredentialsError, RetryPolicy, S3Storage, UnreachableError, multipart, open_storage
from trainer.storage import s3 as bucket_module

URL = "s3://cxr/runs/one"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_ACCESS_KEY_ID", "unknown-key", "AWS_ACCESS_KEY_ID"),
    ],
)
@pytest.mark.parametrize("ask", ["read", "stat", "keys"])
def test_wrong_credentials_are_a_credentials_error_with_a_hint(ask, name, value, words, rclone, monkeypatch):
    """A slip in a secret is not a matter of rights, and the cure is another for each half."""
    monkeypatch.setenv(name, value)
    with pytest.raises(CredentialsError) as refusal:
        getattr(open_storage(URL), ask)("state.pt")
    assert words in refusal.value.hint
    assert rclone.secret not in f"{refusal.value} {refusal.value.__cause__}"


def test_missing_bucket_is_reported_by_every_call(rclone):
    """A run would start afresh in a bucket that is not there."""
    storage = open_storage("s3://nowhere/runs")
    for ask in (storage.read, storage.stat, storage.keys, lambda key: storage.write(key, b"1")):
        with pytest.raises(RemoteError, match="no such bucket"):
            ask("state.pt")


def test_download_that_breaks_off_resumes_though_the_server_ignores_ranges(rclone, monkeypatch):
    """Its answer to a range is 200 and the whole: the bytes that are there must not come twice."""
    content = bytes(range(256)) * 10_000
    open_storage(URL).write("state.pt", content)
    with FaultProxy(rclone.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.script(CutAnswer(1_500_000), method="GET")
        storage = S3Storage(Location(URL), policy=RetryPolicy(30, sleep=lambda _: None))
        assert storage.read("state.pt") == content
        assert proxy.requests[-1].headers["Range"] == "bytes=1048576-"


def test_server_that_is_killed_and_comes_back_is_waited_for(rclone):
    """Its machine restarts in the middle of a training."""
    told = []

    def sleep(_):
        told.append("waits")
        if len(told) == 3:
            rclone.start()

    storage = S3Storage(Location(URL), policy=RetryPolicy(30, sleep=sleep))
    storage.write("state.pt", b"1")
    rclone.kill()
    assert storage.read("state.pt") == b"1"
    assert len(told) == 3


class KillHalfway:
    """In place of a bandwidth: ends the server when it has half of what is sent."""

    def __init__(self, server, size_bytes):
        self.server, self.left = server, size_bytes / 2

    def take(self, size_bytes):
        self.left -= size_bytes
        if self.left < 0:
            self.server.kill()


def test_server_that_is_killed_in_the_middle_of_a_put_keeps_the_old_object(rclone, monkeypatch):
    """Half a checkpoint must never be taken for one."""
    open_storage(URL).write("state.pt", b"old")
    with FaultProxy(rclone.endpoint) as proxy:
        proxy.upload = KillHalfway(rclone, 4_000_000)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(UnreachableError):
            S3Storage(Location(URL), policy=RetryPolicy(0)).write("state.pt", bytes(4_000_000))
    rclone.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", rclone.endpoint)
    storage = open_storage(URL)
    assert storage.read("state.pt") == b"old"
    assert storage.keys("") == ["state.pt"]


def test_large_object_goes_in_parts(rclone, monkeypatch, tmp_path):
    """Real signatures of each part, and the parts in their order."""
    monkeypatch.setattr(bucket_module, "WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr(multipart, "PART_BYTES", 5 << 20)
    content = b"".join(bytes([number]) * (4 << 20) for number in range(3))
    (tmp_path / "state.pt").write_bytes(content)
    storage = open_storage(URL)
    storage.upload("state.pt", tmp_path / "state.pt")
    assert storage.read("state.pt") == content
    storage.write("state.pt", content[1:])
    assert storage.read("state.pt") == content[1:]
    assert "Uploads" not in boto3.session.Session().client("s3").list_multipart_uploads(Bucket="cxr")
