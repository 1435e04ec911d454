"""Objects in a directory or a bucket: whole or absent, and errors that say which."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3
import pytest

from trainer.errors import InputError, RemoteError
from trainer.layout import manifest_key, state_key
from trainer.storage import (
    AbsentError,
    ChangedError,
    CredentialsError,
    DamagedError,
    FullError,
    LocalStorage,
    multipart,
    open_storage,
)
from trainer.storage.files import open_new, partial_name, remove_abandoned


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path / "run"))


@pytest.fixture(params=["directory", "bucket", "whole bucket", "rclone"])
def anywhere(request, tmp_path):
    """Storage of each kind: what holds for one holds for all."""
    if request.param == "directory":
        return LocalStorage(str(tmp_path / "run"))
    if request.param == "rclone":
        request.getfixturevalue("rclone")
        return open_storage("s3://cxr/runs/one")
    request.getfixturevalue("s3")
    return open_storage("s3://cxr/runs/one" if request.param == "bucket" else "s3://cxr")


def test_written_object_is_read_back(anywhere):
    """The base of all else."""
    anywhere.write("a/b.json", b"1")
    anywhere.write("a/b.json", b"22")
    assert anywhere.read("a/b.json") == b"22"


def test_keys_are_sorted_and_start_with_the_prefix(anywhere):
    """Checkpoints are found by listing."""
    for key in ("checkpoints/step-2/x", "checkpoints/step-1/x", "run.json"):
        anywhere.write(key, b"")
    assert anywhere.keys("checkpoints/") == ["checkpoints/step-1/x", "checkpoints/step-2/x"]
    assert anywhere.keys("nothing/") == []


def test_absent_object_is_its_own_error(anywhere):
    """Starting afresh is right only where nothing is there, not where it can't be read."""
    with pytest.raises(AbsentError):
        anywhere.read("run.json")


def test_interrupted_write_leaves_the_old_object_and_no_other(storage, monkeypatch):
    """A checkpoint half written must never be taken for one."""
    storage.write("a", b"old")

    def break_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", break_off)
    with pytest.raises(KeyboardInterrupt):
        storage.write("a", b"new")
    assert storage.read("a") == b"old"
    assert storage.keys("") == ["a"]


def test_full_disk_is_named_with_the_room_it_has_and_not_tried_again(storage, monkeypatch):
    """Whoever started it must make room: a gang that starts its workers again would meet the same disk each time."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FullError, match=r"no space left on device; 4 KiB needed, \d+ [KM]iB free\n") as full:
        storage.write("a", bytes(4000))
    assert full.value.exit_code == 2
    assert "make room" in full.value.hint


def test_output_that_is_a_file_is_refused_by_name(tmp_path):
    """Permission can't be tested as root; a file in the way is refused the same way."""
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match=str(tmp_path / "run")):
        LocalStorage(str(tmp_path / "run")).write("a", b"")


def test_second_writer_is_refused_while_the_first_is_there(storage, tmp_path):
    """Two runs on one prefix would prune each other's checkpoints."""
    other = LocalStorage(str(tmp_path / "run"))
    with storage.claim("job", print):
        with pytest.raises(InputError, match="another process is training it"), other.claim("job", print):
            pass
        assert storage.keys("") == []  # the lock is no object
    with other.claim("job", print):
        pass


def test_written_files_can_be_read_by_others(storage, tmp_path):
    """A cache and an output are shared; the user's umask decides, not a temporary file's mode."""
    storage.write("a", b"")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "run/a").stat().st_mode & 0o777 == 0o666 & ~umask


def test_deleting_removes_the_folder_that_becomes_empty(storage, tmp_path):
    """Pruned checkpoints leave no empty folders behind."""
    storage.write(state_key(1), b"")
    storage.delete(state_key(1))
    storage.delete(state_key(1))
    assert not Path(tmp_path / "run" / state_key(1)).parent.exists()


def test_deleting_leaves_folders_that_are_not_of_a_run(storage, tmp_path):
    """An empty folder of the user's may be one that another program waits to fill."""
    storage.write("mine/deep/notes.txt", b"")
    storage.delete("mine/deep/notes.txt")
    assert (tmp_path / "run/mine/deep").is_dir()


