"""A data set's files come whole and verified from a server, or not at all, and an interrupted download continues."""

import errno
import gzip
import hashlib
import io
import os
import random

import boto3
import pytest
from faultproxy import Corrupt, CutAnswer, FaultProxy, Hang, Refuse, Reset, Slow
from file_server import FileServer
from rich.console import Console

from trainer.data.downloads import nih
from trainer.data.downloads.folder import Folder
from trainer.data.downloads.http_source import HttpSource
from trainer.data.downloads.nih import PublishedFile
from trainer.data.downloads.transfer import Download, from_mirror, open_target
from trainer.errors import InputError, RemoteError, TryAgainError
from trainer.runtime.console import Reporter
from trainer.storage import AbsentError, ChangedError, DamagedError, FullError, RetryPolicy, UnreachableError
from trainer.storage.connection import Timeouts

PIECE = 1000
ARCHIVE = random.Random(0).randbytes(10 * PIECE + 123)
NAME = "images_01.tar.gz"


def published(name, content, base):
    return PublishedFile(name, hashlib.sha256(content).hexdigest(), f"{base}/{name}")


@pytest.fixture
def server():
    with FileServer({NAME: ARCHIVE}) as server:
        server.etags[NAME] = '"one"'
        yield server


@pytest.fixture
def proxy(server):
    with FaultProxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def said():
    return io.StringIO()


@pytest.fixture
def fetch(tmp_path, said):
    def fetch(*archives, out=None, labels=(), connections=3, piece_bytes=PIECE, patience_s=20.0, read_s=10.0):
        source = HttpSource(connections=connections, policy=RetryPolicy(patience_s), timeouts=Timeouts(5.0, read_s))
        target = open_target(str(out or tmp_path / "out"), patience_s=5.0)
        reporter = Reporter(None, console=Console(file=said, width=200))
        Download(source, target, connections, reporter, piece_bytes).fetch(archives, labels)

    return fetch


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def there(out):
    return sorted(path.name for path in out.iterdir())


def partial(out, item, content):
    out.mkdir()
    (out / f".{item.name}-{item.sha256[:16]}.download").write_bytes(content)


def test_archive_comes_in_ranges_and_is_kept_afterwards(fetch, server, out, said):
    item = published(NAME, ARCHIVE, server.url)
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE
    assert sorted(server.fetched(NAME)) == sorted(
        f"bytes={first}-{min(first + PIECE, len(ARCHIVE)) - 1}" for first in range(0, len(ARCHIVE), PIECE)
    )
    server.requests.clear()
    fetch(item)
    assert server.requests == []
    assert f"{NAME}: there already, with the right SHA-256" in said.getvalue()


def test_restart_asks_only_for_what_is_missing(fetch, server, out):
    item = published(NAME, ARCHIVE, server.url)
    partial(out, item, ARCHIVE[:7300])
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE
    assert sorted(server.fetched(NAME)) == ["bytes=7300-8299", "bytes=8300-9299", f"bytes=9300-{len(ARCHIVE) - 1}"]
    assert there(out) == [NAME]


def test_partial_file_that_a_power_cut_damaged_begins_again(fetch, server, out):
    item = published(NAME, ARCHIVE, server.url)
    partial(out, item, bytes(7300))
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE


def test_partial_file_longer_than_the_archive_begins_again(fetch, server, out):
    item = published(NAME, ARCHIVE, server.url)
    partial(out, item, ARCHIVE + b"more")
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE


def test_server_that_dies_midway_leaves_what_came_and_the_same_command_continues(fetch, proxy, out):
    item = published(NAME, ARCHIVE, proxy.url)
    proxy.script(Slow(1e9), method="GET", times=2)
    proxy.script(Reset(), method="GET", times=None)
    with pytest.raises(UnreachableError, match="cannot download") as failure:
        fetch(item, connections=1, patience_s=0.0)
    assert "the same command continues where it stopped" in failure.value.hint
    assert [path.stat().st_size for path in out.iterdir()] == [2 * PIECE]
    proxy.forget()
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE
    assert (
        min(int(each.headers["Range"][6:].partition("-")[0]) for each in proxy.requests if each.method == "GET") == 2000
    )


