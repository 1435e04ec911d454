"""Files on HTTP servers, read by byte ranges; an interrupted response is continued where it stopped."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from http import HTTPStatus
from threading import Event
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout
from urllib3.exceptions import HTTPError, IncompleteRead, MaxRetryError, ProtocolError, ResponseError

from trainer.errors import InputError, RemoteError, on_one_line
from trainer.limits import in_words
from trainer.redaction import redacted
from trainer.storage import AbsentError, ChangedError, RetryPolicy, UnreachableError
from trainer.storage.connection import Timeouts
from trainer.storage.interface import CHUNK_BYTES
from trainer.storage.retry import Tries

_REDIRECTS: Final = 10
_TRANSIENT: Final = frozenset({408, 425, 429, *range(500, 600)}) - {501}
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
"""Source: RFC 9110, 14.4."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, as the server describes it."""

    url: str
    size_bytes: int
    etag: str | None
    """Its version, where the server names one that compares byte for byte."""
    has_ranges: bool
    """Whether the server sends parts of it."""


class StoppedError(Exception):
    """Ends a request whose caller is gone."""


class HttpSource:
    """Requests to HTTP servers, with retries; threads may share it."""

    def __init__(self, *, connections: int, policy: RetryPolicy, timeouts: Timeouts | None = None) -> None:
        timeouts = timeouts or Timeouts()
        self._policy = policy
        self._connections = connections
        self._timeout = Timeout(connect=timeouts.connect_s, read=timeouts.read_s)
        self._pools: dict[str | None, PoolManager] = {}

    def look_up(self, url: str) -> RemoteFile:
        """Size, version and abilities, by HEAD, or by a GET of one byte where HEAD does not state them.

        Raises: AbsentError; UnreachableError; RemoteError for another refusal, and for a server that states no size.
        """
        what = f"cannot look up `{shown(url)}`"
        with closing(self._answer(what, "HEAD", url, {}, refusals=frozenset(range(400, 500)))) as head:
            length = _length(head)
            if head.status == HTTPStatus.OK and length is not None and head.headers.get("Accept-Ranges") == "bytes":
                return RemoteFile(url, length, _etag(head), has_ranges=True)
        with closing(self._answer(what, "GET", url, {"Range": "bytes=0-0"})) as one:
            content_range = _CONTENT_RANGE.fullmatch(one.headers.get("Content-Range", ""))
            if one.status == HTTPStatus.PARTIAL_CONTENT and content_range and content_range[3] != "*":
                return RemoteFile(url, int(content_range[3]), _etag(one), has_ranges=True)
            length = _length(one)
            if one.status == HTTPStatus.OK and length is not None:
                return RemoteFile(url, length, _etag(one), has_ranges=False)
        raise RemoteError(f"{what}: the server states no size", hint="--mirror URL for another server")

    def chunks(self, file: RemoteFile, first: int, end: int, *, stopped: Event | None = None) -> Iterator[bytes]:
        """The bytes from offset `first` up to, not including, `end`, in chunks of at most 1 MiB.

        Raises: ChangedError when the server has another version of the file by now; StoppedError from a retry when
        `stopped` is set; else as `look_up`.
        """
        what = f"cannot download `{shown(file.url)}`"
        tries = replace(self._policy, sleep=_sleep_until(stopped)).begin() if stopped else self._policy.begin()
        while first < end:
            try:
                for chunk in self._once(what, file, first, end, tries):
                    tries.renew()
                    first += len(chunk)
                    yield chunk
                if first < end:
                    _interrupted(what, f"the answer ended {end - first:,} bytes early", tries)
            except HTTPError as problem:
                _interrupted(what, _reason(problem), tries)

    def read(self, url: str, *, most_bytes: int) -> bytes:
        """A small file as a whole. Raises: as `look_up`; RemoteError when it is larger."""
        what = f"cannot download `{shown(url)}`"
        tries = self._policy.begin()
        while True:
            try:
                with closing(self._answer(what, "GET", url, {}, tries=tries)) as answer:
                    content = b"".join(_at_most(what, answer, most_bytes))
                    _check_status(what, answer)
                    return content
            except HTTPError as problem:
                _interrupted(what, _reason(problem), tries)

    def _once(self, what: str, file: RemoteFile, first: int, end: int, tries: Tries) -> Iterator[bytes]:
        """The bytes of one response."""
        headers = {}
        if file.has_ranges:
            headers["Range"] = f"bytes={first}-{end - 1}"
            if file.etag is not None:
                headers["If-Range"] = file.etag
        with closing(self._answer(what, "GET", file.url, headers, tries=tries, refusals={416})) as answer:
            surplus = _check_version(what, answer, file, first)
            for chunk in _received(answer):
                wanted = chunk[surplus : surplus + end - first]
                surplus = max(0, surplus - len(chunk))
                first += len(wanted)
                if wanted:
                    yield wanted
                if first == end:
                    return

    def _answer(
        self,
        what: str,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        tries: Tries | None = None,
        refusals: frozenset[int] | set[int] = frozenset(),
    ) -> BaseHTTPResponse:
        """The server's response, its body unread; one with a status in `refusals` is returned, too."""
        tries = tries or self._policy.begin()
        while True:
            try:
                answer = self._pool(url).request(
                    method,
                    url,
                    headers={"Accept-Encoding": "identity", "User-Agent": "trainer", **headers},
                    timeout=self._timeout,
                    retries=Retry(total=None, connect=0, read=0, status=0, other=0, redirect=_REDIRECTS),
                    preload_content=False,
                    decode_content=False,
                )
            except HTTPError as problem:
                if _is_permanent(problem):
                    hint = (
                        "for a certificate of your own network: SSL_CERT_FILE names a file with its CA; or --mirror URL"
                    )
                    raise RemoteError(f"{what}: {_reason(problem)}", hint=hint) from problem
                _interrupted(what, _reason(problem), tries)
                continue
            if answer.status in refusals or answer.status not in _TRANSIENT:
                if answer.status not in refusals:
                    _check_status(what, answer)
                return answer
            answer.close()
            _interrupted(what, f"the server answers {_status(answer)}", tries)

    def _pool(self, url: str) -> PoolManager:
        """Connections to the servers that are reached like this one: directly, or through the proxy of the environment."""
        parts = urlsplit(url)
        proxies = {} if proxy_bypass(parts.netloc) else getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy not in self._pools:
            size = {"maxsize": self._connections, "block": False}
            self._pools[proxy] = ProxyManager(proxy, **size) if proxy else PoolManager(**size)  # type: ignore[arg-type]
        return self._pools[proxy]


