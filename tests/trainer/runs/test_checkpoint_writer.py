"""Checkpoints beside training: nothing is lost, nothing is half-written, and training never waits."""

import errno
import os
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from trainer.errors import InputError, RemoteError, TryAgainError
from trainer.layout import manifest_key, state_key
from trainer.runs import fallback as fallback_module
from trainer.runs.checkpoint_writer import CheckpointWriter
from trainer.runs.checkpoints import Scored, manifest_of, read_state
from trainer.runs.fallback import Fallback
from trainer.runs.manifest import best, committed
from trainer.runs.retention import Retention
from trainer.storage import FullError, LocalStorage, NotPermittedError, UnreachableError
from trainer.training.schedule import Plateau
from trainer.training.snapshot import RankState, TrainState

BORN_S = 1e9


def writer_of(bucket, fallback, claim, report, *, keep_last=2, **options):
    """A writer, with the retention of its run."""
    retention = Retention(bucket, claim, report, keep_last=keep_last)
    return CheckpointWriter(bucket, fallback, claim, retention, report, **options)


def state(step):
    weights = {"w": torch.full((4,), float(step))}
    return TrainState(step, weights, [RankState({}, {"cpu": torch.get_rng_state()}, 0.0)], {}, Plateau())


class Bucket(LocalStorage):
    """A directory that can be told to hold writes up, or to fail them."""

    def __init__(self, url):
        super().__init__(url)
        self.gate = threading.Event()
        self.gate.set()
        self.problem = None
        self.failing = lambda _key: True
        self.meanwhile = None
        self.written = []
        self.deleted = []

    def write(self, key, content):
        assert self.gate.wait(30)
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        if self.problem is not None and self.failing(key):
            raise self.problem
        self.written.append(key)
        super().write(key, content)

    def delete(self, key):
        self.deleted.append(key)
        super().delete(key)


class Claim:
    """The right to write, until another has it."""

    def __init__(self):
        self.problem = None
        self.noticed = None

    def check(self):
        if self.problem is not None:
            raise self.problem

    def lost(self):
        return self.noticed


@pytest.fixture
def bucket(tmp_path):
    return Bucket(str(tmp_path / "run"))


@pytest.fixture
def told():
    return []


@pytest.fixture
def claim():
    return Claim()


def spool_of(tmp_path, bucket, born_s=BORN_S):
    return Fallback(tmp_path / "cache", bucket.url, born_s)


@pytest.fixture
def writer(tmp_path, bucket, claim, told):
    writer = writer_of(bucket, spool_of(tmp_path, bucket), claim, told.append, keep_last=2, retry_s=0.01)
    with writer.running():
        yield writer


def never():
    return False


def soon(holds):
    end_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def steps(bucket):
    return [manifest.step for manifest in committed(bucket)]


def test_state_is_written_before_the_manifest_that_commits_it(writer, bucket):
    """Its presence is the commit."""
    writer.queue_state(state(10), epoch=1.0)
    writer.flush(never)
    assert bucket.written == [state_key(10), manifest_key(10)]


def test_training_does_not_wait_for_the_bucket(writer, bucket):
    """An accelerator that waits for an upload costs what it costs when it works."""
    bucket.gate.clear()
    for step in (10, 20, 30):
        writer.queue_state(state(step), epoch=step / 10)  # returns although nothing gets through
    bucket.gate.set()
    writer.flush(never)
    assert steps(bucket)[-1] == 30


def test_newest_state_replaces_those_that_wait(writer, bucket):
    """A slow bucket gets the newest, not a queue that grows."""
    bucket.gate.clear()
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._newest is None)  # it is on its way
    writer.queue_state(state(20), epoch=2.0)
    writer.queue_state(state(30), epoch=3.0)
    bucket.gate.set()
    writer.flush(never)
    assert steps(bucket) == [10, 30]


def test_best_state_is_written_though_a_newer_one_overtakes_it(writer, bucket):
    """The run is scored with the best: a slow bucket must not change which that is."""
    bucket.gate.clear()
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._newest is None)
    writer.queue_state(state(20), epoch=2.0)
    writer.queue_scores(20, Scored(0.9, 0.1))
    writer.queue_state(state(30), epoch=3.0)
    writer.queue_scores(30, Scored(0.8, 0.2))
    writer.queue_state(state(40), epoch=4.0)
    bucket.gate.set()
    writer.flush(never)
    assert best(committed(bucket)).step == 20
    assert steps(bucket)[-1] == 40


