"""Is an S3 server there at all, and what time has it?"""

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from trainer.location import Location
from trainer.storage.connection import new_client
from trainer.storage.errors import boto_errors, known


@dataclass(frozen=True)
class Server:
    """An S3 server that answered."""

    url: str
    time: datetime | None
    """Its clock, aware; None when it does not tell."""


def ping_server(at: Location, *, timeout_s: float = 5.0) -> Server:
    """The S3 server of a bucket: asked once, unsigned, so its answer needs no credentials and says nothing of rights.

    Raises: RemoteError when it does not answer.
    """
    from botocore import UNSIGNED  # noqa: PLC0415 - a quarter of a second that only who uses a bucket needs
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
        answer = client.head_bucket(Bucket=at.bucket)
    except ClientError as refusal:  # an answer too
        answer = refusal.response
    except boto_errors() as problem:
        raise known(f"cannot reach the server of `{at}`", problem) from problem
    date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return Server(str(client.meta.endpoint_url), parsedate_to_datetime(date) if date else None)
