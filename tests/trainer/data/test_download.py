"""A data set in a bucket comes to the node once, whole, and as it is now."""

import os
from contextlib import contextmanager
from dataclasses import replace

import boto3
import pytest
from faultproxy import CutAnswer, Refuse

from trainer.data.download import fetch, fetch_file, folder_of
from trainer.errors import InputError, RemoteError
from trainer.storage import DamagedError, FullError, S3Storage

URL = "s3://cxr/data"


@pytest.fixture
def told():
    return []


@pytest.fixture
def progress(told):
    @contextmanager
    def begin(files):
        told.append(files)
        yield lambda done, _: told.append(done)

    return begin


def put(**objects):
    for name, content in objects.items():
        boto3.client("s3").put_object(Bucket="cxr", Key=f"data/{name.replace('__', '/')}", Body=content)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_files_are_downloaded_once(s3, tmp_path, progress, told):
    """112,120 images must not be downloaded again when a pod's container starts again."""
    put(labels=b"1", images__a=b"22", images__b=b"333")
    fetch(URL, tmp_path, progress)
    assert files(folder_of(URL, tmp_path)) == {"labels": b"1", "images/a": b"22", "images/b": b"333"}
    fetch(f"{URL}/", tmp_path, progress)
    assert told == [3, 1, 1, 1, 0]


def test_interrupted_download_resumes_where_it_stopped(s3, tmp_path, progress, told):
    """A preempted pod on the same node."""
    put(a=b"1", b=b"2")
    fetch(URL, tmp_path, progress)
    (folder_of(URL, tmp_path) / "a").unlink()
    fetch(URL, tmp_path, progress)
    assert told[3:] == [1, 1]


def test_changed_objects_are_downloaded_again_and_removed_ones_deleted(s3, tmp_path, progress):
    """Labels that were corrected must not be read as they were; the size may be the same."""
    put(labels=b"old", left=b"x")
    fetch(URL, tmp_path, progress)
    put(labels=b"new")
    boto3.client("s3").delete_object(Bucket="cxr", Key="data/left")
    fetch(URL, tmp_path, progress)
    assert files(folder_of(URL, tmp_path)) == {"labels": b"new"}


def test_empty_prefix_is_bad_input(s3, tmp_path, progress):
    """Most likely a slip in its name."""
    with pytest.raises(InputError, match="it has no objects"):
        fetch(URL, tmp_path, progress)


def test_name_that_leads_out_of_the_folder_is_refused(s3, tmp_path, progress):
    """Nothing is written outside the cache."""
    boto3.client("s3").put_object(Bucket="cxr", Key="data/../../evil", Body=b"x")
    with pytest.raises(InputError, match="points outside the data set"):
        fetch(URL, tmp_path, progress)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("marker", ["", "images/", "images", "images_$folder$"])
def test_folder_markers_are_not_part_of_the_data_set(s3, tmp_path, progress, marker):
    """A data set whose folders were made in a console."""
    put(**{marker: b"", "images/a": b"22"})
    fetch(URL, tmp_path, progress)
    assert files(folder_of(URL, tmp_path)) == {"images/a": b"22"}


@pytest.mark.parametrize("key", ["images/", "images", "images//b", "/images/b", "./b"])
def test_object_that_cannot_be_a_file_is_named_before_anything_is_downloaded(s3, tmp_path, progress, told, key):
    """Neither left out without a word nor found after hours."""
    put(**{key: b"333", "images/a": b"22"})
    with pytest.raises(InputError, match="1 of 2 objects cannot be files") as refusal:
        fetch(URL, tmp_path, progress)
    assert f"`{key}`: " in str(refusal.value)
    assert list(tmp_path.iterdir()) == told == []


def test_prefix_that_has_only_folder_markers_has_no_objects(s3, tmp_path, progress):
    put(**{"": b"", "images/": b""})
    with pytest.raises(InputError, match="it has no objects"):
        fetch(URL, tmp_path, progress)