def test_among_equal_scores_the_state_of_lower_loss_is_kept(writer, bucket):
    """What is kept, what is scored and what `launcher checkpoints` calls best must be one."""
    bucket.gate.clear()
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._newest is None)
    writer.queue_scores(10, Scored(0.9, 0.3))
    for step, loss in [(20, 0.4), (30, 0.2)]:
        writer.queue_state(state(step), epoch=step / 10)
        writer.queue_scores(step, Scored(0.9, loss))
    writer.queue_state(state(40), epoch=4.0)
    bucket.gate.set()
    writer.flush(never)
    assert best(committed(bucket)).step == 30


def test_better_state_that_arrives_while_the_best_is_written_is_kept(tmp_path, bucket):
    """It takes the place of what is on its way, which must not empty that place when it arrives."""
    writer = writer_of(bucket, spool_of(tmp_path, bucket), Claim(), lambda _: None, keep_last=2)
    for step, auroc in [(10, 0.8), (20, 0.9)]:
        writer.queue_state(state(step), epoch=step / 10)
        writer.queue_scores(step, Scored(auroc, 0.1))
    bucket.meanwhile = lambda: writer.queue_state(state(30), epoch=3.0)  # while step 10, the best so far, is written
    with writer.running():
        writer.flush(never)
    assert best(committed(bucket)).step == 20
    assert steps(bucket)[-1] == 30


def waiting(writer, bucket):
    bucket.gate.clear()
    writer.queue_state(state(5), epoch=0.5)
    soon(lambda: writer._newest is None)
    writer.queue_state(state(10), epoch=1.0)


def on_its_way(writer, bucket):
    bucket.gate.clear()
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._newest is None)


def in_place(writer, bucket):
    writer.queue_state(state(10), epoch=1.0)
    writer.flush(never)


@pytest.mark.parametrize("brought", [waiting, on_its_way, in_place])
def test_validation_is_added_to_the_manifest_whenever_it_comes(writer, bucket, brought):
    """The upload goes on while validation runs, and either can be first."""
    brought(writer, bucket)
    writer.queue_scores(10, Scored(0.75, 0.5))
    bucket.gate.set()
    writer.flush(never)
    manifest = committed(bucket)[-1]
    assert (manifest.step, manifest.validated, manifest.val_auroc, manifest.val_loss) == (10, True, 0.75, 0.5)
    read_state(bucket, manifest)


def test_failing_bucket_is_reported_once_and_missed_states_are_written_later(writer, bucket, told):
    """A bucket that is away for minutes costs nothing but a line."""
    bucket.problem = UnreachableError("cannot write `s3://cxr/runs`: 503")
    for step in (10, 20, 30):
        writer.queue_state(state(step), epoch=step / 10)
    soon(lambda: told)
    bucket.problem = None
    writer.flush(never)
    assert steps(bucket)[-1] == 30
    assert told == [
        "checkpoint upload failed (training continues, retrying): cannot write `s3://cxr/runs`: 503",
        "checkpoint upload works again",
    ]


def test_state_that_cannot_be_written_is_kept_on_this_node(writer, bucket, told, tmp_path):
    """A worker that dies while the bucket is away is started again beside that disk."""
    bucket.problem = UnreachableError("503")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: told)
    bucket.problem = None
    kept = Bucket(str(tmp_path / "elsewhere"))
    assert spool_of(tmp_path, bucket).hand_over(kept, 0) == [10]
    (manifest,) = committed(kept)
    read_state(kept, manifest)


def of_scores(writer, bucket):
    writer.queue_state(state(10), epoch=1.0)
    writer.flush(never)
    bucket.problem = UnreachableError("503")
    writer.queue_scores(10, Scored(0.5, 0.5))


def of_the_best(writer, bucket):
    bucket.problem = UnreachableError("503")
    writer.queue_state(state(10), epoch=1.0)
    writer.queue_scores(10, Scored(0.5, 0.5))
    writer.queue_state(state(20), epoch=2.0)


@pytest.mark.parametrize("waits", [of_scores, of_the_best])
def test_newest_state_is_kept_whatever_else_waits_before_it(writer, bucket, told, tmp_path, waits):
    """A pod that dies after hours without its bucket must not lose them."""
    waits(writer, bucket)
    soon(lambda: told)
    writer.queue_state(state(40), epoch=4.0)
    soon(lambda: 40 in writer._fallback.kept_steps)
    writer._closing = True
    kept = Bucket(str(tmp_path / "elsewhere"))
    assert spool_of(tmp_path, bucket).hand_over(kept, 20) == [40]


