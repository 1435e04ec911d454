"""What the environment says about S3, and what no message says."""

import json
import os
import re
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from trainer.errors import InputError, RemoteError
from trainer.redaction import redacted
from trainer.storage import CredentialsError, credentials, open_storage, options
from trainer.storage.options import Options, options_of


def test_unset_and_empty_variables_give_the_default_options():
    """An empty variable, as a manifest writes it, is as good as none."""
    assert options_of({}) == options_of({"TRAINER_S3_SSE": "", "TRAINER_S3_ADDRESSING": ""}) == Options("auto", {}, {})


def test_every_s3_option_is_read_from_its_variable():
    """Encryption is for what is written, payment for everything."""
    environment = {
        "TRAINER_S3_ADDRESSING": "virtual",
        "TRAINER_S3_REQUEST_PAYER": "requester",
        "TRAINER_S3_SSE": "aws:kms",
        "TRAINER_S3_SSE_KMS_KEY_ID": "alias/runs",
    }
    assert options_of(environment) == Options(
        "virtual",
        {"RequestPayer": "requester"},
        {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/runs"},
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRAINER_S3_ADDRESSING", "host"),
        ("TRAINER_S3_REQUEST_PAYER", "yes"),
        ("TRAINER_S3_SSE", "aes"),
        ("TRAINER_S3_SSE_KMS_KEY_ID", "alias/runs"),
    ],
)
def test_bad_value_names_its_variable(name, value):
    """Objects that were meant to be encrypted must not be written in the clear."""
    with pytest.raises(InputError, match=name):
        options_of({name: value})


def test_requests_carry_the_s3_options(fault_proxy, monkeypatch):
    """As headers, which is what the server sees."""
    monkeypatch.setenv("TRAINER_S3_REQUEST_PAYER", "requester")
    monkeypatch.setenv("TRAINER_S3_SSE", "AES256")
    storage = open_storage("s3://cxr/run")
    storage.write("a", b"1")
    storage.read("a")
    storage.keys("")
    put, get, listing = (request.headers for request in fault_proxy.requests)
    assert put["x-amz-server-side-encryption"] == "AES256"
    assert put["x-amz-meta-sha256"].startswith("6b86b273ff34")
    assert {headers["x-amz-request-payer"] for headers in (put, get, listing)} == {"requester"}


def test_options_are_documented():
    """A variable that is not documented is found by accident only."""
    page = (Path(__file__).parents[3] / "docs/cluster.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:AWS|TRAINER)_\w+)`", options.__doc__))
    assert {"AWS_REGION", "TRAINER_S3_ADDRESSING"} < named
    assert {name for name in named if f"`{name}`" not in page} == set()


@pytest.mark.parametrize(
    ("addressing", "endpoint", "in_path"),
    [
        ("auto", "http://s3.invalid:9", True),
        ("path", "http://s3.invalid:9", True),
        ("virtual", "http://s3.invalid:9", False),
        ("auto", None, False),
        ("path", None, True),
    ],
)
def test_bucket_is_addressed_by_path_or_host_as_configured(addressing, endpoint, in_path, s3, monkeypatch):
    """A server in the cluster has no name for each bucket; Amazon's wants one."""
    monkeypatch.setenv("TRAINER_S3_ADDRESSING", addressing)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    client = open_storage("s3://cxr")._connection.client()
    url = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": "cxr", "Key": "a"}))
    assert url.path == ("/cxr/a" if in_path else "/a")
    assert url.hostname.startswith("cxr.") != in_path


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [("http://user:topsecret@127.0.0.1:9", "contains a login"), ("user:topsecret@nonsense", "is not a URL")],
)
def test_login_in_the_endpoint_is_refused_and_not_printed(endpoint, words, s3, monkeypatch):
    """It would stand in every message about a server that does not answer."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InputError, match=words) as refusal:
        open_storage("s3://cxr/run")
    assert "topsecret" not in "".join(traceback.format_exception(refusal.value))


def test_signed_url_is_refused_without_its_signature():
    """Pasted from a browser into --data."""
    url = "https://cxr.example.org/run?X-Amz-Credential=AKIA&X-Amz-Signature=topsecret"
    for pasted in (url, "s3://AKIA:topsecret@cxr/run"):
        with pytest.raises(InputError) as refusal:
            open_storage(pasted)
        assert "topsecret" not in str(refusal.value)
        assert "AKIA" not in str(refusal.value)


def test_secrets_in_urls_are_redacted():
    """What a library puts into its message."""
    text = "at http://me:pw@host/a?X-Amz-Credential=AK&X-Amz-Signature=00ff&X-Amz-Security-Token=tt&partNumber=1 ended"
    assert redacted(text) == (
        "at http://***@host/a?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Security-Token=***&partNumber=1 ended"
    )


def test_profile_that_is_not_there_is_named(s3, monkeypatch):
    """Typed on a laptop, absent in the pod."""
    monkeypatch.setenv("AWS_PROFILE", "typo")
    with pytest.raises(InputError, match=r"typo.*AWS_PROFILE"):
        open_storage("s3://cxr/run")


@pytest.mark.parametrize("status", [200, 404])
def test_response_that_is_not_s3_is_reported(status, s3, monkeypatch):
    """The endpoint of a web page: its 404 says nothing of an object, and a run must not start afresh by it."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html><p>Welcome</html>")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        storage = open_storage("s3://cxr/run", patience_s=0)
        with pytest.raises(RemoteError) as refusal:
            storage.keys("")
        if status == 404:
            assert "AWS_ENDPOINT_URL is an S3 server" in refusal.value.hint
            with pytest.raises(RemoteError):
                storage.read("run.json")
        server.shutdown()


