"""Where a run keeps its files: whole objects under keys of a directory or a bucket, behind one small interface.

A write is all or nothing, whatever ends the process; keys are relative, `/`-separated names from `trainer.layout`.
This package alone imports boto3, and only where a bucket is used.
"""

from trainer.errors import InputError, on_one_line
from trainer.location import Location
from trainer.redaction import looks_secret, without_login
from trainer.storage.bulk import copy_all
from trainer.storage.connection import Timeouts
from trainer.storage.interface import (
    AbsentError,
    ChangedError,
    Claim,
    CredentialsError,
    DamagedError,
    FullError,
    NotPermittedError,
    Stat,
    Storage,
    UnreachableError,
)
from trainer.storage.local import LocalStorage
from trainer.storage.ping import Server, ping_server
from trainer.storage.retry import RetryPolicy
from trainer.storage.s3 import S3Storage

__all__ = [
    "AbsentError",
    "ChangedError",
    "Claim",
    "CredentialsError",
    "DamagedError",
    "FullError",
    "LocalStorage",
    "NotPermittedError",
    "S3Storage",
    "Server",
    "Stat",
    "Storage",
    "UnreachableError",
    "copy_all",
    "open_storage",
    "ping_server",
]


def open_storage(place: str | Location, *, patience_s: float = 30.0, answers_within_s: float | None = None) -> Storage:
    """The storage at `place`: a directory, or a bucket, requests to which are repeated for `patience_s` after transient errors.

    A request fails when the server sends nothing for a minute, or for `answers_within_s`.

    Raises: InputError for another scheme, no bucket, or settings that can't be used; RemoteError when S3 can't be.
    """
    at = place if isinstance(place, Location) else Location(place)
    url = at.url
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStorage(url)
    bucket = rest.partition("/")[0]
    if scheme != "s3" or not bucket or "@" in bucket or looks_secret(url):
        # Who pastes a signed URL or one with a login shall not find it in the logs.
        shown = without_login(on_one_line(f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"))
        raise InputError(
            f"cannot keep runs in `{shown}`: it is neither a directory nor `s3://BUCKET/PREFIX` (from `--output`)",
            hint="--output s3://BUCKET/PREFIX",
        )
    timeouts = None if answers_within_s is None else Timeouts(answers_within_s, answers_within_s)
    return S3Storage(at, policy=RetryPolicy(patience_s), timeouts=timeouts)
