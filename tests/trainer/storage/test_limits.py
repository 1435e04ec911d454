"""What botocore would read for ever or into all memory is read as far as a limit, or not at all."""

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trainer.errors import InputError, RemoteError
from trainer.storage import connection, open_storage
from trainer.storage.credentials import CREDENTIAL_FILES, check_files

MIB = 1 << 20
SENT = 64


@contextmanager
def answering(status):
    """A server that answers everything with many MiB of no XML; its URL, and how many MiB it has sent."""
    sent = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(SENT * MIB))
            self.end_headers()
            for _ in range(SENT):
                self.wfile.write(b"x" * MIB)
                sent.append(1)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # the client leaves
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "ask"),
    [
        pytest.param(200, lambda storage: storage.keys(""), id="list"),
        pytest.param(404, lambda storage: storage.keys(""), id="refused list"),
        pytest.param(404, lambda storage: storage.read("a"), id="refused read"),
    ],
)
def test_endless_response_is_a_known_error_after_its_limit(ask, status, monkeypatch):
    monkeypatch.setattr(connection, "RESPONSE_BYTES", MIB)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "two")
    with answering(status) as (url, sent):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(RemoteError, match="sent more than 1 MiB in a response that is not an object"):
            ask(open_storage("s3://b/p"))
        assert len(sent) < SENT


@pytest.mark.parametrize("name", CREDENTIAL_FILES)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: (path.touch(), os.truncate(path, 1 << 30)), "more than"),
    ],
    ids=["pipe", "device", "large"],
)
def test_endless_credentials_file_is_refused(name, make, reason, tmp_path, monkeypatch):
    make(tmp_path / "file")
    monkeypatch.setenv(name, str(tmp_path / "file"))
    with pytest.raises(InputError, match=rf"{reason}.*{name}"):
        open_storage("s3://b/p")


@pytest.mark.parametrize("name", CREDENTIAL_FILES)
def test_usual_credentials_files_are_accepted(name, tmp_path, monkeypatch):
    """Nothing, a mounted token's links, a directory of certificates."""
    (tmp_path / "token").write_text("x")
    (tmp_path / "link").symlink_to("token")
    for place in (os.devnull, tmp_path / "link", tmp_path, tmp_path / "absent", ""):
        monkeypatch.setenv(name, str(place))
        check_files()
