"""Lines of logs: their times, their ranks, what has been seen before, and how they look."""

import json

import pytest

from launcher.logs.lines import SECOND, Line, Memory, Ranks, Stamped, Style, shown, stamped, whole_second
from trainer.errors import InputError

NOON = 1_893_499_200 * SECOND
"""2030-01-01 12:00 UTC."""


def line(text, pod="worker-1", time_ns=NOON):
    return Line(time_ns, "2030-01-01T12:00:00.000000000Z", pod, text)


def at(seconds, text):
    return Stamped(NOON + round(seconds * SECOND), "", text)


def texts(lines):
    return [each.text for each in lines]


@pytest.mark.parametrize(
    ("raw", "time_ns", "text"),
    [
        (b"2030-01-01T12:00:00.000000001Z hello world\n", NOON + 1, "hello world"),
        (b"2030-01-01T13:00:00.5+01:00 hello\n", NOON + SECOND // 2, "hello"),
        (b"2030-01-01T12:00:00Z hello", NOON, "hello"),
        (b"2030-01-01T12:00:00Z   two spaces more\r\n", NOON, "  two spaces more"),
        (b"2030-01-01T12:00:00Z \n", NOON, ""),
        (b"2030-01-01T12:00:00Z \xffx\n", NOON, "\N{REPLACEMENT CHARACTER}x"),
        (
            b"unable to retrieve container logs for containerd://12\n",
            None,
            "unable to retrieve container logs for containerd://12",
        ),
        (b"2030-01-01T12:0", None, "2030-01-01T12:0"),
    ],
    ids=[
        "nanoseconds",
        "offset",
        "no end",
        "spaces are the program's",
        "empty",
        "no UTF-8",
        "kubelet's own",
        "cut off",
    ],
)
def test_line_is_parsed_into_time_and_text(raw, time_ns, text):
    """Everything else rests on the times being exact: a float would merge neighbours."""
    assert (stamped(raw).time_ns, stamped(raw).text) == (time_ns, text)


def test_stream_requests_start_at_whole_seconds():
    """The server cuts fractions off; a later second would lose lines."""
    assert whole_second(NOON + SECOND - 1) == "2030-01-01T12:00:00Z"


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("[rank 3] epoch 1", 3),
        ("\r[rank 12] 5/90", 12),
        ("\x1b[36m[rank 0] x\x1b[0m", 0),
        ("[rank 1]", 1),
        ("worker 1 says [rank 3] no", None),
        ("[rank x] no", None),
        ("Traceback (most recent call last):", None),
    ],
)
def test_rank_is_read_from_the_trainers_prefix(text, rank):
    """c10d ties ranks to no pod, so only the line itself knows."""
    assert line(text).rank == rank


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [("0", [0], [1, None]), ("0,3-5", [0, 3, 4, 5], [1, 2, 6, None]), (" 7 - 7".replace(" ", ""), [7], [6, 8])],
)
def test_rank_list_takes_numbers_and_ranges(text, inside, outside):
    """A line without a rank is of none of them."""
    ranks = Ranks.parse(text)
    assert all(rank in ranks for rank in inside)
    assert not any(rank in ranks for rank in outside)


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "0,,1", "1-", "0;1"])
def test_invalid_rank_list_is_refused(text):
    """A filter that means nothing would show nothing, silently."""
    with pytest.raises(InputError, match="--ranks"):
        Ranks.parse(text)


