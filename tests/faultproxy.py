"""An HTTP proxy in this process that spoils what it is told to, between a client and a real server.

    with FaultProxy("http://127.0.0.1:9000", latency_s=0.05, upload_bytes_per_s=20e6) as proxy:
        proxy.script(Refuse(503, "SlowDown"), method="GET", key="*/state.pt", times=2)
        …                                        # a client of `proxy.url`
        assert [request.fault for request in proxy.requests] == ["Refuse", "Refuse", None]

Signatures stay valid, because the client's Host header is passed on. Nothing here waits but for what it is told to.
"""

import contextlib
import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from typing_extensions import Self

PIECE_BYTES = 64 << 10


@dataclass(frozen=True)
class Refuse:
    """The proxy answers in the server's place, which hears nothing of the request."""

    status: int
    code: str


@dataclass(frozen=True)
class Reset:
    """The connection is reset before the server hears of the request."""


@dataclass(frozen=True)
class ResetInRequest:
    """The connections to both are reset when the server has this share of the request's body."""

    share: float = 0.5


@dataclass(frozen=True)
class LoseAnswer:
    """The server does what it is asked; the client's connection is reset in place of the answer."""


@dataclass(frozen=True)
class CutAnswer:
    """The connection ends, by a reset or as if all were well, when the client has this many bytes of the answer's body."""

    after_bytes: int
    reset: bool = True


@dataclass(frozen=True)
class Corrupt:
    """One byte of the answer's body is another."""

    at: int = 0


@dataclass(frozen=True)
class Hang:
    """Nothing comes until the proxy stops."""


@dataclass(frozen=True)
class HangInAnswer:
    """Nothing more comes, until the proxy stops, when the client has this many bytes of the answer's body."""

    after_bytes: int


@dataclass(frozen=True)
class Slow:
    """The answer's body comes at this rate."""

    bytes_per_s: float


Fault = Refuse | Reset | ResetInRequest | LoseAnswer | CutAnswer | Corrupt | Hang | HangInAnswer | Slow


@dataclass
class Rule:
    """A fault, the requests that have it, and how many of them are still to have it; None is all."""

    fault: Fault
    method: str
    key: str
    query: str
    times: int | None
    meanwhile: Callable[[], object]

    def takes(self, method: str, path: str, query: str) -> bool:
        return (
            self.times != 0
            and fnmatchcase(method, self.method)
            and fnmatchcase(path, self.key)
            and fnmatchcase(query, self.query)
        )


@dataclass(frozen=True)
class Request:
    """One that came: `path` is `/bucket/key`, decoded."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    fault: str | None


class Bandwidth:
    """A rate that all connections share."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._rate = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, size_bytes: int) -> None:
        """Return when the bytes have passed."""
        if self._rate is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size_bytes / self._rate
            pause = self._free_at - time.monotonic()
        time.sleep(max(0.0, pause))


