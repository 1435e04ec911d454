"""Multipart upload of large objects: a failed part is retried alone, and the last request makes the object visible."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from trainer.errors import KnownError
from trainer.storage.connection import Connection
from trainer.storage.content import Content, md5_of
from trainer.storage.errors import RefusedError
from trainer.storage.interface import NotPermittedError
from trainer.storage.paging import pages
from trainer.storage.retry import RetryPolicy

PART_BYTES: Final = 16 << 20
MOST_PARTS: Final = 10_000
"""Source: Amazon S3 user guide, Multipart upload limits; parts have at least 5 MiB."""

THREADS: Final = 4
"""Parts uploaded concurrently, and held in memory."""

STALE: Final = timedelta(days=1)
"""Age at which an unfinished upload counts as abandoned."""


@dataclass(frozen=True)
class Upload:
    """One object to upload."""

    connection: Connection
    what: str
    """Beginning of error messages."""

    target: Mapping[str, str]
    """Request arguments that name the object."""


def put_in_parts(
    upload: Upload, content: Content, first_arguments: Mapping[str, Any], is_complete: Callable[[], bool]
) -> None:
    """Upload the object; the upload is aborted on failure. `is_complete` checks whether the whole object exists.

    Raises: as `Connection.call`.
    """
    _put(upload, first_arguments, is_complete, lambda target: _send(upload, target, content))


def put_stream(
    upload: Upload, parts: Iterable[bytes], first_arguments: Mapping[str, Any], is_complete: Callable[[], bool]
) -> None:
    """As `put_in_parts`, of parts of at least 5 MiB, except the last. An exception from `parts` aborts the upload.

    Raises: as `Connection.call`, and as `parts`.
    """
    _put(upload, first_arguments, is_complete, lambda target: _send_stream(upload, target, parts))


def _put(
    upload: Upload,
    first_arguments: Mapping[str, Any],
    is_complete: Callable[[], bool],
    send: Callable[[Mapping[str, str]], list[dict[str, Any]]],
) -> None:
    begun = upload.connection.call(
        upload.what, lambda client: client.create_multipart_upload(**upload.target, **first_arguments)
    )
    target = {**upload.target, "UploadId": begun["UploadId"]}
    try:
        parts = send(target)
        _complete(upload, target, parts, is_complete)
    except BaseException:
        # Tried once: a leftover upload is swept later.
        with suppress(KnownError):
            upload.connection.call(
                upload.what, lambda client: client.abort_multipart_upload(**target), policy=RetryPolicy(0)
            )
        raise


def sweep(connection: Connection, place: str, where: Mapping[str, str], is_ours: Callable[[str], bool]) -> None:
    """Abort unfinished uploads of our keys that are older than a day; `place` names the prefix in messages.

    Servers that forbid or do not support this are skipped.
    """
    what = f"cannot sweep `{place}`"
    before = datetime.now(timezone.utc) - STALE
    target = {name: value for name, value in where.items() if name != "Prefix"}
    try:
        for upload in _unfinished(connection, what, where):
            if upload["Initiated"] < before and is_ours(upload["Key"]):
                target_upload = {**target, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                connection.call(what, lambda client: client.abort_multipart_upload(**target_upload))  # noqa: B023 - called at once
    except (NotPermittedError, RefusedError):
        return


def _send(upload: Upload, target: Mapping[str, str], content: Content) -> list[dict[str, Any]]:
    size = max(PART_BYTES, -(-content.size_bytes // MOST_PARTS))

    def send(number: int) -> dict[str, Any]:
        first = (number - 1) * size
        return _send_part(upload, target, number, content.part(first, min(size, content.size_bytes - first)))

    with ThreadPoolExecutor(THREADS) as pool:
        sent = [pool.submit(send, number) for number in range(1, -(-content.size_bytes // size) + 1)]
        try:
            return [part.result() for part in sent]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _send_stream(upload: Upload, target: Mapping[str, str], parts: Iterable[bytes]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    pending: deque[Future[dict[str, Any]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for number, part in enumerate(parts, 1):
                pending.append(pool.submit(_send_part, upload, target, number, part))
                if len(pending) == THREADS:
                    sent.append(pending.popleft().result())
            return sent + [part.result() for part in pending]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _send_part(upload: Upload, target: Mapping[str, str], number: int, part: bytes) -> dict[str, Any]:
    response = upload.connection.call(
        upload.what,
        lambda client: client.upload_part(**target, PartNumber=number, Body=part, ContentMD5=md5_of(part)),
    )
    return {"PartNumber": number, "ETag": response["ETag"]}


def _complete(
    upload: Upload, target: Mapping[str, str], parts: list[dict[str, Any]], is_complete: Callable[[], bool]
) -> None:
    try:
        upload.connection.call(
            upload.what, lambda client: client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
        )
    except RefusedError as refusal:
        # When the response to a completion was lost, the retry finds no such upload.
        if refusal.code != "NoSuchUpload" or not is_complete():
            raise


def _unfinished(connection: Connection, what: str, arguments: Mapping[str, str]) -> list[dict[str, Any]]:
    def page(after: Mapping[str, str]) -> dict[str, Any]:
        response: dict[str, Any] = connection.call(
            what, lambda client: client.list_multipart_uploads(**arguments, **after)
        )
        return response

    listing = pages(what, page, ("KeyMarker", "UploadIdMarker"))
    return [upload for each in listing for upload in each.get("Uploads", ())]