@pytest.mark.parametrize(
    "fault",
    [Refuse(503, "x"), Refuse(429, "x"), Reset(), CutAnswer(300), CutAnswer(300, reset=False), Hang(), Slow(20_000)],
    ids=lambda fault: f"{type(fault).__name__}{getattr(fault, 'status', getattr(fault, 'reset', ''))}",
)
def test_transient_faults_are_retried_where_the_answer_stopped(fetch, proxy, out, fault):
    """Also a server that is silent, and one that is slow."""
    item = published(NAME, ARCHIVE, proxy.url)
    proxy.script(fault, method="GET", times=2)
    fetch(item, read_s=0.3 if isinstance(fault, Hang) else 10.0)
    assert (out / NAME).read_bytes() == ARCHIVE
    if isinstance(fault, CutAnswer):
        assert {each.headers["Range"] for each in proxy.requests if each.method == "GET"} & {
            "bytes=300-999",
            "bytes=1300-1999",
        }


def test_server_without_ranges_sends_the_rest_after_what_is_there(fetch, server, out):
    server.ranges = False
    item = published(NAME, ARCHIVE, server.url)
    partial(out, item, ARCHIVE[:7300])
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE
    assert server.fetched(NAME) == ["bytes=0-0", None]


def test_truncated_answer_of_a_server_without_ranges_is_asked_again(fetch, server, proxy, out):
    server.ranges = False
    item = published(NAME, ARCHIVE, proxy.url)
    proxy.script(Slow(1e9), method="GET", times=1)
    proxy.script(CutAnswer(5000), method="GET", times=1)
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE


def test_server_without_head_is_asked_for_one_byte(fetch, server, out):
    server.head = False
    fetch(published(NAME, ARCHIVE, server.url))
    assert (out / NAME).read_bytes() == ARCHIVE
    assert server.fetched(NAME)[0] == "bytes=0-0"


def test_redirects_are_followed_and_endless_ones_refused(fetch, server, out):
    server.redirects["static/x.gz"] = f"{server.url}/{NAME}?signature=abc"
    item = PublishedFile(NAME, hashlib.sha256(ARCHIVE).hexdigest(), f"{server.url}/static/x.gz")
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE
    server.redirects["a"] = "/a"
    with pytest.raises(RemoteError, match="too many redirects"):
        fetch(PublishedFile("a", "0" * 64, f"{server.url}/a"))


def test_absent_file_and_refusal_are_named_at_once(fetch, server, proxy, out):
    with pytest.raises(AbsentError, match=r"cannot look up `.*/other.gz`: the server answers 404 Not Found") as absent:
        fetch(published("other.gz", b"", server.url))
    assert absent.value.exit_code == 2
    proxy.script(Refuse(403, "x"), times=None)
    with pytest.raises(RemoteError, match="the server answers 403 Forbidden") as refusal:
        fetch(published(NAME, ARCHIVE, proxy.url))
    assert refusal.value.exit_code == 4
    assert there(out) == []


def test_unreachable_server_exits_with_4(fetch, server):
    url = "http://127.0.0.1:1"
    with pytest.raises(UnreachableError, match="onnection refused") as failure:
        fetch(published(NAME, ARCHIVE, url), patience_s=0.0)
    assert failure.value.exit_code == 4


def test_wrong_sha256_leaves_nothing(fetch, proxy, out):
    item = published(NAME, ARCHIVE, proxy.url)
    proxy.script(Corrupt(), method="GET", times=1)
    with pytest.raises(
        DamagedError, match=f"cannot download `{NAME}`: its SHA-256 begins with `[0-9a-f]{{12}}`, must"
    ) as damage:
        fetch(item)
    assert damage.value.exit_code == 2
    assert there(out) == []
    fetch(item)
    assert (out / NAME).read_bytes() == ARCHIVE


def test_file_replaced_on_the_server_begins_again_once(fetch, server, proxy, out, said):
    item = published(NAME, ARCHIVE, proxy.url)
    server.files[NAME] = bytes(len(ARCHIVE))

    def replaced():
        server.files[NAME] = ARCHIVE
        server.etags[NAME] = '"two"'

    proxy.script(Slow(1e9), method="GET", times=3)
    proxy.script(Slow(1e9), method="GET", times=1, meanwhile=replaced)
    fetch(item, connections=1)
    assert (out / NAME).read_bytes() == ARCHIVE
    assert "it changed on the server; the download begins again" in said.getvalue()


