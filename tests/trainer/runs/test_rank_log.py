"""What a rank has said outlives its pod, without what is secret."""

import pytest

from trainer.layout import log_key
from trainer.redaction import redacted
from trainer.runs.rank_log import MOST_BYTES, RankLog
from trainer.storage import LocalStorage


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(str(tmp_path))


def lines(storage, rank=0):
    return [line.partition(" ")[2] for line in storage.read(log_key(rank)).decode().splitlines()]


def said(storage, *texts, environment=None):
    log = RankLog(0, environment=environment or {})
    for text in texts:
        log.add(text)
    log.keep_in(storage)
    log.close()


def test_lines_follow_those_of_earlier_starts(storage):
    """One file tells the whole history of a rank."""
    said(storage, "training", "error: lost")
    said(storage, "continuing from step 3")
    assert lines(storage) == ["training", "error: lost", "continuing from step 3"]


def test_each_line_has_its_time(storage):
    """Lines of several ranks and starts are put side by side."""
    said(storage, "training")
    assert storage.read(log_key(0)).decode()[:20].endswith("Z")


def test_log_is_written_only_once_the_run_is_claimed(storage):
    """A second job that is refused must not write over the log of the first."""
    log = RankLog(0, environment={})
    log.add("error: another job is training it")
    log.close()
    assert storage.keys("") == []


def test_lines_that_come_later_are_written_at_the_end(storage):
    """The last words are the ones that matter."""
    log = RankLog(0, environment={})
    log.keep_in(storage)
    log.add("error: non-finite gradient at step 7")
    log.close()
    assert lines(storage) == ["error: non-finite gradient at step 7"]


def test_oldest_lines_are_dropped_above_the_limit(storage):
    """A run of weeks, or one that starts for ever."""
    said(storage, *("x" * 1000 for _ in range(MOST_BYTES // 1000 + 10)))
    said(storage, "last")
    assert len(storage.read(log_key(0))) <= MOST_BYTES
    assert lines(storage)[-1] == "last"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key s3cret-of-hospital refused", "key *** refused"),
        ("cannot reach http://me:pw@minio:9000/b", "cannot reach http://***@minio:9000/b"),
        ("GET /b?X-Amz-Signature=abc&x=1", "GET /b?X-Amz-Signature=***&x=1"),
        ("step 12", "step 12"),
    ],
)
def test_secrets_are_redacted_in_the_rank_log(text, expected):
    """The run's prefix is read by more people than the Secret."""
    environment = {"AWS_SECRET_ACCESS_KEY": "s3cret-of-hospital", "LANG": "step 12"}
    assert redacted(text, environment) == expected