def test_forked_process_makes_a_client_of_its_own(s3):
    """Two processes on one connection get each other's answers."""
    storage = open_storage("s3://cxr/run")
    storage.write("a", b"1")
    mine = id(storage._connection.client())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"other" if id(storage._connection.client()) != mine else b"same")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"other"
    assert id(storage._connection.client()) == mine


def as_the_file_says(tmp_path, monkeypatch, text):
    """Credentials of a file, none of the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(text, encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def credentials_now():
    """The keys and the token that botocore has after a client was made."""
    storage = open_storage("s3://cxr/run")
    return storage._connection.client()._request_signer._credentials.get_frozen_credentials()


def test_white_space_around_credentials_of_the_environment_is_removed(s3, monkeypatch):
    """`$(cat token)` keeps none, but a Secret made from a file does; HTTP refuses it, and quotes what it refuses."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", " secret-of-the-test\r\n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-test\n")
    open_storage("s3://cxr/run").write("x", b"1")
    assert tuple(credentials_now())[:3] == ("AKIAIOSFODNN7EXAMPLE", "secret-of-the-test", "token-of-the-test")


def test_white_space_around_credentials_of_a_credential_process_is_removed(s3, tmp_path, monkeypatch):
    """botocore takes them as they come."""
    document = {"Version": 1, "AccessKeyId": "AKIA1\n", "SecretAccessKey": "s-1\n", "SessionToken": "t-1\n"}
    (tmp_path / "program.py").write_text(f"print({json.dumps(json.dumps(document))})", encoding="utf-8")
    as_the_file_says(tmp_path, monkeypatch, f"[default]\ncredential_process = {sys.executable} {tmp_path}/program.py\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "credentials"))
    assert tuple(credentials_now())[:3] == ("AKIA1", "s-1", "t-1")


def test_credentials_with_characters_no_header_may_hold_are_refused_by_name(s3, tmp_path, monkeypatch):
    """Two lines pasted as one."""
    text = "[default]\naws_access_key_id = AKIA\naws_secret_access_key = topsecret\n  topsecret\n"
    as_the_file_says(tmp_path, monkeypatch, text)
    with pytest.raises(
        CredentialsError, match=r"the secret key contains a line break.*shared-credentials-file"
    ) as refusal:
        open_storage("s3://cxr/run")
    assert "topsecret" not in "".join(traceback.format_exception(refusal.value))


def test_token_of_a_service_account_is_sent_without_white_space(s3, tmp_path, monkeypatch):
    """moto takes any; what is looked at is what was sent."""
    as_the_file_says(tmp_path, monkeypatch, "")
    (tmp_path / "token").write_text("token-of-the-test\n", encoding="utf-8")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/trainer")
    sent = []
    read = credentials._TokenFile.__call__
    monkeypatch.setattr(credentials._TokenFile, "__call__", lambda self: sent.append(read(self)) or sent[-1])
    open_storage("s3://cxr/run").write("x", b"1")
    assert sent == ["token-of-the-test"]
    assert redacted("sent token-of-the-test") == "sent ***"


def test_temporary_credentials_are_redacted_once_they_are_used(s3, tmp_path, monkeypatch):
    """A role's key and token are in no variable."""
    as_the_file_says(tmp_path, monkeypatch, "")
    (tmp_path / "token").write_text("token-of-the-test\n", encoding="utf-8")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/trainer")
    storage = open_storage("s3://cxr/run")
    storage.write("x", b"1")
    found = storage._connection.client()._request_signer._credentials.get_frozen_credentials()
    assert redacted(f"{found.secret_key} {found.token}") == "*** ***"


@pytest.mark.parametrize("password", ["pa/topsecret", "p@topsecret", "p:topsecret", "12/topsecret"])
def test_login_in_the_endpoint_is_refused_whatever_its_password_holds(password, s3, monkeypatch):
    """A `/` ends what a parser takes for the host."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://user:{password}@127.0.0.1:9")
    with pytest.raises(InputError, match=r"endpoint at `127\.0\.0\.1:9` contains a login") as refusal:
        open_storage("s3://cxr/run")
    assert "topsecret" not in "".join(traceback.format_exception(refusal.value))
