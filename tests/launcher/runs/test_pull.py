"""`launcher pull`: whole and verified files or none, and never outside the directory."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import pytest
import torch
from finished import STATES, write_checkpoint, write_run

from launcher.__main__ import main
from launcher.runs.locate import Run
from launcher.runs.pull import pull
from launcher.runs.pull_directory import WORDING, inside, only_one
from launcher.spec.options import S3Options
from trainer.errors import InputError, TryAgainError
from trainer.layout import manifest_key, state_key
from trainer.models.architectures import build
from trainer.storage import AbsentError, ChangedError, DamagedError, UnreachableError, open_storage
from trainer.storage.resumable import CHANGES, Item, fetch_all, remove_stale_partials, write_errors
from trainer.storage.waiting import SILENT, Waiting
from trainer.training.schedule import Plateau
from trainer.training.snapshot import TrainState

BEST = "checkpoints/step-00000020"
REPORT = ["metrics.jsonl", "predictions/test.csv", "predictions/val.csv", "results.json", "run.json", "split.csv.gz"]
ALL = [f"{BEST}/manifest.json", f"{BEST}/state.pt", "logs/rank-00000.log", "model/model.safetensors", *REPORT]

BIG = os.urandom(5 << 20)
"""A state of several pieces."""


class Wire:
    """A storage whose transfers are counted, and break where a test says."""

    def __init__(self, storage):
        self._storage = storage
        self.asked = []
        """Key, first byte, and how many came, of each transfer."""
        self.break_after = {}
        """Key to the number of bytes after which the server is gone, once."""

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def chunks(self, key, *, first=0, stamp=None, verify=True):
        came = 0
        try:
            for chunk in self._storage.chunks(key, first=first, stamp=stamp):
                if came >= self.break_after.get(key, 1 << 60):
                    del self.break_after[key]
                    raise UnreachableError("gone")
                came += len(chunk)
                yield chunk
        finally:
            self.asked.append((key, first, came))

    def taken(self, key):
        return [(first, came) for each, first, came in self.asked if each == key]


@pytest.fixture(params=["directory", "bucket"])
def output(request, tmp_path):
    """Where runs are kept."""
    if request.param == "directory":
        return str(tmp_path / "runs")
    request.getfixturevalue("s3")
    return "s3://cxr/runs"


@pytest.fixture
def here(monkeypatch, tmp_path):
    """The current directory, empty."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def launcher(capsys, here):
    def launch(line):
        code = main(line.split())
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return launch


def files(directory):
    return sorted(path.relative_to(directory).as_posix() for path in Path(directory).rglob("*") if path.is_file())


def run_at(storage):
    return Run("demo", storage.url, S3Options())


def pulled(storage, directory, *, step=None, what="all", report=lambda _: None):
    return pull(run_at(storage), storage, step=step, what=what, directory=Path(directory), report=report)


def test_pull_fetches_the_best_checkpoint_and_names_its_state_first(launcher, here, output):
    """What a user wants of a run that is over."""
    storage = write_run(output)
    code, out, _ = launcher(f"pull demo --output {output}")
    assert code == 0
    paths = out.splitlines()
    assert paths[0] == f"demo/{BEST}/state.pt"
    assert sorted(paths) == [f"demo/{key}" for key in sorted(ALL)]
    assert files("demo") == sorted(ALL)
    for key in ALL:
        assert (here / "demo" / key).read_bytes() == storage.read(key)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--what checkpoint", [f"{BEST}/state.pt", f"{BEST}/manifest.json", "run.json"]),
        ("--what checkpoint --step best", [f"{BEST}/state.pt", f"{BEST}/manifest.json", "run.json"]),
        ("--what checkpoint --step last", [state_key(30), manifest_key(30), "run.json"]),
        ("--what checkpoint --step 10", [state_key(10), manifest_key(10), "run.json"]),
        ("--what model", ["model/model.safetensors"]),
        ("--what report", REPORT),
    ],
)
def test_pull_what_fetches_one_part(launcher, tmp_path, flags, expected):
    write_run(str(tmp_path / "runs"))
    code, out, _ = launcher(f"pull demo --output {tmp_path}/runs --to there {flags}")
    assert code == 0
    assert out.splitlines() == [f"there/{key}" for key in expected]
    assert files("there") == sorted({*expected, "run.json"})  # by which the next pull knows the directory


