"""A server that lists without an end is told as one that does not list as S3 does."""

import itertools

import pytest

from trainer.errors import RemoteError
from trainer.location import Location
from trainer.storage import S3Storage, paging
from trainer.storage.paging import pages

TOKENS = ("ContinuationToken",)


def asked(answers):
    """A server that gives these answers, one after the other."""
    left = iter(answers)
    return lambda _after: next(left)


def test_listing_is_followed_to_its_end():
    """With the token of each page passed on to the next."""
    seen = []

    def ask(after):
        seen.append(after)
        return {"IsTruncated": len(seen) < 3, "NextContinuationToken": f"t{len(seen)}", "Contents": [len(seen)]}

    assert [page["Contents"] for page in pages("cannot list", ask, TOKENS)] == [[1], [2], [3]]
    assert seen == [{}, {"ContinuationToken": "t1"}, {"ContinuationToken": "t2"}]


def endless(**page):
    return ({"IsTruncated": True, "NextContinuationToken": str(number), **page} for number in itertools.count())


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([{"IsTruncated": True}], "without a new token"),
        ([{"IsTruncated": True, "NextContinuationToken": ""}], "without a new token"),
        ([{"IsTruncated": True, "NextContinuationToken": None}], "without a new token"),
        (itertools.repeat({"IsTruncated": True, "NextContinuationToken": "same"}), "without a new token"),
        (
            itertools.cycle([{"IsTruncated": True, "NextContinuationToken": token} for token in "abc"]),
            "without a new token",
        ),
        (endless(), "have only 0 objects"),
        (endless(Contents=[1]), "have only"),
        (endless(Contents=[1] * 1000), "more than 5,000 objects"),
        (endless(Uploads=[1] * 1000), "more than 5,000 objects"),
    ],
    ids=["no token", "empty token", "null token", "same", "circle", "empty pages", "short pages", "objects", "uploads"],
)
def test_listing_without_an_end_is_refused(monkeypatch, answers, reason):
    """Whoever waits for it waits for ever, and its names fill the memory."""
    monkeypatch.setattr(paging, "LISTED_OBJECTS", 5000)
    monkeypatch.setattr(paging, "MOST_SHORT_PAGES", 50)
    with pytest.raises(RemoteError, match=reason):
        list(pages("cannot list `s3://b/`", asked(answers), TOKENS))


def test_bucket_that_lists_the_same_page_for_ever_is_a_clear_error(s3, monkeypatch):
    """As a broken gateway does; a run is listed at its start."""
    storage = S3Storage(Location("s3://cxr/runs"))
    storage.write("a", b"1")
    client = storage._connection.client()
    real = client.list_objects_v2

    def again(**arguments):
        arguments.pop("ContinuationToken", None)
        return real(**arguments) | {"IsTruncated": True, "NextContinuationToken": "more"}

    monkeypatch.setattr(client, "list_objects_v2", again)
    with pytest.raises(RemoteError, match="cannot list `s3://cxr/runs/`"):
        storage.keys("")
