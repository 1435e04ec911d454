"""A run's prefix holds only what is the run's, or what is left alone."""

import json
import os

import boto3
import pytest

from trainer.errors import InputError
from trainer.layout import RUN, manifest_key, state_key
from trainer.runs import ownership
from trainer.runs.ownership import RunClaim
from trainer.storage import LocalStorage, open_storage

RECORD = json.dumps({"name": "r", "config": {"lr": 1e-3}, "identity": {"findings": []}}).encode()
STARTED = b'{"first_s": 1790000000.5, "step": 0, "without_progress": 1}'


@pytest.fixture
def storage(tmp_path):
    """A prefix that is a directory."""
    return LocalStorage(str(tmp_path / "run"))


@pytest.fixture(params=["directory", "bucket"])
def anywhere(request, tmp_path):
    """A prefix of each kind."""
    if request.param == "directory":
        return LocalStorage(str(tmp_path / "run"))
    request.getfixturevalue("s3")
    return open_storage("s3://cxr/runs/one")


def contents(storage):
    return {key: storage.read(key) for key in storage.keys("")}


def checked(storage):
    """What the start was told; nothing may change."""
    before, told = contents(storage), []
    try:
        ownership.check(storage, told.append)
    finally:
        assert contents(storage) == before
    return told


def test_empty_prefix_is_accepted(storage):
    """Most are."""
    assert checked(storage) == []


def test_prefix_with_a_run_of_ours_is_accepted(storage):
    """And nothing is told of it."""
    for key in (RUN, "starts.json", "owner.json", "logs/rank-00000.log", state_key(5), manifest_key(5), "results.json"):
        storage.write(key, RECORD)
    assert checked(storage) == []


def test_foreign_files_are_reported_once_and_kept(anywhere):
    """The first few, so that a line stays one."""
    anywhere.write(RUN, RECORD)
    names = [f"checkpoints/epoch={epoch}-step=100.ckpt" for epoch in range(9)]
    for name in [*names, "notes\u202eof mine.txt"]:
        anywhere.write(name, b"theirs")
    [line] = checked(anywhere)
    assert f"`{names[0]}`, `{names[1]}`" in line
    assert "and 5 more" in line
    assert "not touched" in line
    assert line.isprintable()


def test_foreign_files_in_a_new_prefix_are_reported(storage):
    """A run may be kept in a folder that has notes."""
    storage.write("notes.txt", b"theirs")
    assert len(checked(storage)) == 1


def test_folder_markers_of_s3_consoles_are_ignored(s3):
    """Consoles and mounts put an empty object for each folder; users can do nothing about them."""
    put = boto3.client("s3").put_object
    for key in ("", "checkpoints/", "checkpoints/step-00000005/", "notes/", "notes", "notes_$folder$"):
        put(Bucket="cxr", Key=f"runs/one/{key}", Body=b"")
    storage, told = open_storage("s3://cxr/runs/one"), []
    ownership.check(storage, told.append)
    assert told == []
    put(Bucket="cxr", Key="runs/one/notes/mine.txt", Body=b"mine")
    ownership.check(storage, told.append)
    assert len(told) == 1
    assert told[0].endswith(": `notes/mine.txt`")


def test_object_with_content_in_place_of_a_folder_marker_is_reported(s3):
    """It is somebody's file."""
    boto3.client("s3").put_object(Bucket="cxr", Key="runs/one/notes/", Body=b"mine")
    [line] = checked(open_storage("s3://cxr/runs/one"))
    assert line.endswith(": `notes/`")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"null", b'{"name": "wandb"}', b'{"config": [], "identity": {}}', b"[" * 10**5, b"\xff\0"],
)
def test_foreign_run_json_is_refused(content, storage):
    """Many a program writes a run.json."""
    storage.write(RUN, content)
    with pytest.raises(InputError, match=r"`run\.json` is not the record of a run"):
        checked(storage)


@pytest.mark.parametrize(
    ("key", "content"),
    [
        (state_key(5), b"theirs"),
        ("report/index.html", b"theirs"),
        ("model/model.safetensors", b"theirs"),
        ("results.json", b"{}"),
        ("metrics.jsonl", b""),
        ("starts.json", b"[1, 2]"),
        ("starts.json", b'{"starts": 3}'),
        ("owner.json", b'{"owner": "somebody"}'),
        ("logs/rank-00000.log", b"theirs\n"),
    ],
)
def test_prefix_without_run_json_but_with_files_of_our_names_is_refused(key, content, storage):
    """Nobody knows whose it is."""
    storage.write(key, content)
    with pytest.raises(InputError, match=r"it has no `run\.json`") as refusal:
        checked(storage)
    assert f"`{key}`" in str(refusal.value)


@pytest.mark.parametrize("log", [b"", b"2026-11-28T11:46:34Z decoding 60 images\n"])
def test_start_killed_before_it_wrote_run_json_is_continued(log, anywhere):
    """It leaves the count of starts, a bucket's lease and the first lines."""
    anywhere.write("starts.json", STARTED)
    anywhere.write("owner.json", b'{"job": "j", "token": "t", "beat": 3}')
    anywhere.write("logs/rank-00001.log", log)
    assert checked(anywhere) == []


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/old", "logs", "notes"])
def test_linked_folder_is_refused_by_name(place, tmp_path):
    """Files elsewhere were pruned through it."""
    storage = LocalStorage(str(tmp_path / "run"))
    storage.write(RUN, RECORD)
    link = tmp_path / "run" / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path)
    with pytest.raises(InputError, match=f"run/{place}` is a link"):
        ownership.check(storage, print)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_path_that_cannot_be_replaced_is_refused_by_name(make, tmp_path):
    """A pipe is waited for without an end."""
    storage = LocalStorage(str(tmp_path / "run"))
    storage.write("starts.json", STARTED)
    make(tmp_path / "run/run.json")
    with pytest.raises(InputError, match=r"run/run\.json` is"):
        ownership.check(storage, print)


class Held:
    def check(self):
        """It is."""

    def lost(self):
        """It is not."""


def test_claim_is_lost_with_the_record(anywhere):
    """Somebody who empties a bucket's prefix does not want the run any more."""
    claim = RunClaim(Held(), anywhere)
    claim.check()  # not yet written
    anywhere.write(RUN, RECORD)
    claim.check()
    anywhere.delete(RUN)
    with pytest.raises(InputError, match=r"`run\.json` was removed"):
        claim.check()