@pytest.mark.parametrize("url", ["gs://bucket/runs", "s3://", "s3:///runs"])
def test_storage_that_is_not_supported_is_refused(url):
    """An unknown scheme must not become a directory of that name."""
    with pytest.raises(InputError, match="must be a directory or"):
        open_storage(url)


def test_chunks_are_bounded_and_begin_where_asked(anywhere):
    """What came before a break is not asked for again, on servers that know ranges and on those that send all."""
    content = bytes(range(256)) * 10_000
    anywhere.write("state.pt", content)
    stamp = anywhere.stat("state.pt").stamp
    for first in (0, 1, 1_500_000, 2_500_000, len(content), len(content) + 1):
        chunks = list(anywhere.chunks("state.pt", first=first, stamp=stamp))
        assert b"".join(chunks) == content[first:]
        assert max(map(len, chunks), default=0) <= 1 << 20


def test_chunks_of_another_object_than_the_one_meant_are_refused(anywhere):
    """Going on with a file of which half is there."""
    anywhere.write("state.pt", b"old")
    stamp = anywhere.stat("state.pt").stamp
    anywhere.write("state.pt", b"new")
    with pytest.raises(ChangedError):
        list(anywhere.chunks("state.pt", first=1, stamp=stamp))


def test_stat_and_listing_agree(anywhere):
    """A cache compares stamps of both."""
    anywhere.write("a/b.json", b"22")
    stat = anywhere.stat("a/b.json")
    assert stat.size_bytes == 2
    assert abs(stat.modified - datetime.now(timezone.utc)) < timedelta(minutes=1)
    listed = anywhere.stats("a/")
    assert list(listed) == ["a/b.json"]
    assert (listed["a/b.json"].size_bytes, listed["a/b.json"].stamp) == (2, stat.stamp)


def test_stat_of_an_absent_object_is_an_absent_error(anywhere):
    """An answer to HEAD alone would not tell an absent object from an absent bucket."""
    anywhere.write("a/c.json", b"1")
    for key in ("a/b.json", "a"):
        with pytest.raises(AbsentError):
            anywhere.stat(key)


@pytest.mark.parametrize("listed_bytes", [2_499_999, 1, 0, 2_500_001])
def test_object_of_another_length_than_listed_is_refused_before_it_fills_the_disk(anywhere, tmp_path, listed_bytes):
    """A server that sends without end, or an object that was replaced since."""
    anywhere.write("state.pt", bytes(2_500_000))
    stat, written = replace(anywhere.stat("state.pt"), size_bytes=listed_bytes), []
    with pytest.raises(DamagedError, match=rf"state\.pt.*the listing says {listed_bytes:,}"):
        anywhere.copy_to("state.pt", tmp_path / "copy", stat=stat, progress=written.append)
    assert sum(written) <= listed_bytes
    assert [path for path in tmp_path.iterdir() if path.name.startswith((".copy", "copy"))] == []


def test_object_as_long_as_listed_is_copied(anywhere, tmp_path):
    """An empty one too."""
    for key, content in (("state.pt", bytes(2_500_000)), ("empty", b"")):
        anywhere.write(key, content)
        anywhere.copy_to(key, tmp_path / key, stat=anywhere.stats("")[key])
        assert (tmp_path / key).read_bytes() == content


def test_copy_is_complete_and_reports_progress(anywhere, tmp_path):
    """For a file that is larger than memory."""
    anywhere.write("state.pt", bytes(2_500_000))
    told = []
    anywhere.copy_to("state.pt", tmp_path / "deep/copy", progress=told.append)
    assert (tmp_path / "deep/copy").read_bytes() == bytes(2_500_000)
    assert sum(told) == 2_500_000
    assert len(told) > 1


def test_copy_of_an_absent_object_leaves_no_file(anywhere, tmp_path):
    """An empty file would be read as one."""
    with pytest.raises(AbsentError):
        anywhere.copy_to("state.pt", tmp_path / "copy/file")
    assert list((tmp_path / "copy").iterdir()) == []


def test_file_is_uploaded(anywhere, tmp_path):
    """Checkpoints are written to a disk first."""
    (tmp_path / "file").write_bytes(b"1" * 100_000)
    anywhere.upload("checkpoints/step-1/state.pt", tmp_path / "file")
    assert anywhere.read("checkpoints/step-1/state.pt") == b"1" * 100_000