def test_best_state_is_kept_on_this_node_beside_the_newest(writer, bucket, told, tmp_path):
    """The run is scored with it: were it lost with its pod, the results would be those of another epoch."""
    bucket.problem = UnreachableError("503")
    writer.queue_state(state(10), epoch=1.0)
    writer.queue_scores(10, Scored(0.9, 0.5))
    writer.queue_state(state(20), epoch=2.0)
    writer.queue_scores(20, Scored(0.8, 0.5))
    soon(lambda: told)
    writer.queue_state(state(30), epoch=3.0)
    soon(lambda: {10, 30} <= writer._fallback.kept_steps)
    writer._closing = True
    kept = Bucket(str(tmp_path / "elsewhere"))
    assert spool_of(tmp_path, bucket).hand_over(kept, 0) == [10, 30]
    assert best(committed(kept)).step == 10


@pytest.mark.parametrize("offered", [[10], [10, 20]], ids=["it is on its way", "an older one is"])
def test_newest_state_is_kept_when_there_is_no_time_left(tmp_path, bucket, offered):
    """SIGTERM leaves seconds, and a bucket that hangs takes none of them back."""
    writer = writer_of(bucket, spool_of(tmp_path, bucket), Claim(), lambda _: None, keep_last=2)
    bucket.gate.clear()
    with writer.running():
        for step in offered:
            writer.queue_state(state(step), epoch=step / 10)
            soon(lambda: writer._uploading)
        with pytest.raises(TryAgainError, match="the output is too slow"):
            writer.flush(lambda: True)
        assert spool_of(tmp_path, bucket).hand_over(LocalStorage(str(tmp_path / "elsewhere")), 0)[-1] == offered[-1]
        bucket.gate.set()


def test_failed_writer_thread_ends_the_run(writer, bucket, monkeypatch):
    """A bug is told when it is met, not at the end of a night."""

    def broken(*_):
        raise MemoryError("no room for a copy")

    monkeypatch.setattr(bucket, "write", broken)
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer.has_failed)
    with pytest.raises(MemoryError, match="no room for a copy"):
        writer.raise_if_failed()


def test_claim_that_cannot_be_checked_is_not_lost(writer, bucket, claim, told):
    """Credentials that have run out come back; another writer would not go."""
    claim.problem = NotPermittedError("cannot read `owner.json`: ExpiredToken")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: told)
    assert not writer.has_failed
    claim.problem = None
    writer.flush(never)
    assert steps(bucket) == [10]


def test_run_whose_folder_goes_while_a_state_is_written_keeps_nothing_on_this_node(
    tmp_path, writer, bucket, claim, told
):
    """The write fails before the claim is asked again; the states of a run that is no more would stay for ever."""

    def goes():
        claim.noticed = InputError("its folder was replaced")

    bucket.meanwhile, bucket.problem = goes, InputError("cannot write: its folder was removed")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer.has_failed)
    with pytest.raises(InputError, match="its folder was replaced"):
        writer.flush(never)
    assert told == []
    assert not spool_of(tmp_path, bucket).folder.exists()


def test_outage_while_pruning_is_not_taken_for_a_refusal(writer, bucket, told, monkeypatch):
    """Later a real refusal must still be told, once."""
    problems = [UnreachableError("503"), NotPermittedError("cannot delete: AccessDenied")]

    def fail(_key):
        raise problems[0]

    monkeypatch.setattr(bucket, "delete", fail)
    for step in (10, 20, 30, 40, 50):
        if step == 50:
            problems.pop(0)
        writer.queue_state(state(step), epoch=step / 10)
        writer.flush(never)
    assert told == ["old checkpoints are kept: cannot delete: AccessDenied"]


@pytest.mark.parametrize("step", [10, 12])
def test_state_kept_on_this_node_by_another_run_is_replaced(tmp_path, bucket, step):
    """A prefix that was emptied and is used again."""
    for born_s in (BORN_S - 1, BORN_S):
        one = state(10 if born_s == BORN_S else step)
        content = one.to_bytes()
        spool_of(tmp_path, bucket, born_s).keep(manifest_of(content, one, epoch=1.0, scored=None), content)
    assert spool_of(tmp_path, bucket).hand_over(LocalStorage(str(tmp_path / "elsewhere")), 0) == [10]


