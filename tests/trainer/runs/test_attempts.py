"""How often a run was started, and its deadline."""

import json

import pytest

from trainer.config import from_argv
from trainer.errors import InputError, JobFailedError, TimeLimitError, TryAgainError
from trainer.layout import STARTS
from trainer.runs import attempts
from trainer.runtime.world import World
from trainer.storage import LocalStorage
from trainer.training.claim import NO_CLAIM

POD = World(in_pod=True)


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path))


def config(*flags):
    return from_argv(["--data", "/d", "--output", "/o", "--name", "r", *flags])


def crash(storage, step, times):
    """Start so often, and end without a word each time."""
    for _ in range(times):
        attempts.begin(storage, config(), step, POD)


def test_repeatedly_killed_pod_fails_its_job(storage):
    """The operator never tires, and the accelerators are held."""
    crash(storage, 30, attempts.MOST)
    with pytest.raises(JobFailedError, match=f"started {attempts.MOST} times in a row from step 30") as caught:
        attempts.begin(storage, config(), 30, POD)
    assert "memory" in str(caught.value)


def test_job_failed_by_its_attempts_may_be_started_again(storage):
    """Else nobody could after giving it more memory."""
    crash(storage, 30, attempts.MOST)
    with pytest.raises(JobFailedError):
        attempts.begin(storage, config(), 30, POD)
    attempts.begin(storage, config(), 30, POD)


def test_progress_and_an_orderly_end_reset_the_count(storage):
    """A run that is preempted every day is well."""
    crash(storage, 30, attempts.MOST)
    crash(storage, 60, attempts.MOST)
    with pytest.raises(KeyError), attempts.noted(storage, attempts.begin(storage, config(), 90, POD), NO_CLAIM):
        raise KeyError
    crash(storage, 90, attempts.MOST)


def test_lost_peer_is_no_orderly_end(storage):
    """It may be the pod that is killed again and again, while this one always lives to tell."""
    for _ in range(attempts.MOST):
        with (
            pytest.raises(TryAgainError),
            attempts.noted(storage, attempts.begin(storage, config(), 30, POD), NO_CLAIM),
        ):
            raise TryAgainError("a peer was lost")
    with pytest.raises(JobFailedError):
        attempts.begin(storage, config(), 30, POD)


def test_starts_outside_a_cluster_are_not_counted(storage):
    """Ten times Ctrl-C is no crash loop."""
    for _ in range(attempts.MOST + 1):
        attempts.begin(storage, config(), 0, World())


def test_deadline_counts_from_the_first_start_and_is_refused_when_over(storage, monkeypatch):
    """Waiting for accelerators counts: it is the user's time."""
    now = 1_000_000.0
    monkeypatch.setattr(attempts.time, "time", lambda: now)
    begun = attempts.begin(storage, config("--deadline", "2h"), 0, POD)
    assert attempts.ends_at_s(config("--deadline", "2h"), begun) == now + 7200
    now += 7199
    attempts.begin(storage, config("--deadline", "2h"), 10, POD)
    now += 1
    with pytest.raises(
        TimeLimitError, match="the deadline is over at step 20, 2h after the run's first start"
    ) as caught:
        attempts.begin(storage, config("--deadline", "2h"), 20, POD)
    assert caught.value.exit_code == 124
    attempts.begin(storage, config("--deadline", "3h"), 20, POD)
    attempts.begin(storage, config(), 20, POD)


def test_damaged_attempts_file_is_named(storage):
    """It is small, and may be deleted."""
    storage.write(STARTS, b"{")
    with pytest.raises(InputError, match=r"starts\.json"):
        attempts.begin(storage, config(), 0, POD)


def test_attempts_file_holds_step_and_starts_without_progress(storage):
    attempts.begin(storage, config(), 7, POD)
    held = json.loads(storage.read(STARTS))
    assert (held["step"], held["without_progress"]) == (7, 1)


def test_start_whose_claim_is_lost_notes_nothing(storage):
    """The count, and the time of the first start, are another run's by now."""

    class Lost:
        def check(self):
            raise InputError("another job has taken it over")

    begun = attempts.begin(storage, config(), 30, POD)
    storage.write(STARTS, b'{"first_s": 5.0, "step": 0, "without_progress": 1}')
    with pytest.raises(InputError, match="the run's own"), attempts.noted(storage, begun, Lost()):
        raise InputError("the run's own")
    with attempts.noted(storage, begun, Lost()):
        pass
    assert json.loads(storage.read(STARTS))["first_s"] == 5.0
