"""A job's log: the lines of all its pods as one, printed once or followed until the job is over."""

import heapq
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TextIO

from launcher.cluster.client import Cluster
from launcher.cluster.errors import UnreachableError
from launcher.cluster.resources import JOB_LABEL, Object
from launcher.logs.follow import Ending, Follower, Pace, Report, View, first_view
from launcher.logs.lines import SECOND, Line, LogOptions, Ranks, Style, shown
from launcher.logs.pod_stream import PodLog, Sighting
from launcher.spec.manifest import CONTAINER
from launcher.status.snapshot import wanted_pods
from trainer.errors import RemoteError
from trainer.redaction import without_assigned

PACE: Final = Pace()

ATTEMPTS: Final = 3
"""How often a log is asked for again whose stream broke."""


def follow(
    cluster: Cluster,
    name: str,
    options: LogOptions,
    *,
    out: TextIO,
    report: Report,
    waiting: Report,
    colour: bool = False,
    pace: Pace = PACE,
) -> Ending:
    """Print the log of a job, from pods that are not there yet too, until the job is over and all is printed.

    `report` gets words for the user; `waiting` gets what is waited for, once whenever pods have to start.
    KeyboardInterrupt leaves at any time; threads that read end by themselves.

    Raises: NotFoundError when there is no such job; ForbiddenError; UnreachableError when the server is gone for long.
    """
    view = first_view(cluster, name)
    printing = _Printing(out, _style(view, options, colour=colour), options.wanted_ranks)
    return Follower(
        cluster,
        view,
        open_log=_opener(cluster, options, pace),
        show=printing.show,
        report=report,
        waiting=waiting,
        pace=pace,
    ).run()


def write(
    cluster: Cluster,
    name: str,
    options: LogOptions,
    *,
    out: TextIO,
    report: Report,
    colour: bool = False,
    pace: Pace = PACE,
) -> None:
    """Print the log of a job as it is now, the lines of all pods in the order of their times.

    Raises: NotFoundError when there is no such job; after all else, why a pod's log could not be read.
    """
    view = first_view(cluster, name)
    printing = _Printing(out, _style(view, options, colour=colour), options.wanted_ranks)
    printing.show(_lines(cluster, view, options, report, pace))


def kubectl_logs_command(
    job: Object, namespace: str, *, context: str | None = None, kubeconfig: str | None = None
) -> str:
    """The line by which kubectl alone follows the job.

    By itself kubectl refuses more than five streams, and begins ten lines before the end.
    """
    where = [*(("--kubeconfig", kubeconfig) if kubeconfig else ()), *(("--context", context) if context else ())]
    which = ["-l", f"{JOB_LABEL}={job['metadata']['name']}", "-c", CONTAINER]
    limits = ["--prefix", "--tail=-1", f"--max-log-requests={wanted_pods(job)}"]
    return shlex.join(["kubectl", *where, "logs", "-n", namespace, "-f", *which, *limits])


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to print in colour. Source: no-color.org."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


@dataclass(frozen=True)
class _Printing:
    """Where lines go, and which of them."""

    out: TextIO
    style: Style
    ranks: Ranks | None

    def show(self, lines: Iterable[Line]) -> None:
        """Print what is wanted of the lines, now."""
        for line in lines:
            if self.ranks is None or line.rank in self.ranks:
                self.out.write(without_assigned(shown(line, self.style)))  # all other secrets stdout leaves out
        self.out.flush()


def _style(view: View, options: LogOptions, *, colour: bool) -> Style:
    return Style(options.form, name_pods=wanted_pods(view.job) > 1, timestamps=options.timestamps, colour=colour)


def _opener(cluster: Cluster, options: LogOptions, pace: Pace) -> Callable[[Sighting | None, Report], PodLog]:
    """What makes the log of a pod; of those that have started already it begins where the user wants."""
    since_ns = None
    if options.since_s is not None:
        since_ns = (int(cluster.server_time().timestamp()) - options.since_s) * SECOND

    def open_log(pod: Sighting | None, report: Report) -> PodLog:
        log = PodLog(cluster.log, report=report, stall_s=pace.stall_s)
        if pod is not None:
            log.begin_late(pod, tail=options.tail, since_ns=since_ns)
        return log

    return open_log


def _lines(cluster: Cluster, view: View, options: LogOptions, report: Report, pace: Pace) -> Iterator[Line]:
    """All pods' lines in the order of their times; raises at the end what kept one from being read."""
    open_log = _opener(cluster, options, pace)
    problems: list[RemoteError] = []
    streams = []
    for pod in view.pods.values():
        if not (pod.earlier if options.previous else pod.instance):
            report(f"{pod.short}: {'no container was there before' if options.previous else 'not started yet'}")
        else:
            log = open_log(pod, report)
            streams.append(_patiently(log, pod, problems, previous=options.previous))
    if not view.pods:
        report("the job has no pods")
    yield from heapq.merge(*streams, key=lambda line: line.time_ns)
    if problems:
        raise problems[0]


def _patiently(log: PodLog, pod: Sighting, problems: list[RemoteError], *, previous: bool) -> Iterator[Line]:
    """A pod's lines; streams that break are asked for again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            yield from log.so_far(pod, previous=previous)
        except UnreachableError as problem:
            if attempt == ATTEMPTS:
                problems.append(problem)
        except RemoteError as problem:
            problems.append(problem)
            return
        else:
            return