def check_base(url: str) -> str:
    """The address of a folder on a server, without a slash at its end. Raises: InputError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InputError(
            f"cannot download from `{shown(url)}`: it must be http(s)://HOST/FOLDER, without login or query (from --mirror)",
            hint="--mirror https://HOST/FOLDER",
        )
    return url.rstrip("/")


def shown(url: str) -> str:
    """A URL as messages show it, without login and query."""
    return on_one_line(redacted(url.partition("?")[0].rpartition("@")[2] if "@" in url else url.partition("?")[0]))


def _sleep_until(stopped: Event) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        if stopped.wait(seconds):
            raise StoppedError

    return sleep


def _interrupted(what: str, reason: str, tries: Tries) -> None:
    """Sleep until the next attempt. Raises: UnreachableError when the retry time is over."""
    if not tries.another():
        raise UnreachableError(
            f"{what}: {reason}, {tries.count} times in {tries.elapsed_s:.0f} s",
            hint="check the network, HTTPS_PROXY and NO_PROXY; the same command continues where it stopped",
        )


def _check_status(what: str, answer: BaseHTTPResponse) -> None:
    """Raises: AbsentError, RemoteError for a status that is no success."""
    if answer.status < HTTPStatus.BAD_REQUEST and answer.status >= HTTPStatus.OK:
        return
    answer.close()
    reason = f"the server answers {_status(answer)}"
    if answer.status in _GONE:
        raise AbsentError(f"{what}: {reason}", hint="--mirror URL for another server with files of the same names")
    raise RemoteError(f"{what}: {reason}")


def _check_version(what: str, answer: BaseHTTPResponse, file: RemoteFile, first: int) -> int:
    """The number of bytes before offset `first` with which the body begins. Raises: ChangedError for another version."""
    changed = ChangedError(
        f"{what}: it changed on the server while being downloaded", hint="run the same command again"
    )
    etag = _etag(answer)
    if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or (etag and file.etag and etag != file.etag):
        raise changed
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != first or found[3] not in {"*", str(file.size_bytes)}:
            raise changed
        return 0
    if _length(answer) not in {None, file.size_bytes}:
        raise changed
    return first


def _received(answer: BaseHTTPResponse) -> Iterator[bytes]:
    """The body as it comes: what has come before an interruption counts."""
    while chunk := answer.read1(CHUNK_BYTES, decode_content=False):
        yield chunk


def _at_most(what: str, answer: BaseHTTPResponse, most_bytes: int) -> Iterator[bytes]:
    size_bytes = 0
    for chunk in _received(answer):
        size_bytes += len(chunk)
        if size_bytes > most_bytes:
            raise RemoteError(f"{what}: it has more than {in_words(most_bytes)}")
        yield chunk


def _length(answer: BaseHTTPResponse) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _etag(answer: BaseHTTPResponse) -> str | None:
    """The entity tag; None for a weak one, which may be that of other bytes. Source: RFC 9110, 8.8.3."""
    etag = answer.headers.get("ETag")
    return etag if etag is not None and etag.startswith('"') else None


def _status(answer: BaseHTTPResponse) -> str:
    return f"{answer.status} {on_one_line(answer.reason or '')}".rstrip()


def _is_permanent(problem: HTTPError) -> bool:
    """Whether a retry fails the same way: an endless redirect, a certificate that is not trusted."""
    cause = problem.reason if isinstance(problem, MaxRetryError) else problem
    return isinstance(cause, ResponseError) or "CERTIFICATE_VERIFY_FAILED" in str(cause)


def _reason(problem: HTTPError) -> str:
    """The cause in one line. The text of urllib3's outer error quotes the URL of a redirect, which may hold a signature."""
    cause: Exception = problem.reason if isinstance(problem, MaxRetryError) and problem.reason else problem
    if isinstance(cause, ProtocolError) and len(cause.args) > 1 and isinstance(cause.args[1], Exception):
        cause = cause.args[1]
    if isinstance(cause, IncompleteRead):
        return "the answer ended early"
    text = on_one_line(redacted(str(cause).rpartition(": ")[2] or type(cause).__name__))
    return text[:1].lower() + text[1:]