def test_kept_state_is_removed_once_it_is_committed(writer, bucket, told, tmp_path):
    """Else a later start could take an old state for the newest."""
    bucket.problem = UnreachableError("503")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: told)
    bucket.problem = None
    writer.flush(never)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("born_s", "newest_step"),
    [pytest.param(BORN_S + 1, 0, id="of another run"), pytest.param(BORN_S, 10, id="not newer")],
)
def test_kept_state_of_another_run_or_an_older_step_is_not_taken(tmp_path, bucket, born_s, newest_step):
    """A prefix that was emptied, or that another node has brought further."""
    other = Bucket(str(tmp_path / "other"))
    fallback = spool_of(tmp_path, bucket)
    bucket.problem = UnreachableError("503")
    writer = writer_of(bucket, fallback, Claim(), lambda _: None, keep_last=2, retry_s=0.01)
    with writer.running():
        writer.queue_state(state(10), epoch=1.0)
        soon(lambda: writer._problem)
    assert spool_of(tmp_path, bucket, born_s).hand_over(other, newest_step) == []
    assert other.written == []


def test_end_waits_for_a_bounded_time_and_asks_to_try_again(writer, bucket):
    """The accelerators are not held for a bucket that does not come back."""
    bucket.problem = UnreachableError("cannot write: 503")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._problem)
    with pytest.raises(TryAgainError, match="cannot save all training progress: cannot write: 503"):
        writer.flush(lambda: True)


def test_end_that_the_bucket_refuses_is_not_tried_again(writer, bucket):
    """Trying again does not bring the right to write."""
    bucket.problem = NotPermittedError("cannot write: AccessDenied")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._problem)
    with pytest.raises(RemoteError, match="AccessDenied") as refusal:
        writer.flush(lambda: True)
    assert refusal.value.exit_code == 4


def test_manifest_that_fails_is_tried_again_with_its_scores(writer, bucket, told):
    """The state got through, its manifest did not: neither may be lost."""
    bucket.failing = lambda key: key.endswith("manifest.json")
    bucket.problem = UnreachableError("503")
    writer.queue_state(state(10), epoch=1.0)
    writer.queue_scores(10, Scored(0.75, 0.5))
    soon(lambda: told)
    assert committed(bucket) == []
    bucket.problem = None
    writer.flush(never)
    (manifest,) = committed(bucket)
    assert manifest.val_auroc == 0.75


def test_old_checkpoints_go_only_after_newer_ones_are_committed(writer, bucket):
    """A kill in between leaves one too many, never one too few."""
    for step, auroc in [(10, 0.9), (20, 0.5), (30, 0.6), (40, 0.7)]:
        writer.queue_state(state(step), epoch=step / 10)
        writer.queue_scores(step, Scored(auroc, 0.5))
        writer.flush(never)
        assert steps(bucket)[-1] == step
    assert steps(bucket) == [10, 30, 40]
    assert bucket.deleted[:2] == [manifest_key(20), state_key(20)]


def test_refused_deletes_keep_every_checkpoint_and_are_reported_once(writer, bucket, told, monkeypatch):
    """Write-only buckets are a policy, no fault."""

    def refuse(_key):
        raise NotPermittedError("cannot delete: AccessDenied")

    monkeypatch.setattr(bucket, "delete", refuse)
    for step in (10, 20, 30, 40):
        writer.queue_state(state(step), epoch=step / 10)
        writer.flush(never)
    assert steps(bucket) == [10, 20, 30, 40]
    assert told == ["old checkpoints are kept: cannot delete: AccessDenied"]


def test_writer_that_was_replaced_removes_nothing(writer, bucket, claim):
    """What it does not know of are the other writer's checkpoints."""
    theirs = [state_key(step) for step in (1, 2, 3)]
    for key in theirs:
        bucket.write(key, b"theirs")
    claim.problem = InputError("another job has taken it over")
    writer._retention.prune()
    assert bucket.keys("checkpoints/") == theirs


def test_writer_that_was_replaced_writes_no_state(writer, bucket, claim):
    """The other's state of the same step would no longer be what its manifest says."""
    bucket.write(state_key(10), b"theirs")
    claim.problem = InputError("another job has taken it over")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer.has_failed)
    assert bucket.read(state_key(10)) == b"theirs"


