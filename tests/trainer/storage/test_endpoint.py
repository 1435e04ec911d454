"""The address of the S3 server and of the proxy on the way: bad input by name, before a request; no login is shown."""

import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trainer.errors import InputError, RemoteError
from trainer.location import Location, S3Server
from trainer.storage import NoProxyError, open_storage
from trainer.storage.endpoint import proxies_for

SECRET = "hunter2secret"
DEAD = "127.0.0.1:9"
PROXIES = [f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO")]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    """Only the proxies of the test."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def refusal(s3, monkeypatch):
    """The error with this environment, raised before a request and without the login."""

    def refused(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError) as caught:
            open_storage("s3://cxr/run")
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        return str(caught.value)

    return refused


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("nonsense", "is not a URL, got `nonsense`"),
        ("127.0.0.1:9000", "is not a URL, got `127.0.0.1:9000`"),
        ("http://", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://::1:9000", "has an IPv6 address without brackets"),
        ("http://h:99999", "has an invalid port"),
        ("http://h:0", "has an invalid port"),
        ("http://h:port", "has an invalid port"),
        ("ftp://h:1", "must begin with http:// or https://"),
        ("http://my_minio:9000", "has a host name with other characters"),
        ("http://müller:9000", "has a host name with other characters"),
        ("http://h:9/?x=1", "must not have a query"),
    ],
)
@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_endpoint_is_refused_for_what_is_wrong_with_it(refusal, name, endpoint, words):
    """Most of these are URLs."""
    message = refusal(**{name: endpoint})
    assert f"the endpoint {words}" in message
    assert f"(from {name})" in message


def test_endpoint_of_the_flag_and_of_the_profile_are_named_as_theirs(s3, refusal, monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r"is not a URL, got `nonsense` \(from --s3-endpoint\)"):
        open_storage(Location("s3://cxr/run", S3Server("nonsense")))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://h:99999\n", encoding="utf-8")
    assert "has an invalid port" in refusal(AWS_CONFIG_FILE=str(tmp_path / "config"))
    (tmp_path / "config").write_text("[default]\nendpoint_url = nonsense\n", encoding="utf-8")
    message = refusal(AWS_CONFIG_FILE=str(tmp_path / "config"))
    assert "the endpoint is not a URL, got `nonsense` (from the profile's endpoint_url)" in message


