"""Settings that are not surely the user's: those in the current directory's file, and the endpoint in a job's settings.

The user who runs a command did not always fill the folder, or submit the job. So no setting of the folder's file decides what code
runs on this machine, and before credentials are sent to an endpoint from elsewhere it is named on stderr, and refused where it is
plain http to a public address (docs/decisions/0025).
"""

import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cyclopts import Token

from trainer.errors import InputError, as_block

CODE: Final = frozenset({"env", "overlay"})
"""Settings that decide what code runs where a job does: variables such as PYTHONPATH and LD_PRELOAD, and commands."""

_PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
"""Loopback, RFC 1918 and RFC 4193."""

_NAME: Final = re.compile(r"(?!-)[a-z0-9-]+(\.[a-z0-9-]+)*", re.ASCII)
_NUMERIC: Final = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_PRIVATE_NAME: Final = re.compile(r"[^.]+|(.+\.)?(localhost|svc|cluster\.local|internal)", re.ASCII)
"""A single label, which only a search domain completes, and names outside the public DNS (RFC 6761, ICANN's .internal)."""

_VARIABLES: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


class FolderOrigin(str):
    """Origin of the settings in the current directory's file."""

    __slots__ = ()


class ForeignEndpoint(str):
    """URL of an S3 server that the user of this command did not give; `origin` names its source."""

    __slots__ = ("origin",)

    origin: str

    @classmethod
    def of(cls, url: str, origin: str) -> "ForeignEndpoint":
        """The URL with its origin."""
        endpoint = cls(url)
        endpoint.origin = origin
        return endpoint


def as_given(_: type, tokens: Sequence[Token]) -> str:
    """The parsed endpoint, with its origin when that is the folder's file."""
    text, source = tokens[-1].value, tokens[-1].source
    return ForeignEndpoint.of(text, source) if isinstance(source, FolderOrigin) else text


def check_code(key: str, text: str, origin: str) -> None:
    """Refuse a setting that decides what code `--local` runs on this machine, unless it is surely the user's.

    Raises: InputError.
    """
    if key not in CODE:
        return
    if isinstance(origin, FolderOrigin):
        raise InputError(
            f"cannot take `{key}` from this folder's file with --local: it decides what code runs on this machine (from `{origin}`)",
            hint=f"once you have read it: -f {origin} takes all of it as yours; or give it as a flag, or in your own file",
        )
    if key == "overlay" and not text.startswith("{") and not Path(text).is_absolute():
        raise InputError(
            f"cannot take the overlay `{text}` of this folder with --local: it decides what code runs on this machine (from `{origin}`)",
            hint="give its whole path, or --overlay FILE",
        )


def allowed(endpoint: str | None) -> str | None:
    """The endpoint, for requests signed with this user's credentials; a foreign one is named on stderr.

    A job's endpoint is not named when it is private, or the same as the environment's.

    Raises: InputError for a foreign endpoint that is plain http to a public address.
    """
    if not isinstance(endpoint, ForeignEndpoint):
        return endpoint
    stays_near = is_private(endpoint)
    if not isinstance(endpoint.origin, FolderOrigin) and (stays_near or endpoint in map(os.environ.get, _VARIABLES)):
        return str(endpoint)
    if not endpoint.startswith("https://") and not stays_near:
        raise InputError(
            f"cannot send credentials to `{endpoint}`: it is plain http, to no private address (from `{endpoint.origin}`)",
            hint=f"use https://…, or give --s3-endpoint {endpoint} yourself if that is intended",
        )
    sys.stderr.write(
        as_block(f"note: requests to S3, signed as you, go to {endpoint} (from `{endpoint.origin}`)") + "\n"
    )
    return str(endpoint)


def is_private(url: str) -> bool:
    """Whether the URL's host is this machine, an address of a private network, or a name that no public DNS knows.

    Judged by the text of the name: a DNS server that answers for it may belong to whoever wants the credentials.
    """
    if "@" in url or "\\" in url:  # whose host programs do not agree about
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:  # brackets that are no address, a port that is no number
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        last = host.rpartition(".")[2]
        is_name = _NAME.fullmatch(host) is not None and not _NUMERIC.fullmatch(last)  # 134744072 is 8.8.8.8
        return is_name and _PRIVATE_NAME.fullmatch(host) is not None
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in _PRIVATE if network.version == address.version)
