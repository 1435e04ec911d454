"""The endpoint of S3, and the proxy on the way to it: checked before a request, as botocore takes any text for either."""

import os
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from trainer.errors import InputError, on_one_line
from trainer.location import S3Server
from trainer.redaction import HIDDEN, learn_address, without_login

ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

_SCHEMES: Final = ("http", "https")


def check_endpoints(server: S3Server) -> None:
    """Check the endpoint of the flag, else that of the environment, without surrounding white space.

    Raises: InputError for text that is not the URL of a server, and for a login in it.
    """
    for name in ENDPOINTS:
        if name in os.environ:
            os.environ[name] = os.environ[name].strip()
    if server.endpoint:
        check_endpoint(server.endpoint, "--s3-endpoint")
        return
    origin = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if origin:
        check_endpoint(os.environ[origin], origin)


def check_endpoint(url: str, origin: str) -> None:
    """Raises: InputError as `check_endpoints`; messages about the server would show a login in its URL."""
    if "@" in url and "://" in url:
        host = without_login(url).partition(f"{HIDDEN}@")[2].partition("/")[0]
        raise InputError(
            f"cannot use S3: the endpoint at `{host}` contains a login (from {origin})",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead",
        )
    problem = _url_problem(url) or _host_problem(url)
    if problem:
        got = "" if "@" in url else f", got `{without_login(on_one_line(url.partition('?')[0]))}`"
        sign = " " if origin.startswith("-") else "="
        raise InputError(
            f"cannot use S3: the endpoint {problem}{got} (from {origin})", hint=f"{origin}{sign}https://HOST:PORT"
        )


def _url_problem(url: str) -> str | None:
    """Why a text is not the address of a server; None when it is."""
    try:
        parts = urlsplit(url)
    except ValueError:  # an unclosed bracket
        return "is not a URL"
    if "://" not in url or not parts.netloc:
        return "is not a URL"
    if parts.scheme not in _SCHEMES:
        return "must begin with http:// or https://"
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc and "@" not in parts.netloc:
        return "has an IPv6 address without brackets"
    if not _has_valid_port(parts):
        return "has an invalid port: it must be a number from 1 to 65535"
    return None if parts.hostname else "is not a URL"


def _has_valid_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _host_problem(url: str) -> str | None:
    """Why botocore refuses the URL of a server; None when it does not."""
    from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url  # noqa: PLC0415 - takes 0.25 s to import

    if "?" in url or "#" in url:
        return "must not have a query or a fragment"
    if is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url):
        return None
    return "has a host name with other characters than ASCII letters, digits, `-` and `.`"


def proxies_for(endpoint: str) -> dict[str, str]:
    """The proxy of requests to this endpoint by scheme, as botocore takes it; empty without one.

    Read as other programs do: HTTP_PROXY or HTTPS_PROXY, else ALL_PROXY, unless NO_PROXY names the host; `http://` may
    be left out.

    Raises: InputError for a SOCKS proxy, and for text that is not the URL of a proxy.
    """
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - slow to import; needed for buckets only

    parts = urlsplit(endpoint)
    found = {scheme: proxy.strip() for scheme, proxy in getproxies().items() if proxy.strip()}
    kind = next((kind for kind in (parts.scheme, "all") if kind in found), None)
    if kind is None or proxy_bypass(parts.netloc):
        return {}
    proxy, origin = found[kind], _variable(kind)
    scheme, separator, address = proxy.partition("://")
    url = f"{scheme.lower()}://{address}" if separator else f"http://{proxy.removeprefix('//')}"
    learn_address(url)
    direct = f"NO_PROXY={parts.hostname} for a direct connection, or {parts.scheme.upper()}_PROXY=http://HOST:PORT"
    if url.startswith("socks"):
        raise InputError(f"cannot use S3: it takes no SOCKS proxy, got `{_shown(url)}` (from {origin})", hint=direct)
    problem = _url_problem(url) or _login_problem(url)
    if problem:
        raise InputError(f"cannot use S3: the proxy {problem}, got `{_shown(url)}` (from {origin})", hint=direct)
    return {parts.scheme: url}


def _login_problem(url: str) -> str | None:
    parts = urlsplit(url)
    is_ascii = all(unquote(part or "").isascii() for part in (parts.username, parts.password))
    return None if is_ascii else "has a login with non-ASCII characters"


def _variable(kind: str) -> str:
    """The variable that sets the proxy; a system's settings have none."""
    names = (f"{kind}_proxy", f"{kind.upper()}_PROXY")
    return next((name for name in names if os.environ.get(name)), "the system's settings")


def _shown(url: str) -> str:
    return without_login(on_one_line(url))
