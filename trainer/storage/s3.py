"""Storage in an S3 bucket."""

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from trainer.layout import is_ours
from trainer.limits import LimitError, in_words
from trainer.location import Location
from trainer.storage import lease, multipart
from trainer.storage.connection import Connection, Timeouts
from trainer.storage.content import Content, in_file, in_memory, md5_of
from trainer.storage.download import Download, hash_of, stamp_of
from trainer.storage.errors import RefusedError
from trainer.storage.interface import (
    AbsentError,
    Claim,
    CredentialsError,
    DamagedError,
    NotPermittedError,
    Stat,
    ignore,
    is_hidden,
)
from trainer.storage.listed import save
from trainer.storage.object_names import without_folder_markers
from trainer.storage.options import options_of
from trainer.storage.paging import pages
from trainer.storage.ping import ping_server
from trainer.storage.retry import RetryPolicy

WHOLE_BYTES: Final = 64 << 20
"""Objects up to this size are uploaded with one request."""

PROBE: Final = ".excludes-"
"""Prefix of the hidden objects that test a server for conditional writes."""

_PROBE_KEY: Final = re.compile(rf"{re.escape(PROBE)}[0-9a-f]{{32}}")

_UNCONDITIONAL: Final = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest"})
"""Error codes of servers without conditional writes."""


