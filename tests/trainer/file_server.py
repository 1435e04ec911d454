"""An HTTP server of files in this process, with ranges, versions and redirects as a test wants them."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import Self


class FileServer:
    """Serves `files` by name. `redirects` maps names to names; `etags` names versions; without `ranges` files come whole."""

    def __init__(self, files: dict[str, bytes], *, ranges: bool = True, head: bool = True) -> None:
        self.files = files
        self.ranges = ranges
        self.head = head
        self.redirects: dict[str, str] = {}
        self.etags: dict[str, str] = {}
        self.extra_length = 0
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fetched(self, name: str) -> list[str | None]:
        """The ranges of a file that were requested, None for the whole."""
        return [asked for method, path, asked in self.requests if method == "GET" and path == name]

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.of = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that leaves is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """`requests` is the log."""

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def _respond(self, *, with_body: bool) -> None:
        of: FileServer = self.server.of
        name = self.path.lstrip("/").partition("?")[0]
        asked = self.headers.get("Range")
        of.requests.append((self.command, name, asked))
        if name in of.redirects:
            self._head(302, {"Location": of.redirects[name], "Content-Length": "0"})
        elif name not in of.files:
            self._head(404, {"Content-Length": "0"})
        elif not with_body and not of.head:
            self._head(405, {"Content-Length": "0"})
        else:
            self._file(name, of.files[name], asked, with_body=with_body)

    def _file(self, name: str, content: bytes, asked: str | None, *, with_body: bool) -> None:
        of: FileServer = self.server.of
        version = {"ETag": of.etags[name]} if name in of.etags else {}
        is_same = self.headers.get("If-Range") in {None, of.etags.get(name)}
        if of.ranges and asked and is_same:
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups())
            last = min(last, len(content) - 1)
            if first >= len(content):
                self._head(416, {"Content-Length": "0"})
                return
            span = f"bytes {first}-{last}/{len(content) + of.extra_length}"
            content = content[first : last + 1]
            self._head(206, {"Content-Range": span, "Content-Length": str(len(content)), **version})
        else:
            accepts = {"Accept-Ranges": "bytes"} if of.ranges else {}
            self._head(200, {"Content-Length": str(len(content) + of.extra_length), **accepts, **version})
        if with_body:
            self.wfile.write(content)
            if of.extra_length:
                self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
