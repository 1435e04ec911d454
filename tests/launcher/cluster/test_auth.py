"""Finding the API server and proving who one is: kubeconfig, credential plugins, TLS; no message holds a secret."""

import base64
import dataclasses
import datetime as dt
import ipaddress
import json
import ssl
import sys
import traceback

import pytest
from apiserver import ApiServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from relay import Relay

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.cluster.errors import LoginError, UnreachableError
from launcher.cluster.resources import PYTORCH_JOBS
from trainer.errors import InputError, RemoteError

SECRET = "5ecret-0f-the-test"


def plugin(tmp_path, code):
    """A user whose token comes from a program."""
    path = tmp_path / "plugin.py"
    path.write_text(code, encoding="utf-8")
    api_version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api_version, "command": sys.executable, "args": [str(path)], "env": None}}


def giving(tmp_path, expires="2126-01-01T00:00:00Z"):
    """A program that gives another token each time."""
    return plugin(
        tmp_path,
        f"""
import json, pathlib
count = pathlib.Path(__file__).with_suffix(".count")
number = len(count.read_text()) if count.exists() else 0
count.write_text("x" * (number + 1))
status = {{"token": f"token-{{number}}", "expirationTimestamp": "{expires}"}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
""",
    )


def opened(path, **target):
    cluster = open_cluster(Target(kubeconfig=str(path), **target))
    quick = dataclasses.replace(cluster.connection, sleep=lambda seconds: None)
    return dataclasses.replace(cluster, connection=quick)


def test_token_of_a_credential_plugin_is_sent_and_kept_while_it_is_good(api, tmp_path):
    """Plugins are slow: one call a command."""
    cluster = opened(api.kubeconfig(tmp_path / "k", giving(tmp_path)))
    cluster.list(PYTORCH_JOBS)
    cluster.list(PYTORCH_JOBS)
    assert api.state.authorizations == ["Bearer token-0", "Bearer token-0"]


def test_token_that_has_expired_is_renewed(api, tmp_path):
    """A training lasts longer than a token."""
    cluster = opened(api.kubeconfig(tmp_path / "k", giving(tmp_path, expires="2020-01-01T00:00:00Z")))
    cluster.list(PYTORCH_JOBS)
    cluster.list(PYTORCH_JOBS)
    assert len(set(api.state.authorizations)) == 2


@pytest.mark.parametrize(
    ("user", "header"),
    [
        pytest.param({"token": "t"}, "Bearer t", id="token"),
        pytest.param({"username": "u", "password": "p"}, f"Basic {base64.b64encode(b'u:p').decode()}", id="password"),
        pytest.param({"token": " t\n"}, "Bearer t", id="token with white space"),
        pytest.param(
            {"username": "u\n", "password": " p\r\n"},
            f"Basic {base64.b64encode(b'u:p').decode()}",
            id="password with white space",
        ),
        pytest.param({"auth-provider": {"name": "gcp", "config": {"access-token": "t\n"}}}, "Bearer t", id="provider"),
        pytest.param({}, None, id="nobody"),
    ],
)
def test_requests_are_made_as_the_kubeconfigs_user(api, tmp_path, user, header):
    opened(api.kubeconfig(tmp_path / "k", user)).list(PYTORCH_JOBS)
    assert api.state.authorizations == [header]


def test_token_file_may_end_with_a_line_break(api, tmp_path):
    """Editors and `echo` put it there; HTTP has no place for it."""
    (tmp_path / "token").write_text(f"{SECRET}\n", encoding="utf-8")
    opened(api.kubeconfig(tmp_path / "k", {"tokenFile": str(tmp_path / "token")})).list(PYTORCH_JOBS)
    assert api.state.authorizations == [f"Bearer {SECRET}"]


def test_token_of_a_plugin_may_end_with_a_line_break(api, tmp_path):
    """The program prints what another has printed."""
    user = giving(tmp_path)
    path = tmp_path / "plugin.py"
    path.write_text(path.read_text(encoding="utf-8").replace("token-{number}", "token-{number}\\n"), encoding="utf-8")
    opened(api.kubeconfig(tmp_path / "k", user)).list(PYTORCH_JOBS)
    assert api.state.authorizations == ["Bearer token-0"]


