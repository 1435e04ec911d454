"""Run checks in parallel, each with its own time limit, so that one that hangs does not delay the others."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Final, Literal

from launcher.cluster.errors import ForbiddenError
from trainer.errors import KnownError, on_one_line
from trainer.runs.checks import Look, Outcome, Status, refused
from trainer.storage import CredentialsError, CredentialSourceError, NotPermittedError

Where = Literal["here", "cluster", "pod"]
"""Where a check runs: on this machine or in the API server, with the user's credentials; or in a pod, with the job's."""

IN_CLUSTER: Final = "--in-cluster checks it with the job's account and secret"


@dataclass(frozen=True)
class Row:
    """Result of one check."""

    check: str
    status: Status
    found: str
    fix: str
    where: Where


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    where: Where
    look: Look = field(repr=False)

    needs: tuple[str, ...] = ()
    """Checks that must pass first; those that are not run count as passed."""

    timeout_s: float = 20.0

    late: Status = "FAIL"
    """Status after a time-out."""


@dataclass(frozen=True)
class Answer:
    """An outcome, and whether checks that need this one are skipped."""

    outcome: Outcome
    blocks: bool = False


def ok(found: str) -> Outcome:
    """The check passed."""
    return Outcome("OK", found)


def warn(found: str, fix: str = "") -> Outcome:
    """The job may fail."""
    return Outcome("WARN", found, fix)


def fail(found: str, fix: str) -> Outcome:
    """The job can't run."""
    return Outcome("FAIL", found, fix)


def skipped(why: str, fix: str = "") -> Outcome:
    """The check was not made."""
    return Outcome("skipped", why, fix)


def run(checks: Sequence[Check], *, clock: Callable[[], float] = time.monotonic) -> list[Row]:
    """Run all checks and return their rows in order; a check starts when those that it needs have finished.

    Threads that hang are abandoned; they end with the process.
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
    """Checks whose needs have finished."""
    return [check for check in waiting.values() if not any(need in waiting or need in running for need in check.needs)]


def _ask(check: Check, answers: "Queue[tuple[str, Answer]]") -> None:
    answers.put((check.name, _answer(check)))


def _answer(check: Check) -> Answer:
    """Run a check; a missing permission of the user is no failure of the job."""
    try:
        outcome = check.look()
    except ForbiddenError as problem:
        found = f"not permitted to check: {refused(problem).found.split(': ')[0]}"
        return Answer(skipped(found, "ask an administrator for the result or the permission: k8s/base has the roles"))
    except CredentialSourceError as problem:  # pods have other sources
        row = refused(problem)
        return Answer(warn(row.found, f"{row.fix}; {IN_CLUSTER}"), blocks=True)
    except (NotPermittedError, CredentialsError) as problem:
        found = f"not permitted with your credentials: {refused(problem).found}"
        return Answer(warn(found, IN_CLUSTER), blocks=True)
    except KnownError as problem:
        outcome = refused(problem)
    except Exception as bug:  # noqa: BLE001 - a bug in one check must not hide the other rows
        outcome = fail(f"bug in this check: {type(bug).__name__}: {on_one_line(str(bug))}", "report it")
    return Answer(outcome, blocks=outcome.status == "FAIL")


def _answered(
    answers: "Queue[tuple[str, Answer]]",
    running: Mapping[str, Check],
    ends: Mapping[str, float],
    clock: Callable[[], float],
) -> list[tuple[str, Answer]]:
    """Wait for the next answer or the next time-out."""
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
