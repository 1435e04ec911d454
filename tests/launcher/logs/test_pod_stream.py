"""One pod's log over cuts, restarts and successors: each line once, in order, whatever the streams do."""

import itertools
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.cluster.errors import InvalidError, UnreachableError
from launcher.logs.lines import SECOND, Line, whole_second
from launcher.logs.pod_stream import PodLog, PodState, pod_state

NOON = 1_893_499_200 * SECOND


@dataclass
class Kubelet:
    """Sends logs as the API server does: from whole seconds on, cut where the test says."""

    containers: list = field(default_factory=list)
    """Logs of the pod's containers, the present one last: (seconds after noon, text) each."""

    cuts: list = field(default_factory=list)
    """For each stream to come: after how many bytes it ends, and whether in good order."""

    asked: list = field(default_factory=list)
    unfinished: bytes = b""
    """What the present container wrote after its last line end."""

    def __call__(self, pod, *, container, follow, previous, since_time, tail, read_timeout_s):
        self.asked.append("previous" if previous else since_time)
        if previous and len(self.containers) < 2:
            raise InvalidError("previous terminated container `pytorch` not found")
        log = self.containers[-2 if previous else -1]
        lines = [raw(*entry) for entry in log if since_time is None or entry[0] >= seconds(since_time)]
        body = b"".join(lines[-tail:] if tail else lines) + self.unfinished
        end, orderly = self.cuts.pop(0) if self.cuts else (len(body), True)
        for line in body[:end].splitlines(keepends=True):
            if orderly or line.endswith(b"\n"):  # what a broken connection cuts off is not passed on
                yield line
        if not orderly:
            raise UnreachableError("cut")


def raw(at, text):
    time_ns = NOON + round(at * 1000) * SECOND // 1000
    return f"{whole_second(time_ns)[:-1]}.{time_ns % SECOND:09}Z {text}\n".encode()


def seconds(since_time):
    hours, minutes, rest = since_time.removesuffix("Z").partition("T")[2].split(":")
    return (int(hours) - 12) * 3600 + int(minutes) * 60 + int(rest)


def pod(instance="c1", earlier="", uid="u1", running=True, started=0):
    return PodState("j-worker-1", "worker-1", uid, "pytorch", instance, earlier, running, NOON + started * SECOND)


def opened(kubelet, said=None):
    return PodLog(kubelet, report=(said if said is not None else []).append, stall_s=60)


def read(log, *pods, anothers=lambda line: False):
    """The texts that come while the pod is seen like this, each time until a stream ends, broken or not."""
    texts = []
    for each in pods:
        with suppress(UnreachableError):
            for line in log.lines(each, anothers):
                texts.append(line.text)  # noqa: PERF401 - a broken stream's lines count
    return texts


def read_to_end(log, ended):
    texts = []
    while not log.is_complete(ended):
        texts += read(log, ended)
    return texts


ALIKE = [(0, "a"), (0, "a"), (0.4, "b"), (0.9, "b"), (1.2, "a"), (1.2, "c"), (60, "d"), (60, "e")]


@pytest.mark.parametrize("orderly", [True, False], ids=["ended", "reset"])
@pytest.mark.parametrize(
    "cuts",
    [[0, 10, 33], [33, 33, 40], [50, 66, 99], [200, 230, 231], [66, 0, 0]],
    ids=["in the first time", "after a line", "in lines", "late", "nothing comes"],
)
def test_stream_cut_three_times_gives_each_line_once(cuts, orderly):
    """In the middle of a line, after one, and in a second with lines that are alike."""
    kubelet = Kubelet([ALIKE], [(cut, orderly) for cut in cuts])
    log = opened(kubelet)
    texts = read(log, pod(), pod(), pod(), pod())
    assert texts + read_to_end(log, pod(running=False)) == [text for _, text in ALIKE]


logs = st.lists(st.tuples(st.integers(0, 1500), st.sampled_from("abc")), max_size=30)
cuts = st.lists(st.integers(0, 1200), max_size=8)


