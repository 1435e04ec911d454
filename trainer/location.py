"""A directory or a prefix of a bucket, as users name it; only text, nothing is opened."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

SCHEME: Final = "s3://"


@dataclass(frozen=True)
class S3Server:
    """Endpoint and region of S3 requests; with None the environment decides, as boto3 reads it."""

    endpoint: str | None = None
    region: str | None = None


FROM_ENVIRONMENT: Final = S3Server()


@dataclass(frozen=True)
class Location:
    """`s3://BUCKET/PREFIX` or the path of a directory."""

    url: str
    server: S3Server = FROM_ENVIRONMENT
    """For a bucket."""

    def __str__(self) -> str:
        return self.url

    @property
    def is_bucket(self) -> bool:
        """Whether it is in a bucket, not a directory."""
        return self.url.startswith(SCHEME)

    @property
    def bucket(self) -> str:
        """Name of the bucket; empty for a directory."""
        return self._without_scheme.partition("/")[0] if self.is_bucket else ""

    @property
    def prefix(self) -> str:
        """Prefix in the bucket, empty or with a slash at its end; empty for a directory."""
        prefix = self._without_scheme.partition("/")[2].strip("/") if self.is_bucket else ""
        return f"{prefix}/" if prefix else ""

    @property
    def _without_scheme(self) -> str:
        return self.url.removeprefix(SCHEME)

    def below(self, name: str) -> "Location":
        """The location `name` below this one."""
        return replace(self, url=f"{self.url.rstrip('/')}/{name}")


def expanded(path: str) -> str:
    """The path with a leading `~` or `~USER` replaced by that home directory, as a shell does before a command sees it.

    Shells leave it in `--flag=~/x`, and in variables and files. Addresses of buckets and unknown users stay as they are.
    """
    return os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser raises for unknown users


def expanded_words(words: Iterable[str]) -> list[str]:
    """Words of a command line, with the home directories in `~/x` and `--flag=~/x`."""
    pairs = (word.partition("=") if word.startswith("--") else ("", "", word) for word in words)
    return [f"{flag}{equals}{expanded(value)}" for flag, equals, value in pairs]