def test_file_that_is_not_there_is_not_uploaded(anywhere, tmp_path):
    """It is named, and nothing is put in its place."""
    with pytest.raises(AbsentError, match="nofile"):
        anywhere.upload("state.pt", tmp_path / "nofile")
    assert anywhere.keys("") == []


def test_create_writes_only_where_no_object_is(anywhere):
    """The first of several owners."""
    assert anywhere.create("owner.json", b"one")
    assert not anywhere.create("owner.json", b"another")
    assert anywhere.read("owner.json") == b"one"
    assert anywhere.keys("") == ["owner.json"]


def test_replace_writes_only_over_the_version_that_was_seen(anywhere):
    """A heartbeat must not overwrite who took over."""
    anywhere.write("owner.json", b"one")
    stamp = anywhere.stat("owner.json").stamp
    assert anywhere.replace("owner.json", b"two", stamp)
    assert not anywhere.replace("owner.json", b"three", stamp)
    assert anywhere.read("owner.json") == b"two"
    anywhere.delete("owner.json")
    assert not anywhere.replace("owner.json", b"four", stamp)
    assert anywhere.keys("") == []


@pytest.mark.parametrize("anywhere", ["directory", "bucket"], indirect=True)
def test_one_of_many_concurrent_creates_succeeds(anywhere):
    """Eight pods that start in the same second."""
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: anywhere.create("owner.json", str(number).encode()), range(8)))
    assert won.count(True) == 1
    assert anywhere.read("owner.json") == str(won.index(True)).encode()


@pytest.mark.parametrize("anywhere", ["directory", "bucket"], indirect=True)
def test_one_of_many_concurrent_replaces_succeeds(anywhere):
    """Eight pods that find an owner who is dead."""
    anywhere.write("owner.json", b"dead")
    stamp = anywhere.stat("owner.json").stamp
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: anywhere.replace("owner.json", str(number).encode(), stamp), range(8)))
    assert won.count(True) == 1
    assert anywhere.read("owner.json") == str(won.index(True)).encode()


def test_support_for_conditional_writes_is_detected(anywhere, request):
    """rclone's server takes every put; who relies on it must know."""
    assert anywhere.excludes() == ("rclone" not in request.node.callspec.id)
    assert anywhere.keys("") == []


def test_hidden_names_can_be_read_but_are_not_listed(anywhere):
    """What a write or a probe left behind is no part of a run or a data set."""
    anywhere.write("a/.notes", b"1")
    assert anywhere.keys("") == []
    assert anywhere.read("a/.notes") == b"1"


def test_create_works_on_a_file_system_without_hard_links(storage, monkeypatch):
    """Some mounts have none: the run starts all the same, and knows that nobody is kept away."""

    def refused(*_, **__):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "link", refused)
    assert not storage.excludes()
    assert storage.create("owner.json", b"one")
    assert not storage.create("owner.json", b"another")
    assert storage.read("owner.json") == b"one"


def half_written(key, *, old=True):
    """A file that a killed writer of this key has left."""
    key.parent.mkdir(parents=True, exist_ok=True)
    path = key.with_name(partial_name(key.name))
    path.write_bytes(b"half")
    if old:
        hours_ago = time.time() - 2 * 3600
        os.utime(path, (hours_ago, hours_ago))
    return path


def test_sweep_of_a_directory_removes_old_partial_files(storage, tmp_path):
    """A killed writer's file is as large as a checkpoint; that of one who still writes is left, however old it is."""
    run = tmp_path / "run"
    old, written = half_written(run / state_key(1)), run / state_key(2)
    other, probe = half_written(run / "run.json"), half_written(run / ".excludes")
    written.parent.mkdir(parents=True)
    written = written.with_name(partial_name("state.pt"))
    with open_new(written):
        os.utime(written, (0, 0))
        storage.sweep("checkpoints/")
        assert [path.exists() for path in (old, written, other)] == [False, True, True]
        storage.sweep("")
        assert [path.exists() for path in (written, other, probe)] == [True, False, False]
    storage.sweep("")
    assert not written.exists()


