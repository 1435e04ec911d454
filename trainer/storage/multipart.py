"""Large objects, put in parts: a part that fails is sent again alone, and the object appears with the last request."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
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
"""Source: Amazon S3 user guide, Multipart upload limits; its least size of a part is 5 MiB."""

THREADS: Final = 4
"""Parts on their way at a time, and in memory."""

STALE: Final = timedelta(days=1)
"""Age of an unfinished upload whose writer is taken for dead."""


@dataclass(frozen=True)
class Upload:
    """One object that is being put."""

    connection: Connection
    what: str
    """How errors begin."""

    target: Mapping[str, str]
    """The arguments that say where."""


def put_in_parts(
    upload: Upload, content: Content, first_arguments: Mapping[str, Any], is_there: Callable[[], bool]
) -> None:
    """Put the object; the upload is given up when it fails. `is_there` says whether the whole object has arrived.

    Raises: as `Connection.call`.
    """
    begun = upload.connection.call(
        upload.what, lambda client: client.create_multipart_upload(**upload.target, **first_arguments)
    )
    target = {**upload.target, "UploadId": begun["UploadId"]}
    try:
        parts = _send(upload, target, content)
        _complete(upload, target, parts, is_there)
    except BaseException:
        # Once and without waiting: what is left over is swept later.
        with suppress(KnownError):
            upload.connection.call(
                upload.what, lambda client: client.abort_multipart_upload(**target), policy=RetryPolicy(0)
            )
        raise


def sweep(connection: Connection, at: str, where: Mapping[str, str], is_ours: Callable[[str], bool]) -> None:
    """Give up uploads there of keys that are ours, and that were begun more than a day ago; `at` is the place in words.

    Nothing happens where the server forbids it or does not know how.
    """
    what = f"cannot sweep `{at}`"
    before = datetime.now(timezone.utc) - STALE
    target = {name: value for name, value in where.items() if name != "Prefix"}
    try:
        for found in _unfinished(connection, what, where):
            if found["Initiated"] < before and is_ours(found["Key"]):
                upload = {**target, "Key": found["Key"], "UploadId": found["UploadId"]}
                connection.call(what, lambda client: client.abort_multipart_upload(**upload))  # noqa: B023 - called at once
    except (NotPermittedError, RefusedError):
        return


def _send(upload: Upload, target: Mapping[str, str], content: Content) -> list[dict[str, Any]]:
    size = max(PART_BYTES, -(-content.size_bytes // MOST_PARTS))

    def send(number: int) -> dict[str, Any]:
        first = (number - 1) * size
        part = content.part(first, min(size, content.size_bytes - first))
        answer = upload.connection.call(
            upload.what,
            lambda client: client.upload_part(**target, PartNumber=number, Body=part, ContentMD5=md5_of(part)),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    with ThreadPoolExecutor(THREADS) as pool:
        sent = [pool.submit(send, number) for number in range(1, -(-content.size_bytes // size) + 1)]
        try:
            return [part.result() for part in sent]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _complete(
    upload: Upload, target: Mapping[str, str], parts: list[dict[str, Any]], is_there: Callable[[], bool]
) -> None:
    try:
        upload.connection.call(
            upload.what, lambda client: client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
        )
    except RefusedError as refusal:
        # When the answer to an attempt was lost, the next one finds the upload ended, by itself.
        if refusal.code != "NoSuchUpload" or not is_there():
            raise


def _unfinished(connection: Connection, what: str, arguments: Mapping[str, str]) -> list[dict[str, Any]]:
    def page(after: Mapping[str, str]) -> dict[str, Any]:
        answer: dict[str, Any] = connection.call(
            what, lambda client: client.list_multipart_uploads(**arguments, **after)
        )
        return answer

    found = pages(what, page, ("KeyMarker", "UploadIdMarker"))
    return [upload for each in found for upload in each.get("Uploads", ())]
