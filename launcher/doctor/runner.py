"""Checks, and running them side by side: each has its own time, and one that hangs holds nobody else up."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Final, Literal

from launcher.cluster.errors import ForbiddenError
from trainer.errors import KnownError, on_one_line
from trainer.runs.probe import Look, Outcome, Status, refused
from trainer.storage import CredentialsError, NotPermittedError

Where = Literal["here", "cluster", "pod"]
"""From this machine, by asking the API server, both with the user's credentials; or in a pod, with the job's."""

IN_CLUSTER: Final = "--in-cluster asks with the job's account and secret"


@dataclass(frozen=True)
class Row:
    """What one check found."""

    check: str
    status: Status
    found: str
    fix: str
    where: Where


@dataclass(frozen=True)
class Check:
    """One question."""

    name: str
    where: Where
    look: Look = field(repr=False)

    needs: tuple[str, ...] = ()
    """Checks without which this one makes no sense; those that are not run are taken for fine."""

    timeout_s: float = 20.0

    late: Status = "FAIL"
    """What no answer in time means."""


@dataclass(frozen=True)
class Answer:
    """An outcome, and whether checks that need this one are left out."""

    outcome: Outcome
    blocks: bool = False


def ok(found: str) -> Outcome:
    """All is well."""
    return Outcome("OK", found)


def warn(found: str, fix: str = "") -> Outcome:
    """It may go wrong."""
    return Outcome("WARN", found, fix)


def fail(found: str, fix: str) -> Outcome:
    """The job can't run like this."""
    return Outcome("FAIL", found, fix)


def skipped(why: str, fix: str = "") -> Outcome:
    """Nobody looked."""
    return Outcome("skipped", why, fix)


def run(checks: Sequence[Check], *, clock: Callable[[], float] = time.monotonic) -> list[Row]:
    """A row for each check, in their order; a check starts once those that it needs have answered.

    Threads that still hang are left behind: they end with the process.
    """
    answers: Queue[tuple[str, Answer]] = Queue()
    given: dict[str, Answer] = {}
    ends: dict[str, float] = {}
    waiting = {check.name: check for check in checks}
    running: dict[str, Check] = {}
    while waiting or running:
        for check in _ready(waiting, running):
            del waiting[check.name]
            missing = next((need for need in check.needs if need in given and given[need].blocks), None)
            if missing:
                given[check.name] = Answer(skipped(f"needs `{missing}`"), blocks=True)
            else:
                running[check.name], ends[check.name] = check, clock() + check.timeout_s
                threading.Thread(target=_ask, args=(check, answers), daemon=True).start()
        for name, answer in _answered(answers, running, ends, clock):
            del running[name]
            given[name] = answer
    return [_row(check, given[check.name].outcome) for check in checks]


def _row(check: Check, outcome: Outcome) -> Row:
    return Row(check.name, outcome.status, outcome.found, outcome.fix, check.where)


def _ready(waiting: Mapping[str, Check], running: Mapping[str, Check]) -> list[Check]:
    """Those whose needs are neither waiting nor running."""
    return [check for check in waiting.values() if not any(need in waiting or need in running for need in check.needs)]


def _ask(check: Check, answers: "Queue[tuple[str, Answer]]") -> None:
    answers.put((check.name, _answer(check)))


def _answer(check: Check) -> Answer:
    """What the check finds; not being permitted to look says nothing about the job."""
    try:
        outcome = check.look()
    except ForbiddenError as problem:
        found = f"not permitted to look: {refused(problem).found.split(': ')[0]}"
        return Answer(skipped(found, "an administrator can tell, or grant it: k8s/base has the roles"))
    except (NotPermittedError, CredentialsError) as problem:
        found = f"not permitted with your credentials: {refused(problem).found}"
        return Answer(warn(found, IN_CLUSTER), blocks=True)
    except KnownError as problem:
        outcome = refused(problem)
    except Exception as bug:  # noqa: BLE001 - one broken check must not take the others' rows away
        outcome = fail(f"bug in this check: {type(bug).__name__}: {on_one_line(str(bug))}", "please report it")
    return Answer(outcome, blocks=outcome.status == "FAIL")


def _answered(
    answers: "Queue[tuple[str, Answer]]",
    running: Mapping[str, Check],
    ends: Mapping[str, float],
    clock: Callable[[], float],
) -> list[tuple[str, Answer]]:
    """Wait for the next answer or the next end of a check's time."""
    if not running:
        return []
    try:
        name, answer = answers.get(timeout=max(0.0, min(ends[name] for name in running) - clock()))
    except Empty:
        late = [check for name, check in running.items() if ends[name] <= clock()]
        return [
            (check.name, Answer(Outcome(check.late, f"no answer within {check.timeout_s:g} s"), blocks=True))
            for check in late
        ]
    return [(name, answer)] if name in running else []