def test_pulled_run_can_be_opened_as_a_run(launcher, tmp_path):
    """The trainer, and this program, can go on with it."""
    write_run(str(tmp_path / "runs"))
    launcher(f"pull demo --output {tmp_path}/runs")
    assert launcher("checkpoints demo --output . -o name")[1] == "20\n"


def test_files_that_are_there_are_not_fetched_again(here, output):
    """The second time asks for nothing but a listing and manifests."""
    wire = Wire(write_run(output))
    said = []
    first = pulled(wire, "demo")
    wire.asked.clear()
    assert pulled(wire, "demo", report=said.append) == first
    assert wire.asked == []
    assert said == ["10 of 10 files are up to date"]


def test_file_that_differs_is_replaced_by_a_verified_one(here, output):
    """Whoever changed it; others stay as they are."""
    wire = Wire(write_run(output))
    pulled(wire, "demo")
    state = here / "demo" / state_key(20)
    state.write_bytes(b"x" * len(STATES[20]))  # the same size
    (here / "demo/mine.txt").write_text("mine", encoding="utf-8")
    wire.asked.clear()
    pulled(wire, "demo")
    assert [key for key, _, _ in wire.asked] == [state_key(20)]
    assert state.read_bytes() == STATES[20]
    assert (here / "demo/mine.txt").read_text(encoding="utf-8") == "mine"


def test_interrupted_pull_resumes_where_it_stopped(here, output):
    """Nothing is in place before it is whole, and no byte comes twice."""
    storage = write_run(output)
    write_checkpoint(storage, 40, BIG, 0.9)
    wire = Wire(storage)
    wire.break_after[state_key(40)] = 2 << 20
    with pytest.raises(UnreachableError):
        pulled(wire, "demo")
    assert state_key(40) not in files("demo")
    assert manifest_key(40) not in files("demo")
    [(first, came)] = wire.taken(state_key(40))
    assert (first, came) == (0, 2 << 20)
    pulled(wire, "demo")
    assert wire.taken(state_key(40)) == [(0, came), (came, len(BIG) - came)]
    assert (here / "demo" / state_key(40)).read_bytes() == BIG
    assert not [name for name in files("demo") if "partial" in name]


def test_partial_file_of_another_object_is_not_continued(here, output):
    """The state was written anew meanwhile: its stamp differs."""
    storage = write_run(output)
    write_checkpoint(storage, 40, BIG, 0.9)
    wire = Wire(storage)
    wire.break_after[state_key(40)] = 2 << 20
    with pytest.raises(UnreachableError):
        pulled(wire, "demo")
    other = BIG[::-1]
    write_checkpoint(storage, 40, other, 0.9)
    pulled(wire, "demo")
    assert wire.taken(state_key(40))[1] == (0, len(other))
    assert (here / "demo" / state_key(40)).read_bytes() == other
    assert not [name for name in files("demo") if "partial" in name]


def test_damaged_state_is_named_and_nothing_is_put_in_place(launcher, here, output):
    """Its bytes are not those that the manifest commits."""
    storage = write_run(output)
    storage.write(state_key(20), b"y" * len(STATES[20]))
    code, out, err = launcher(f"pull demo --output {output}")
    assert (code, out) == (2, "")
    assert f"`{state_key(20)}`" in err
    assert "damaged" in err
    assert not [name for name in files("demo") if name.startswith("checkpoints/")]


def test_damage_in_the_bucket_is_found_by_the_hash_that_the_writer_left(here, s3):
    """Other files than the state have no manifest."""
    storage = write_run("s3://cxr/runs")
    boto3.client("s3").put_object(
        Bucket="cxr", Key="runs/demo/results.json", Body=b"[]", Metadata={"sha256": hashlib.sha256(b"{}").hexdigest()}
    )
    with pytest.raises(DamagedError, match=r"results\.json"):
        pulled(storage, "demo")
    assert "results.json" not in files("demo")


def test_damaged_partial_file_is_fetched_again(here, output):
    """A disk that lost what was not flushed: the object itself is well."""
    storage = write_run(output)
    write_checkpoint(storage, 40, BIG, 0.9)
    wire = Wire(storage)
    wire.break_after[state_key(40)] = 2 << 20
    with pytest.raises(UnreachableError):
        pulled(wire, "demo")
    [part] = (here / "demo/checkpoints/step-00000040").glob(".state.pt.*.partial")
    part.write_bytes(bytes(part.stat().st_size))
    pulled(wire, "demo")
    assert [first for first, _ in wire.taken(state_key(40))] == [0, 2 << 20, 0]
    assert (here / "demo" / state_key(40)).read_bytes() == BIG


