"""HTTP requests to the API server over the official client's connection pool, with retries where safe and size limits."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from launcher.cluster.auth import Login
from launcher.cluster.errors import BUSY, UnreachableError, error_of_status
from launcher.cluster.resources import Object
from trainer import __version__
from trainer.errors import RemoteError, on_one_line
from trainer.formats.documents import checked
from trainer.limits import API_BYTES, API_NODES, in_words, parsed_json
from trainer.redaction import redacted

CONNECT_S: Final = 10.0
READ_S: Final = 30.0
"""Time limits of each request; a server that is silent for longer counts as unreachable."""

ATTEMPTS: Final = 4
"""Attempts per request. After a broken connection every method is sent again; `Cluster.create` recognises its own object."""

LONGEST_WAIT_S: Final = 20.0
"""Longest Retry-After that is waited for; for a longer one the error is raised."""

PIECE_BYTES: Final = 1 << 16
"""Size of the pieces in which a response is read."""

REFUSAL_BYTES: Final = 1 << 20
"""Bytes of an error response that are read: a Status names one object."""

ERROR_TEXT_BYTES: Final = 16384
"""Bytes that are examined of an error response that is not a Status; 200 characters are shown."""

CUT: Final = b" [the rest of this long line is omitted]"
"""End of a line that was cut."""


@dataclass(frozen=True)
class Request:
    """A request; `what` describes it as the end of the sentence `cannot …`."""

    method: str
    path: str
    what: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    content_type: str = "application/json"

    def may_repeat(self, status: int) -> bool:
        """Whether a retry is safe after this status: nothing was done, or the request is idempotent."""
        return status == 429 or (status in BUSY and self.method in {"GET", "DELETE"})


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ByteBudget:
    """Bytes that all pages of one list may still have."""

    left_bytes: int = field(default_factory=lambda: API_BYTES)


@dataclass(frozen=True)
class Connection(Login):
    """A connection to one API server, as one user."""

    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def json(self, request: Request, budget: "ByteBudget | None" = None) -> Object:
        """The object in the response, whose size is limited by `budget`. Raises: RemoteError."""
        budget = budget or ByteBudget()
        answer = self.ask(request, budget.left_bytes)
        budget.left_bytes -= len(answer.body)
        try:
            return as_object(answer.body)
        except ValueError as problem:
            raise RemoteError(
                f"cannot {request.what}: the response of `{self.server}` is not one of a Kubernetes API server",
                hint="check the server of the kubeconfig, and proxies on the path",
            ) from problem

    def ask(self, request: Request, most_bytes: int = API_BYTES) -> Answer:
        """Send a request, with retries where safe. Raises: RemoteError, also for a response larger than `most_bytes`."""
        for attempt in range(1, ATTEMPTS + 1):
            wait_s = 0.25 * 2.0**attempt
            try:
                answer = self._once(request, most_bytes)
            except UnreachableError as problem:
                if attempt == ATTEMPTS or not _may_pass(problem):
                    raise
            else:
                if answer.status < 300 or (request.method == "DELETE" and answer.status == 404 and attempt > 1):
                    return answer  # 404 on a repeated DELETE: the first one succeeded
                retry_after_s = _retry_after(answer)
                if attempt == ATTEMPTS or retry_after_s > LONGEST_WAIT_S or not request.may_repeat(answer.status):
                    raise error_of_response(request, answer.status, answer.body)
                wait_s = max(wait_s, retry_after_s)
            self.sleep(wait_s)
        raise AssertionError

    def _once(self, request: Request, most_bytes: int) -> Answer:
        with self._response(request, READ_S) as response:
            content = _content(response, most_bytes if response.status < 300 else REFUSAL_BYTES)
            if len(content) > most_bytes:
                raise RemoteError(
                    f"cannot {request.what}: the response of `{self.server}` is larger than {in_words(most_bytes)}",
                    hint="check the server of the kubeconfig, and proxies on the path",
                )
            return Answer(response.status, response.headers, content)

    def lines(self, request: Request, *, read_s: float, most_bytes: int) -> Iterator[bytes]:
        """Lines of a response as they arrive, with newlines; long lines are cut."""
        with self._response(request, read_s) as response:
            if response.status >= 300:
                raise error_of_response(request, response.status, _content(response, REFUSAL_BYTES))
            yield from split_lines(_arriving(response), most_bytes)

    @contextmanager
    def _response(self, request: Request, read_s: float) -> Iterator[Any]:
        """The response with unread body; it is closed at the end of the block."""
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - only commands that use a cluster need it

        headers, body = self._headers(), None
        if request.body is not None:
            headers, body = headers | {"Content-Type": request.content_type}, json.dumps(request.body).encode()
        try:
            response = self.http.request(
                request.method,
                self._url(request),
                body=body,
                headers=headers,
                timeout=_timeout(read_s),
                retries=False,
                preload_content=False,
            )
            try:
                yield response
            finally:
                response.close()
        except HTTPError as problem:
            raise self.unreachable(request.what, problem) from problem

    def _url(self, request: Request) -> str:
        given = urlencode({key: value for key, value in request.query.items() if value})
        return f"{self.server}{request.path}" + (f"?{given}" if given else "")

    def _headers(self) -> dict[str, str]:
        authorization = self.authorization()
        ours = {"Accept": "application/json", "User-Agent": f"chexnet-launcher/{__version__}"}
        return ours | ({"authorization": authorization} if authorization else {})

    def unreachable(self, what: str, problem: Exception) -> UnreachableError:
        """The error for a failed connection, with the innermost reason: the outer ones are about pools and retries."""
        proxy_failed = self.proxy is not None and self.proxy.has_failed(problem)
        while isinstance(problem.__cause__ or problem.__context__, Exception):
            problem = problem.__cause__ or problem.__context__  # type: ignore[assignment]  # checked in the line above
        reason = on_one_line(getattr(problem, "strerror", None) or str(problem) or type(problem).__name__)
        reason = f"{reason[:1].lower()}{reason[1:].rstrip('.')}"
        if proxy_failed:
            return UnreachableError(
                f"cannot {what}: no answer from {self.proxy}: {reason}",
                hint=f"is the proxy running? {self._test}; NO_PROXY lists servers that are reached without it",
            )
        way = f" through {self.proxy}" if self.proxy else ""
        return UnreachableError(f"cannot {what}: no answer from `{self.server}`{way}: {reason}", hint=self._test)

    @property
    def _test(self) -> str:
        """A command that tests the connection."""
        return f"kubectl --context {self.context} get --raw /readyz" if self.context else "kubectl get --raw /readyz"


def as_object(body: bytes) -> Object:
    """Parse a JSON object, the form of every API response. Raises: ValueError."""
    return checked(parsed_json(body, most_bytes=API_BYTES, most_nodes=API_NODES), dict[str, Any])


def error_of_response(request: Request, status: int, body: bytes) -> RemoteError:
    """The error for a response other than success; its body may be anything."""
    try:
        document = as_object(body)
        document = document.get("object", document)
        return error_of_status(request.path, request.what, status, document)
    except (ValueError, AttributeError):
        text = redacted(body[:ERROR_TEXT_BYTES].decode(errors="replace"))[:200].strip()
        return error_of_status(request.path, request.what, status, None, text)


def split_lines(pieces: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """Split a stream of pieces into lines with newlines; the last one may lack it.

    A line that is too long is always cut at the same place, so a repeated read gives the same line.
    """
    line = bytearray()
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            line += end[: most_bytes + 1 - len(line)]
            yield _cut(line, most_bytes) + b"\n"
            line.clear()
        line += rest[: most_bytes + 1 - len(line)]
    if line:
        yield _cut(line, most_bytes)


def _cut(line: bytearray, most_bytes: int) -> bytes:
    return bytes(line) if len(line) <= most_bytes else bytes(line[:most_bytes]) + CUT


def _content(response: Any, most_bytes: int) -> bytes:  # noqa: ANN401 - urllib3 is loaded late
    """The body of a response; a body that is too large is returned as slightly more than `most_bytes`."""
    content = bytearray()
    for piece in response.stream(PIECE_BYTES):
        content += piece
        if len(content) > most_bytes:
            break
    return bytes(content)


def _arriving(response: Any) -> Iterator[bytes]:  # noqa: ANN401 - as above
    """The body as it arrives, without buffering: a line is not held back until more lines follow."""
    if response.chunked:
        yield from response.stream(PIECE_BYTES)
        return
    while piece := response.read1(PIECE_BYTES):
        yield piece


def _may_pass(problem: UnreachableError) -> bool:
    """Whether a retry may succeed: not after a connect or read timeout, or a TLS error."""
    from urllib3 import exceptions  # noqa: PLC0415 - already loaded

    cause = problem.__cause__
    if isinstance(cause, exceptions.ProxyError):
        cause = cause.original_error
    is_timeout = isinstance(cause, exceptions.TimeoutError) and not isinstance(cause, exceptions.NewConnectionError)
    return not is_timeout and not isinstance(cause, exceptions.SSLError)


def _timeout(read_s: float) -> Any:  # noqa: ANN401 - urllib3 is loaded late
    from urllib3 import Timeout  # noqa: PLC0415 - as above

    return Timeout(connect=CONNECT_S, read=read_s)


def _retry_after(answer: Answer) -> float:
    """Seconds to wait by the Retry-After header, 0 without one."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0