def test_token_that_can_stand_in_no_header_is_refused_by_its_context(api, tmp_path):
    """Two lines pasted as one; the library's own message quotes them."""
    cluster = opened(api.kubeconfig(tmp_path / "k", {"token": f"{SECRET}\n{SECRET}"}))
    with pytest.raises(InputError, match=r"context `here`.*token contains a line break") as caught:
        cluster.list(PYTORCH_JOBS)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_token_in_a_servers_message_is_redacted(api, tmp_path):
    """Proxies on the way like to show what they got."""
    api.state.fail("GET", "pytorchjobs", 403, f"no {SECRET} here")
    cluster = opened(api.kubeconfig(tmp_path / "k", {"token": SECRET}))
    with pytest.raises(RemoteError, match=r"no \*\*\* here"):
        cluster.list(PYTORCH_JOBS)


@pytest.mark.parametrize("password", [SECRET, f"pa/{SECRET}", f"p@:{SECRET}"])
def test_login_in_the_server_url_is_refused_and_not_printed(tmp_path, password):
    """Every message about the server would tell it, and nothing would use it."""
    path = tmp_path / "k"
    context = {"name": "here", "context": {"cluster": "c", "user": "u"}}
    document = {"current-context": "here", "contexts": [context], "users": [{"name": "u", "user": {"token": "t"}}]}
    cluster = {"name": "c", "cluster": {"server": f"https://someone:{password}@127.0.0.1:9"}}
    path.write_text(json.dumps(document | {"clusters": [cluster]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"server `https://\*\*\*@127\.0\.0\.1:9` contains a login") as caught:
        opened(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param("import sys; sys.exit('the session has expired')", "the session has expired", id="fails"),
        pytest.param("print('hello')", "failed to decode process output", id="no-json"),
        pytest.param("print('{}')", "malformed response", id="no-credentials"),
    ],
)
def test_credential_plugin_that_fails_is_quoted(api, tmp_path, capfd, code, said):
    """The client only logs it, and then asks as nobody."""
    path = api.kubeconfig(tmp_path / "k", plugin(tmp_path, code))
    with pytest.raises(RemoteError, match="cannot log in with the context `here`") as caught:
        opened(path)
    assert said in str(caught.value)
    assert f"its credential plugin `{sys.executable}` failed" in str(caught.value)
    assert caught.value.exit_code == 2
    assert "".join(capfd.readouterr()) == ""


def test_credential_plugin_that_is_not_installed_is_named(api, tmp_path):
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin", "env": None}}
    said = "cannot start its credential plugin `no-such-plugin`: no such file or directory"
    with pytest.raises(LoginError, match=said) as caught:
        opened(api.kubeconfig(tmp_path / "k", user))
    assert caught.value.exit_code == 2
    user["exec"]["installHint"] = "install it"
    with pytest.raises(LoginError, match=said) as caught:
        opened(api.kubeconfig(tmp_path / "k", user))
    assert caught.value.hint == "install it"


def credential(**status):
    """A plugin's code that prints this."""
    document = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"import json; print(json.dumps({document!r}))"


@pytest.mark.parametrize(
    "code",
    [
        f"print('null {SECRET}')",
        f"print('[\"{SECRET}\"]')",
        f"import sys; sys.stdout.buffer.write(b'\\xff{SECRET}')",
        f"import os; print('{SECRET}', flush=True); os.kill(os.getpid(), 9)",
        f"import sys; sys.exit('token={SECRET}')",
        credential(token=None),
        credential(token=""),
        credential(token=" "),
        credential(token=f"a\n{SECRET}"),
        credential(token=f"é{SECRET}"),
        credential(token=SECRET, expirationTimestamp="soon"),
        credential(token=SECRET, expirationTimestamp=5),
        credential(clientCertificateData=5, clientKeyData=SECRET),
        credential(clientCertificateData=SECRET),
    ],
)
def test_credential_plugin_that_gives_no_usable_credential_is_named_and_not_quoted(api, tmp_path, code):
    """No request is made as nobody."""
    path = api.kubeconfig(tmp_path / "k", plugin(tmp_path, code))
    with pytest.raises((LoginError, InputError), match="cannot log in with the context `here`") as caught:
        opened(path).list(PYTORCH_JOBS)
    assert caught.value.exit_code == 2
    assert f"its credential plugin `{sys.executable}`" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert api.state.authorizations == []


@pytest.mark.parametrize(
    "change",
    [{"command": 5}, {"command": None}, {"args": [5]}, {"env": f"X={SECRET}"}, {"env": [{"name": SECRET}]}],
)
def test_entry_of_a_credential_plugin_that_is_none_is_bad_input_and_not_quoted(api, tmp_path, change):
    """The client's own message shows the whole entry."""
    user = plugin(tmp_path, "")
    user["exec"] |= {"args": [SECRET]} | change
    with pytest.raises(LoginError, match="its credential plugin `") as caught:
        opened(api.kubeconfig(tmp_path / "k", user))
    assert SECRET not in str(caught.value)


def test_end_of_a_credential_plugins_message_is_quoted(api, tmp_path):
    """The reason comes last, after what it has tried."""
    code = "import sys; sys.exit('tried\\n' * 500 + 'the session has expired')"
    with pytest.raises(LoginError, match="the session has expired") as caught:
        opened(api.kubeconfig(tmp_path / "k", plugin(tmp_path, code)))
    assert len(str(caught.value)) < 700


def test_credential_plugin_that_asks_the_user_needs_a_terminal(api, tmp_path, monkeypatch):
    """In a pipeline it would wait for an answer, or fail without a reason."""
    monkeypatch.setattr(sys, "stdin", None)
    user = plugin(tmp_path, "raise AssertionError")
    user["exec"]["interactiveMode"] = "Always"
    with pytest.raises(LoginError, match=r"needs a terminal \(`interactiveMode: Always`\)"):
        opened(api.kubeconfig(tmp_path / "k", user))


@pytest.mark.parametrize("token", [" ", "\n"])
def test_blank_token_is_refused_before_a_request(api, tmp_path, token):
    with pytest.raises(InputError, match="its token is blank"):
        opened(api.kubeconfig(tmp_path / "k", {"token": token})).list(PYTORCH_JOBS)
    assert api.state.authorizations == []


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"tokenFile": "/no/such"}, "`/no/such`: no such file or directory"),
        ({"username": "ключ", "password": SECRET}, "its user or password contains a character"),
        (
            {"auth-provider": {"name": "gcp", "config": {"cmd-path": "/no/such", "cmd-args": SECRET}}},
            "`/no/such`: no such",
        ),
        ({"auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/false", "cmd-args": SECRET}}}, "returned 1"),
    ],
)
def test_user_without_usable_credentials_is_bad_input_and_not_quoted(api, tmp_path, user, words):
    with pytest.raises(InputError, match="cannot use the context `here`") as caught:
        opened(api.kubeconfig(tmp_path / "k", user))
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_identity_provider_that_does_not_answer_is_no_bug(api, tmp_path):
    """An expired token is renewed there."""
    claims = base64.urlsafe_b64encode(b'{"exp":1}   ').decode()
    config = {"id-token": f"a.{claims}.c", "idp-issuer-url": "http://127.0.0.1:9", "client-id": "x"}
    with pytest.raises(RemoteError, match="its identity provider gives no token"):
        opened(api.kubeconfig(tmp_path / "k", {"auth-provider": {"name": "oidc", "config": config}}))