class Restless(Wire):
    """A storage in which a file is rewritten just before it is read."""

    times = 1

    def chunks(self, key, *, first=0, stamp=None, verify=True):
        if key == "metrics.jsonl" and self.times:
            self.times -= 1
            self._storage.write(key, self._storage.read(key) + b"more\n")
        return super().chunks(key, first=first, stamp=stamp)


def test_list_of_a_run_that_trains_is_read_again(here, output):
    """It grows while it is pulled."""
    storage = Restless(write_run(output))
    pulled(storage, "demo")
    assert (here / "demo/metrics.jsonl").read_bytes().endswith(b"more\n")
    storage.times = CHANGES
    with pytest.raises(ChangedError):
        pulled(storage, "again")


@pytest.mark.parametrize("key", ["model/../../../escaped", "model//absolute", "model/./x", "model/a\\..\\b"])
def test_names_that_leave_the_directory_are_refused(launcher, here, s3, key):
    """Whoever may write to the bucket could else write anywhere here."""
    write_run("s3://cxr/runs")
    boto3.client("s3").put_object(Bucket="cxr", Key=f"runs/demo/{key}", Body=b"x")
    code, out, err = launcher("pull demo --output s3://cxr/runs")
    assert (code, out) == (2, "")
    assert "leads out of `demo`" in err
    assert files(here) == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a/..", "..", "a\nb", "a\x00b", "a\x1b[2Jb", "a/"]
)
def test_object_names_are_checked_one_by_one(tmp_path, key):
    """A line break would make two lines of one path on stdout."""
    with pytest.raises(InputError, match="leads out"):
        inside(tmp_path, key)


