"""Proxy on the way to the API server, chosen as kubectl does: `proxy-url` of the kubeconfig, else the proxy variables.

Beyond kubectl, ALL_PROXY counts where the variable of the scheme is not set, and `socks5h` is another name for `socks5`; names are
resolved by a SOCKS proxy in both. Source: golang.org/x/net/http/httpproxy, and client-go v0.37 (tools/clientcmd/helpers.go).
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from trainer.errors import InputError, on_one_line
from trainer.redaction import learn_address, without_login

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
"""Schemes of proxies, and their default ports. Source: net/http's transport of Go."""

_HINT: Final = "http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"

_HOST_AND_PORT: Final = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[^:]*)")

_OF_SOCKS: Final = frozenset({"ProxyConnectionError", "SOCKS5AuthError", "GeneralProxyError"})
"""Errors of PySocks that are about the proxy itself, not about the server behind it."""


_TUNNEL: Final = "Tunnel connection failed: "
"""Source: http.client; the status of the proxy's answer to CONNECT follows."""


@dataclass(frozen=True)
class Proxy:
    """A proxy, and what named it."""

    url: str = field(repr=False)
    """With scheme and port; it may hold a login, which messages must not show."""

    origin: str

    def __str__(self) -> str:
        return f"the proxy `{without_login(on_one_line(self.url))}` (from `{self.origin}`)"

    @property
    def is_socks(self) -> bool:
        """Whether it needs PySocks."""
        return self.url.startswith("socks")

    def has_failed(self, problem: BaseException) -> bool:
        """Whether a failed request was the proxy's own failure, not that of the server behind it."""
        from urllib3.exceptions import ProxyError  # noqa: PLC0415 - already loaded

        chain: list[BaseException] = [problem]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(cause)
        refused = next((str(each) for each in chain if str(each).startswith(_TUNNEL)), None)
        if refused is not None:  # it answered, for the server behind it, unless it wants a login
            return "407" in refused
        return any(isinstance(each, ProxyError) or type(each).__name__ in _OF_SOCKS for each in chain)


def find_proxy(server: str, proxy_url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for this server; None for a direct connection. `proxy_url` is that of the kubeconfig, which NO_PROXY does not limit.

    Raises: InputError for a value that is no URL of a proxy.
    """
    if proxy_url:
        return _checked(proxy_url, "proxy-url")
    scheme = urlsplit(server).scheme.upper()
    given = (_first_of(environment, name) for name in (f"{scheme}_PROXY", "ALL_PROXY"))
    value, origin = next((each for each in given if each[0]), ("", ""))
    if not value or _is_direct(server, _first_of(environment, "NO_PROXY")[0]):
        return None
    return _checked(value, origin, default_scheme="http://")


def _first_of(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Value and name of a variable; capitals have precedence."""
    known = (each for each in (name, name.lower()) if environment.get(each, "").strip())
    found = next(known, name)
    return environment.get(found, "").strip(), found


def _checked(value: str, origin: str, *, default_scheme: str = "") -> Proxy:
    """The proxy of a URL, with its port. Raises: InputError."""
    added = "" if "://" in value else default_scheme
    url = f"{added}{value}"
    learn_address(url)
    shown = without_login(on_one_line(url)).removeprefix(added)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in _PORTS and host and "://" in url:
        reason = f"`{on_one_line(parts.scheme)}` is no scheme of a proxy"
    elif "://" not in url:
        reason = "it has no scheme"
    elif not host or re.search(r"[\s%]", host):
        reason = "it is not a URL of a host"
    else:
        netloc = parts.netloc if port is not None else f"{parts.netloc.rstrip(':')}:{_PORTS[parts.scheme]}"
        return Proxy(f"{parts.scheme}://{netloc}", origin)
    raise InputError(f"cannot use the proxy `{shown}`: {reason} (from `{origin}`)", hint=f"{origin}: {_HINT}")


def _is_direct(server: str, no_proxy: str) -> bool:
    """Whether the variables' proxy is not used: for this machine itself, and for what NO_PROXY lists."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    port = str(parts.port or _PORTS[parts.scheme or "http"])
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, port, address) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, port: str, address: Any) -> bool:  # noqa: ANN401 - an IPv4 or IPv6 address
    """Whether an entry of NO_PROXY covers the host: `*`, an address, a network, a name with its subdomains; some with a port."""
    if entry == "*":
        return True
    if re.fullmatch(r"[0-9a-f.:]+/\d+", entry):
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass
    split = _HOST_AND_PORT.fullmatch(entry)
    name, wanted = ((split["ipv6"] or split["host"] or ""), split["port"]) if split else (entry, "")
    if not name or (wanted and wanted != port):
        return False
    if address is not None or _address(name) is not None:
        return address is not None and _address(name) == address
    name = name.removeprefix("*") if name.startswith("*.") else name
    return host.endswith(name if name.startswith(".") else f".{name}") or host == name


def _address(host: str) -> Any:  # noqa: ANN401 - as above; None for a name
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def through(proxy: Proxy, direct: Any) -> Any:  # noqa: ANN401 - urllib3's pools; its types need not be loaded
    """A pool like `direct`, with the same TLS settings, whose requests take the proxy.

    Raises: InputError for a SOCKS proxy without PySocks.
    """
    import urllib3  # noqa: PLC0415 - only commands that use a cluster need it

    parts = urlsplit(proxy.url)
    user, password = (unquote(each) if each is not None else None for each in (parts.username, parts.password))
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if proxy.is_socks:
        address = f"socks5h{address.removeprefix(parts.scheme)}"
        return _socks_manager(proxy)(address, user, password, **direct.connection_pool_kw)
    login = None if user is None else urllib3.make_headers(proxy_basic_auth=f"{user}:{password or ''}")
    return urllib3.ProxyManager(address, proxy_headers=login, **direct.connection_pool_kw)


def _socks_manager(proxy: Proxy) -> Any:  # noqa: ANN401 - as above
    import warnings  # noqa: PLC0415 - as above

    try:
        with warnings.catch_warnings():  # urllib3 warns in its own words
            warnings.simplefilter("ignore")
            from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415 - as above
    except ImportError as problem:
        raise InputError(
            f"cannot use {proxy}: a SOCKS proxy needs the package PySocks, which is not installed",
            hint="pip install 'chexnet-jobs[launcher]', or pip install PySocks",
        ) from problem
    return SOCKSProxyManager