def test_credential_plugin_that_fails_later_is_quoted_too(api, tmp_path, capfd):
    """Else the server's `Unauthorized` were all that one sees."""
    user = giving(tmp_path, expires="2020-01-01T00:00:00Z")
    cluster = opened(api.kubeconfig(tmp_path / "k", user))
    (tmp_path / "plugin.py").write_text("import sys; sys.exit('the session has expired')", encoding="utf-8")
    with pytest.raises(RemoteError, match="the session has expired"):
        cluster.list(PYTORCH_JOBS)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f"users: [{{token: {SECRET}", "it is not YAML", id="no-yaml"),
        pytest.param(SECRET, "it is not a mapping", id="text"),
        pytest.param(b"\xff\xfe", "it is not YAML", id="binary"),
        pytest.param(f"contexts: []\nusers: [{{name: u, user: {{token: {SECRET}}}}}]", "no current context", id="none"),
    ],
)
def test_kubeconfig_that_cannot_be_used_is_bad_input_and_not_quoted(tmp_path, text, message):
    """There are keys in it."""
    path = tmp_path / "k"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        opened(path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda found: found["users"][0].update(user={"exec": {"env": [{"name": "X", "value": SECRET}]}}),
            id="plugin-without-command",
        ),
        pytest.param(lambda found: found["clusters"][0].pop("cluster"), id="cluster-without-server"),
        pytest.param(lambda found: found["clusters"].clear(), id="no-cluster"),
        pytest.param(lambda found: found["contexts"][0].pop("context"), id="context-without-anything"),
        pytest.param(
            lambda found: found["clusters"][0]["cluster"].update(
                {"server": "https://127.0.0.1:1", "certificate-authority-data": SECRET}
            ),
            id="no-base64",
        ),
        pytest.param(
            lambda found: found["clusters"][0]["cluster"].update(
                {"server": "https://127.0.0.1:1", "certificate-authority": "/absent"}
            ),
            id="absent-file",
        ),
    ],
)
def test_wrong_entry_of_the_kubeconfig_is_a_known_error_and_not_quoted(api, tmp_path, change):
    """The client's own message shows the whole entry."""
    path = api.kubeconfig(tmp_path / "k", {"password": SECRET, "username": "u"})
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises((InputError, RemoteError)) as caught:
        opened(path).list(PYTORCH_JOBS)
    assert SECRET not in str(caught.value)


