"""A job's log over real HTTP: streams that break, pods that come and go, jobs that end, refusals."""

import dataclasses
import io
import json
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest
from apiserver import Fault

from launcher.cluster.errors import ForbiddenError, NotFoundError, UnreachableError
from launcher.cluster.resources import PODS, PYTORCH_JOBS
from launcher.kinds.pytorchjob import ROLE_LABEL, index_label, job_label
from launcher.logs.follow import Pace
from launcher.logs.lines import LogOptions
from launcher.logs.printing import follow, kubectl_logs_commands, wants_colour, write
from trainer.errors import InputError, KnownError

PACE = Pace(poll_s=0.01, stall_s=30, polls_after_end=100_000, failed_polls=5)

RESET = "reset"
"""A connection that breaks; anything else is the API server's end in good order."""


def stamp(at):
    """A time of so many seconds after noon, as kubelet writes it."""
    return f"2030-01-01T12:{int(at) // 60:02}:{int(at) % 60:02}.{round(at % 1 * 1e9):09}Z"


def raw(at, text):
    return f"{stamp(at)} {text}\n".encode()


@dataclass
class Pod:
    """One pod's container, or the ones that it had."""

    name: str
    logs: list = field(default_factory=lambda: [[]])
    """Of each container, the present one last: (seconds after noon, text)."""

    state: str = "running"
    uid: str = "u1"
    owner: str = "j1"

    streams: list = field(default_factory=list)
    """For each stream that follows: (bytes until it ends, RESET or None, what happens then); bytes that this returns are sent."""

    refusal: int = 0

    cut: int = 0
    """How many streams break before their first line, whoever asks."""

    behind: int = 0
    """How many containers kubelet has started that the API server does not know of yet."""

    def start_again(self, *log):
        """Its container is started again, in place."""
        self.logs.append(list(log))

    def end(self):
        self.state = "terminated"

    @property
    def shown(self):
        number = len(self.logs) - self.behind
        role, index = self.name.rsplit("-", 2)[1:]
        started = {"startedAt": stamp(self.logs[number - 1][0][0] if self.logs[number - 1] else 0)[:19] + "Z"}
        states = {
            "waiting": {"waiting": {"reason": "ContainerCreating"}},
            "running": {"running": started},
            "terminated": {"terminated": {"exitCode": 0, "containerID": f"{self.uid}-c{number}"} | started},
        }
        last = {"terminated": {"exitCode": 1, "containerID": f"{self.uid}-c{number - 1}"}} if number > 1 else {}
        container = {"name": "pytorch", "state": states[self.state], "lastState": last}
        return {
            "metadata": {
                "name": self.name,
                "uid": self.uid,
                "labels": {job_label: "j", ROLE_LABEL: role, index_label: index},
                "ownerReferences": [{"kind": "PyTorchJob", "uid": self.owner}],
            },
            "status": {"containerStatuses": [container | {"containerID": f"{self.uid}-c{number}"}]},
        }

    def send(self, handler, query):
        """Its log, and what the test wants of the stream."""
        entries = self.logs[-2 if query.get("previous") else -1]
        since = query.get("sinceTime", "")[:-1]
        lines = [raw(*entry) for entry in entries if stamp(entry[0]) >= since]
        body = b"".join(lines[-int(query.get("tailLines", 0)) :])
        end, how, then = len(body), None, None
        if query.get("follow") and self.streams:
            end, how, then = self.streams.pop(0)
        if self.cut:
            self.cut, end, how = self.cut - 1, 0, RESET
        handler.begin_stream()
        for produce in (lambda: body[:end], then or bytes):
            if content := produce():
                handler.chunk(content)
        if how == RESET:
            handler.reset()
        else:
            handler.chunk(b"")