def test_writer_that_was_replaced_commits_nothing_more(writer, bucket, claim):
    """Two writers would prune each other's checkpoints."""
    claim.problem = InputError("another job has taken it over")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer.has_failed)
    assert committed(bucket) == []
    with pytest.raises(InputError, match="another job has taken it over"):
        writer.raise_if_failed()
    with pytest.raises(InputError, match="another job has taken it over"):
        writer.flush(never)


def test_replaced_writer_does_not_report_that_training_continues(writer, bucket, claim, told):
    """The run's end tells why; a line before it that says the opposite sends the reader the wrong way."""
    claim.problem = InputError("its folder was removed")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer.has_failed)
    with pytest.raises(InputError, match="its folder was removed"):
        writer.flush(never)
    assert told == []


def test_small_files_are_written_with_their_last_content(writer, bucket):
    """metrics.jsonl grows with each epoch; only the newest matters."""
    bucket.gate.clear()
    writer.queue_file("metrics.jsonl", b"1")
    writer.queue_file("metrics.jsonl", b"1\n2")
    bucket.gate.set()
    writer.flush(never)
    assert bucket.read("metrics.jsonl") == b"1\n2"


def test_state_is_committed_though_files_are_queued_faster_than_written(writer, bucket):
    """Each epoch queues an event file, and a short epoch on a slow bucket the next one before that is written."""
    number, trains = 0, True

    def queue_another():
        nonlocal number
        if trains:
            number += 1
            bucket.meanwhile = queue_another
            writer.queue_file(f"tensorboard/{number}", b"events")

    bucket.meanwhile = queue_another
    writer.queue_file("tensorboard/0", b"events")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: steps(bucket) == [10])
    trains = False
    writer.flush(never)
    assert {*bucket.written} == {f"tensorboard/{each}" for each in range(number + 1)} | {
        state_key(10),
        manifest_key(10),
    }


def test_files_are_written_before_the_scores_that_were_queued_with_them(writer, bucket):
    """A run that resumes from a validated state does not write the epoch's entry again."""
    bucket.gate.clear()
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._uploading is not None)
    writer.queue_file("metrics.jsonl", b"1")
    writer.queue_scores(10, Scored(0.75, 0.5))
    bucket.gate.set()
    writer.flush(never)
    assert bucket.written == [state_key(10), "metrics.jsonl", manifest_key(10)]


def test_a_file_that_is_refused_costs_no_upload_of_the_state(writer, bucket):
    """The state is large, and would be uploaded again at each attempt."""
    bucket.problem, bucket.failing = NotPermittedError("cannot write: AccessDenied"), "metrics.jsonl".__eq__
    writer.queue_file("metrics.jsonl", b"1")
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._problem is not None)
    bucket.problem = None
    writer.flush(never)
    assert bucket.written == ["metrics.jsonl", state_key(10), manifest_key(10)]


def test_files_are_written_where_the_state_does_not_fit(writer, bucket):
    """metrics.jsonl is what the user looks at to find out what happened."""
    bucket.problem, bucket.failing = FULL, state_key(10).__eq__
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._problem is not None)
    writer.queue_file("metrics.jsonl", b"1")
    soon(lambda: bucket.written == ["metrics.jsonl"])


@pytest.mark.parametrize("problem", [BrokenPipeError(), SystemExit(1)], ids=["pipe", "exit"])
def test_run_ends_when_a_failure_cannot_be_reported(tmp_path, bucket, claim, problem):
    """As when stderr is a closed pipe: the thread ends, and training would go on without checkpoints."""

    def report(_):
        raise problem

    writer = writer_of(bucket, spool_of(tmp_path, bucket), claim, report, retry_s=0.01)
    bucket.problem = UnreachableError("cannot write: 503")
    with writer.running():
        writer.queue_state(state(10), epoch=1.0)
        soon(lambda: writer.has_failed)
    with pytest.raises(type(problem)):
        writer.raise_if_failed()


FULL = FullError(
    "cannot write `/runs/r/state.pt`: no space left on device; 84 MiB needed, 3 MiB free", hint="make room"
)