@pytest.mark.parametrize(
    ("style", "text", "printed"),
    [
        (Style(), "hello", "hello\n"),
        (Style(name_pods=True), "hello", "[worker-1] hello\n"),
        (Style(name_pods=True), "[rank 3] hello", "[rank 3] hello\n"),
        (Style(name_pods=True), "1/9\r2/9\r9/9", "[worker-1] 1/9\n[worker-1] 2/9\n[worker-1] 9/9\n"),
        (Style(), "[rank 0] 1/9\r2/9\r[rank 0] 9/9", "[rank 0] 1/9\n[rank 0] 2/9\n[rank 0] 9/9\n"),
        (Style(name_pods=True), "\r1/9\r2/9", "[worker-1] 1/9\n[worker-1] 2/9\n"),
        (Style(timestamps=True, name_pods=True), "hello", "2030-01-01T12:00:00.000000000Z [worker-1] hello\n"),
        (Style("raw", name_pods=True), "1\r[rank 0] 2", "1\\r[rank 0] 2\n"),
        (Style(colour=True), "[rank 1] hello", "\x1b[35m[rank 1] \x1b[0mhello\n"),
        (Style(colour=True, name_pods=True), "hello", "\x1b[35m[worker-1] \x1b[0mhello\n"),
        (Style(colour=True), "hello", "hello\n"),
    ],
    ids=[
        *(
            "one pod",
            "several pods",
            "a rank says who",
            "progress of a pod",
            "progress of a rank",
            "progress from the start",
        ),
        *("times", "raw", "rank's colour", "pod's colour", "nothing to colour"),
    ],
)
def test_printed_line_starts_with_its_pod_and_rank(style, text, printed):
    """Once, and again for each state of a bar that goes back to the line's start: it would write over the prefix, or forge one."""
    assert shown(line(text), style) == printed


def test_json_line_has_time_pod_rank_and_text():
    """One object a line; the text is as it was written."""
    assert json.loads(shown(line("[rank 3] \x1b[1mé"), Style("json"))) == {
        "time": "2030-01-01T12:00:00.000000000Z",
        "pod": "worker-1",
        "rank": 3,
        "text": "[rank 3] \x1b[1mé",
    }


REPEATS = [
    ([], [at(0, "a")], ["a"]),
    ([at(0, "a")], [at(0, "a"), at(0, "b")], ["b"]),
    ([at(0, "a"), at(0, "a")], [at(0, "a"), at(0, "a"), at(0, "a")], ["a"]),
    ([at(0, "a"), at(0, "b")], [at(0, "a"), at(0, "b"), at(0.5, "a")], ["a"]),
    ([at(1.1, "err"), at(1.0, "out")], [at(1.1, "err"), at(1.0, "out"), at(1.05, "new")], ["new"]),
    ([at(0, "a"), at(1, "b")], [at(1, "b"), at(2, "c")], ["c"]),
]


@pytest.mark.parametrize(
    ("before", "stream", "new"),
    REPEATS,
    ids=["first", "again", "as often as seen", "same text later", "out of order", "rotated"],
)
def test_repeated_lines_are_dropped(before, stream, new):
    """Time and text and count decide; a text that comes again later is another line."""
    memory = Memory()
    assert texts(memory.unseen(before)) == texts(before)
    assert texts(memory.unseen(stream)) == new


def test_memory_of_seen_lines_is_bounded_and_covers_what_is_resent():
    """A run of days has millions of lines; what lies before the point at which a new stream starts is forgotten."""
    memory = Memory()
    log = [at(seconds / 4, f"line {seconds}") for seconds in range(4000)]
    assert len(list(memory.unseen(log))) == 4000
    again = [each for each in log if each.time_ns >= memory.since_ns // SECOND * SECOND]
    assert 100 < len(again) < 200
    assert len(memory._lines) < 500
    assert list(memory.unseen(again)) == []


def test_lines_before_the_requested_time_are_dropped():
    """With --tail 2 a new stream brings older lines of the same seconds too."""
    memory = Memory()
    list(memory.unseen([at(10, "c"), at(11, "d")]))
    memory.begin_here()
    assert texts(memory.unseen([at(9, "a"), at(9.9, "b"), at(10, "c"), at(11, "d"), at(12, "e")])) == ["e"]


def test_messages_of_the_kubelet_are_passed_on_but_are_no_log_lines():
    """They have no time: nothing can be resumed from them."""
    memory = Memory()
    assert texts(memory.unseen([stamped(b"unable to retrieve\n")] * 2)) == ["unable to retrieve"] * 2
    assert memory.since_ns is None
