"""Proxies on the way to the API server: which one, as kubectl chooses it, and what is said of one that fails."""

import dataclasses
import socket
import sys
import threading
from contextlib import suppress

import pytest
from relay import Relay

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.cluster.errors import UnreachableError
from launcher.cluster.proxy import find_proxy
from launcher.cluster.resources import PYTORCH_JOBS
from trainer.errors import InputError

PASSWORD = "geheim-99/x"
API = "https://api.example.org:6443"


@pytest.fixture
def relay(api):
    running = Relay(api.url)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def no_proxies_of_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def opened(api, tmp_path, **cluster):
    """The cluster under a name that only a proxy resolves."""
    path = api.kubeconfig(tmp_path / "k", **{"server": "http://api.invalid:6443"} | cluster)
    cluster = open_cluster(Target(kubeconfig=str(path)))
    quick = dataclasses.replace(cluster.connection, sleep=lambda seconds: None)
    return dataclasses.replace(cluster, connection=quick)


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
@pytest.mark.parametrize("origin", ["proxy-url", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_requests_take_the_proxy_which_resolves_the_servers_name(api, relay, tmp_path, monkeypatch, scheme, origin):
    """A SOCKS proxy resolves names with `socks5` too, as Go's does: the cluster's are often known only there."""
    url, given = f"{scheme}://127.0.0.1:{relay.port}", {}
    if origin == "proxy-url":
        given = {"proxy-url": url}
    else:
        monkeypatch.setenv(origin, url)
    assert opened(api, tmp_path, **given).list(PYTORCH_JOBS) == []
    assert relay.asked == ["api.invalid:6443"]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_login_of_a_proxy_is_sent_decoded_and_never_shown(api, relay, tmp_path, monkeypatch, scheme):
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:geheim-99%2Fx@127.0.0.1:{relay.port}")
    cluster = opened(api, tmp_path)
    assert cluster.list(PYTORCH_JOBS) == []
    assert set(relay.logins) == {f"me:{PASSWORD}"}
    relay.stop()
    assert "geheim" not in repr(cluster.connection.proxy) + str(cluster.connection.proxy) + repr(cluster)


def test_a_proxy_without_scheme_is_an_http_proxy(api, relay, tmp_path, monkeypatch):
    """In a variable; kubectl refuses it in a kubeconfig."""
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{relay.port}")
    assert opened(api, tmp_path).list(PYTORCH_JOBS) == []
    with pytest.raises(InputError, match=r"it has no scheme \(from `proxy-url`\)"):
        opened(api, tmp_path, **{"proxy-url": f"127.0.0.1:{relay.port}"})


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_a_dead_proxy_is_named_as_the_proxy(api, tmp_path, monkeypatch, scheme):
    """The server would be looked for in vain."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:geheim-99@127.0.0.1:{port}")
    with pytest.raises(UnreachableError) as failed:
        opened(api, tmp_path).list(PYTORCH_JOBS)
    assert f"no answer from the proxy `{scheme}://***@127.0.0.1:{port}` (from `ALL_PROXY`): connection refused" in str(
        failed.value
    )


def test_a_server_that_a_proxy_does_not_reach_is_named_with_the_proxy(api, tmp_path, monkeypatch):
    """The proxy answers; its words are the reason."""
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse():
        with suppress(OSError):
            while True:
                with listener.accept()[0] as client:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")

    threading.Thread(target=refuse, daemon=True).start()
    port = listener.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    with pytest.raises(UnreachableError) as failed:
        opened(api, tmp_path, server="https://api.invalid:6443").list(PYTORCH_JOBS)
    listener.close()
    assert f"no answer from `https://api.invalid:6443` through the proxy `http://127.0.0.1:{port}`" in str(failed.value)
    assert "502 Bad Gateway" in str(failed.value)


def test_socks_without_pysocks_is_bad_input_with_the_package(api, tmp_path, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.delitem(sys.modules, "urllib3.contrib.socks", raising=False)
    with pytest.raises(InputError, match="needs the package PySocks, which is not installed") as refused:
        opened(api, tmp_path)
    assert "pip install PySocks" in refused.value.hint


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("not a url", "it is not a URL of a host"),
        ("http://", "it is not a URL of a host"),
        ("http://proxy:port", "it is not a URL of a host"),
        ("http://[::1", "it is not a URL of a host"),
        ("socks4://proxy:1080", "`socks4` is no scheme of a proxy"),
        ("ftp://proxy", "`ftp` is no scheme of a proxy"),
    ],
)
def test_a_value_that_is_no_proxy_is_bad_input_with_its_origin(value, reason):
    """Go would connect directly, or speak HTTP to it."""
    with pytest.raises(InputError) as refused:
        find_proxy(API, "", {"HTTPS_PROXY": value})
    assert f"cannot use the proxy `{value}`: {reason} (from `HTTPS_PROXY`)" in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "", "https_proxy": "http://b:1"}, "http://b:1"),
        ({"HTTP_PROXY": "http://a:1"}, None),  # of http servers only
        ({"HTTPS_PROXY": "http://a:1", "ALL_PROXY": "socks5://b:1"}, "http://a:1"),
        ({"HTTP_PROXY": "http://a:1", "ALL_PROXY": "socks5://b:1"}, "socks5://b:1"),
        ({"HTTPS_PROXY": "http://a"}, "http://a:80"),
        ({"HTTPS_PROXY": "https://a/"}, "https://a:443"),
        ({"ALL_PROXY": "socks5://a"}, "socks5://a:1080"),
        ({}, None),
    ],
)
def test_variable_of_the_servers_scheme_counts_first_and_capitals_before_small_letters(environment, url):
    found = find_proxy(API, "", environment)
    assert (found and found.url) == url


@pytest.mark.parametrize(
    ("server", "no_proxy", "is_direct"),
    [
        (API, "example.org", True),
        (API, " EXAMPLE.org ,x", True),
        (API, ".example.org", True),
        (API, "*.example.org", True),
        (API, "api.example.org:6443", True),
        (API, "*", True),
        (API, "x,*", True),
        (API, "api.example.org:443", False),
        (API, "ple.org", False),
        (API, "", False),
        ("https://example.org", ".example.org", False),  # subdomains only
        ("https://example.org", "example.org:443", True),
        ("https://10.1.2.3:6443", "10.0.0.0/8", True),
        ("https://10.1.2.3:6443", "10.1.2.3", True),
        ("https://10.1.2.3:6443", "10.1.2.3:6443", True),
        ("https://10.1.2.3:6443", "10.1.2.3:1", False),
        ("https://10.1.2.3:6443", "10", False),
        ("https://[fd00::5]:6443", "fd00::/8", True),
        ("https://[fd00::5]:6443", "[fd00::5]:6443", True),
        ("https://127.0.0.2:6443", "", True),
        ("https://localhost:6443", "", True),
    ],
)
def test_no_proxy_is_read_as_by_go(server, no_proxy, is_direct):
    """Expected values were compared with net/http's ProxyFromEnvironment."""
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        assert (find_proxy(server, "", {name: "http://p:1", "NO_PROXY": no_proxy}) is None) == is_direct


def test_proxy_url_of_the_kubeconfig_counts_before_the_variables_and_without_no_proxy():
    """As in kubectl; it is also used for servers on this machine."""
    environment = {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}
    assert find_proxy("https://localhost:1", "socks5://b:1", environment).url == "socks5://b:1"


@pytest.mark.parametrize(
    "value", ["me:geheim-99@proxy host", "http://me:geheim-99@proxy host", "socks4://me:geheim-99@h"]
)
def test_login_of_an_invalid_proxy_is_not_shown(value):
    with pytest.raises(InputError) as refused:
        find_proxy(API, "", {"HTTPS_PROXY": value})
    assert "geheim" not in str(refused.value)
    assert "***@" in str(refused.value)