class FaultProxy:
    """A proxy before the server at `upstream`; it can be stopped and started again at the same address."""

    def __init__(
        self,
        upstream: str,
        *,
        latency_s: float = 0.0,
        upload_bytes_per_s: float | None = None,
        download_bytes_per_s: float | None = None,
    ) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.latency_s = latency_s
        self.upload, self.download = Bandwidth(upload_bytes_per_s), Bandwidth(download_bytes_per_s)
        self.requests: list[Request] = []
        self.stopped = threading.Event()
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def script(
        self,
        fault: Fault,
        *,
        method: str = "*",
        key: str = "*",
        query: str = "*",
        times: int | None = 1,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Spoil the next requests that match; each has the first rule that takes it. `meanwhile` is called before."""
        with self._lock:
            self._rules.append(Rule(fault, method, key, query, times, meanwhile))

    def forget(self) -> None:
        """No faults from now on, and no requests so far."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def start(self) -> None:
        """Listen; at the address of before, if there was one."""
        self.stopped.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; who hangs is let go."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fault_of(self, method: str, target: str, headers: dict[str, str]) -> Fault | None:
        """The fault that a request is to have; the request is noted."""
        path, _, query = target.partition("?")
        path = unquote(path)
        with self._lock:
            rule = next((each for each in self._rules if each.takes(method, path, query)), None)
            if rule and rule.times is not None:
                rule.times -= 1
            name = type(rule.fault).__name__ if rule else None
            self.requests.append(Request(method, path, query, headers, name))
        if rule is None:
            return None
        rule.meanwhile()
        return rule.fault


class _BrokenOffError(Exception):
    """This connection is over."""


class _EndedError(_BrokenOffError):
    """Without a reset."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._proxy: FaultProxy = self.server.proxy
        self._up = HTTPConnection(self._proxy.upstream, timeout=120)

    def finish(self) -> None:
        self._up.close()
        with contextlib.suppress(OSError):
            super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _EndedError:
            self.close_connection = True
        except (_BrokenOffError, OSError, HTTPException):
            self._reset()

    def log_message(self, *_: object) -> None:
        """The list of requests is the log."""

    def _relay(self) -> None:
        fault = self._proxy.fault_of(self.command, self.path, dict(self.headers))
        if self._proxy.latency_s:
            time.sleep(self._proxy.latency_s)
        if isinstance(fault, Refuse):
            self._refuse(fault)
            return
        if isinstance(fault, Reset):
            raise _BrokenOffError
        if isinstance(fault, Hang):
            self._proxy.stopped.wait()
            raise _BrokenOffError
        self._send_on(fault.share if isinstance(fault, ResetInRequest) else 1.0)
        if isinstance(fault, ResetInRequest):
            raise _BrokenOffError
        answer = self._up.getresponse()
        if isinstance(fault, LoseAnswer):
            answer.read()
            raise _BrokenOffError
        self._answer(answer, fault)

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = _relay

    def _refuse(self, fault: Refuse) -> None:
        for _ in self._request_body(1.0):
            pass
        body = f"<Error><Code>{fault.code}</Code><Message>as the test wants it</Message></Error>".encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_on(self, share: float) -> None:
        self._up.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"connection", "expect"}:
                self._up.putheader(name, value)
        self._up.endheaders()
        for piece in self._request_body(share):
            self._proxy.upload.take(len(piece))
            self._up.send(piece)

    def _request_body(self, share: float) -> Iterator[bytes]:
        left = int(int(self.headers.get("Content-Length", 0)) * share)
        while left:
            piece = self.rfile.read(min(PIECE_BYTES, left))
            if not piece:
                raise _BrokenOffError
            left -= len(piece)
            yield piece

    def _answer(self, answer: HTTPResponse, fault: Fault | None) -> None:
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() != "transfer-encoding"]
        length = answer.getheader("Content-Length")
        body: Iterable[bytes] = iter(lambda: answer.read(PIECE_BYTES), b"")
        if length is None and self.command != "HEAD" and answer.status not in {204, 304}:
            whole = b"".join(body)
            headers.append(("Content-Length", str(len(whole))))
            body = [whole]
        self.send_response_only(answer.status, answer.reason)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self._send_body(body, fault)

    def _send_body(self, body: Iterable[bytes], fault: Fault | None) -> None:
        rate = Bandwidth(fault.bytes_per_s if isinstance(fault, Slow) else None)
        sent = 0
        for piece in body:
            if isinstance(fault, CutAnswer | HangInAnswer) and sent + len(piece) >= fault.after_bytes:
                self.wfile.write(piece[: fault.after_bytes - sent])
                self._break_off(fault)
            if isinstance(fault, Corrupt) and sent <= fault.at < sent + len(piece):
                at = fault.at - sent
                piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]  # noqa: PLW2901
            rate.take(len(piece))
            self._proxy.download.take(len(piece))
            self.wfile.write(piece)
            sent += len(piece)

    def _break_off(self, fault: CutAnswer | HangInAnswer) -> NoReturn:
        if isinstance(fault, HangInAnswer):
            self._proxy.stopped.wait()
        self._drain()
        raise _EndedError if isinstance(fault, CutAnswer) and not fault.reset else _BrokenOffError

    def _drain(self) -> None:
        """Return when the client's system has all that was sent: a reset drops what is still under way."""
        deadline = time.monotonic() + 10  # of a client that does not read
        while (
            time.monotonic() < deadline
            and struct.unpack("i", fcntl.ioctl(self.connection, termios.TIOCOUTQ, b"\0" * 4))[0]
        ):
            time.sleep(0.001)

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset, not an end."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