def test_absent_bucket_is_reported_as_absent(s3, tmp_path, progress):
    with pytest.raises(RemoteError, match="no such bucket"):
        fetch("s3://absent/data", tmp_path, progress)


def test_two_data_sets_have_two_folders(tmp_path):
    assert folder_of("s3://a/b", tmp_path) != folder_of("s3://a/c", tmp_path)
    assert folder_of("s3://a/b", tmp_path) == folder_of("s3://a/b/", tmp_path)


def test_interrupted_download_fetches_only_missing_files(s3, tmp_path, progress, told):
    """Hours of it are not begun anew."""
    put(**{f"f{number:02d}": b"x" for number in range(40)})

    @contextmanager
    def breaking(files):
        def report(_done, _words):
            told.append("file")
            if len(told) == 25:
                raise KeyboardInterrupt

        yield report

    with pytest.raises(KeyboardInterrupt):
        fetch(URL, tmp_path, breaking)
    told.clear()
    fetch(URL, tmp_path, progress)
    assert told[0] <= 40 - 24
    assert len(files(folder_of(URL, tmp_path))) == 40


def test_transient_bucket_failures_do_not_end_the_download(s3, fault_proxy, tmp_path, progress):
    """Of 112,120 requests some fail on any day."""
    put(**{f"f{number}": bytes([number]) * 1000 for number in range(6)})
    fault_proxy.script(Refuse(503, "SlowDown"), key="*/f1", method="GET")
    fault_proxy.script(CutAnswer(400), key="*/f2", method="GET")
    fetch(URL, tmp_path, progress)
    assert files(folder_of(URL, tmp_path)) == {f"f{number}": bytes([number]) * 1000 for number in range(6)}


def test_full_cache_fails_the_job_and_is_named(s3, tmp_path, progress, monkeypatch):
    """Another start would find the same disk, and fill it again."""
    put(a="x")

    def full(*_, **__):
        raise FullError("cannot write `a`: no space left on device")

    monkeypatch.setattr(S3Storage, "copy_to", full)
    with pytest.raises(InputError, match="no space left on device") as refusal:
        fetch(URL, tmp_path, progress)
    assert "--cache-dir" in refusal.value.hint


FOREIGN = ["notes.txt", "images/mine.png", "labels", ".partial", ".labels.partial"]


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_file_in_the_cache_is_named_and_kept(s3, tmp_path, progress, name):
    """Neither removed, nor replaced, nor read as part of the data set."""
    put(labels=b"1", images__a=b"22")
    folder = folder_of(URL, tmp_path)
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(b"mine")
    with pytest.raises(InputError, match=f"its file `{name}` is not a downloaded file") as refusal:
        fetch(URL, tmp_path, progress)
    assert "--cache-dir" in refusal.value.hint
    assert files(folder) == {name: b"mine"}


def test_file_added_to_a_downloaded_data_set_is_named_and_kept(s3, tmp_path, progress):
    """A second start cleans up what the bucket no longer has: only that."""
    put(labels=b"1", gone=b"2")
    fetch(URL, tmp_path, progress)
    boto3.client("s3").delete_object(Bucket="cxr", Key="data/gone")
    folder = folder_of(URL, tmp_path)
    (folder / "mine").write_bytes(b"mine")
    with pytest.raises(InputError, match="its file `mine`"):
        fetch(URL, tmp_path, progress)
    assert files(folder) == {"labels": b"1", "gone": b"2", "mine": b"mine"}
    (folder / "mine").unlink()
    fetch(URL, tmp_path, progress)
    assert files(folder) == {"labels": b"1"}