class Clock:
    """Time that passes as soon as it is looked at."""

    def __init__(self, step_s):
        self._now_s, self._step_s = 0.0, step_s

    def __call__(self):
        self._now_s += self._step_s
        return self._now_s


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def on_a_full_disk(tmp_path, bucket, told, *, spool_full=False, monkeypatch=None, committed_step=None):
    """A writer whose disk has no room for states, after its first failure."""
    writer = writer_of(
        bucket, spool_of(tmp_path, bucket), Claim(), told.append, keep_last=2, retry_s=0.01, clock=Clock(1.0)
    )
    with writer.running():
        if committed_step:
            writer.queue_state(state(committed_step), epoch=1.0)
            writer.flush(never)
        if spool_full:
            monkeypatch.setattr("trainer.storage.files.os.fsync", no_room)
        bucket.problem = FULL
        writer.queue_state(state(20), epoch=2.0)
        soon(lambda: writer._problem)
        yield writer


def test_end_on_a_full_disk_is_bounded_whatever_the_caller_would_wait(tmp_path, bucket, told):
    """Accelerators must not be held for a disk that nobody clears, nor taken again: another start meets the same."""
    with on_a_full_disk(tmp_path, bucket, told) as writer, pytest.raises(FullError) as end:
        writer.flush(never)
    assert end.value.exit_code == 2
    assert "cannot save all training progress" in str(end.value)
    assert "84 MiB needed, 3 MiB free" in str(end.value)


def test_end_on_a_disk_that_refuses_is_bounded_too(writer, bucket):
    """A file system that was mounted read-only after an error does not become writable by waiting."""
    bucket.problem = InputError("cannot write `/runs/r/state.pt`: read-only file system")
    writer._clock = Clock(1.0)
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._problem)
    with pytest.raises(InputError, match=r"cannot save all training progress: .*read-only") as end:
        writer.flush(never)
    assert end.value.exit_code == 2


def test_unreachable_bucket_is_waited_for_as_long_as_the_caller_says(writer, bucket):
    """A server comes back by itself."""
    bucket.problem = UnreachableError("cannot write: 503")
    writer._clock = Clock(1000.0)
    writer.queue_state(state(10), epoch=1.0)
    soon(lambda: writer._problem)
    asked = []
    with pytest.raises(TryAgainError):
        writer.flush(lambda: asked.append(1) or len(asked) > 5)
    assert len(asked) == 6


def test_error_of_a_full_disk_names_where_the_state_is_kept(tmp_path, bucket, told):
    """Whoever makes room must know whether anything is lost."""
    with on_a_full_disk(tmp_path, bucket, told, committed_step=10) as writer, pytest.raises(FullError) as end:
        writer.flush(never)
    folder = spool_of(tmp_path, bucket).folder
    assert end.value.hint == (
        f"free space on that disk; the same command on this node continues from step 20, which is kept in `{folder}`"
    )
    elsewhere = LocalStorage(str(tmp_path / "elsewhere"))
    assert spool_of(tmp_path, bucket).hand_over(elsewhere, 10) == [20]


@pytest.mark.parametrize("committed_step", [10, None])
def test_error_does_not_name_a_state_that_could_not_be_kept(tmp_path, bucket, told, monkeypatch, committed_step):
    """The spool is most often on the same disk."""
    with on_a_full_disk(
        tmp_path, bucket, told, spool_full=True, monkeypatch=monkeypatch, committed_step=committed_step
    ) as writer:
        with pytest.raises(FullError) as end:
            writer.flush(never)
        assert 20 not in writer._fallback.kept_steps
    where = "continues from step 10, the newest that is committed" if committed_step else "starts from the beginning"
    begins = f"free space on that disk; the same command {where}; training since then could not be saved on this node either: "
    assert end.value.hint.startswith(f"{begins}cannot write `{tmp_path}/cache/unpublished/")
    assert "no space left on device" in end.value.hint
    assert "could not be saved on this node either" in told[0]


def test_state_is_kept_once_the_fallback_folder_has_room(tmp_path, bucket, told, monkeypatch):
    """What could not be kept is tried again with every try of the prefix."""
    with on_a_full_disk(tmp_path, bucket, told, spool_full=True, monkeypatch=monkeypatch) as writer:
        monkeypatch.undo()
        soon(lambda: 20 in writer._fallback.kept_steps)
        assert spool_of(tmp_path, bucket).newest_step() == 20


def test_room_made_in_time_lets_the_run_succeed(tmp_path, bucket, told):
    """A disk that is cleared while the end waits costs nothing."""
    with on_a_full_disk(tmp_path, bucket, told) as writer:
        writer._clock = lambda: 0.0
        bucket.problem = None
        writer.flush(never)
    assert steps(bucket) == [20]
    assert told[-1] == "checkpoint upload works again"