def test_partial_files_of_a_killed_writer_are_removed_at_the_next_start(storage, tmp_path):
    """A run that is killed often would fill the disk with halves of checkpoints."""
    partial = tmp_path / "run" / state_key(1)
    partial.parent.mkdir(parents=True)
    partial = partial.with_name(partial_name("state.pt"))
    code = "import pathlib, os, sys, signal; from trainer.storage.files import write_flushed\n"
    code += "write_flushed(pathlib.Path(sys.argv[1]), (os.kill(os.getpid(), signal.SIGKILL) for _ in range(1)))"
    subprocess.run([sys.executable, "-c", code, str(partial)], check=False)
    assert partial.exists()
    storage.sweep("")
    assert partial.exists()  # so young, its writer might be about to lock it
    moments_ago = time.time() - 2
    os.utime(partial, (moments_ago, moments_ago))
    storage.sweep("")
    assert not partial.exists()


def test_partial_files_without_locks_are_removed_by_age(tmp_path, monkeypatch):
    """Nobody can tell there whether the writer lives."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    old, new = half_written(tmp_path / "a"), half_written(tmp_path / "b", old=False)
    os.utime(new, (time.time() - 60, time.time() - 60))
    monkeypatch.setattr(fcntl, "flock", refuse)
    remove_abandoned(tmp_path)
    assert [old.exists(), new.exists()] == [False, True]


def test_sweep_of_a_directory_leaves_partial_files_of_live_writers(storage, tmp_path):
    """rsync and browsers write to hidden names too, and other programs have partial files of their own."""
    run = tmp_path / "run"
    foreign = [half_written(run / "notes.txt"), half_written(run / "old" / state_key(1))]
    folder = (run / state_key(1)).parent
    folder.mkdir(parents=True)
    names = [
        ".state.pt-0.partial",
        ".state.pt.partial",
        f"state.pt-{'0' * 32}.partial",
        f".state.pt-{'g' * 32}.partial",
    ]
    foreign += [folder / name for name in names]
    linked = folder / partial_name("state.pt")
    linked.symlink_to(foreign[0])
    for path in foreign:
        path.write_bytes(b"theirs")
        os.utime(path, (0, 0))
    storage.sweep("")
    assert [path for path in [*foreign, linked] if not path.exists()] == []


@pytest.mark.parametrize(("server", "left"), [("s3", 0), ("rclone", 1)])
def test_sweep_of_a_bucket_aborts_only_old_uploads(server, left, request):
    """Parts are paid for, and listed nowhere. moto dates every upload to 2010, rclone tells the time."""
    request.getfixturevalue(server)
    client = boto3.session.Session().client("s3")
    client.create_multipart_upload(Bucket="cxr", Key=f"runs/one/{state_key(1)}")
    open_storage("s3://cxr/runs/one").sweep("")
    assert len(client.list_multipart_uploads(Bucket="cxr").get("Uploads", [])) == left


def test_sweep_of_a_bucket_leaves_uploads_and_objects_of_others(s3):
    """A backup that takes days uploads below the same prefix."""
    client = boto3.session.Session().client("s3")
    keys = ["runs/one/backup.tar", f"runs/one/old/{state_key(1)}", f"runs/one/{state_key(1)}.bak"]
    for key in keys:
        client.create_multipart_upload(Bucket="cxr", Key=key)
    storage = open_storage("s3://cxr/runs/one")
    storage.write(".excludes-patterns", b"theirs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "STALE", timedelta(days=-1))  # whatever is there is old
        storage.sweep("")
    uploads = client.list_multipart_uploads(Bucket="cxr")["Uploads"]
    assert sorted(upload["Key"] for upload in uploads) == sorted(keys)
    assert storage.read(".excludes-patterns") == b"theirs"


def test_write_through_a_linked_folder_is_refused(storage, tmp_path):
    """Pruning and reports would reach files elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    theirs = elsewhere / "step-00000001/state.pt"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoints").symlink_to(elsewhere)
    for attempt in (
        lambda: storage.write(state_key(1), b"ours"),
        lambda: storage.create(manifest_key(1), b"ours"),
        lambda: storage.replace(state_key(1), b"ours", storage.stat(state_key(1)).stamp),
        lambda: storage.delete(state_key(1)),
    ):
        with pytest.raises(InputError, match="run/checkpoints`: it is a link"):
            attempt()
    storage.sweep("")
    assert [path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()] == [b"theirs"]