@pytest.mark.parametrize("level", ["data", "of the set", "files", "images", "labels"])
def test_no_link_in_the_cache_is_followed(s3, tmp_path, progress, level):
    """The cache may lie where others can write."""
    put(labels=b"1", images__a=b"22")
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    folder = folder_of(URL, cache)
    links = {"data": folder.parent.parent, "of the set": folder.parent, "files": folder}
    link = links.get(level, folder / level)
    outside.mkdir()
    (outside / "a").write_bytes(b"mine")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / "a" if level == "labels" else outside)
    with pytest.raises(InputError, match="is a link"):
        fetch(URL, cache, progress)
    assert files(outside) == {"a": b"mine"}


@pytest.mark.parametrize("target", ["link", "pipe"])
def test_list_of_downloaded_files_is_no_link(s3, tmp_path, progress, target):
    """A link would have our lines appended to another's file, and a pipe be waited for."""
    put(labels=b"1")
    fetch(URL, tmp_path, progress)
    stamps = folder_of(URL, tmp_path).parent / "stamps.jsonl"
    stamps.unlink()
    (tmp_path / "mine").write_bytes(b"mine")
    stamps.symlink_to(tmp_path / "mine") if target == "link" else os.mkfifo(stamps)
    with pytest.raises(InputError, match=r"stamps\.jsonl"):
        fetch(URL, tmp_path, progress)
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_download_that_was_killed_is_continued_by_the_next_start(s3, tmp_path, progress):
    """What it was about to write, and what it had half-written, is known for its own."""
    put(labels=b"1", other=b"2")
    with pytest.raises(KeyboardInterrupt), progress_that_is_interrupted() as interrupted:
        fetch(URL, tmp_path, interrupted)
    folder = folder_of(URL, tmp_path)
    (folder / "labels").write_bytes(b"older and longer")  # of a version that was replaced in the bucket since
    half = folder / f".other-{'0' * 32}.partial"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    fetch(URL, tmp_path, progress)
    assert files(folder) == {"labels": b"1", "other": b"2"}


@contextmanager
def progress_that_is_interrupted():
    @contextmanager
    def begin(_files):
        def report(_done, _words):
            raise KeyboardInterrupt

        yield report

    yield begin


@pytest.mark.parametrize("listed_bytes", [3, 1_000_001])
def test_object_of_another_length_than_listed_ends_the_download(s3, tmp_path, progress, monkeypatch, listed_bytes):
    """A server that sends without end would fill the node's disk."""
    put(labels=bytes(1_000_000))
    listed = S3Storage.stats
    monkeypatch.setattr(
        S3Storage,
        "stats",
        lambda self, prefix: {
            key: replace(stat, size_bytes=listed_bytes) for key, stat in listed(self, prefix).items()
        },
    )
    with pytest.raises(DamagedError, match=rf"data/labels.*the listing says {listed_bytes:,}"):
        fetch(URL, tmp_path, progress)
    assert files(folder_of(URL, tmp_path)) == {}


def test_single_file_is_downloaded_whole_and_again(s3, tmp_path):
    """Weights are looked up at each start."""
    for content in (b"first", b"second one"):
        put(w=content)
        assert fetch_file(f"{URL}/w", tmp_path).read_bytes() == content


def test_single_file_does_not_replace_a_foreign_file(s3, tmp_path, progress):
    """It may lie beside a data set, which must still know all of its files."""
    put(w=b"weights", labels=b"1")
    path = fetch_file(f"{URL}/w", tmp_path)
    fetch(URL, tmp_path, progress)
    assert files(path.parent) == {"w": b"weights", "labels": b"1"}
    other = folder_of("s3://cxr/other", tmp_path) / "w"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    boto3.client("s3").put_object(Bucket="cxr", Key="other/w", Body=b"longer than that")
    with pytest.raises(InputError, match="its file `w` is not a downloaded file"):
        fetch_file("s3://cxr/other/w", tmp_path)
    assert other.read_bytes() == b"mine"


def test_folder_is_not_downloaded_as_a_file(s3, tmp_path):
    """Weights named by the folder that they are in, which a console has marked."""
    put(**{"": b""})
    with pytest.raises(InputError, match="is a folder"):
        fetch_file(f"{URL}/", tmp_path)
