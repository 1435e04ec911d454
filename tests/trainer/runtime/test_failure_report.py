"""What workers leave for the entrypoint and for workers that start after them."""

import os
import threading

import pytest

from trainer.runtime import failure_report
from trainer.runtime.failure_report import REPORT_FILE, FailureReport, await_report, earlier_report, report_failure


def test_report_is_made_for_permanent_errors_only(tmp_path, monkeypatch):
    """A lost peer must be tried again."""
    monkeypatch.setenv(REPORT_FILE, str(tmp_path / "report"))
    report_failure(FailureReport(0, 75))
    assert earlier_report() is None
    report_failure(FailureReport(1, 2))
    report_failure(FailureReport(0, 3))
    assert earlier_report() == FailureReport(1, 2)  # the first that failed counts


def test_report_is_not_written_through_a_link(tmp_path, monkeypatch):
    """The variable may name a file in a directory that others can write to."""
    (tmp_path / "theirs").write_text("theirs")
    for name in ("report", f"report.{os.getpid()}"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    monkeypatch.setenv(REPORT_FILE, str(tmp_path / "report"))
    report_failure(FailureReport(1, 2))
    assert earlier_report() == FailureReport(1, 2)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_nothing_is_reported_without_an_entrypoint(monkeypatch):
    """Plain `python -m trainer` has no file to write."""
    monkeypatch.delenv(REPORT_FILE, raising=False)
    report_failure(FailureReport(0, 2))
    assert earlier_report() is None
    assert REPORT_FILE not in os.environ


def test_silent_worker_waits_for_the_one_that_reports(tmp_path, monkeypatch):
    """torchrun ends the reporting process as soon as another has left, in the middle of its sentence."""
    monkeypatch.setenv(REPORT_FILE, str(tmp_path / "report"))
    reporting = threading.Timer(0.3, report_failure, [FailureReport(0, 2)])
    reporting.start()
    await_report(2)
    assert earlier_report() == FailureReport(0, 2)
    reporting.join()


@pytest.mark.parametrize("exit_code", [75, 1])
def test_no_worker_waits_for_a_report_of_a_transient_failure(tmp_path, monkeypatch, exit_code):
    """The others start again; each second of it costs accelerators."""
    monkeypatch.setenv(REPORT_FILE, str(tmp_path / "report"))
    monkeypatch.setattr(failure_report, "AWAIT_REPORT_S", 1e6)
    await_report(exit_code)


def test_report_says_whether_a_worker_of_this_node_printed_the_error(tmp_path, monkeypatch):
    """Otherwise its entrypoint exits later, so that the log of the node that printed it is kept."""
    monkeypatch.setenv(REPORT_FILE, str(tmp_path / "report"))
    report_failure(FailureReport(3, 2, explained=False))
    report = earlier_report()
    assert report == FailureReport(3, 2, explained=False)