def test_write_replaces_a_link_and_not_what_it_points_to(storage, tmp_path):
    """A link that lies where a file of ours belongs was planted; its target is somebody's."""
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").symlink_to(tmp_path / "theirs")
    storage.write("run.json", b"ours")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "run/run.json").is_symlink()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_lock_that_is_no_file_of_ours_is_refused_and_nothing_changes(kind, storage, tmp_path):
    """It was opened for writing, which emptied whatever it was a link to."""
    (tmp_path / "run").mkdir()
    lock, theirs = tmp_path / "run/.lock", tmp_path / "theirs"
    if "link" in kind:
        lock.symlink_to(theirs)
    if kind == "link":
        theirs.write_bytes(b"theirs")
    if kind == "pipe":
        os.mkfifo(lock)
    if kind == "folder":
        lock.mkdir()
    with pytest.raises(InputError, match=r"run/\.lock"), storage.claim("job", print):
        pass
    assert theirs.exists() == (kind == "link")
    assert kind != "link" or theirs.read_bytes() == b"theirs"


def test_lock_with_content_is_not_emptied(storage, tmp_path):
    """A file of that name may be somebody else's."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").write_bytes(b"theirs")
    with storage.claim("job", print):
        pass
    assert (tmp_path / "run/.lock").read_bytes() == b"theirs"


def test_links_and_files_in_place_of_folders_are_obstacles(storage, tmp_path):
    """They are told before anything is written."""
    run = tmp_path / "run"
    (run / "old").mkdir(parents=True)
    assert storage.obstacles() == []
    (run / "old/linked").symlink_to(tmp_path)
    (run / "notes.txt").symlink_to(tmp_path / "nothing")
    (run / "checkpoints").write_text("a file")
    (run / "run.json").mkdir()
    os.mkfifo(run / "results.json")
    os.mkfifo(run / "theirs")
    said = {line.removeprefix(f"`{run}/").replace("` is", ":") for line in storage.obstacles()}
    assert said == {
        "checkpoints: not a folder",
        "notes.txt: a link",
        "old/linked: a link",
        "results.json: not a regular file",
        "run.json: a folder",
    }


def test_held_folder_that_is_removed_is_not_recreated(storage, tmp_path):
    """Half a run would be there, without its record."""
    storage.hold()
    storage.write("run.json", b"1")
    shutil.rmtree(tmp_path / "run")
    for attempt in (lambda: storage.write("metrics.jsonl", b"2"), lambda: storage.delete("run.json")):
        with pytest.raises(InputError, match="folder was removed or replaced"):
            attempt()
    assert not (tmp_path / "run").exists()


def test_held_folder_removed_during_a_write_is_named(storage, tmp_path, monkeypatch):
    """`No such file or directory` would send the user to look for rights."""
    storage.hold()
    real = os.fsync

    def remove(file):
        real(file)
        shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(os, "fsync", remove)
    with pytest.raises(InputError, match="folder was removed or replaced"):
        storage.write("checkpoints/step-00000001/state.pt", b"1")
    assert not (tmp_path / "run").exists()


def test_replaced_folder_is_not_written_to(storage, tmp_path):
    """It is another run's by now."""
    storage.hold()
    storage.write("run.json", b"1")
    (tmp_path / "run").rename(tmp_path / "moved")
    LocalStorage(str(tmp_path / "run")).write("run.json", b"other")
    with pytest.raises(InputError, match="folder was removed or replaced"):
        storage.write("metrics.jsonl", b"2")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]
    assert (tmp_path / "run/run.json").read_bytes() == b"other"


def test_claim_is_lost_with_its_folder(storage, tmp_path):
    """Nothing may be committed to a run that is gone."""
    with storage.claim("job", print) as claim:
        claim.check()
        assert claim.lost() is None
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(InputError, match="folder was removed or replaced"):
            claim.check()


def test_claim_is_lost_with_its_lock_and_the_message_says_so(storage, tmp_path):
    """Whoever tidies up hidden files has removed nothing that was trained."""
    with storage.claim("job", print) as claim:
        storage.write("run.json", b"1")
        (tmp_path / "run/.lock").unlink()
        with pytest.raises(InputError, match=r"its `\.lock` was removed") as end:
            claim.check()
    assert "continues from the newest checkpoint" in end.value.hint