def test_file_that_changes_all_the_time_is_refused(fetch, server, proxy, out):
    item = published(NAME, ARCHIVE, proxy.url)
    versions = iter(range(1000))
    proxy.script(
        Slow(1e9), method="GET", times=None, meanwhile=lambda: server.etags.update({NAME: f'"{next(versions)}"'})
    )
    with pytest.raises(ChangedError, match="it changed on the server while being downloaded"):
        fetch(item)
    assert there(out) == []


def test_wrong_content_length_ends_with_an_error(fetch, server, out):
    """A server that promises more bytes than the file has."""
    server.extra_length = 5
    with pytest.raises((ChangedError, UnreachableError)):
        fetch(published(NAME, ARCHIVE, server.url), patience_s=0.5)
    assert not (out / NAME).exists()
    server.ranges = False
    with pytest.raises((ChangedError, UnreachableError)):
        fetch(published(NAME, ARCHIVE, server.url), patience_s=0.5)
    assert not (out / NAME).exists()


def test_file_of_other_content_is_refused_before_anything_is_downloaded(fetch, server, out):
    out.mkdir()
    (out / NAME).write_bytes(b"someone else's")
    server.files["more.gz"] = b"1"
    with pytest.raises(InputError, match=f"files of these names have other content, .*\n  {NAME}") as refusal:
        fetch(published("more.gz", b"1", server.url), published(NAME, ARCHIVE, server.url))
    assert refusal.value.exit_code == 2
    assert (out / NAME).read_bytes() == b"someone else's"
    assert there(out) == [NAME]


def test_folder_in_the_place_of_a_file_is_refused(fetch, server, out):
    (out / NAME).mkdir(parents=True)
    with pytest.raises(InputError, match="it is not a regular file"):
        fetch(published(NAME, ARCHIVE, server.url))


def test_room_is_checked_with_the_bytes_before_the_start(fetch, server, out, monkeypatch):
    real = os.statvfs

    def nearly_full(path):
        system = list(real(path))
        system[4] = 1  # f_bavail
        return os.statvfs_result(system)

    monkeypatch.setattr(os, "statvfs", nearly_full)
    big = random.Random(1).randbytes(3 << 20)
    server.files[NAME] = big
    with pytest.raises(FullError, match=r"too little room on its disk; 3 MiB needed, .* free"):
        fetch(published(NAME, big, server.url))
    assert server.fetched(NAME) == []


def test_disk_that_fills_up_keeps_what_came(fetch, server, out, monkeypatch):
    item = published(NAME, ARCHIVE, server.url)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Folder, "_finish", full)
    with pytest.raises(FullError, match="no space left on device"):
        fetch(item)
    monkeypatch.undo()
    server.requests.clear()
    fetch(item)
    assert server.fetched(NAME) == []
    assert (out / NAME).read_bytes() == ARCHIVE


def test_second_process_is_sent_away(fetch, server, out):
    item = published(NAME, ARCHIVE, server.url)
    out.mkdir()
    target = Folder(out)
    with target._opened(item, 1), pytest.raises(TryAgainError, match="another process downloads to it") as busy:
        fetch(item)
    assert busy.value.exit_code == 75


def test_packed_label_file_is_unpacked_and_verified(fetch, server, out):
    server.files["labels.csv"] = gzip.compress(b"a,b\n")
    item = published("labels.csv", b"a,b\n", server.url)
    fetch(labels=[item])
    assert (out / "labels.csv").read_bytes() == b"a,b\n"
    server.files["labels.csv"] = gzip.compress(b"a,c\n")
    with pytest.raises(DamagedError, match="SHA-256"):
        fetch(labels=[item], out=out / "other")
    server.files["labels.csv"] = gzip.compress(b"a,b\n")[:-6]
    with pytest.raises(DamagedError, match="not a valid gzip file"):
        fetch(labels=[item], out=out / "other")