def timed(steps, start_ms):
    """Lines so many milliseconds after one another."""
    times = itertools.accumulate((step for step, _ in steps), initial=start_ms)
    return [(at / 1000, text) for at, (_, text) in zip(itertools.islice(times, 1, None), steps, strict=False)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=logs, second=logs, cuts=cuts, first_is_orderly=st.booleans(), restart_after=st.integers(0, 6))
def test_no_line_is_lost_or_doubled_whatever_is_cut(first, second, cuts, first_is_orderly, restart_after):
    """A container that is started again in place, at any moment between cut streams.

    Every other cut is an end in good order: two of them one after another can't be told from a log's end.
    """
    first = timed(first, 0)
    start_ms = round(first[-1][0] * 1000) + 1 if first else 0
    second = timed(second, start_ms)
    kubelet = Kubelet([first], [(end, number % 2 == first_is_orderly) for number, end in enumerate(cuts)])
    log = opened(kubelet)
    texts = read(log, *[pod()] * restart_after)
    kubelet.containers.append(second)
    texts += read_to_end(log, pod("c2", earlier="c1", running=False, started=start_ms // 1000))
    assert texts == [text for _, text in first + second]


def test_remaining_lines_of_a_container_come_before_those_of_its_successor():
    """Its last lines tell why it ended; a stream that broke had not brought them."""
    kubelet = Kubelet([[(0, "a"), (1, "b"), (2, "Traceback")]], [(50, False)])
    log = opened(kubelet, said := [])
    assert read(log, pod()) == ["a"]
    kubelet.containers.append([(3, "again")])
    assert read(log, pod("c2", earlier="c1")) == ["b", "Traceback", "again"]
    assert said == ["worker-1 was restarted"]


def test_stream_that_is_another_containers_is_left_for_what_was_missed():
    """The API told of the restart only after the stream was asked for: what was missed comes then, and nothing twice."""
    kubelet = Kubelet([[(0, "a"), (1, "b")], [(2, "c"), (3, "d"), (4, "e")]])
    log = opened(kubelet)
    kubelet.cuts = [(33, False)]
    new, kubelet.containers = kubelet.containers, kubelet.containers[:1]
    assert read(log, pod()) == ["a"]
    kubelet.containers = new
    now = pod("c2", earlier="c1", started=2)
    assert read(log, pod(), anothers=lambda line: now.wrote(line, pod())) == ["c", "d"]
    assert read(log, now) == ["b", "e"]


def test_successor_of_the_same_name_is_read_whole():
    """Its node's clock may be behind that of the pod that is gone."""
    kubelet = Kubelet([[(100, "a"), (101, "b")]])
    log = opened(kubelet)
    assert read(log, pod()) == ["a", "b"]
    kubelet.containers = [[(0, "new"), (200, "newer")]]
    assert read(log, pod("c9", uid="u2"), pod("c9", uid="u2")) == ["new", "newer"]
    assert kubelet.asked == [None, None, whole_second(NOON + 170 * SECOND)]


def test_removed_log_of_an_earlier_container_is_reported():
    """Nothing must look complete that may not be."""
    kubelet = Kubelet([[(0, "again")]])
    log = opened(kubelet, said := [])
    now = pod("c2", earlier="c1", running=False)
    assert read_to_end(log, now) == ["again"]
    [words] = said
    assert "may be missing" in words


def test_last_line_without_a_line_end_comes_once():
    """Some runtimes send a program's last, unfinished line as it is; it looks like a line that was cut."""
    kubelet = Kubelet([[(0, "a")]], unfinished=raw(1, "dying").rstrip())
    log = opened(kubelet)
    assert read(log, pod()) == ["a"]
    assert read_to_end(log, pod(running=False)) == ["dying"]


def test_message_of_the_kubelet_in_place_of_a_log_is_no_log_line():
    """It has no time and comes with status 200."""
    kubelet = Kubelet([[]], unfinished=b"unable to retrieve container logs for containerd://c1")
    log = opened(kubelet, said := [])
    assert read_to_end(log, pod(running=False)) == []
    assert said == ["worker-1: unable to retrieve container logs for containerd://c1"]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"tail": 2, "since_ns": None}, ["d", "e"]),
        ({"tail": 0, "since_ns": None}, []),
        ({"tail": 100, "since_ns": None}, list("abcde")),
        ({"tail": None, "since_ns": NOON + 2 * SECOND}, ["c", "d", "e"]),
        ({"tail": 1, "since_ns": NOON + 2 * SECOND}, ["e"]),
    ],
)
@pytest.mark.parametrize("cuts", [[], [(40, False), (0, False)]], ids=["whole", "cut"])
def test_limits_hold_over_cuts_and_what_follows_is_whole(limits, expected, cuts):
    """A stream that is asked for again begins some seconds early, before the lines that are wanted."""
    kubelet = Kubelet([[(number, text) for number, text in enumerate("abcde")]], list(cuts))
    log = opened(kubelet)
    log.begin_late(pod(), **limits)
    texts = read(log, *[pod()] * 4)
    kubelet.containers[-1] += [(6, "f"), (7, "g")]
    texts += read(log, pod())
    kubelet.containers.append([(8, "h")])
    assert texts + read(log, pod("c2", earlier="c1")) == [*expected, "f", "g", "h"]


