"""Checks, and running them side by side: each has its own time, and one that hangs holds nobody else up."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Literal

from launcher.cluster import ForbiddenError
from trainer.errors import KnownError, on_one_line
from trainer.probe import Look, Outcome, Status, refused
from trainer.storage import CredentialsError, NotPermittedError

Where = Literal["here", "cluster", "pod"]
"""From this machine, by asking the API server, both with the user's credentials; or in a pod, with the job's."""


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
    answers: Queue[tuple[str, Outcome]] = Queue()
    outcomes: dict[str, Outcome] = {}
    blocked: set[str] = set()
    ends: dict[str, float] = {}
    waiting = {check.name: check for check in checks}
    running: dict[str, Check] = {}
    while waiting or running:
        for check in _ready(waiting, running):
            del waiting[check.name]
            missing = next((need for need in check.needs if need in blocked), None)
            if missing:
                outcomes[check.name] = skipped(f"needs `{missing}`")
                blocked.add(check.name)
                continue
            running[check.name], ends[check.name] = check, clock() + check.timeout_s
            threading.Thread(target=_answer, args=(check, answers), daemon=True).start()
        for name, outcome in _answered(answers, running, ends, clock):
            del running[name]
            outcomes[name] = outcome
            if outcome.status == "FAIL":
                blocked.add(name)
    return [Row(check.name, *_fields(outcomes[check.name]), check.where) for check in checks]


def _ready(waiting: Mapping[str, Check], running: Mapping[str, Check]) -> list[Check]:
    """Those whose needs are neither waiting nor running."""
    return [check for check in waiting.values() if not any(need in waiting or need in running for need in check.needs)]


def _answer(check: Check, answers: "Queue[tuple[str, Outcome]]") -> None:
    answers.put((check.name, _outcome(check)))


def _outcome(check: Check) -> Outcome:
    """What the check finds; not being permitted to look says nothing about the job."""
    try:
        return check.look()
    except ForbiddenError as problem:
        return skipped(f"not permitted to look: {refused(problem).found}", "an administrator can tell, or grant it")
    except (NotPermittedError, CredentialsError) as problem:
        return warn(f"not permitted with your credentials: {refused(problem).found}", IN_CLUSTER)
    except KnownError as problem:
        return refused(problem)
    except Exception as bug:  # noqa: BLE001 - one broken check must not take the others' rows away
        return fail(f"bug in this check: {type(bug).__name__}: {on_one_line(str(bug))}", "please report it")


IN_CLUSTER = "--in-cluster asks with the job's account and secret"


def _answered(
    answers: "Queue[tuple[str, Outcome]]",
    running: Mapping[str, Check],
    ends: Mapping[str, float],
    clock: Callable[[], float],
) -> list[tuple[str, Outcome]]:
    """Wait for the next answer or the next end of a check's time."""
    if not running:
        return []
    try:
        name, outcome = answers.get(timeout=max(0.0, min(ends[name] for name in running) - clock()))
    except Empty:
        late = [check for name, check in running.items() if ends[name] <= clock()]
        return [(check.name, Outcome(check.late, f"no answer within {check.timeout_s:g} s")) for check in late]
    return [(name, outcome)] if name in running else []


def _fields(outcome: Outcome) -> tuple[Status, str, str]:
    return outcome.status, outcome.found, outcome.fix