def test_claim_is_lost_to_a_second_writer_of_the_name(storage, tmp_path):
    """Both would end well, one of them with the other's weights."""
    with storage.claim("job", print) as claim:
        (tmp_path / "run").rename(tmp_path / "moved")
        with LocalStorage(str(tmp_path / "run")).claim("job", print) as second:
            with pytest.raises(InputError, match="another process may write to it"):
                claim.check()
            second.check()


def test_lock_of_a_folder_that_is_replaced_while_it_is_taken_is_taken_again(storage, tmp_path, monkeypatch):
    """Else two writers hold two locks of one name."""
    real, replaced = fcntl.flock, []

    def replace_once(lock, how):
        if not replaced:
            replaced.append((tmp_path / "run").rename(tmp_path / "moved"))
        real(lock, how)

    monkeypatch.setattr(fcntl, "flock", replace_once)
    with storage.claim("job", print) as claim:
        claim.check()
        assert (tmp_path / "run/.lock").exists()


@pytest.mark.parametrize("what", ["is removed meanwhile", "may not be read"])
def test_folder_that_cannot_be_listed_does_not_hide_the_others(storage, tmp_path, monkeypatch, what):
    """A run that trains removes old checkpoints while its report is made; the root of a disk has a `lost+found`."""
    for step in (1, 2, 3):
        storage.write(state_key(step), b"1")
    real, gone = os.scandir, tmp_path / "run/checkpoints/step-00000002"

    def scandir(path):
        is_gone = not isinstance(path, int) and Path(path) == gone  # rmtree gives a descriptor
        if is_gone and what == "may not be read":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        if is_gone:
            shutil.rmtree(gone)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert storage.keys("checkpoints/") == [state_key(1), state_key(3)]
    assert storage.obstacles() == []
    storage.sweep("")


def test_deleted_object_is_gone_and_deleting_again_is_fine(anywhere):
    """Pruning may be cut off and start again."""
    anywhere.write("checkpoints/step-1/state.pt", b"1")
    anywhere.delete("checkpoints/step-1/state.pt")
    anywhere.delete("checkpoints/step-1/state.pt")
    assert anywhere.keys("checkpoints/") == []


def test_claim_that_is_released_leaves_no_object(anywhere):
    """It is a question, not a file of the run."""
    with anywhere.claim("job", print):
        pass
    assert anywhere.keys("") == []


def test_prefixes_of_one_bucket_are_separate(s3):
    """Two runs in one output."""
    one, other = open_storage("s3://cxr/runs/one"), open_storage("s3://cxr/runs/other/")
    one.write("run.json", b"1")
    assert other.keys("") == []
    assert open_storage("s3://cxr/runs").keys("") == ["one/run.json"]


def test_more_keys_than_one_page_are_all_listed(s3):
    """A listing has a thousand names a page; here two."""
    storage = open_storage("s3://cxr/many")
    events = storage._connection.client().meta.events
    events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2})
    names = [f"{number:04d} ä" for number in range(5)]
    for name in names:
        storage.write(name, b"")
    assert storage.keys("") == names


def test_missing_bucket_is_not_taken_for_an_absent_object(s3):
    """The run would start afresh in a bucket that is not there."""
    with pytest.raises(RemoteError, match="no such bucket"):
        open_storage("s3://nowhere/runs").read("run.json")


def test_unreachable_server_is_named(monkeypatch, s3):
    """Not absent, not refused."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match=r"could not connect to the endpoint URL.*127\.0\.0\.1:9") as refusal:
        open_storage("s3://cxr/runs", patience_s=0).read("run.json")
    assert "secret-of-the-test" not in str(refusal.value)


def test_missing_credentials_are_named(s3, monkeypatch):
    """The usual mistake in a new namespace."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(RemoteError, match="unable to locate credentials"):
        open_storage("s3://cxr/runs").read("run.json")


def test_file_system_without_locks_is_refused_by_name(storage, monkeypatch):
    """A second writer would not be noticed there."""

    def unlocked(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unlocked)
    with pytest.raises(InputError, match="cannot lock the run") as refusal, storage.claim("job", print):
        pass
    assert "--output" in refusal.value.hint


def test_token_of_the_service_account_that_is_not_mounted_is_named(s3, monkeypatch, tmp_path):
    """The usual slip with roles for service accounts."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/trainer")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(CredentialsError, match="cannot read the service account's token"):
        open_storage("s3://cxr/runs").read("run.json")