def test_containers_before_the_one_that_is_attached_to_are_not_shown():
    """As with kubectl: that is what --previous is for."""
    kubelet = Kubelet([[(0, "old")], [(1, "now")]])
    log = opened(kubelet)
    log.begin_late(pod("c2", earlier="c1"), tail=None, since_ns=None)
    assert read(log, pod("c2", earlier="c1")) == ["now"]


@pytest.mark.parametrize(
    ("now", "at", "expected"),
    [
        (pod("c1", started=10), 60, False),
        (pod("c2", started=10), 10.9, False),
        (pod("c2", started=10), 11, True),
        (pod("c2", uid="u2", started=10), 39, False),
        (pod("c2", uid="u2", started=10), 40, True),
        (pod("", uid="u2"), 60, False),
    ],
    ids=["same", "maybe", "later", "another node's clock", "much later", "not started"],
)
def test_line_is_assigned_to_the_only_container_it_can_be_from(now, at, expected):
    """Wrongly taken for another's, the rest of a pod that is gone would be lost."""
    line = Line(NOON + round(at * 10) * SECOND // 10, "", "worker-1", "text")
    assert now.wrote(line, instead_of=pod("c1")) is expected


STARTED = {"startedAt": "2030-01-01T12:00:05Z"}
ENDED = {"terminated": {"exitCode": 1, "containerID": "c1"} | STARTED}


@pytest.mark.parametrize(
    ("container", "seen"),
    [
        (None, ("", "", False, 0)),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}, "lastState": {}}, ("", "", False, 0)),
        ({"state": {"running": STARTED}, "containerID": "c1"}, ("c1", "", True, 5)),
        ({"state": {"running": STARTED}, "containerID": "c2", "lastState": ENDED}, ("c2", "c1", True, 5)),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ENDED}, ("c1", "", False, 5)),
        ({"state": ENDED, "lastState": {}}, ("c1", "", False, 5)),
        ({"state": {"terminated": {"exitCode": 137}}, "lastState": ENDED}, ("c1", "", False, 5)),
    ],
    ids=["no status", "creating", "running", "restarted", "crash loop", "ended", "ended without a container"],
)
def test_pod_state_is_of_the_container_whose_log_kubelet_sends(container, seen):
    """The ID tells containers apart; names and restart counts come again."""
    statuses = [] if container is None else [{"name": "sidecar"}, {"name": "pytorch", **container}]
    found = pod_state({"metadata": {"name": "j-worker-1", "uid": "u"}, "status": {"containerStatuses": statuses}})
    started = max(found.started_ns - NOON, 0) // SECOND
    assert (found.instance, found.earlier, found.running, started) == seen
