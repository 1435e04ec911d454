"""Where a run keeps its files: whole objects under keys of a directory or a bucket, behind one small interface.

A write is all or nothing, whatever ends the process; keys are relative, `/`-separated names from `trainer.layout`.
"""

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from trainer.errors import InputError, KnownError, RemoteError, TryAgainError

BODY_ATTEMPTS: Final = 3
"""How often an object is asked for whose body breaks off."""


CHUNK_BYTES: Final = 1 << 20

_BAD_CREDENTIALS: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "ExpiredToken", "InvalidToken"}
)
"""Source: Amazon S3 API reference, Error responses."""


class AbsentError(KnownError):
    """There is no such object."""

    exit_code = 2


class NotPermittedError(RemoteError):
    """The bucket knows these credentials and refuses what they ask."""


class CredentialsError(RemoteError):
    """There are no credentials, or the server does not accept them."""


@dataclass(frozen=True)
class Server:
    """An S3 server that answered."""

    url: str
    time: datetime | None
    """Its clock, aware; None when it does not tell."""


class Storage(Protocol):
    """Objects under one prefix."""

    url: str
    """The prefix, as the user wrote it."""

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises: AbsentError; InputError when it may not be read."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Put the whole object in place of what was there. Raises: InputError, TryAgainError (disk full)."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Names that start with `prefix`, sorted; nothing half-written is among them."""
        ...

    def stamps(self, prefix: str) -> dict[str, str]:
        """For each name that `keys` lists, a text that changes with the object."""
        ...

    def copy_to(self, key: str, path: Path) -> None:
        """Write the object to a file, in bounded memory; the file is whole or not there. Raises: as `read`."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; absent is fine."""
        ...

    def claim(self) -> AbstractContextManager[None]:
        """Be the only writer here for the block. Raises: InputError when another is, or nobody may write."""
        ...


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, renamed to it when the block ends well and removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class LocalStorage:
    """Storage in a directory; objects are files."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._root = Path(url)

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as problem:
            raise AbsentError(f"cannot read `{self._path(key)}`: no such file") from problem
        except OSError as problem:
            raise self._refused("read", key, problem) from problem

    def write(self, key: str, content: bytes) -> None:
        """See `Storage.write`: a file beside the target, flushed to disk, then renamed over it."""
        try:
            with _replacing(self._path(key)) as partial, partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise self._refused("write", key, problem) from problem

    def keys(self, prefix: str) -> list[str]:
        """See `Storage.keys`."""
        folder = self._root / prefix if prefix.endswith("/") else (self._root / prefix).parent
        found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        names = (path.relative_to(self._root).as_posix() for path in found)
        return sorted(name for name in names if name.startswith(prefix))

    def stamps(self, prefix: str) -> dict[str, str]:
        """See `Storage.stamps`."""
        found = {key: self._path(key).stat() for key in self.keys(prefix)}
        return {key: f"{stat.st_size}-{stat.st_mtime_ns}" for key, stat in found.items()}

    def copy_to(self, key: str, path: Path) -> None:
        """See `Storage.copy_to`."""
        try:
            with _replacing(path) as partial:
                shutil.copyfile(self._path(key), partial)
        except FileNotFoundError as problem:
            raise AbsentError(f"cannot read `{self._path(key)}`: no such file") from problem
        except OSError as problem:
            raise self._refused("read", key, problem) from problem

    def delete(self, key: str) -> None:
        """See `Storage.delete`; a folder that becomes empty goes too."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            if path.parent != self._root and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
        except OSError as problem:
            raise self._refused("delete", key, problem) from problem

    @contextmanager
    def claim(self) -> Iterator[None]:
        """See `Storage.claim`: a lock that the system gives back when its holder ends, however it ends."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            lock = (self._root / ".lock").open("w")
        except OSError as problem:
            raise self._refused("write", ".lock", problem) from problem
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise InputError(
                    f"cannot write to the run at `{self.url}`: another process is training it",
                    hint="wait for it, or give another --name",
                ) from problem
            yield

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key)
        assert not parts.is_absolute(), key
        assert ".." not in parts.parts, key
        return self._root / parts

    def _refused(self, verb: str, key: str, problem: OSError) -> KnownError:
        text = f"cannot {verb} `{self._path(key)}`: {str(problem.strerror).lower()}"
        if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
            return TryAgainError(text, hint="make room; the same command goes on from the newest checkpoint")
        return InputError(text, hint="check the directory given with --output, and who may write to it")


class S3Storage:
    """Storage under a prefix of a bucket. A put is whole or not there, so no object is ever half-written.

    Endpoint, region and credentials come from where boto3 looks: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and so
    on, a profile, the service account or the instance.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        with _remote_errors(f"cannot use `{url}`"):
            self._client = _s3_client()

    def read(self, key: str) -> bytes:
        """See `Storage.read`. The client repeats requests but not bodies that break off, so this does."""
        for attempts_left in reversed(range(BODY_ATTEMPTS)):
            with _remote_errors(f"cannot read `{self._name(key)}`"):
                try:
                    content: bytes = self._client.get_object(**self._object(key))["Body"].read()
                except _broken_bodies():
                    if not attempts_left:
                        raise
                else:
                    return content
        raise AssertionError

    def write(self, key: str, content: bytes) -> None:
        """See `Storage.write`."""
        with _remote_errors(f"cannot write `{self._name(key)}`"):
            self._client.put_object(**self._object(key), Body=content)

    def keys(self, prefix: str) -> list[str]:
        """See `Storage.keys`."""
        return sorted(self.stamps(prefix))

    def stamps(self, prefix: str) -> dict[str, str]:
        """See `Storage.stamps`: sizes, and the hashes that the server gives."""
        with _remote_errors(f"cannot list `{self._name(prefix)}`"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            found = [entry for page in pages for entry in page.get("Contents", ())]
        return {entry["Key"].removeprefix(self._prefix): f"{entry['Size']}-{entry.get('ETag', '')}" for entry in found}

    def copy_to(self, key: str, path: Path) -> None:
        """See `Storage.copy_to`."""
        for attempts_left in reversed(range(BODY_ATTEMPTS)):
            with _remote_errors(f"cannot read `{self._name(key)}`"), _replacing(path) as partial:
                try:
                    body = self._client.get_object(**self._object(key))["Body"]
                    with partial.open("wb") as file:
                        for chunk in body.iter_chunks(CHUNK_BYTES):
                            file.write(chunk)
                except _broken_bodies():
                    if not attempts_left:
                        raise
                else:
                    return

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with _remote_errors(f"cannot delete `{self._name(key)}`"):
            self._client.delete_object(**self._object(key))

    @contextmanager
    def claim(self) -> Iterator[None]:
        """See `Storage.claim`; finds out whether one may write and delete, but does not keep a second writer away."""
        self.write(".claim", b"")
        self.delete(".claim")
        yield

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _name(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"


def _s3_client() -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
    """A client of this process: clients must not be shared with forked ones."""
    import boto3  # noqa: PLC0415 - a quarter of a second that only runs in a bucket need
    from botocore.config import Config  # noqa: PLC0415

    return boto3.session.Session().client(
        "s3",
        config=Config(
            retries={"mode": "standard", "max_attempts": 8},
            connect_timeout=10,
            read_timeout=60,
            # Servers other than AWS's may not know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _broken_bodies() -> tuple[type[Exception], ...]:
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError  # noqa: PLC0415

    return IncompleteReadError, ReadTimeoutError, ResponseStreamingError


@contextmanager
def _remote_errors(what: str) -> Iterator[None]:
    """Turn what boto3 raises in the block into errors of ours; absent, refused and unreachable stay apart."""
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    try:
        yield
    except ClientError as problem:
        code = str(problem.response.get("Error", {}).get("Code", "unknown"))
        if code in {"NoSuchKey", "404"}:
            raise AbsentError(f"{what}: no such object") from problem
        if code == "NoSuchBucket":
            raise RemoteError(
                f"{what}: no such bucket", hint="check the bucket's name and the endpoint (AWS_ENDPOINT_URL)"
            ) from problem
        status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        raise _refusal(f"{what}: the bucket refused it with {code}", code, status) from problem
    except BotoCoreError as problem:
        text = " ".join(str(problem).split()).rstrip(".")
        kind = CredentialsError if isinstance(problem, (NoCredentialsError, PartialCredentialsError)) else RemoteError
        raise kind(
            f"{what}: {text[:1].lower()}{text[1:]}",
            hint="AWS_ENDPOINT_URL, AWS_REGION and credentials say where and as whom",
        ) from problem


def _refusal(text: str, code: str, status: int | None) -> RemoteError:
    if code in _BAD_CREDENTIALS:
        return CredentialsError(text, hint="are the keys right, and is this clock?")
    if status == 403:
        return NotPermittedError(
            text, hint="these credentials need GetObject, PutObject, DeleteObject and ListBucket on this prefix"
        )
    return RemoteError(text)


def open_storage(url: str) -> Storage:
    """The storage at `url`: a directory, or `s3://BUCKET/PREFIX`.

    Raises: InputError for another scheme or no bucket; RemoteError when S3 can't be used.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStorage(url)
    if scheme != "s3" or not rest.partition("/")[0]:
        raise InputError(
            f"cannot keep runs in `{url}`: it is neither a directory nor `s3://BUCKET/PREFIX` (from `--output`)",
            hint="--output s3://BUCKET/PREFIX",
        )
    return S3Storage(url)


def greet(url: str, *, timeout_s: float = 5.0) -> Server:
    """The S3 server behind an `s3://` URL: asked once, unsigned, so its answer needs no credentials and says nothing of rights.

    Raises: RemoteError when it does not answer.
    """
    import boto3  # noqa: PLC0415 - as above
    from botocore import UNSIGNED  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import ClientError  # noqa: PLC0415

    with _remote_errors(f"cannot reach the server of `{url}`"):
        config = Config(
            signature_version=UNSIGNED,
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
        )
        client = boto3.session.Session().client("s3", config=config)
        try:
            answer = client.head_bucket(Bucket=url.removeprefix("s3://").partition("/")[0])
        except ClientError as refusal:  # an answer too
            answer = refusal.response
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return Server(str(client.meta.endpoint_url), parsedate_to_datetime(date) if date else None)