def test_written_small_file_does_not_report_that_checkpoints_are_written(tmp_path, bucket, told):
    """On a disk with a few kilobytes left the manifest of an earlier step can still be written."""
    bucket.failing = lambda key: key.endswith("state.pt") and "20" in key
    with on_a_full_disk(tmp_path, bucket, told, committed_step=10) as writer:
        writer.queue_scores(10, Scored(0.9, 0.1))
        soon(lambda: committed(bucket)[0].validated)
        soon(lambda: len([line for line in told if "upload failed" in line]) > 1)  # minutes of that clock
    assert not [line for line in told if "works again" in line]


def test_a_state_is_not_removed_from_the_fallback_while_it_is_kept(tmp_path, bucket, monkeypatch):
    """At the end of a run the waiting thread keeps a state while the writer's may clear: a manifest would name a state that is gone."""
    fallback, began, clearing = spool_of(tmp_path, bucket), threading.Event(), threading.Event()
    commit = fallback_module.commit

    def slow_commit(storage, manifest):
        began.set()
        clearing.wait(0.3)
        commit(storage, manifest)

    def clear():
        began.wait(30)
        fallback.clear()
        clearing.set()

    monkeypatch.setattr(fallback_module, "commit", slow_commit)
    thread = threading.Thread(target=clear)
    thread.start()
    content = state(10).to_bytes()
    fallback.try_keep(manifest_of(content, state(10), epoch=1.0, scored=None), content)
    thread.join()
    assert fallback.problem is None
    left = LocalStorage(str(fallback.folder))
    assert [left.read(state_key(manifest.step)) for manifest in committed(left)] == []
    assert fallback.kept_steps == set()


def test_fallback_removes_only_its_own_files(tmp_path, bucket):
    """Its folder may hold what somebody else has put there."""
    fallback = spool_of(tmp_path, bucket)
    content = state(10).to_bytes()
    fallback.keep(manifest_of(content, state(10), epoch=1.0, scored=None), content)
    foreign = ["notes.txt", "checkpoints/best.ckpt", "checkpoints/step-00000010/mine.pt", ".x.partial", "old/state.pt"]
    for name in foreign:
        (fallback.folder / name).parent.mkdir(exist_ok=True)
        (fallback.folder / name).write_text("mine")
    half = fallback.folder / "checkpoints/step-00000010" / f".state.pt-{'0' * 32}.partial"
    half.write_text("ours")
    spool_of(tmp_path, bucket).clear()
    left = sorted(path.relative_to(fallback.folder).as_posix() for path in fallback.folder.rglob("*") if path.is_file())
    assert left == sorted(foreign)


@pytest.mark.parametrize("level", ["unpublished", "of the run", "checkpoints"])
def test_fallback_uses_no_linked_folder(tmp_path, bucket, level):
    """A link in a cache that others can write to would lead our writes and removals anywhere."""
    fallback, outside = spool_of(tmp_path, bucket), tmp_path / "outside"
    places = {
        "unpublished": fallback.folder.parent,
        "of the run": fallback.folder,
        "checkpoints": fallback.folder / "checkpoints",
    }
    inside = outside / "checkpoints/step-00000001"
    inside.mkdir(parents=True)
    (inside / "state.pt").write_text("mine")
    places[level].parent.mkdir(parents=True, exist_ok=True)
    places[level].symlink_to(outside if level != "checkpoints" else outside / "checkpoints")
    content = state(10).to_bytes()
    with pytest.raises(InputError, match="it is a link"):
        fallback.keep(manifest_of(content, state(10), epoch=1.0, scored=None), content)
    assert fallback.newest_step() is None
    assert fallback.hand_over(LocalStorage(str(tmp_path / "elsewhere")), 0) == []
    assert [path for path in outside.rglob("*") if path.is_file()] == [inside / "state.pt"]


def test_fallback_folder_of_another_user_is_not_used(tmp_path, bucket, monkeypatch):
    """Who makes our folder before us, in a directory that all may write to, must not give us a state to go on from."""
    fallback = spool_of(tmp_path, bucket)
    fallback.folder.mkdir(parents=True)
    monkeypatch.setattr("trainer.storage.cache_folder.os.geteuid", lambda: 4711)
    content = state(10).to_bytes()
    with pytest.raises(InputError, match="belongs to another user"):
        fallback.keep(manifest_of(content, state(10), epoch=1.0, scored=None), content)
    assert list(fallback.folder.iterdir()) == []