def test_links_that_leave_the_directory_are_refused(launcher, here, tmp_path):
    write_run(str(tmp_path / "runs"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (here / "demo").mkdir()
    (here / "demo/model").symlink_to(outside)
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs")
    assert code == 2
    assert "leads out of `demo`" in err
    assert files(outside) == []


def link_to_a_file(path, outside):
    outside.write_text("mine", encoding="utf-8")
    path.symlink_to(outside)


def link_to_nothing(path, outside):
    path.symlink_to(outside)


def hard_link(path, outside):
    outside.write_text("mine", encoding="utf-8")
    path.hardlink_to(outside)


def pipe(path, _outside):
    os.mkfifo(path)


def folder(path, outside):
    path.mkdir()
    (path / "mine").write_text("mine", encoding="utf-8")


def file_of_the_user(path, _outside):
    path.write_text("mine", encoding="utf-8")


@pytest.mark.parametrize("put", [link_to_a_file, link_to_nothing, hard_link, pipe, folder, file_of_the_user])
@pytest.mark.parametrize("key", ["run.json", "metrics.jsonl", state_key(20), "model/model.safetensors"])
def test_foreign_file_is_refused_by_name(here, tmp_path, put, key):
    """Whoever pulls into a directory of other files must not lose one."""
    storage, outside = write_run(str(tmp_path / "runs")), tmp_path / "outside"
    target = here / "demo" / key
    target.parent.mkdir(parents=True)
    put(target, outside)
    before = [target.lstat(), *(path.read_bytes() for path in (outside, target) if path.is_file())]
    with pytest.raises(InputError, match=rf"demo.*{target.name}") as refusal:
        pulled(storage, "demo")
    assert "move it away, or --to another DIRECTORY" in refusal.value.hint
    after = [target.lstat(), *(path.read_bytes() for path in (outside, target) if path.is_file())]
    assert [stat[:2] for stat in (before[0], after[0])] == [after[0][:2]] * 2
    assert before[1:] == after[1:]
    assert [name for name in files("demo") if name not in {key, f"{key}/mine"}] == []


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/step-00000020"])
def test_no_linked_folder_is_written_to(here, tmp_path, name):
    """One within the directory would mix what it holds with the run."""
    storage = write_run(str(tmp_path / "runs"))
    (here / "demo/elsewhere").mkdir(parents=True)
    link = here / "demo" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(here / "demo/elsewhere")
    with pytest.raises(InputError, match=f"`demo/{name}` is a link"):
        pulled(storage, "demo")
    assert files("demo") == []


def test_record_that_is_none_of_a_run_is_refused(here, tmp_path):
    """`run.json` is no rare name."""
    storage = write_run(str(tmp_path / "runs"))
    (here / "demo").mkdir()
    (here / "demo/run.json").write_text('{"scripts": {}}', encoding="utf-8")
    for what in ("all", "model"):
        with pytest.raises(InputError, match=r"its run\.json was not written by a pull"):
            pulled(storage, "demo", what=what)
    assert files("demo") == ["run.json"]
    assert (here / "demo/run.json").read_text(encoding="utf-8") == '{"scripts": {}}'


@pytest.mark.parametrize("what", ["model", "report", "all"])
def test_pulled_file_is_replaced_when_the_run_has_a_newer_one(here, output, what):
    """A run that was trained further, whichever part of it was pulled."""
    storage = write_run(output)
    pulled(storage, "demo", what=what)
    key = "model/model.safetensors" if what == "model" else "results.json"
    storage.write(key, b"newer and longer " * 400)
    pulled(storage, "demo", what=what)
    assert (here / "demo" / key).read_bytes() == storage.read(key)


def test_pull_that_was_killed_knows_its_files_again(here, output):
    """The record is there before anything that may change in the run."""
    wire = Wire(write_run(output))
    for key in ("results.json", "metrics.jsonl", "logs/rank-00000.log"):
        wire.break_after[key] = 0
    with pytest.raises(UnreachableError):
        pulled(wire, "demo")
    assert "run.json" in files("demo")
    for key in REPORT:
        if key != "run.json":
            wire.write(key, b"rewritten meanwhile")
    pulled(wire, "demo")
    assert (here / "demo/metrics.jsonl").read_bytes() == b"rewritten meanwhile"


class Endless(Wire):
    """A storage that sends more, or less, than it listed."""

    def __init__(self, storage, key, lengths):
        super().__init__(storage)
        self._key, self._lengths = key, lengths

    def chunks(self, key, *, first=0, stamp=None, verify=True):
        if key != self._key:
            yield from super().chunks(key, first=first, stamp=stamp)
        else:
            yield from (bytes(length) for length in self._lengths)


@pytest.mark.parametrize("key", ["metrics.jsonl", state_key(20)])
@pytest.mark.parametrize("lengths", [[1 << 20] * 10_000, [1], [1 << 30]], ids=["endless", "short", "one piece"])
def test_object_of_another_length_than_listed_does_not_fill_the_disk(here, output, key, lengths):
    """It is named, and as much of it as was listed is the most that is ever written."""
    storage = Endless(write_run(output), key, lengths if lengths != [1 << 30] else [1 << 24])
    listed_bytes = storage.stat(key).size_bytes
    with pytest.raises(DamagedError, match=rf"{key}.*the listing says {listed_bytes:,}"):
        pulled(storage, "demo")
    assert key not in files("demo")
    assert all(path.stat().st_size <= listed_bytes for path in (here / "demo" / key).parent.glob(".*.partial"))


def test_partial_files_that_cannot_be_continued_are_removed(here, tmp_path):
    """Each kill of a pull would leave one, and the run prunes its checkpoints."""
    storage = write_run(str(tmp_path / "runs"))
    current = Item(key=state_key(30), target=here / "demo" / state_key(30), stat=storage.stat(state_key(30))).partial
    ours = [
        here / "demo" / state_key(10).replace("state.pt", f".state.pt.{'a' * 16}.partial"),  # of another content
        here / "demo/checkpoints/step-00000007" / f".state.pt.{'b' * 16}.partial",  # pruned
        here / "demo" / f".metrics.jsonl.{'c' * 16}.partial",
    ]
    others = [here / "demo" / name for name in (".notes.partial", f"x/.y.{'d' * 16}.partial", ".state.pt.1.partial")]
    for path in [current, *ours, *others]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"part")
    pulled(storage, "demo")
    assert [path.exists() for path in [current, *others]] == [True] * 4
    assert not any(path.exists() for path in ours)


def test_partial_file_renamed_by_another_thread_is_no_failure(tmp_path, monkeypatch):
    """Eight files of a folder come at once, and each that is whole looks for what is left of it: one pull in many failed."""
    part, real = tmp_path / f".run.json.{'0' * 16}.partial", Path.lstat
    part.write_bytes(b"part")

    def lstat(path):
        if path == part:
            part.replace(tmp_path / "run.json")
        return real(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    remove_stale_partials(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_folder_markers_of_s3_consoles_are_left_out(here, s3):
    storage = write_run("s3://cxr/runs")
    for key in ("", "model/", "model", "logs_$folder$", "predictions/"):
        boto3.client("s3").put_object(Bucket="cxr", Key=f"runs/demo/{key}", Body=b"")
    pulled(storage, "demo")
    assert files("demo") == sorted(ALL)


def test_folder_marker_is_no_run(launcher, s3):
    """A folder made in a console for a run that was never started."""
    boto3.client("s3").put_object(Bucket="cxr", Key="runs/demo/", Body=b"")
    code, _, err = launcher("pull demo --output s3://cxr/runs --what report")
    assert (code, "there are no files at `s3://cxr/runs/demo`" in err) == (2, True)


def test_object_that_cannot_be_a_file_is_named_before_anything_is_pulled(here, s3):
    storage = write_run("s3://cxr/runs")
    boto3.client("s3").put_object(Bucket="cxr", Key="runs/demo/model/model.safetensors/x", Body=b"1")
    with pytest.raises(InputError, match=r"`model/model\.safetensors`: .*need a folder of its name"):
        pulled(storage, "demo")
    assert not (here / "demo").exists()


def test_step_that_is_not_there_lists_those_that_are(launcher, tmp_path):
    write_run(str(tmp_path / "runs"))
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs --step 7")
    assert code == 2
    assert "30, 20, 10" in err
    assert launcher(f"pull demo --output {tmp_path}/runs --step newest")[0] == 2


@pytest.mark.parametrize("what", ["model", "report"])
def test_step_flag_is_refused_for_parts_without_steps(launcher, tmp_path, what):
    """It would be ignored."""
    write_run(str(tmp_path / "runs"))
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs --what {what} --step last")
    assert code == 2
    assert "--step" in err


def test_run_that_trains_has_no_model_yet(launcher, tmp_path):
    """All that there is comes all the same."""
    write_run(str(tmp_path / "runs"), scored=False)
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs --what model")
    assert code == 2
    assert "when it has finished" in err
    assert launcher(f"pull demo --output {tmp_path}/runs")[0] == 0


def test_run_without_a_checkpoint_is_refused_with_the_parts_it_has(launcher, tmp_path):
    open_storage(f"{tmp_path}/runs/demo").write("run.json", b"{}")
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs")
    assert code == 2
    assert "--what report" in err
    assert launcher(f"pull demo --output {tmp_path}/runs --what report")[:2] == (0, "demo/run.json\n")


def test_checkpoint_without_its_state_is_reported(here, tmp_path):
    """A run that trains has pruned it."""
    storage = write_run(str(tmp_path / "runs"))
    Path(storage.url, state_key(20)).unlink()
    with pytest.raises(AbsentError, match=r"state\.pt"):
        pulled(storage, "demo")
    assert not (here / "demo").exists()


def test_run_is_not_pulled_into_itself(launcher, tmp_path, monkeypatch):
    storage = write_run(str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path / "runs")
    before = files("demo")
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs --to {tmp_path}/runs/demo")
    assert (code, "--to" in err, files(storage.url)) == (2, True, before)


@pytest.mark.parametrize("record", [{"name": "other"}, {"identity": {"epochs": 9}}], ids=["name", "recipe"])
def test_directory_of_another_run_is_left_alone(launcher, tmp_path, record):
    """Steps of both would lie there, and whichever came last would be the record."""
    first = write_run(str(tmp_path / "runs"), "first")
    first.write("run.json", json.dumps(json.loads(first.read("run.json")) | record).encode())
    write_run(str(tmp_path / "runs"))
    assert launcher(f"pull first --output {tmp_path}/runs --to there")[0] == 0
    before = {name: Path("there", name).read_bytes() for name in files("there")}
    for what in ("all", "checkpoint", "model"):
        code, _, err = launcher(f"pull demo --output {tmp_path}/runs --to there --what {what}")
        assert code == 2
        assert f"it is a copy of the run `{record.get('name', 'demo')}`" in err
        assert "--to" in err
    assert {name: Path("there", name).read_bytes() for name in files("there")} == before


@pytest.mark.parametrize("name", ["starts.json", "owner.json"])
def test_run_is_not_pulled_over_one_that_trains(launcher, tmp_path, name):
    """Only where a run trains do these lie."""
    write_run(str(tmp_path / "runs"))
    other = write_run(str(tmp_path / "runs"), "other", scored=False)
    other.write(name, b"{}")
    before = files(other.url)
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs --to {other.url}")
    assert code == 2
    assert "it is the output of the run `demo`" in err
    assert files(other.url) == before


def test_damaged_record_here_is_no_other_run(here, output):
    """A machine that lost its power leaves one; it is replaced."""
    storage = write_run(output)
    pulled(storage, "demo")
    (here / "demo/run.json").write_bytes(b"")
    pulled(storage, "demo")
    assert (here / "demo/run.json").read_bytes() == storage.read("run.json")


def test_problem_of_any_kind_ends_a_transfer(here, output):
    """An IndexError too is none of the queue's."""
    storage = write_run(output)

    class Broken(Wire):
        def chunks(self, key, *, first=0, stamp=None, verify=True):
            raise IndexError(key)

    item = Item(key="run.json", target=here / "run.json", stat=storage.stat("run.json"))
    with pytest.raises(IndexError):
        fetch_all(Broken(storage), [item], threads=2, advance=lambda _: None, wording=WORDING)


def test_partial_file_that_could_not_be_compared_is_fetched_again(here, output):
    """Read from its middle an object is not compared with the hash that its writer left."""
    storage = write_run(output)
    storage.write("model/model.safetensors", BIG * 8)
    wire = Wire(storage)
    wire.break_after["model/model.safetensors"] = 36 << 20
    with pytest.raises(UnreachableError):
        pulled(wire, "demo", what="model")
    pulled(wire, "demo", what="model")
    assert [first for first, _ in wire.taken("model/model.safetensors")] == [0, 0]


def test_server_lost_during_a_pull_is_reported_with_how_to_continue(here, output):
    """That it is at another address is no idea any more."""
    wire = Wire(write_run(output))
    wire.break_after[state_key(20)] = 0
    with pytest.raises(UnreachableError) as caught, run_at(wire).opened():
        pulled(wire, "demo")
    assert caught.value.hint == "run the same command again to resume"


def test_waiting_for_a_lock_that_fails_is_no_bug(here, monkeypatch):
    """A network's file system may lose its server meanwhile."""
    import fcntl

    said, answers = [], iter([BlockingIOError(), OSError(37, "no locks available")])

    def refuse(*_):
        raise next(answers)

    monkeypatch.setattr(fcntl, "flock", refuse)
    with only_one(Path("demo"), Waiting(said.append)):
        pass
    assert [each.partition(" ")[0] for each in said] == ["waiting", "demo"]


def test_waiting_for_a_hanging_pull_is_reported_each_minute_and_ends(tmp_path):
    """A stopped one holds its lock for ever."""
    now, said = [0.0], []
    waiting = Waiting(said.append, clock=lambda: now[0], sleep=lambda _: now.__setitem__(0, now[0] + 30))
    with (
        only_one(tmp_path, waiting),
        pytest.raises(TryAgainError, match="has not finished within 100 minutes"),
        only_one(tmp_path, waiting),
    ):
        pass
    assert len(said) == 101


@pytest.mark.parametrize("what", ["model", "report", "all"])
def test_absent_run_is_reported_for_every_part(launcher, tmp_path, what):
    """It won't write its results when it is over."""
    code, _, err = launcher(f"pull nope --output {tmp_path}/runs --what {what}")
    assert code == 2
    assert f"there are no files at `{tmp_path}/runs/nope`" in err


@pytest.mark.parametrize("flag", ["--step=", f"--step={'1' * 5000}", "--to="])
def test_invalid_what_and_step_are_refused(launcher, here, tmp_path, flag):
    """Not taken for the default, or the current directory."""
    write_run(str(tmp_path / "runs"))
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs {flag}")
    assert code == 2
    assert f"(from `{flag.partition('=')[0]}`)" in err
    assert files(here) == []


def test_directory_that_may_not_be_written_is_an_error_of_input(launcher, here, tmp_path):
    write_run(str(tmp_path / "runs"))
    (here / "demo").write_text("a file", encoding="utf-8")
    code, _, err = launcher(f"pull demo --output {tmp_path}/runs")
    assert code == 2
    assert "cannot write" in err


def test_full_disk_can_be_tried_again(here, tmp_path):
    """/dev/full stands for one."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with (
        pytest.raises(TryAgainError, match="no space"),
        write_errors(here, WORDING),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    with pytest.raises(InputError), write_errors(here, WORDING):
        (here / "no/such").read_bytes()


def test_second_pull_into_a_directory_waits_for_the_first(here, tmp_path):
    """Else each would write into the other's parts."""
    storage, said = write_run(str(tmp_path / "runs")), []
    done = []
    with only_one(Path("demo"), Waiting(said.append)):
        second = threading.Thread(target=lambda: done.append(pulled(storage, "demo", report=said.append)))
        second.start()
        deadline = time.monotonic() + 20
        while not said:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert files("demo") == []
    second.join(20)
    assert said == ["waiting for another pull into demo"]
    assert len(done[0]) == len(ALL)


def test_many_pulls_at_once_leave_whole_files(here, output):
    storage = write_run(output)
    write_checkpoint(storage, 40, BIG, 0.9)
    threads = [threading.Thread(target=pulled, args=(storage, "demo")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (here / "demo" / state_key(40)).read_bytes() == BIG
    assert not [name for name in files("demo") if "partial" in name]


def test_killed_pull_is_continued_by_the_next(here, tmp_path, s3):
    """SIGKILL, in the middle of a transfer through real sockets."""
    storage = write_run("s3://cxr/runs")
    big = os.urandom(96 << 20)
    write_checkpoint(storage, 40, big, 0.9)
    line = [sys.executable, "-m", "launcher", *["pull", "demo", "--output", "s3://cxr/runs", "--what", "checkpoint"]]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE)
    folder = here / "demo/checkpoints/step-00000040"
    deadline = time.monotonic() + 30
    while not (part := next(folder.glob(".state.pt.*.partial"), None)) or part.stat().st_size < 1 << 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    had = part.stat().st_size
    assert had < len(big)
    assert set(files("demo")) - {"run.json"} == {
        part.relative_to(here / "demo").as_posix()
    }  # of two transfers at once, either may be first
    wire = Wire(storage)
    pulled(wire, "demo", what="checkpoint")
    assert wire.taken(state_key(40)) == [(had, len(big) - had)]
    assert hashlib.sha256((folder / "state.pt").read_bytes()).digest() == hashlib.sha256(big).digest()


def test_pulled_checkpoint_loads_as_the_docs_say(launcher, here, tmp_path):
    """With plain torch and torchvision, and without running what is in the file."""
    page = (Path(__file__).parents[3] / "docs/results.md").read_text(encoding="utf-8")
    snippet = page.partition("## Checkpoints and pull\n")[2].partition("```python\n")[2].partition("```")[0]
    assert "state.pt" in snippet
    network = build("densenet121", "linear", 14)
    optimizer = torch.optim.Adam(network.parameters()).state_dict()
    state = TrainState(step=60, model=network.state_dict(), ranks=[], optimizer=optimizer, plateau=Plateau(1.0, 0.5))
    write_checkpoint(open_storage(f"{tmp_path}/runs/demo"), 60, state.to_bytes(), 0.9)
    assert launcher(f"pull demo --output {tmp_path}/runs --to results --what checkpoint")[0] == 0
    names = {}
    exec(snippet, names)
    loaded = names["model"].state_dict()
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())


def test_partial_file_finished_by_another_thread_is_no_failure(here, output, monkeypatch):
    """Files of one folder are fetched at once, and each looks for what is left of its own."""
    storage = write_run(output)
    gone, listed = f".test.csv.{'0' * 16}.partial", Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: [*listed(folder), folder / gone])
    pulled(storage, "demo", what="report")
    assert Path("demo/predictions/val.csv").is_file()


def test_ctrl_c_says_how_to_continue_the_pull(here, tmp_path, capsys):
    storage = write_run(str(tmp_path / "runs"))
    assert storage
    with only_one(Path("demo"), SILENT):
        timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        assert main(f"pull demo --output {tmp_path}/runs".split()) == 130
    assert "run the same command again to resume" in capsys.readouterr().err