class Scene:
    """A job and its pods on the API server double; tests change them while they are asked for."""

    def __init__(self, *pods, wanted=None):
        self.uid = "j1"
        self.condition = "Running"
        self.wanted = len(pods) if wanted is None else wanted
        self.pods = list(pods)
        self.refusals = []
        """Statuses that the next requests for objects are answered with, 0 is none."""

        self.looks = 0
        """How often the job was asked for."""

        self.released = threading.Event()
        """Set at the test's end: streams that stall end then."""

    @property
    def job(self):
        return {
            "metadata": {"name": "j", "uid": self.uid},
            "spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": self.wanted}}},
            "status": {"conditions": [{"type": self.condition, "status": "True"}]},
        }

    def be_looked_at(self, times=5):
        """Wait until the job has been asked for so often."""
        so_far = self.looks
        while self.looks < so_far + times and not self.released.is_set():
            self.released.wait(0.01)

    def stall(self):
        """Say nothing until the test is over."""
        self.released.wait()

    def succeed(self):
        """All pods end, and the job with them."""
        for pod in self.pods:
            pod.end()
        self.condition = "Succeeded"

    def serve_by(self, state):
        """Have the double answer with this."""
        for path, act in (
            ("/log", self._log),
            ("/pods", self._objects),
            ("/pytorchjobs", self._objects),
            ("/version", _at_noon),
        ):
            state.faults.append(Fault("GET", path, act, times=1_000_000))

    def _objects(self, handler):
        self.looks += "pytorchjobs" in handler.path
        if self.refusals and (status := self.refusals.pop(0)):
            handler.refuse(status, f"no: {status}")
            return
        job = {PYTORCH_JOBS.path("team-a", "j"): self.job} if self.uid else {}
        handler.state.objects = job | {PODS.path("team-a", pod.name): pod.shown for pod in self.pods}
        handler.serve()

    def _log(self, handler):
        url = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        pod = next(pod for pod in self.pods if pod.name == url.path.split("/")[-2])
        if pod.refusal:
            handler.refuse(pod.refusal, f"no: {pod.refusal}")
        elif query.get("previous") and len(pod.logs) < 2:
            handler.refuse(400, "previous terminated container not found")
        else:
            pod.send(handler, query)


def _at_noon(handler):
    """The server's clock: a minute after noon."""
    handler.date_time_string = lambda *_: "Tue, 01 Jan 2030 12:01:00 GMT"
    handler.serve()


@pytest.fixture
def connect(api, cluster):
    """Puts a scene on the double; returns the connection to it."""
    scenes = []

    def connected(scene):
        scenes.append(scene)
        scene.serve_by(api.state)
        return cluster

    yield connected
    for scene in scenes:
        scene.released.set()


@dataclass
class Seen:
    """What a user sees."""

    out: io.StringIO = field(default_factory=io.StringIO)
    said: list = field(default_factory=list)
    waits: list = field(default_factory=list)

    @property
    def lines(self):
        return self.out.getvalue().splitlines()

    def follow(self, cluster, pace=PACE, **options):
        return follow(
            cluster,
            "j",
            LogOptions(follow=True, **options),
            out=self.out,
            report=self.said.append,
            waiting=self.waits.append,
            pace=pace,
        )

    def write(self, cluster, **options):
        write(cluster, "j", LogOptions(**options), out=self.out, report=self.said.append, pace=PACE)