def test_context_flag_works_without_a_current_context(api, tmp_path):
    path = api.kubeconfig(tmp_path / "k")
    found = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(found | {"current-context": ""}), encoding="utf-8")
    assert opened(path, context="other").connection.context == "other"
    with pytest.raises(InputError, match="no current context") as caught:
        opened(path)
    assert "--context NAME, of here, other" in str(caught.value)


def test_file_that_is_named_and_absent_is_never_replaced_by_another(tmp_path, monkeypatch):
    """A job must not go to another cluster because of a typo."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"there is no kubeconfig at `.*/absent`"):
        open_cluster(Target())


@pytest.fixture
def tls_api(tmp_path):
    """The double, with a certificate that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "double")])
    now = dt.datetime.now(dt.timezone.utc)
    day = dt.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server = ApiServer(context)
    yield server
    server.stop()


def test_untrusted_certificate_is_refused_with_the_reason(tls_api, tmp_path):
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        opened(tls_api.kubeconfig(tmp_path / "k")).list(PYTORCH_JOBS)


def test_certificate_authority_of_the_kubeconfig_is_trusted(tls_api, tmp_path):
    ours = {"certificate-authority-data": base64.b64encode((tmp_path / "crt").read_bytes()).decode()}
    assert opened(tls_api.kubeconfig(tmp_path / "k", **ours)).list(PYTORCH_JOBS) == []


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_tls_goes_through_a_proxy_to_the_server(tls_api, tmp_path, scheme):
    """The proxy sees no request: the certificate is the server's."""
    ours = {"certificate-authority": "crt", "tls-server-name": "127.0.0.1", "server": "https://api.invalid:6443"}
    relay = Relay(tls_api.url)
    cluster = opened(tls_api.kubeconfig(tmp_path / "k", **ours, **{"proxy-url": f"{scheme}://127.0.0.1:{relay.port}"}))
    assert cluster.list(PYTORCH_JOBS) == []
    assert relay.asked == ["api.invalid:6443"]
    relay.stop()


def test_insecure_skip_tls_verify_prints_no_warnings(tls_api, tmp_path, capfd, recwarn):
    """The kubeconfig says so; a warning for each request hides what matters."""
    assert opened(tls_api.kubeconfig(tmp_path / "k", **{"insecure-skip-tls-verify": True})).list(PYTORCH_JOBS) == []
    assert "".join(capfd.readouterr()) == ""
    assert not recwarn.list


@pytest.mark.parametrize("part", ["client-certificate-data", "client-key-data"])
def test_client_certificate_that_is_none_is_bad_input(tls_api, tmp_path, part):
    """Else it were reported as a server that does not answer."""
    files = {"client-certificate-data": tmp_path / "crt", "client-key-data": tmp_path / "key"}
    user = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    opened(tls_api.kubeconfig(tmp_path / "k", user))
    user[part] = base64.b64encode(SECRET.encode()).decode()
    with pytest.raises(InputError, match="its client certificate and key are not a pair in PEM") as caught:
        opened(tls_api.kubeconfig(tmp_path / "k2", user))
    assert SECRET not in str(caught.value)


def test_invalid_certificate_authority_is_a_known_error(tls_api, tmp_path):
    rubbish = {"certificate-authority-data": base64.b64encode(b"rubbish").decode()}
    with pytest.raises((UnreachableError, InputError)):
        opened(tls_api.kubeconfig(tmp_path / "k", **rubbish)).list(PYTORCH_JOBS)
