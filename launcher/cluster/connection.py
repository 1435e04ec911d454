"""Requests to the API server over the official client's connection pool: repeated where that is safe, answers bounded in size."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from launcher.cluster.auth import Login
from launcher.cluster.errors import BUSY, UnreachableError, refusal
from launcher.cluster.resources import Object
from trainer import __version__
from trainer.errors import RemoteError, on_one_line
from trainer.formats.documents import checked
from trainer.limits import API_BYTES, API_NODES, in_words, parsed_json
from trainer.redaction import redacted

CONNECT_S: Final = 10.0
READ_S: Final = 30.0
"""Each request has a time limit; a server that says nothing for so long is taken for gone."""

ATTEMPTS: Final = 4
"""How often a read is tried that met a busy server or a broken connection."""

LONGEST_WAIT_S: Final = 20.0
"""A server may ask for more (Retry-After); then its refusal is passed on."""

PIECE_BYTES: Final = 1 << 16
"""How much of an answer is read at a time."""

REFUSAL_BYTES: Final = 1 << 20
"""Of a refusal, what is read: a Status names one object."""

MOST_SAID_BYTES: Final = 16384
"""Of an answer that is no Status, what is looked at; 200 characters of it are shown."""

CUT: Final = b" [the rest of the line is left out: it is too long]"
"""What stands at the end of a line that was cut."""


@dataclass(frozen=True)
class Request:
    """What is asked, and what for: `what` completes the sentence `cannot …`."""

    method: str
    path: str
    what: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    content_type: str = "application/json"

    def may_repeat(self, status: int) -> bool:
        """Whether to ask again after this answer: nothing was done, or doing it twice is as good as once."""
        return status == 429 or (status in BUSY and self.method in {"GET", "DELETE"})


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Room:
    """How much a server may still answer to one question, in however many pages."""

    left_bytes: int = field(default_factory=lambda: API_BYTES)


@dataclass(frozen=True)
class Connection(Login):
    """A connection to one API server, as one user."""

    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def json(self, request: Request, room: "Room | None" = None) -> Object:
        """The object that the server answers with, within what `room` leaves. Raises: RemoteError."""
        room = room or Room()
        answer = self.ask(request, room.left_bytes)
        room.left_bytes -= len(answer.body)
        try:
            return as_object(answer.body)
        except ValueError as problem:
            raise RemoteError(
                f"cannot {request.what}: `{self.server}` did not answer as a Kubernetes API server does",
                hint="check the server of the kubeconfig, and proxies on the way",
            ) from problem

    def ask(self, request: Request, most_bytes: int = API_BYTES) -> Answer:
        """The answer, when it is a good one; asks again where that is safe. Raises: RemoteError for a longer one, too."""
        for attempt in range(1, ATTEMPTS + 1):
            wait_s = 0.25 * 2.0**attempt
            try:
                answer = self._once(request, most_bytes)
            except UnreachableError as problem:
                if attempt == ATTEMPTS or not _may_pass(problem):
                    raise
            else:
                if answer.status < 300 or (request.method == "DELETE" and answer.status == 404 and attempt > 1):
                    return answer  # who deletes again may find that the first time was enough
                asked_s = _retry_after(answer)
                if attempt == ATTEMPTS or asked_s > LONGEST_WAIT_S or not request.may_repeat(answer.status):
                    raise refused(request, answer.status, answer.body)
                wait_s = max(wait_s, asked_s)
            self.sleep(wait_s)
        raise AssertionError

    def _once(self, request: Request, most_bytes: int) -> Answer:
        with self._response(request, READ_S) as response:
            content = _content(response, most_bytes if response.status < 300 else REFUSAL_BYTES)
            if len(content) > most_bytes:
                raise RemoteError(
                    f"cannot {request.what}: `{self.server}` answers with more than {in_words(most_bytes)}",
                    hint="check the server of the kubeconfig, and proxies on the way",
                )
            return Answer(response.status, response.headers, content)

    def lines(self, request: Request, *, read_s: float, most_bytes: int) -> Iterator[bytes]:
        """Lines of an answer as they arrive, with their ends; one that is too long is cut."""
        with self._response(request, read_s) as response:
            if response.status >= 300:
                raise refused(request, response.status, _content(response, REFUSAL_BYTES))
            yield from split_lines(_arriving(response), most_bytes)

    @contextmanager
    def _response(self, request: Request, read_s: float) -> Iterator[Any]:
        """The answer, of which nothing but its head has been read; what is not read in the block is given up."""
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - only commands that talk to a cluster load it

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
        """The reason is the innermost one: the outer ones speak of pools and retries."""
        while isinstance(problem.__cause__ or problem.__context__, Exception):
            problem = problem.__cause__ or problem.__context__  # type: ignore[assignment]  # checked in the line above
        reason = on_one_line(getattr(problem, "strerror", None) or str(problem) or type(problem).__name__)
        return UnreachableError(
            f"cannot {what}: no answer from `{self.server}`: {reason[:1].lower()}{reason[1:].rstrip('.')}",
            hint=f"kubectl --context {self.context} get --raw /readyz" if self.context else "kubectl get --raw /readyz",
        )


def as_object(body: bytes) -> Object:
    """What every answer of the API is. Raises: ValueError for anything else."""
    return checked(parsed_json(body, most_bytes=API_BYTES, most_nodes=API_NODES), dict[str, Any])


def refused(request: Request, status: int, body: bytes) -> RemoteError:
    """The error for an answer other than success, whatever its body is."""
    try:
        document = as_object(body)
        document = document.get("object", document)
        return refusal(request.path, request.what, status, document)
    except (ValueError, AttributeError):
        text = redacted(body[:MOST_SAID_BYTES].decode(errors="replace"))[:200].strip()
        return refusal(request.path, request.what, status, None, text)


def split_lines(pieces: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """The lines of what comes in pieces, with their ends, the last one perhaps without.

    Of a longer line than allowed only the beginning is kept, always the same: who reads it again knows it again.
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
    """The answer's body; of a longer one a little more than allowed."""
    content = bytearray()
    for piece in response.stream(PIECE_BYTES):
        content += piece
        if len(content) > most_bytes:
            break
    return bytes(content)


def _arriving(response: Any) -> Iterator[bytes]:  # noqa: ANN401 - as above
    """The answer's body as it comes: a line is not kept back until others have followed it."""
    if response.chunked:
        yield from response.stream(PIECE_BYTES)
        return
    while piece := response.read1(PIECE_BYTES):
        yield piece


def _may_pass(problem: UnreachableError) -> bool:
    """Whether another try may do better: not with who was silent for the whole time limit, nor with TLS that does not fit."""
    from urllib3 import exceptions  # noqa: PLC0415 - loaded by now

    cause = problem.__cause__
    is_timeout = isinstance(cause, exceptions.TimeoutError) and not isinstance(cause, exceptions.NewConnectionError)
    return not is_timeout and not isinstance(cause, exceptions.SSLError)


def _timeout(read_s: float) -> Any:  # noqa: ANN401 - urllib3 is loaded late
    from urllib3 import Timeout  # noqa: PLC0415 - as above

    return Timeout(connect=CONNECT_S, read=read_s)


def _retry_after(answer: Answer) -> float:
    """Seconds that the server asks to wait, 0 when it does not say."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0
