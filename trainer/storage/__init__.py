"""Object storage of a run, in a directory or an S3 bucket, behind one interface.

A write is atomic even if the process is killed. Keys are relative, `/`-separated names from `trainer.layout`. Only this
package imports boto3, and only for a bucket.
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
    CredentialSourceError,
    DamagedError,
    FullError,
    NoProxyError,
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
    "CredentialSourceError",
    "CredentialsError",
    "DamagedError",
    "FullError",
    "LocalStorage",
    "NoProxyError",
    "NotPermittedError",
    "RetryPolicy",
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
    """Open the storage at `place`, a directory or `s3://BUCKET/PREFIX`; transient S3 errors are retried for `patience_s`.

    A request fails when the server stays silent for `answers_within_s` (default: 10 s to connect, 60 s to read).

    Raises: InputError for another scheme, a missing bucket or unusable settings; RemoteError when S3 cannot be used.
    """
    at = place if isinstance(place, Location) else Location(place)
    url = at.url
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStorage(url)
    bucket = rest.partition("/")[0]
    if scheme != "s3" or not bucket or "@" in bucket or looks_secret(url):
        # A pasted signed URL, or one with a login, must not appear in the logs.
        shown = without_login(on_one_line(f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"))
        raise InputError(
            f"cannot keep runs in `{shown}`: must be a directory or `s3://BUCKET/PREFIX` (from `--output`)",
            hint="--output s3://BUCKET/PREFIX",
        )
    timeouts = None if answers_within_s is None else Timeouts(answers_within_s, answers_within_s)
    return S3Storage(at, policy=RetryPolicy(patience_s), timeouts=timeouts)
