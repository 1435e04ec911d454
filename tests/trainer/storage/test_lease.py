"""One writer in a bucket: two jobs never both believe that the run is theirs."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from trainer.errors import InputError, TryAgainError
from trainer.layout import OWNER
from trainer.storage import open_storage
from trainer.storage.lease import LEASE_S, Lease, held


class Clock:
    """Time that passes when somebody sleeps; what happens meanwhile is in `meanwhile`."""

    def __init__(self):
        self.now_s = 0.0
        self.meanwhile = lambda: None

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds
        self.meanwhile()

    def server_time(self):
        """None: the server does not tell, so that a whole lease is waited for."""
        return


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["one wins", "every put wins"])
def store(request, s3, monkeypatch):
    """A bucket that puts on condition, and one that does not."""
    storage = open_storage("s3://cxr/runs/one")
    if request.param == "every put wins":

        def put(key, content, *_):
            storage.write(key, content)
            return True

        monkeypatch.setattr(storage, "create", put)
        monkeypatch.setattr(storage, "replace", put)
        monkeypatch.setattr(storage, "excludes", lambda: False)
    return storage


def lease(store, job, clock):
    return Lease(store, job, server_time=clock.server_time, clock=clock, sleep=clock.sleep)


def ignore(_):
    pass


def test_first_job_takes_the_lease_at_once_and_releases_it(store, clock):
    """The usual case costs nothing and leaves nothing."""
    one = lease(store, "a", clock)
    one.take(ignore)
    one.check()
    assert clock.now_s <= 1
    one.release()
    assert store.keys("") == []


def test_second_job_is_refused_while_the_first_has_heartbeats(store, clock):
    """Two jobs with one name and output: the second must not spoil the first."""
    first = lease(store, "a", clock)
    first.take(ignore)
    clock.meanwhile = first.beat
    told = []
    with pytest.raises(InputError, match="another job is training it"):
        lease(store, "b", clock).take(told.append)
    assert clock.now_s < LEASE_S
    assert "waiting 20 s" in told[0]
    first.check()


def test_second_job_takes_over_an_expired_lease(store, clock):
    """A job that was killed gives nothing back."""
    lease(store, "a", clock).take(ignore)
    second = lease(store, "b", clock)
    second.take(ignore)
    assert LEASE_S <= clock.now_s <= LEASE_S + 3
    second.check()


def test_lease_released_while_waiting_is_taken_at_once(store, clock):
    """The first was just ending."""
    first = lease(store, "a", clock)
    first.take(ignore)
    clock.meanwhile = first.release
    second = lease(store, "b", clock)
    second.take(ignore)
    assert clock.now_s <= 3
    second.check()


def test_restarted_job_takes_its_lease_back_at_once(store, clock):
    """A pod that comes anew must train again within seconds."""
    lease(store, "a", clock).take(ignore)
    again = lease(store, "a", clock)
    again.take(ignore)
    assert clock.now_s <= 2
    again.check()


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [("a", TryAgainError, "another attempt of this job"), ("b", InputError, "another job has taken it over")],
)
def test_replaced_writer_notices(store, clock, job, error, words):
    """A zombie, or one whose bucket was away for longer than its lease."""
    first = lease(store, "a", clock)
    first.take(ignore)
    lease(store, job, clock).take(ignore)
    with pytest.raises(error, match=words):
        first.check()
    first.beat()
    with pytest.raises(error, match=words):
        first.check()


def test_replaced_writer_does_not_remove_its_successors_record(store, clock):
    """It would let a third one in."""
    first = lease(store, "a", clock)
    first.take(ignore)
    lease(store, "b", clock).take(ignore)
    first.release()
    assert store.keys("") == [OWNER]


def test_age_by_the_servers_clock_shortens_the_wait(s3):
    """A job that died minutes ago is not waited for."""
    storage, clock = open_storage("s3://cxr/runs/one"), Clock()
    lease(storage, "a", clock).take(ignore)
    later = datetime.now(timezone.utc) + timedelta(seconds=LEASE_S + 5)
    second = Lease(storage, "b", server_time=lambda: later, clock=clock, sleep=clock.sleep)
    second.take(ignore)
    assert clock.now_s == 0


def test_record_deleted_by_hand_is_rewritten_by_the_next_heartbeat(store, clock):
    """Whoever deletes it wants the run freed of a dead job, not a second writer beside a live one."""
    one = lease(store, "a", clock)
    one.take(ignore)
    store.delete(OWNER)
    one.check()
    one.beat()
    assert json.loads(store.read(OWNER))["job"] == "a"


def test_record_that_is_no_json_is_waited_for_and_replaced(store, clock):
    """It names nobody, but somebody wrote it."""
    store.write(OWNER, b"{")
    one = lease(store, "a", clock)
    one.take(ignore)
    one.check()
    assert clock.now_s >= LEASE_S


def test_concurrent_writer_is_detected_where_writes_are_not_conditional(s3, monkeypatch):
    """Where every put wins, the last one does: the other sees it when it looks again."""
    storage, clock = open_storage("s3://cxr/runs/one"), Clock()
    monkeypatch.setattr(storage, "excludes", lambda: False)
    rival = lease(storage, "b", clock)
    rivals_record = rival._record()

    def rival_puts():
        if clock.now_s <= 1:
            storage.write(OWNER, rivals_record)
        else:
            rival.beat()

    clock.meanwhile = rival_puts
    with pytest.raises(InputError, match="another job is training it"):
        lease(storage, "a", clock).take(ignore)


def test_claim_of_a_bucket_prefix_is_a_lease(s3):
    """What a run enters."""
    with open_storage("s3://cxr/runs/one").claim("a", ignore) as claim:
        claim.check()
        assert open_storage("s3://cxr/runs/one").keys("") == [OWNER]
    assert open_storage("s3://cxr/runs/one").keys("") == []


def test_lease_is_released_when_the_run_fails(s3):
    """The next try must not wait."""
    storage = open_storage("s3://cxr/runs/one")
    with pytest.raises(ZeroDivisionError), held(storage, "a", ignore, server_time=lambda: None):
        1 / 0  # noqa: B018
    assert storage.keys("") == []
