"""Checks of untrusted settings: those of the settings file in the current directory, and the endpoint in a job's settings.

The directory or the job may come from another person. Therefore its settings file can't decide what code runs on this machine, and an
endpoint from such a source is reported on stderr before credentials are sent to it, and refused if it is plain http to a public
address (docs/decisions/0025).
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
"""Settings that can run code: variables such as PYTHONPATH and LD_PRELOAD, and commands."""

_PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
"""Loopback, RFC 1918 and RFC 4193."""

_NAME: Final = re.compile(r"(?!-)[a-z0-9-]+(\.[a-z0-9-]+)*", re.ASCII)
_NUMERIC: Final = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)
_PRIVATE_NAME: Final = re.compile(r"[^.]+|(.+\.)?(localhost|svc|cluster\.local|internal)", re.ASCII)
"""A single label, which needs a search domain, and names outside the public DNS (RFC 6761, ICANN's .internal)."""

_VARIABLES: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


class FolderOrigin(str):
    """Origin of settings from the file in the current directory."""

    __slots__ = ()


class ForeignEndpoint(str):
    """URL of an S3 server from an untrusted source, which `origin` names."""

    __slots__ = ("origin",)

    origin: str

    @classmethod
    def of(cls, url: str, origin: str) -> "ForeignEndpoint":
        """The URL with its origin."""
        endpoint = cls(url)
        endpoint.origin = origin
        return endpoint


def as_given(_: type, tokens: Sequence[Token]) -> str:
    """The parsed endpoint; one from the folder's file keeps its origin."""
    text, source = tokens[-1].value, tokens[-1].source
    return ForeignEndpoint.of(text, source) if isinstance(source, FolderOrigin) else text


def check_code(key: str, text: str, origin: str) -> None:
    """Reject an untrusted setting that decides what code `--local` runs on this machine.

    Raises: InputError.
    """
    if key not in CODE:
        return
    if isinstance(origin, FolderOrigin):
        raise InputError(
            f"cannot use `{key}` from this folder's file with --local: it decides what code runs on this machine (from `{origin}`)",
            hint=f"check the file, then use -f {origin} to trust it; or give the setting as a flag or in your own file",
        )
    if key == "overlay" and not text.startswith("{") and not Path(text).is_absolute():
        raise InputError(
            f"cannot use the overlay `{text}` of this folder with --local: it decides what code runs on this machine (from `{origin}`)",
            hint="give its absolute path, or --overlay FILE",
        )


def allowed(endpoint: str | None) -> str | None:
    """The endpoint for requests signed with this user's credentials; an untrusted one is reported on stderr.

    A job's endpoint is not reported when it is private or equal to that of the environment.

    Raises: InputError for an untrusted endpoint with plain http to a public address.
    """
    if not isinstance(endpoint, ForeignEndpoint):
        return endpoint
    is_near = is_private(endpoint)
    if not isinstance(endpoint.origin, FolderOrigin) and (is_near or endpoint in map(os.environ.get, _VARIABLES)):
        return str(endpoint)
    if not endpoint.startswith("https://") and not is_near:
        raise InputError(
            f"cannot send credentials to `{endpoint}`: it is plain http to a public address (from `{endpoint.origin}`)",
            hint=f"use https://…, or confirm it with --s3-endpoint {endpoint}",
        )
    sys.stderr.write(
        as_block(f"note: sending S3 requests with your credentials to {endpoint} (from `{endpoint.origin}`)") + "\n"
    )
    return str(endpoint)


def is_private(url: str) -> bool:
    """Whether the URL's host is this machine, a private address, or a name outside the public DNS.

    Only the text of the name is checked: a DNS server that resolves it may belong to an attacker.
    """
    if "@" in url or "\\" in url:  # programs disagree about the host of such a URL
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:  # invalid brackets or port
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        last = host.rpartition(".")[2]
        is_name = _NAME.fullmatch(host) is not None and not _NUMERIC.fullmatch(last)  # 134744072 is 8.8.8.8
        return is_name and _PRIVATE_NAME.fullmatch(host) is not None
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in _PRIVATE if network.version == address.version)
