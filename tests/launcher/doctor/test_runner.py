"""How checks are run, shown and turned into an exit code."""

import json
import threading

import pytest
from doctor_samples import summary

from launcher.cluster.errors import ForbiddenError
from launcher.doctor import checks
from launcher.doctor.runner import Check, Row, fail, ok, run
from trainer.errors import RemoteError
from trainer.storage import CredentialSourceError, NotPermittedError


def test_a_check_that_hangs_does_not_hold_the_others():
    """An S3 endpoint behind a firewall that swallows packets must not hide that a Secret is missing."""
    forever = threading.Event()
    hanging = Check("hangs", "here", lambda: ok(str(forever.wait(60))), timeout_s=0.2)
    before = set(threading.enumerate())
    rows = run(
        [hanging, Check("then", "here", lambda: ok("yes"), ("other",)), Check("other", "here", lambda: ok("yes"))]
    )
    assert {thread.daemon for thread in set(threading.enumerate()) - before} == {True}, "the process could not end"
    forever.set()
    assert [(row.check, row.status) for row in rows] == [("hangs", "FAIL"), ("then", "OK"), ("other", "OK")]
    assert rows[0].found == "no answer within 0.2 s"


def test_checks_after_a_failed_one_are_skipped_and_say_so():
    """A missing namespace is one thing to fix, not fifteen; its neighbours go on."""
    checks = [
        Check("api", "cluster", lambda: ok("up")),
        Check("space", "cluster", lambda: fail("absent", "make it"), ("api",)),
        Check("secret", "cluster", lambda: ok("never asked"), ("space",)),
        Check("bucket", "here", lambda: ok("there"), ("unheard of",)),
        Check("claim", "cluster", lambda: ok("never asked"), ("secret",)),
    ]
    rows = run(checks)
    assert summary(rows) == {"api": "OK", "space": "FAIL", "secret": "skipped", "bucket": "OK", "claim": "skipped"}
    assert [row.found for row in rows if row.status == "skipped"] == ["needs `space`", "needs `secret`"]


def raising(problem):
    def look():
        raise problem

    return look


@pytest.mark.parametrize(
    ("problem", "status", "words"),
    [
        (ForbiddenError("cannot list nodes: forbidden"), "skipped", "not permitted to check"),
        (NotPermittedError("cannot write `x`: AccessDenied"), "WARN", "not permitted with your credentials"),
        (CredentialSourceError("cannot get credentials: no `x`"), "WARN", "cannot get credentials: no `x`"),
        (RemoteError("cannot list nodes: broken", hint="mend it"), "FAIL", "broken"),
        (KeyError("spec"), "FAIL", "bug in this check: KeyError"),
    ],
    ids=["forbidden", "bucket forbids", "no credentials", "refused", "bug"],
)
def test_missing_rights_of_the_user_skip_a_check_or_warn(problem, status, words):
    """Whoever may not list nodes can still run jobs; what pods may do in the bucket is not what the user may do."""
    [row, after] = run([Check("x", "cluster", raising(problem)), Check("y", "here", lambda: ok(""), ("x",))])
    assert row.status == status
    assert words in row.found
    assert after.status == ("OK" if status == "skipped" else "skipped")


ROWS = [
    Row("API server", "OK", "up", "", "cluster"),
    Row("secret", "FAIL", "`keys` is not there", "make it", "cluster"),
    Row("output", "WARN", "slow", "", "here"),
]


def test_table_has_a_line_for_each_check_and_its_hint():
    assert checks.as_table(ROWS).splitlines() == [
        "OK    API server  cluster  up",
        "FAIL  secret      cluster  `keys` is not there",
        "                           fix: make it",
        "WARN  output      here     slow",
    ]


def test_json_has_a_schema_version_and_all_columns():
    document = json.loads(checks.as_json(ROWS))
    assert document["schema"] == 1
    assert document["checks"][1] == {
        "check": "secret",
        "status": "FAIL",
        "found": "`keys` is not there",
        "fix": "make it",
        "where": "cluster",
    }


def test_failures_set_the_exit_code_and_warnings_do_not():
    """Scripts ask `launcher doctor && launcher submit`."""
    checks.check_passed([ROWS[0], ROWS[2]])
    with pytest.raises(RemoteError, match="1 of 3 checks failed: secret") as refusal:
        checks.check_passed(ROWS)
    assert refusal.value.exit_code == 4
