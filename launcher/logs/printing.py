"""Print the log of a job: the lines of all its pods together, once or until the job has finished."""

import heapq
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TextIO

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import UnreachableError
from launcher.cluster.resources import Object
from launcher.logs.follow import Follower, Outcome, Pace, Report, View, first_view
from launcher.logs.lines import SECOND, Line, LogOptions, Ranks, Style, shown
from launcher.logs.pod_stream import PodLog, PodState
from trainer.errors import RemoteError
from trainer.redaction import without_assigned

PACE: Final = Pace()

ATTEMPTS: Final = 3
"""Attempts to read a log whose stream breaks."""


def follow(
    cluster: Cluster,
    name: str,
    options: LogOptions,
    *,
    api: kinds.Choice = "auto",
    out: TextIO,
    report: Report,
    waiting: Report,
    colour: bool = False,
    pace: Pace = PACE,
) -> Outcome:
    """Print the log of a job, including pods that start later, until the job has finished and all lines are printed.

    `report` gets messages for the user; `waiting` gets a message each time pods have yet to start.
    KeyboardInterrupt can stop it at any time; the reading threads end by themselves.

    Raises: NotFoundError when the job does not exist; ForbiddenError; UnreachableError when the server stays unreachable.
    """
    view = first_view(cluster, name, api)
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
    api: kinds.Choice = "auto",
    out: TextIO,
    report: Report,
    colour: bool = False,
    pace: Pace = PACE,
) -> None:
    """Print the current log of a job, the lines of all pods sorted by time.

    Raises: NotFoundError when the job does not exist; after printing, the first error of a pod's log.
    """
    view = first_view(cluster, name, api)
    printing = _Printing(out, _style(view, options, colour=colour), options.wanted_ranks)
    printing.show(_lines(cluster, view, options, report, pace))


def kubectl_logs_commands(job: Object, namespace: str) -> list[str]:
    """The kubectl commands that follow rank 0's pod, and all pods if there are several.

    By default, kubectl refuses more than five streams and starts ten lines before the end.
    """
    kind = kinds.of(job)
    name, pods = f"{kind.job_label}={job['metadata']['name']}", kind.wanted_pods(job)
    start = ["kubectl", "logs", "-n", namespace, "-f", "-c", kind.container, "--tail=-1"]
    of_rank_0 = [*start, "-l", f"{name},{kind.index_label}=0"]
    of_all = [*start, "-l", name, "--prefix", f"--max-log-requests={pods}"]
    return [shlex.join(command) for command in ([of_rank_0, of_all] if pods > 1 else [of_rank_0])]


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to print in colour. Source: no-color.org."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


@dataclass(frozen=True)
class _Printing:
    """Destination, format and selection of lines."""

    out: TextIO
    style: Style
    ranks: Ranks | None

    def show(self, lines: Iterable[Line]) -> None:
        """Print the selected lines and flush."""
        for line in lines:
            if self.ranks is None or line.rank in self.ranks:
                self.out.write(without_assigned(shown(line, self.style)))  # stdout itself redacts all other secrets
        self.out.flush()


def _style(view: View, options: LogOptions, *, colour: bool) -> Style:
    return Style(
        options.form,
        name_pods=kinds.of(view.job).wanted_pods(view.job) > 1,
        timestamps=options.timestamps,
        colour=colour,
    )


def _opener(cluster: Cluster, options: LogOptions, pace: Pace) -> Callable[[PodState | None, Report], PodLog]:
    """Factory of pod logs; `--tail` and `--since` apply only to pods that have already started."""
    since_ns = None
    if options.since_s is not None:
        since_ns = (int(cluster.server_time().timestamp()) - options.since_s) * SECOND

    def open_log(pod: PodState | None, report: Report) -> PodLog:
        log = PodLog(cluster.log, report=report, stall_s=pace.stall_s)
        if pod is not None:
            log.begin_late(pod, tail=options.tail, since_ns=since_ns)
        return log

    return open_log


def _lines(cluster: Cluster, view: View, options: LogOptions, report: Report, pace: Pace) -> Iterator[Line]:
    """Lines of all pods sorted by time; the first error is raised at the end."""
    open_log = _opener(cluster, options, pace)
    problems: list[RemoteError] = []
    streams = []
    for pod in view.pods.values():
        if not (pod.earlier if options.previous else pod.instance):
            report(f"{pod.short}: {'it has no previous container' if options.previous else 'not started yet'}")
        else:
            log = open_log(pod, report)
            streams.append(_with_retries(log, pod, problems, previous=options.previous))
    if not view.pods:
        report("the job has no pods")
    yield from heapq.merge(*streams, key=lambda line: line.time_ns)
    if problems:
        raise problems[0]


def _with_retries(log: PodLog, pod: PodState, problems: list[RemoteError], *, previous: bool) -> Iterator[Line]:
    """A pod's lines; broken streams are reopened."""
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