@pytest.mark.parametrize("endpoint", ["{} ", "\n{}\n", "{}/"])
def test_endpoint_may_have_white_space_around_it(s3, monkeypatch, endpoint):
    """A Secret made from a file ends with a line break."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.format(s3))
    assert open_storage("s3://cxr/run").keys("") == []


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AWS_REGION": "us east 1"}, "not the name of a region, got `us east 1` (from AWS_REGION"),
        ({"AWS_REGION": "us-east-1\nx"}, "not the name of a region"),
        ({"AWS_DEFAULTS_MODE": "x"}, "invalid defaults mode"),
        ({"AWS_METADATA_SERVICE_TIMEOUT": "long", "AWS_ACCESS_KEY_ID": ""}, "'long'"),
    ],
)
def test_other_settings_are_no_endpoint_that_is_no_url(refusal, environment, words):
    """All of these are ValueErrors to botocore."""
    message = refusal(**environment)
    assert words in message
    assert "endpoint" not in message.partition("hint")[0]


def test_region_is_that_of_the_documented_variable(s3, monkeypatch):
    """botocore alone reads AWS_DEFAULT_REGION only."""
    monkeypatch.setenv("AWS_REGION", "eu-north-1\n")
    assert open_storage("s3://cxr/run")._connection.client().meta.region_name == "eu-north-1"
    other = open_storage(Location("s3://cxr/run", S3Server(region="eu-west-1")))
    assert other._connection.client().meta.region_name == "eu-west-1"


def test_name_that_no_bucket_can_have_is_bad_input(s3):
    with pytest.raises(InputError, match="not the name of a bucket"):
        open_storage("s3://c x r/run").keys("")


def test_value_that_no_header_can_carry_is_not_tried_again(s3, monkeypatch):
    """Each of thirty tries would say the same, and quote the value."""
    monkeypatch.setenv("TRAINER_S3_SSE", "aws:kms")
    monkeypatch.setenv("TRAINER_S3_SSE_KMS_KEY_ID", f"a\n{SECRET}")
    with pytest.raises(InputError, match="no HTTP header can carry") as caught:
        open_storage("s3://cxr/run").write("x", b"1")
    assert "TRAINER_S3_" in caught.value.hint
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("proxy", ["socks5://", "socks5h://", "socks4a://", "SOCKS5://"])
def test_socks_proxy_is_refused_in_one_sentence(refusal, name, proxy):
    """botocore takes `socks5` for the name of a host, and ALL_PROXY for nothing."""
    message = refusal(**{name: f"{proxy}someone:{SECRET}@{DEAD}"})
    shown = f"`{proxy.lower()}***@{DEAD}`"
    assert message.startswith(f"error: cannot use S3: it takes no SOCKS proxy, got {shown} (from {name})\n")
    assert "NO_PROXY=127.0.0.1" in message


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://h:99999", "has an invalid port"),
        ("h:port", "has an invalid port"),
        ("ftp://h:1", "must begin with http:// or https://"),
        (f"http://ü:{SECRET}@{DEAD}", "has a login with non-ASCII characters"),
        (f"http://u:%C3%BC{SECRET}@{DEAD}", "has a login with non-ASCII characters"),
    ],
)
def test_proxy_that_is_none_is_bad_input(refusal, name, proxy, words):
    message = refusal(**{name: proxy})
    assert f"the proxy {words}" in message
    assert f"(from {name})" in message


def test_proxy_is_chosen_as_other_programs_choose_it(monkeypatch):
    """The one of the scheme, else that for all; none for the hosts that need none."""
    assert proxies_for("http://s3:9") == {}
    monkeypatch.setenv("ALL_PROXY", "all:1")
    assert proxies_for("http://s3:9") == {"http": "http://all:1"}
    assert proxies_for("https://s3:9") == {"https": "http://all:1"}
    monkeypatch.setenv("HTTPS_PROXY", " HTTPS://one:1 ")
    assert proxies_for("https://s3:9") == {"https": "https://one:1"}
    monkeypatch.setenv("HTTPS_PROXY", "//one:1")
    assert proxies_for("https://s3:9") == {"https": "http://one:1"}
    monkeypatch.setenv("NO_PROXY", "s3,other")
    assert proxies_for("https://s3:9") == proxies_for("http://other") == {}


@pytest.fixture
def proxy(s3):
    """A proxy that answers with the first of `answers`, and notes the addresses that it is asked for."""

    class Handler(BaseHTTPRequestHandler):
        asked, status = [], 200

        def do_GET(self):
            self.asked.append(self.path)
            body = b"<ListBucketResult/>" if self.status == 200 else b""
            self.send_response(self.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_CONNECT = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    Handler.address = f"127.0.0.1:{server.server_port}"
    yield Handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_requests_go_through_the_proxy(s3, proxy, monkeypatch, name, scheme):
    """Whether or not its scheme is written."""
    monkeypatch.setenv(name, f"{scheme}{proxy.address}")
    assert open_storage("s3://cxr/run").keys("") == []
    assert [address.partition("?")[0] for address in proxy.asked] == [f"{s3}/cxr"]


@pytest.mark.parametrize("endpoint", ["http://s3.example.org", "https://s3.example.org"])
@pytest.mark.parametrize("address", [DEAD, f"http://someone:{SECRET}@{DEAD}"])
def test_dead_proxy_is_named_and_not_the_server(s3, monkeypatch, endpoint, address):
    """Whoever looks after the server would look in the wrong place."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(NoProxyError) as caught:
        open_storage("s3://cxr/run", patience_s=0).keys("")
    shown = f"`http://{'***@' if '@' in address else ''}{DEAD}`"
    assert f"no connection through the proxy {shown}: connection refused" in str(caught.value)
    assert "s3.example.org" not in str(caught.value)
    assert "NO_PROXY" in caught.value.hint
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://s3.example.org", "https://s3.example.org"])
def test_proxy_that_wants_a_login_is_named_at_once(s3, proxy, monkeypatch, endpoint):
    """No retry gives it one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("ALL_PROXY", proxy.address)
    proxy.status = 407
    with pytest.raises(RemoteError, match=r"prox.*407") as caught:
        open_storage("s3://cxr/run").keys("")
    assert "HTTPS_PROXY" in caught.value.hint
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("bundle", ["/no/such", "/tmp", __file__])
def test_certificates_that_cannot_be_read_are_named_at_once(s3, monkeypatch, bundle):
    """No server is asked: half a minute of retries does not make the file one of certificates."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.replace("http:", "https:"))
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    monkeypatch.setattr("trainer.storage.retry.Tries.another", not_again)
    with pytest.raises(RemoteError, match=r"cannot read certificates: .*\(from AWS_CA_BUNDLE\)"):
        open_storage("s3://cxr/run").keys("")


def test_server_without_tls_is_named_at_once(s3, monkeypatch):
    """An endpoint with an `s` too many."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.replace("http:", "https:"))
    monkeypatch.setattr("trainer.storage.retry.Tries.another", not_again)
    with pytest.raises(RemoteError, match="the server does not use TLS") as caught:
        open_storage("s3://cxr/run").keys("")
    assert "http://" in caught.value.hint


def not_again(_):
    raise AssertionError("it was tried again")
