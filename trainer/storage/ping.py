"""Reachability and clock of an S3 server."""

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from trainer.location import Location
from trainer.storage.connection import new_client
from trainer.storage.errors import as_known_error, boto_errors


@dataclass(frozen=True)
class Server:
    """An S3 server that responded."""

    url: str
    time: datetime | None
    """Its clock, with time zone; None when the server does not send it."""


def ping_server(at: Location, *, timeout_s: float = 5.0) -> Server:
    """Send one unsigned request to the server of a bucket; this needs no credentials and checks no permissions.

    Raises: RemoteError when it does not respond.
    """
    from botocore import UNSIGNED  # noqa: PLC0415 - takes 0.25 s to import; needed for buckets only
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import ClientError  # noqa: PLC0415

    config = Config(
        signature_version=UNSIGNED,
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
    )
    client = new_client(config, at.server)
    try:
        response = client.head_bucket(Bucket=at.bucket)
    except ClientError as refusal:  # a response, too
        response = refusal.response
    except boto_errors() as problem:
        raise as_known_error(f"cannot reach the server of `{at}`", problem) from problem
    date = response["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return Server(str(client.meta.endpoint_url), parsedate_to_datetime(date) if date else None)
