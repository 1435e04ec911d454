"""What a server sends is read in bounded memory, whatever it sends: bodies, refusals, changes and lines of logs."""

import gzip
import tracemalloc

import pytest
from apiserver import Fault

from launcher.cluster import connection
from launcher.cluster.connection import CUT, Request, split_lines
from launcher.cluster.resources import PYTORCH_JOBS
from launcher.logs import follow
from launcher.logs.follow import View, _Channel
from launcher.logs.lines import REMEMBERED_CHARS, Line, Memory, Stamped, stamped
from trainer.errors import RemoteError
from trainer.limits import LOG_LINE_BYTES

MIB = 1 << 20
SENT = 40
SOME_BYTES = 12 * MIB
"""More than a line or a piece of an answer, with what is around it, and far less than is sent."""


@pytest.fixture
def peak():
    """How many bytes the program has had at most since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def endless_line(handler, *, status=200):
    """An answer without a line end, a MiB at a time; whoever reads it may leave."""
    handler.send_response(status)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(SENT):
        handler.chunk(b"x" * MIB)
    handler.chunk(b"")


def test_response_above_the_limit_is_a_known_error_and_not_read(cluster, api, peak):
    api.state.faults.append(Fault("GET", "pytorchjobs", endless_line))
    with pytest.raises(RemoteError, match="is larger than 1 MiB"):
        cluster.connection.ask(Request("GET", PYTORCH_JOBS.path("team-a"), "list jobs"), MIB)
    assert peak() < SOME_BYTES


def test_compressed_response_is_limited_by_its_decompressed_size(cluster, api, peak):
    packed = gzip.compress(b"x" * (SENT * MIB))
    tracemalloc.reset_peak()
    api.state.faults.append(
        Fault("GET", "pytorchjobs", lambda handler: handler._send(200, packed, {"Content-Encoding": "gzip"}))
    )
    with pytest.raises(RemoteError, match="is larger than 1 MiB"):
        cluster.connection.ask(Request("GET", PYTORCH_JOBS.path("team-a"), "list jobs"), MIB)
    assert peak() < SOME_BYTES


def test_all_pages_of_a_list_share_one_limit(cluster, api, monkeypatch):
    """A server may have as many as it likes."""
    monkeypatch.setattr(connection, "API_BYTES", 3000)
    pages = iter(range(1000))

    def page(handler):
        handler.answer({"metadata": {"continue": str(next(pages))}, "items": [{"a": "x" * 500}]})

    api.state.faults.append(Fault("GET", "pytorchjobs", page, times=1000))
    with pytest.raises(RemoteError, match=r"cannot list pytorchjobs: .* is larger than"):
        cluster.list(PYTORCH_JOBS)
    assert next(pages) < 10


@pytest.mark.parametrize("read", ["get", "log"])
def test_long_refusal_is_read_in_part_and_reported(cluster, api, peak, read):
    api.state.faults.append(
        Fault("GET", "/namespaces/", lambda handler: endless_line(handler, status=400), times=connection.ATTEMPTS)
    )
    with pytest.raises(RemoteError, match="xxx"):
        cluster.get(PYTORCH_JOBS, "t1") if read == "get" else list(cluster.log("p", container="pytorch"))
    assert peak() < SOME_BYTES


def test_line_of_a_log_is_cut_where_it_is_too_long(cluster, api, peak):
    def logs(handler):
        handler.begin_stream()
        handler.chunk(b"2026-01-01T00:00:00Z ")
        for _ in range(SENT):
            handler.chunk(b"x" * MIB)
        handler.chunk(b"\n2026-01-01T00:00:01Z after it\n")
        handler.chunk(b"")

    api.state.faults.append(Fault("GET", "/log", logs))
    long, after = cluster.log("p", container="pytorch")
    assert len(long) == LOG_LINE_BYTES + len(CUT) + 1
    assert long.endswith(CUT + b"\n")
    assert after == b"2026-01-01T00:00:01Z after it\n"
    assert peak() < SOME_BYTES


def test_line_of_a_log_is_shown_before_the_next_one_comes(cluster, api):
    """Also where the server tells no length and sends no chunks, as an old proxy does."""
    inputs = []

    def logs(handler):
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"2026-01-01T00:00:00Z a\n")
        handler.wfile.flush()
        inputs.append(handler.rfile.read(1))  # until the client leaves
        handler.close_connection = True

    api.state.faults.append(Fault("GET", "/log", logs))
    lines = cluster.log("p", container="pytorch")
    assert next(lines) == b"2026-01-01T00:00:00Z a\n"
    lines.close()


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_log_lines_do_not_depend_on_chunk_boundaries(size):
    content = b"ab\n\n12345678\n123456789\nlast one"
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    assert list(split_lines(pieces, 8)) == [b"ab\n", b"\n", b"12345678\n", b"12345678" + CUT + b"\n", b"last one"]


def test_long_lines_are_remembered_by_their_hashes():
    memory = Memory()
    texts = [end * 100_000 for end in "ab"]
    lines = [Stamped(1, "s", text) for text in texts]
    assert list(memory.unseen(lines)) == lines
    assert list(memory.unseen([*lines, Stamped(1, "s", "c" + texts[0])])) == [Stamped(1, "s", "c" + texts[0])]
    assert all(len(text) < 2 * REMEMBERED_CHARS for _, text in memory._lines)


def test_readers_block_while_many_bytes_wait_to_be_printed(monkeypatch):
    monkeypatch.setattr(follow, "QUEUED_CHARS", 100)
    channel = _Channel(View(0, {}, {}))
    channel.put(Line(1, "s", "p", "x" * 100))
    assert not channel._has_room()
    channel.take()
    assert channel._has_room()


@pytest.mark.parametrize("time", ["2026-13-45T00:00:00Z", "2026-01-01T99:00:00Z", "0000-01-01T00:00:00Z"])
def test_line_with_an_invalid_time_is_a_message_of_the_server(time):
    assert stamped(f"{time} text\n".encode()) == Stamped(None, "", f"{time} text")