def test_names_links_and_hashes_of_the_release():
    files = [*nih.ARCHIVES, *nih.LABEL_FILES]
    assert [item.name for item in nih.ARCHIVES] == [f"images_{number:02}.tar.gz" for number in range(1, 13)]
    assert len({item.sha256 for item in files}) == len({item.url for item in files}) == len(files) == 16
    assert all(len(item.sha256) == 64 and item.url.startswith("https://") for item in files)
    assert from_mirror(nih.ARCHIVES, "http://m/x")[0].url == f"http://m/x/{NAME}"


LARGE = random.Random(2).randbytes((11 << 20) + 5)
PART = 5 << 20


def in_bucket(name):
    return boto3.client("s3").get_object(Bucket="cxr", Key=f"raw/{name}")["Body"].read()


def unfinished():
    return boto3.client("s3").list_multipart_uploads(Bucket="cxr").get("Uploads", [])


def keys():
    return [each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket="cxr").get("Contents", [])]


def test_archive_goes_to_a_bucket_without_a_local_copy_and_is_kept_there(fetch, server, s3, tmp_path, said):
    server.files |= {"large.tar.gz": LARGE, "labels.csv": b"a,b\n"}
    items = [published("large.tar.gz", LARGE, server.url)], [published("labels.csv", b"a,b\n", server.url)]
    fetch(*items[0], labels=items[1], out="s3://cxr/raw", piece_bytes=PART)
    assert in_bucket("large.tar.gz") == LARGE
    assert in_bucket("labels.csv") == b"a,b\n"
    assert list(tmp_path.iterdir()) == []
    server.requests.clear()
    fetch(*items[0], labels=items[1], out="s3://cxr/raw", piece_bytes=PART)
    assert server.requests == []
    assert "large.tar.gz: there already, with the right SHA-256" in said.getvalue()


def test_object_that_another_program_uploaded_is_read_and_kept_or_refused(fetch, server, s3):
    boto3.client("s3").put_object(Bucket="cxr", Key=f"raw/{NAME}", Body=ARCHIVE)
    fetch(published(NAME, ARCHIVE, server.url), out="s3://cxr/raw")
    assert server.requests == []
    boto3.client("s3").put_object(Bucket="cxr", Key=f"raw/{NAME}", Body=b"other")
    with pytest.raises(InputError, match="have other content"):
        fetch(published(NAME, ARCHIVE, server.url), out="s3://cxr/raw")
    assert in_bucket(NAME) == b"other"


def test_archive_goes_to_a_server_that_checks_signatures(fetch, server, rclone):
    """Of another make than the double of the other tests."""
    server.files["large.tar.gz"] = LARGE
    for _ in range(2):
        fetch(published("large.tar.gz", LARGE, server.url), out="s3://cxr/raw", piece_bytes=PART)
    assert (rclone.folder / "cxr/raw/large.tar.gz").read_bytes() == LARGE


def test_wrong_sha256_aborts_the_upload(fetch, server, s3):
    server.files["large.tar.gz"] = LARGE
    with pytest.raises(DamagedError, match=r"cannot write `s3://cxr/raw/large.tar.gz`: the SHA-256 of the content"):
        fetch(
            PublishedFile("large.tar.gz", "0" * 64, f"{server.url}/large.tar.gz"), out="s3://cxr/raw", piece_bytes=PART
        )
    assert keys() == []
    assert unfinished() == []


def test_server_that_dies_aborts_the_upload_and_the_same_command_succeeds(fetch, server, proxy, s3):
    server.files["large.tar.gz"] = LARGE
    item = published("large.tar.gz", LARGE, proxy.url)
    proxy.script(Slow(1e9), method="GET", times=1)
    proxy.script(Reset(), method="GET", times=None)
    with pytest.raises(UnreachableError):
        fetch(item, out="s3://cxr/raw", piece_bytes=PART, connections=1, patience_s=0.0)
    assert keys() == []
    assert unfinished() == []
    proxy.forget()
    fetch(item, out="s3://cxr/raw", piece_bytes=PART)
    assert in_bucket("large.tar.gz") == LARGE


def test_bucket_that_is_absent_or_refuses_exits_with_4(fetch, server, fault_proxy):
    with pytest.raises(RemoteError) as refusal:
        fetch(published(NAME, ARCHIVE, server.url), out="s3://absent/raw")
    assert refusal.value.exit_code == 4