class S3Storage:
    """Storage under a prefix of a bucket. A put is atomic, so no object is ever partial.

    The server checks uploads by Content-MD5. A SHA-256 is stored as user metadata and checked on download.
    `trainer.storage.options` lists the environment variables.
    """

    def __init__(self, at: Location, *, policy: RetryPolicy | None = None, timeouts: Timeouts | None = None) -> None:
        self.url, self._at = at.url, at
        self._bucket, self._prefix = at.bucket, at.prefix
        self._options = options_of(os.environ)
        self._connection = Connection(self._options, at.server, policy or RetryPolicy(), timeouts or Timeouts())
        self._connection.client()  # report unusable settings now
        self._excludes: bool | None = None

    def read(self, key: str, *, most_bytes: int | None = None) -> bytes:
        """See `Storage.read`."""
        content = bytearray()
        for chunk in self.chunks(key):
            content += chunk
            if most_bytes is not None and len(content) > most_bytes:
                raise LimitError(f"it has more than {in_words(most_bytes)}")
        return bytes(content)

    def chunks(self, key: str, *, first: int = 0, stamp: str | None = None, verify: bool = True) -> Iterator[bytes]:
        """See `Storage.chunks`."""
        download = Download(self._connection, f"cannot read `{self._name(key)}`", self._object(key), first, stamp)
        if first or not verify:
            yield from download.chunks()
            return
        digest = hashlib.sha256()
        for chunk in download.chunks():
            digest.update(chunk)
            yield chunk
        if download.sha256 not in {None, digest.hexdigest()}:
            raise DamagedError(
                f"{download.what}: its SHA-256 begins with `{digest.hexdigest()[:12]}`, "
                f"that of the written content with `{str(download.sha256)[:12]}`",
                hint="the object was changed or damaged in the bucket; upload it again, or remove it",
            )

    def copy_to(
        self, key: str, path: Path, *, stat: Stat | None = None, progress: Callable[[int], None] = ignore
    ) -> None:
        """See `Storage.copy_to`."""
        save(self.chunks(key), path, f"cannot read `{self._name(key)}`", stat=stat, progress=progress)

    def write(self, key: str, content: bytes) -> None:
        """See `Storage.write`."""
        self._put(key, in_memory(content))

    def upload(self, key: str, path: Path) -> None:
        """See `Storage.upload`."""
        with in_file(path) as content:
            self._put(key, content)

    def write_stream(self, key: str, parts: Iterable[bytes], *, sha256: str) -> None:
        """Write an object from parts of at least 5 MiB, except the last, in bounded memory, if they have this SHA-256.

        Raises: DamagedError for another SHA-256, and as `parts`; the object is then as before.
        """
        what = f"cannot write `{self._name(key)}`"
        upload = multipart.Upload(self._connection, what, self._object(key))
        arguments = {"Metadata": {"sha256": sha256}, **self._options.every_write}
        multipart.put_stream(upload, _verified(what, parts, sha256), arguments, lambda: self.sha256(key) == sha256)

    def sha256(self, key: str) -> str | None:
        """The SHA-256 that this program stored with the object; None where there is no object or none is stored."""
        with suppress(AbsentError):
            what = f"cannot look up `{self._name(key)}`"
            return hash_of(self._connection.call(what, lambda client: client.head_object(**self._object(key))))
        return None

    def create(self, key: str, content: bytes) -> bool:
        """See `Storage.create`. On servers without conditional writes, a stat before the write takes their place."""
        if self.excludes():
            return self._put_if(key, content, {"IfNoneMatch": "*"})
        with suppress(AbsentError):
            self.stat(key)
            return False
        self.write(key, content)
        return True

    def replace(self, key: str, content: bytes, stamp: str) -> bool:
        """See `Storage.replace`; without conditional writes as `create`."""
        if self.excludes():
            return self._put_if(key, content, {"IfMatch": f'"{stamp}"'})
        with suppress(AbsentError):
            if self.stat(key).stamp == stamp:
                self.write(key, content)
                return True
        return False

    def excludes(self) -> bool:
        """See `Storage.excludes`: the server must refuse to create an existing object and to replace one by a wrong stamp."""
        if self._excludes is None:
            key = f"{PROBE}{uuid.uuid4().hex}"
            try:
                self._excludes = (
                    self._put_if(key, b"1", {"IfNoneMatch": "*"})
                    and not self._put_if(key, b"2", {"IfNoneMatch": "*"})
                    and not self._put_if(key, b"3", {"IfMatch": f'"{"0" * 32}"'})
                )
            except RefusedError as refusal:
                if refusal.code not in _UNCONDITIONAL:
                    raise
                self._excludes = False
            with suppress(NotPermittedError):  # a bucket may allow writes but no deletion
                self.delete(key)
        return self._excludes

    def stat(self, key: str) -> Stat:
        """See `Storage.stat`."""
        what = f"cannot look up `{self._name(key)}`"
        with suppress(AbsentError, NotPermittedError, CredentialsError, RefusedError):
            return _stat(self._connection.call(what, lambda client: client.head_object(**self._object(key))))
        # A refused HEAD has no body with the reason, such as absent object or absent bucket.
        response = self._connection.call(what, lambda client: client.get_object(**self._object(key)))
        response["Body"].close()
        return _stat(response)

    def stats(self, prefix: str) -> dict[str, Stat]:
        """See `Storage.stats`."""
        return {key: stat for key, stat in without_folder_markers(self._listed(prefix)).items() if not is_hidden(key)}

    def _listed(self, prefix: str) -> dict[str, Stat]:
        what = f"cannot list `{self._name(prefix)}`"
        arguments = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, **self._options.every_request}
        stats: dict[str, Stat] = {}
        for page in pages(what, lambda after: self._list_page(what, {**arguments, **after}), ("ContinuationToken",)):
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                stats[key] = Stat(entry["Size"], stamp_of(entry), entry["LastModified"])
        return stats

    def _list_page(self, what: str, arguments: Mapping[str, str]) -> dict[str, Any]:
        page: dict[str, Any] = self._connection.call(what, lambda client: client.list_objects_v2(**arguments))
        return page

    def keys(self, prefix: str) -> list[str]:
        """See `Storage.keys`."""
        return sorted(self.stats(prefix))

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with suppress(AbsentError):
            self._connection.call(
                f"cannot delete `{self._name(key)}`", lambda client: client.delete_object(**self._object(key))
            )

    def sweep(self, prefix: str, *, names: Collection[str] | None = None) -> None:
        """See `Storage.sweep`: multipart uploads, and test objects of `excludes`, that are older than a day."""
        is_swept = is_ours if names is None else names.__contains__
        place = f"s3://{self._bucket}/{self._prefix}{prefix}"
        where = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, **self._options.every_request}
        multipart.sweep(self._connection, place, where, lambda key: is_swept(key.removeprefix(self._prefix)))
        if names is not None:
            return
        before = datetime.now(timezone.utc) - multipart.STALE
        with suppress(NotPermittedError, RefusedError):
            for key, stat in self._listed(prefix + PROBE).items():
                if stat.modified < before and _PROBE_KEY.fullmatch(key):
                    self.delete(key)

    def hold(self) -> None:
        """See `Storage.hold`: a bucket prefix is not a folder that could be replaced."""

    def obstacles(self) -> list[str]:
        """See `Storage.obstacles`: a bucket has no links or folders."""
        return []

    def claim(self, job: str, report: Callable[[str], None]) -> AbstractContextManager[Claim]:
        """See `Storage.claim`: a lease with a heartbeat, as S3 has no lock that is released when its holder dies."""
        return lease.held(self, job, report, server_time=lambda: ping_server(self._at).time)

    def _put(self, key: str, content: Content) -> None:
        what, arguments = f"cannot write `{self._name(key)}`", self._written(content)
        if content.size_bytes > WHOLE_BYTES:
            upload = multipart.Upload(self._connection, what, self._object(key))
            multipart.put_in_parts(upload, content, arguments, lambda: self._holds(key, content))
        else:
            self._put_whole(key, content.part(0, content.size_bytes), arguments)

    def _put_if(self, key: str, content: bytes, condition: Mapping[str, str]) -> bool:
        new = in_memory(content)
        # A refusal may answer the retry of a successful request whose response was lost: `_holds` tells them apart.
        try:
            self._put_whole(key, content, {**self._written(new), **condition})
        except AbsentError:  # a condition on an absent object
            return False
        except RefusedError as refusal:
            if refusal.code != "PreconditionFailed":
                raise
            return self._holds(key, new)
        return True

    def _put_whole(self, key: str, content: bytes, arguments: Mapping[str, Any]) -> None:
        self._connection.call(
            f"cannot write `{self._name(key)}`",
            lambda client: client.put_object(
                **self._object(key), **arguments, Body=content, ContentMD5=md5_of(content)
            ),
        )

    def _holds(self, key: str, content: Content) -> bool:
        """Whether the object has this content, by the stored hash."""
        return self.sha256(key) == content.sha256

    def _written(self, content: Content) -> dict[str, Any]:
        """Arguments of a request that creates an object."""
        return {"Metadata": {"sha256": content.sha256}, **self._options.every_write}

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key, **self._options.every_request}

    def _name(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"


def _verified(what: str, parts: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    """The parts. Raises: DamagedError after the last one when they have another SHA-256."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        yield part
    if digest.hexdigest() != sha256:
        raise DamagedError(
            f"{what}: the SHA-256 of the content begins with `{digest.hexdigest()[:12]}`, must begin with `{sha256[:12]}`"
        )


def _stat(response: Mapping[str, Any]) -> Stat:
    return Stat(response["ContentLength"], stamp_of(response), response["LastModified"])
