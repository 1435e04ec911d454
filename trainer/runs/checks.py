"""Results of checks before a run, and the order in which checks depend on each other; does not import torch."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from trainer.errors import KnownError, on_one_line
from trainer.redaction import redacted

Status = Literal["OK", "WARN", "FAIL", "skipped"]

CHECK_WIDTH: Final = 13
"""Width of the column of names, as rows are printed one by one."""

FOUND_LENGTH: Final = 600
"""Characters of a row; label files can have many problems."""


@dataclass(frozen=True)
class Outcome:
    """Result of one check, and how to fix a problem."""

    status: Status
    found: str
    fix: str = ""


Look = Callable[[], Outcome]


@dataclass(frozen=True)
class Step:
    """One check, skipped when one of those it depends on has failed."""

    check: str
    look: Look
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A check and its result."""

    check: str
    outcome: Outcome

    def as_json(self) -> str:
        """A line of JSON: check, status, found, fix."""
        outcome = self.outcome
        return json.dumps({"check": self.check, "status": outcome.status, "found": outcome.found, "fix": outcome.fix})


def results(steps: Iterable[Step]) -> Iterator[Row]:
    """The row of each check, as soon as it is done."""
    failed: set[str] = set()
    for step in steps:
        missing = [need for need in step.needs if need in failed]
        outcome = Outcome("skipped", f"needs `{missing[0]}`") if missing else outcome_of(step.look)
        if missing or outcome.status == "FAIL":
            failed.add(step.check)
        yield Row(step.check, outcome)


def outcome_of(look: Look) -> Outcome:
    """Result of a check; known errors become failures."""
    try:
        return look()
    except KnownError as problem:
        return refused(problem)
    except OSError as problem:
        return Outcome("FAIL", on_one_line(redacted(str(problem))))


def refused(problem: KnownError, status: Status = "FAIL") -> Outcome:
    """A known error as a result, on one line."""
    text = "; ".join(line.strip() for line in str(problem.args[0]).splitlines())
    text = redacted(text)
    found = on_one_line(text if len(text) <= FOUND_LENGTH else f"{text[:FOUND_LENGTH]} …")
    return Outcome(status, found, on_one_line(problem.hint or ""))


def from_json(line: str) -> Row:
    """The row that `Row.as_json` has written."""
    content = json.loads(line)
    return Row(content.pop("check"), Outcome(**content))


def as_table(rows: Iterable[Row]) -> list[str]:
    """The rows as lines of a table; a fix follows its row."""
    lines = []
    for row in rows:
        outcome = row.outcome
        lines.append(f"{outcome.status:<8}{row.check:<{CHECK_WIDTH}}  {outcome.found}")
        lines += [f"{'':<{8 + CHECK_WIDTH}}  fix: {outcome.fix}"] if outcome.fix and outcome.status != "OK" else []
    return lines
