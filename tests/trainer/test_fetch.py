"""A data set in a bucket comes to the node once, whole, and as it is now."""

from contextlib import contextmanager

import boto3
import pytest
from faultproxy import CutAnswer, Refuse

from trainer.data.fetch import fetch, folder_of
from trainer.errors import InputError, RemoteError
from trainer.storage import FullError, S3Storage

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


def test_all_files_come_and_only_once(s3, tmp_path, progress, told):
    """112,120 images must not be downloaded again when a pod's container starts again."""
    put(labels=b"1", images__a=b"22", images__b=b"333")
    fetch(URL, tmp_path, progress)
    assert files(folder_of(URL, tmp_path)) == {"labels": b"1", "images/a": b"22", "images/b": b"333"}
    fetch(f"{URL}/", tmp_path, progress)
    assert told == [3, 1, 1, 1, 0]


def test_download_goes_on_where_it_stopped(s3, tmp_path, progress, told):
    """A preempted pod on the same node."""
    put(a=b"1", b=b"2")
    fetch(URL, tmp_path, progress)
    (folder_of(URL, tmp_path) / "a").unlink()
    fetch(URL, tmp_path, progress)
    assert told[3:] == [1, 1]


def test_changed_objects_come_again_and_removed_ones_go(s3, tmp_path, progress):
    """Labels that were corrected must not be read as they were; the size may be the same."""
    put(labels=b"old", left=b"x")
    fetch(URL, tmp_path, progress)
    put(labels=b"new")
    boto3.client("s3").delete_object(Bucket="cxr", Key="data/left")
    fetch(URL, tmp_path, progress)
    assert files(folder_of(URL, tmp_path)) == {"labels": b"new"}


def test_empty_prefix_is_bad_input(s3, tmp_path, progress):
    """Most likely a slip in its name."""
    with pytest.raises(InputError, match="nothing lies there"):
        fetch(URL, tmp_path, progress)


def test_name_that_leads_out_of_the_folder_is_refused(s3, tmp_path, progress):
    """Nothing is written outside the cache."""
    boto3.client("s3").put_object(Bucket="cxr", Key="data/../../evil", Body=b"x")
    with pytest.raises(InputError, match="leads out of the data set"):
        fetch(URL, tmp_path, progress)
    assert list(tmp_path.iterdir()) == []


def test_bucket_that_is_absent_is_told_as_such(s3, tmp_path, progress):
    with pytest.raises(RemoteError, match="no such bucket"):
        fetch("s3://absent/data", tmp_path, progress)


def test_two_data_sets_have_two_folders(tmp_path):
    assert folder_of("s3://a/b", tmp_path) != folder_of("s3://a/c", tmp_path)
    assert folder_of("s3://a/b", tmp_path) == folder_of("s3://a/b/", tmp_path)


def test_download_that_was_broken_off_goes_on_with_what_is_missing(s3, tmp_path, progress, told):
    """Hours of it are not begun anew."""
    put(**{f"f{number:02d}": b"x" for number in range(40)})

    @contextmanager
    def breaking(files):
        def tell(_done, _words):
            told.append("file")
            if len(told) == 25:
                raise KeyboardInterrupt

        yield tell

    with pytest.raises(KeyboardInterrupt):
        fetch(URL, tmp_path, breaking)
    told.clear()
    fetch(URL, tmp_path, progress)
    assert told[0] <= 40 - 24
    assert len(files(folder_of(URL, tmp_path))) == 40


def test_bucket_that_stumbles_does_not_end_the_download(s3, fault_proxy, tmp_path, progress):
    """Of 112,120 requests some fail on any day."""
    put(**{f"f{number}": bytes([number]) * 1000 for number in range(6)})
    fault_proxy.script(Refuse(503, "SlowDown"), key="*/f1", method="GET")
    fault_proxy.script(CutAnswer(400), key="*/f2", method="GET")
    fetch(URL, tmp_path, progress)
    assert files(folder_of(URL, tmp_path)) == {f"f{number}": bytes([number]) * 1000 for number in range(6)}


def test_cache_that_is_too_small_ends_the_job_by_name(s3, tmp_path, progress, monkeypatch):
    """Another start would find the same disk, and fill it again."""
    put(a="x")

    def full(*_, **__):
        raise FullError("cannot write `a`: no space left on device")

    monkeypatch.setattr(S3Storage, "copy_to", full)
    with pytest.raises(InputError, match="no space left on device") as refusal:
        fetch(URL, tmp_path, progress)
    assert "--cache-dir" in refusal.value.hint
