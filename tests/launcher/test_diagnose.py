"""One sentence for each way in which a job does not run: files of objects, and what is said about them."""

import copy
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.diagnose import Diagnosis, diagnose, reason
from launcher.diagnose.facts import moment
from launcher.snapshot import Snapshot

FOLDER = Path(__file__).parent / "snapshots"
CASES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
LONGEST = 700
"""Characters of a sentence that still reads as one."""


def read(name):
    return yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def snapshot_of(case):
    """The snapshot that a file describes; every field of it but `expected`."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in case.items() if key != "expected"}
    return Snapshot(**fields | {"now": moment(case["now"]), "denied": frozenset(case.get("denied", ()))})


@pytest.mark.parametrize("name", CASES)
def test_the_sentence_and_the_next_step(name):
    """What a user reads, word for word."""
    case = read(name)
    expected = Diagnosis(**case["expected"]) if case["expected"] else None
    assert diagnose(snapshot_of(case)) == expected
