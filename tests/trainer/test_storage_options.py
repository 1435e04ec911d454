"""What the environment says about S3, and what no message says."""

import os
import re
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from trainer.errors import InputError, RemoteError
from trainer.redaction import redacted
from trainer.storage import open_storage, options
from trainer.storage.options import Options, options_of


def test_nothing_set_is_nothing_asked():
    """An empty variable, as a manifest writes it, is as good as none."""
    assert options_of({}) == options_of({"TRAINER_S3_SSE": "", "TRAINER_S3_ADDRESSING": ""}) == Options("auto", {}, {})


def test_all_that_can_be_asked():
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


def test_requests_carry_what_was_asked(fault_proxy, monkeypatch):
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


def test_options_are_in_the_guide():
    """A variable that is not documented is found by accident only."""
    guide = (Path(__file__).parents[2] / "docs/guide.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:AWS|TRAINER)_\w+)`", options.__doc__))
    assert {"AWS_REGION", "TRAINER_S3_ADDRESSING"} < named
    assert {name for name in named if f"`{name}`" not in guide} == set()


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
def test_bucket_stands_where_it_should(addressing, endpoint, in_path, s3, monkeypatch):
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
    [("http://user:topsecret@127.0.0.1:9", "holds a login"), ("user:topsecret@nonsense", "is no URL")],
)
def test_login_in_the_endpoint_is_refused_without_being_told(endpoint, words, s3, monkeypatch):
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


def test_secrets_in_urls_are_blotted_out():
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
def test_answer_that_is_none_of_s3_is_told(status, s3, monkeypatch):
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
            assert "is it an S3 server" in refusal.value.hint
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
