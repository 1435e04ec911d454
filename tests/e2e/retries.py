"""Tests that failed are run a second time: what passes only then is flaky, and said to be.

A busy machine can use up a test's patience, so that a single failure proves no fault. A retry that nobody sees would hide faults
that come and go: each flaky test is named at the end, and more than a few of them fail the run.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

MOST_FLAKY = 2
"""More flaky tests in one run are no longer put down to a busy machine."""


@dataclass(frozen=True)
class Outcome:
    """How one call of pytest ended."""

    exit_code: int
    ran: int
    """Tests that were not skipped."""
    failed: list[str]
    """Names of tests that failed, or whose fixtures did."""


def run(options: Sequence[str], tests: Sequence[str]) -> int:
    """Run these tests, and those that failed once more; the exit code for both runs."""
    first = outcome(options, tests)
    if first.exit_code == pytest.ExitCode.OK and first.ran == 0:
        report("nothing was tested: every test was skipped")
    if first.exit_code != pytest.ExitCode.TESTS_FAILED or not first.failed:  # without names pytest would run every test
        return first.exit_code
    report(f"running the tests that failed a second time: {len(first.failed)}")
    second = outcome(options, first.failed)
    if second.exit_code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        return second.exit_code
    flaky = [name for name in first.failed if name not in second.failed]
    for name in flaky:
        report(f"flaky: {name}")
    if len(flaky) > MOST_FLAKY:
        report(f"failed: {len(flaky)} tests are flaky, more than {MOST_FLAKY}")
        return int(pytest.ExitCode.TESTS_FAILED)
    return second.exit_code


def outcome(options: Sequence[str], tests: Sequence[str]) -> Outcome:
    """Run pytest in a process of its own, which shows its usual output."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as folder:
        results, cache = Path(folder) / "results.xml", Path(folder) / "cache"
        written = [f"--junit-xml={results}", "-o", f"cache_dir={cache}"]  # a cache of its own holds no earlier failures
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *written, *tests], check=False)
        return Outcome(done.returncode, _ran(results), _failed(cache / "v/cache/lastfailed"))


def _ran(results: Path) -> int:
    if not results.exists():  # pytest could not start
        return 0
    suites = ET.parse(results).getroot().iter("testsuite")
    return sum(int(suite.get("tests", 0)) - int(suite.get("skipped", 0)) for suite in suites)


def _failed(cached: Path) -> list[str]:
    return list(json.loads(cached.read_text(encoding="utf-8"))) if cached.exists() else []


def report(line: str) -> None:
    sys.stdout.write(f"e2e: {line}\n")
    sys.stdout.flush()