def numbered(*, rank, start=0, count=40):
    """Lines, four a second and two of them at one time; each third is no worker's own."""
    return [
        (start + number // 2 / 2, f"[rank {rank}] {number}" if number % 3 else f"word {number}")
        for number in range(count)
    ]


def printed(pod, log):
    """As these lines are printed, where there are several pods."""
    return [text if text.startswith("[rank") else f"[{pod}] {text}" for _, text in log]


@pytest.mark.parametrize("how", [RESET, None], ids=["reset", "ended"])
def test_streams_that_are_cut_three_times_give_each_line_once_with_the_right_name(connect, how):
    """In the middle of a line, after one, and where two lines have one time; of each pod in its order."""
    logs = {f"worker-{rank}": numbered(rank=rank) for rank in (0, 1)}
    length = len(raw(*logs["worker-0"][0]))
    pods = [Pod(f"j-{name}", [log]) for name, log in logs.items()]
    scene = Scene(*pods)
    for pod in pods:
        pod.streams = [(length * 5 + 7, how, None), (length * 9, how, None), (length * 14 + 30, how, None)]
        pod.streams.append((10_000, None, scene.succeed))
    seen = Seen()
    assert seen.follow(connect(scene)).state == "Succeeded"
    for rank, (name, log) in enumerate(logs.items()):
        assert [line for line in seen.lines if f"rank {rank}" in line or name in line] == printed(name, log)
    assert len(seen.lines) == 80


def test_stalled_stream_is_requested_again(connect):
    """Followed streams of Kubernetes go silent for ever at times; a program may too, and that is nothing to speak of."""
    log = numbered(rank=0)
    pod = Pod("j-worker-0", [log])
    scene = Scene(pod)
    pod.streams = [(100, None, scene.stall)] * 6 + [(10_000, None, scene.succeed)]
    seen = Seen()
    ending = seen.follow(connect(scene), pace=dataclasses.replace(PACE, stall_s=0.1))
    assert ending.state == "Succeeded"
    assert seen.lines == [text for _, text in log]
    assert seen.said == []


def test_container_that_starts_again_is_followed_and_its_rest_read_first(connect):
    """The lines before a crash tell why, and they are what a broken stream lacks."""
    first, second = numbered(rank=0), numbered(rank=0, start=30)
    pod = Pod("j-worker-0", [first])
    scene = Scene(pod)

    def start_again():
        pod.start_again(*second)
        scene.be_looked_at()

    pod.streams = [(300, RESET, start_again), (10_000, None, scene.succeed)]
    seen = Seen()
    assert seen.follow(connect(scene)).state == "Succeeded"
    assert seen.lines == [text for _, text in first + second]
    assert seen.said == ["worker-0 was restarted"]


def test_stream_of_a_container_that_the_server_does_not_know_yet_is_left_for_what_was_missed(connect):
    """Kubelet had started the next one when a broken stream was asked for again; the server told of it a moment later."""
    pod = Pod("j-worker-0", [[(1, "a"), (1.5, "b")]])
    scene = Scene(pod)

    def next_one():
        pod.start_again((2, "c"), (2.5, "d"))
        pod.behind = 1

    def told():
        pod.behind = 0
        pod.logs[-1] += [(4, "e"), (5, "f")]
        scene.be_looked_at()
        return raw(4, "e") + raw(5, "f")

    pod.streams = [(len(raw(1, "a")), RESET, next_one), (10_000, None, told), (10_000, None, scene.succeed)]
    seen = Seen()
    seen.follow(connect(scene))
    assert seen.lines == ["a", "c", "d", "e", "b", "f"]


def test_pods_that_are_not_there_yet_are_waited_for_and_read_from_their_first_line(connect):
    """Even with --tail: nothing of them was written before the user looked."""
    log = numbered(rank=0)
    scene = Scene(wanted=1)

    def waiting(text):
        seen.waits.append(text)
        scene.pods = [Pod("j-worker-0", [log], streams=[(10_000, None, scene.succeed)])]

    seen = Seen()
    cluster = connect(scene)
    options = LogOptions(follow=True, tail=1)
    follow(cluster, "j", options, out=seen.out, report=seen.said.append, waiting=waiting, pace=PACE)
    assert seen.lines == [text for _, text in log]
    assert seen.waits == ["waiting for 1 of 1 pods to start"]


def test_lines_that_come_after_the_jobs_end_are_waited_for(connect):
    """What a pod says last takes its time; that the other threads have nothing to do says nothing about it."""
    pod = Pod("j-worker-0", [[(1, "a")]], state="waiting")
    scene = Scene(pod)

    def end():
        pod.logs[0].append((2, "last words"))
        scene.succeed()
        scene.be_looked_at()
        return raw(2, "last words")

    def waiting(text):
        scene.be_looked_at()
        pod.state, pod.streams = "running", [(10_000, None, end)]

    seen = Seen()
    cluster = connect(scene)
    follow(cluster, "j", LogOptions(follow=True), out=seen.out, report=seen.said.append, waiting=waiting, pace=PACE)
    assert seen.lines == ["a", "last words"]


@pytest.mark.parametrize(("options", "first"), [({"tail": 1}, "b"), ({"since": "55s"}, "c")])
def test_following_begins_where_since_or_tail_says(connect, options, first):
    """Of pods that run already; from there on nothing is left out."""
    pod = Pod("j-worker-0", [[(1, "a"), (2, "b")]])
    scene = Scene(pod)

    def more():
        pod.logs[0] += [(6, "c"), (7, "d")]

    pod.streams = [(10_000, None, more), (10_000, None, scene.succeed)]
    seen = Seen()
    seen.follow(connect(scene), **options)
    assert seen.lines == list("abcd")["abcd".index(first) :]


def test_reason_that_cannot_be_had_does_not_end_the_following(connect):
    """Whoever explains the wait asks the server too, which may be busy just then."""
    pod = Pod("j-worker-0", [[(1, "a")]], state="waiting")
    scene = Scene(pod)

    def waiting(text):
        pod.state, pod.streams = "running", [(10_000, None, scene.succeed)]
        raise UnreachableError("no answer")

    seen = Seen()
    cluster = connect(scene)
    follow(cluster, "j", LogOptions(follow=True), out=seen.out, report=seen.said.append, waiting=waiting, pace=PACE)
    assert seen.lines == ["a"]
    assert seen.said == ["waiting for 1 of 1 pods to start: worker-0"]


def test_waiting_is_reported_once_with_the_pods_that_lag(connect):
    """Eight pods that start one by one are one wait; who lags is what the user wants to know."""
    late = Pod("j-worker-1", [[(5, "late")]], state="waiting")
    early = Pod("j-worker-0", [[(1, "early")]])
    scene = Scene(early, late)

    def start():
        late.state = "running"
        late.streams = [(10_000, None, scene.succeed)]

    early.streams = [(10_000, None, None), (10_000, None, None), (10_000, None, start)]
    seen = Seen()
    seen.follow(connect(scene))
    assert seen.lines == ["[worker-0] early", "[worker-1] late"]
    assert seen.waits == ["waiting for 1 of 2 pods to start: worker-1"]


def test_recreated_pod_of_the_same_name_is_followed(connect):
    """So the operator restarts pods of our jobs."""
    pod = Pod("j-worker-0", [[(20, "a"), (21, "b")]])
    scene = Scene(pod)
    anew = Pod("j-worker-0", [[(3, "c"), (4, "d")]], uid="u2", streams=[(10_000, None, scene.succeed)])
    pod.streams = [(10_000, None, lambda: scene.pods.__setitem__(0, anew))]
    seen = Seen()
    seen.follow(connect(scene))
    assert seen.lines == ["a", "b", "c", "d"]


@pytest.mark.parametrize("uid", ["", "j2"], ids=["gone", "another has its name"])
def test_job_that_is_deleted_ends_the_following(connect, uid):
    """With kubectl; lines of another job that takes the name are not shown."""
    pod = Pod("j-worker-0", [[(1, "a"), (2, "terminating")]])
    scene = Scene(pod)

    def delete():
        scene.uid = uid
        scene.pods = [Pod("j-worker-0", [[(3, "another's")]], uid="u2", owner="j2")] if uid else []

    pod.streams = [(10_000, None, delete)]
    seen = Seen()
    ending = seen.follow(connect(scene))
    assert (ending.state, ending.job["metadata"]["uid"]) == ("Deleted", "j1")
    assert seen.lines == ["a", "terminating"]


def test_end_of_all_streams_does_not_end_the_following(connect):
    """Only the job says that it is over; pods end, and others are made."""
    pod = Pod("j-worker-0", [[(1, "a")]])
    scene = Scene(pod)
    pod.streams = [(10_000, None, None)] * 3 + [(10_000, None, lambda: pod.logs[0].append((2, "b")))]
    pod.streams += [(10_000, None, scene.succeed)]
    seen = Seen()
    assert seen.follow(connect(scene)).state == "Succeeded"
    assert seen.lines == ["a", "b"]


def test_outcome_is_the_first_one_even_when_the_job_is_removed_while_its_log_is_read(connect):
    """A time to live may remove it at once; it has succeeded all the same."""
    pod = Pod("j-worker-0", [[(1, "a")]])
    scene = Scene(pod)

    def vanish():
        scene.uid = ""
        pod.end()

    pod.streams = [(10_000, None, lambda: setattr(scene, "condition", "Succeeded"))]
    pod.streams += [(10_000, None, None)] * 3 + [(10_000, None, vanish)]
    assert Seen().follow(connect(scene)).state == "Succeeded"


def test_log_that_continues_long_after_the_jobs_end_is_left(connect):
    """A pod on a node that is gone would keep the follower for ever."""
    scene = Scene(Pod("j-worker-0", [[(1, "a")]]))
    scene.condition = "Failed"
    seen = Seen()
    assert seen.follow(connect(scene), pace=dataclasses.replace(PACE, polls_after_end=20)).state == "Failed"
    assert seen.said == ["the log of j-worker-0 has not ended with the job: it may be incomplete"]


def test_server_that_is_gone_for_a_while_is_waited_for(connect):
    """Control planes are restarted under running jobs."""
    log = numbered(rank=0)
    pod = Pod("j-worker-0", [log])
    scene = Scene(pod)

    def go_away():
        scene.refusals = [503] * 8

    pod.streams = [(100, RESET, go_away)] + [(150, RESET, None)] * 3
    seen = Seen()
    threading.Thread(target=_succeed_when, args=(scene, lambda: len(seen.said) == 2), daemon=True).start()
    seen.follow(connect(scene))
    assert seen.lines == [text for _, text in log]
    assert "trying again" in seen.said[0]
    assert seen.said[1].endswith("answers again")


def _succeed_when(scene, holds):
    while not holds() and not scene.released.is_set():
        scene.released.wait(0.01)
    scene.succeed()


def test_server_that_is_gone_for_good_ends_the_following(connect):
    """After some minutes; the message is the server's."""
    pod = Pod("j-worker-0", [[(1, "a")]])
    scene = Scene(pod)
    scene.refusals = [0, 0] + [503] * 400
    with pytest.raises(KnownError, match="503"):
        Seen().follow(connect(scene))


@pytest.mark.parametrize("how", ["follow", "write"])
def test_missing_right_to_read_logs_is_reported(connect, how):
    """At once: that does not change while one waits."""
    with pytest.raises(ForbiddenError, match="read the log of pod `j-worker-0`"):
        getattr(Seen(), how)(connect(Scene(Pod("j-worker-0", [[(1, "a")]], refusal=403))))


@pytest.mark.parametrize("how", ["follow", "write"])
def test_absent_job_is_reported(connect, how):
    """It is no job that was deleted."""
    scene = Scene()
    scene.uid = ""
    with pytest.raises(NotFoundError, match="PyTorchJob `j`"):
        getattr(Seen(), how)(connect(scene))


def test_log_of_an_ended_pod_that_cannot_be_had_does_not_keep_the_others(connect):
    """Its node may be gone; the user is told what is missing."""
    scene = Scene(Pod("j-worker-0", [[(1, "a")]], refusal=500), Pod("j-worker-1", [[(1, "b")]]))
    scene.succeed()
    seen = Seen()
    assert seen.follow(connect(scene)).state == "Succeeded"
    assert seen.lines == ["[worker-1] b"]
    assert seen.said == ["cannot read the log of pod `j-worker-0`: no: 500"]


def test_log_of_an_ended_pod_is_requested_until_connections_hold(connect):
    """Nothing is given up because of a bad network: it may be better in a minute."""
    pod = Pod("j-worker-0", [[(1, "a")]], cut=8)
    scene = Scene(pod)
    scene.succeed()
    seen = Seen()
    assert seen.follow(connect(scene)).state == "Succeeded"
    assert seen.lines == ["a"]
    assert seen.said == []


def test_ctrl_c_ends_all_reader_threads(connect):
    """Ctrl-C detaches; what still reads must not hold the program."""
    pod = Pod("j-worker-0", [numbered(rank=0)])
    scene = Scene(pod)
    pod.streams = [(100, None, scene.stall)]
    seen = Seen()

    def leave(text):
        raise KeyboardInterrupt

    seen.out.write = leave
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        seen.follow(connect(scene))
    scene.released.set()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("log"):
            thread.join(30)
            assert not thread.is_alive()


def test_log_without_follow_is_sorted_by_time(connect):
    """Whole, of all pods; a pod that has not started is named."""
    first = Pod("j-worker-0", [[(1, "a"), (4, "d")]])
    second = Pod("j-worker-1", [[(2, "b"), (3, "c")]], state="terminated")
    seen = Seen()
    seen.write(connect(Scene(first, second, Pod("j-worker-2", state="waiting"))))
    assert seen.lines == ["[worker-0] a", "[worker-1] b", "[worker-1] c", "[worker-0] d"]
    assert seen.said == ["worker-2: not started yet"]


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"tail": 1}, ["[rank 0] c"]),
        ({"tail": 0}, []),
        ({"since": "57s"}, ["[rank 0] c"]),
        ({"ranks": "1-2"}, ["[rank 1] b"]),
        ({"ranks": "0"}, ["[rank 0] c"]),
        ({"timestamps": True, "tail": 1}, [f"{stamp(3)} [rank 0] c"]),
        ({"previous": True}, ["old", "older"]),
        ({"previous": True, "tail": 1}, ["older"]),
        (
            {"form": "json", "tail": 1},
            [json.dumps({"time": stamp(3), "pod": "worker-0", "rank": 0, "text": "[rank 0] c"})],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_flags_choose_lines_and_format(connect, options, lines):
    """The flags mean what kubectl's users expect; --ranks leaves out what no rank says."""
    log = [(1, "a"), (2, "[rank 1] b"), (3, "[rank 0] c")]
    seen = Seen()
    seen.write(connect(Scene(Pod("j-worker-0", [[(0, "old"), (0.5, "older")], log]))), **options)
    assert seen.lines == lines


def test_pod_whose_log_cannot_be_read_is_an_error_after_the_others(connect):
    """Part of a log must not pass for the whole."""
    scene = Scene(Pod("j-worker-0", [[(1, "a")]], refusal=500), Pod("j-worker-1", [[(1, "b")]]))
    seen = Seen()
    with pytest.raises(KnownError, match="500"):
        seen.write(connect(scene))
    assert seen.lines == ["[worker-1] b"]


@pytest.mark.parametrize(
    "options",
    [{"tail": -1}, {"since": "soon"}, {"ranks": "all"}, {"previous": True, "follow": True}],
    ids=lambda options: next(iter(options)),
)
def test_invalid_log_options_are_refused(options):
    """Before anything is asked of a cluster."""
    with pytest.raises(InputError):
        LogOptions(**options)


def test_kubectl_follows_rank_0_and_all_pods_by_the_printed_labels():
    """With the defaults it stops at five streams and shows ten lines."""
    start = "kubectl logs -n team -f -c pytorch --tail=-1 -l training.kubeflow.org/job-name=j"
    assert kubectl_logs_commands(Scene(wanted=16).job, "team") == [
        f"{start},training.kubeflow.org/replica-index=0",
        f"{start} --prefix --max-log-requests=16",
    ]
    assert kubectl_logs_commands(Scene(wanted=1).job, "team") == [f"{start},training.kubeflow.org/replica-index=0"]


def test_kubectl_follows_the_pods_of_a_train_job():
    job = {"kind": "TrainJob", "metadata": {"name": "j"}, "spec": {"trainer": {"numNodes": 2}}}
    start = "kubectl logs -n team -f -c node --tail=-1 -l jobset.sigs.k8s.io/jobset-name=j"
    assert kubectl_logs_commands(job, "team") == [
        f"{start},batch.kubernetes.io/job-completion-index=0",
        f"{start} --prefix --max-log-requests=2",
    ]


@pytest.mark.parametrize(
    ("is_terminal", "environment", "expected"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colours_are_used_on_terminals_unless_disabled(is_terminal, environment, expected):
    """A file full of escape codes helps nobody."""
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    assert wants_colour(stream, environment) is expected
