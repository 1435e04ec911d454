"""The trial of a device in a process of its own: whatever that process does, the worker gets a result."""

import json
import os
import signal
import sys

import pytest

from trainer.devices import cpu, trial
from trainer.errors import InputError, JobFailedError, TryAgainError


def tried(code, **limits):
    """The result of a trial by a program of this code, instead of ours."""
    return trial.run("hpu", 3, 8, program=(sys.executable, "-c", code), **limits)


def test_device_that_computes_passes(warm):
    found = trial.run("cpu", 0, 1, program=(warm, "-m", "trainer.devices.trial"))
    assert found.software == cpu.software()
    assert "thread" in found.hardware
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("raise SystemExit('synStatus=26 Device acquire failed.')", "exit code 1: synStatus=26 Device acquire failed."),
        ("print('loaded'); raise SystemExit(7)", "exit code 7: loaded"),
        ("", "exit code 0"),
        ("import sys; print(sys.argv[1:])", "['hpu', '3', '8']"),
    ],
)
def test_process_that_does_not_report_a_result_is_a_defective_device(code, words):
    """Its last line is all that a driver says."""
    with pytest.raises(JobFailedError) as failed:
        tried(code)
    assert words in str(failed.value)
    assert "the trial of hpu" in str(failed.value)


def test_process_that_hangs_is_killed(tmp_path):
    """A driver may never return."""
    pid = tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); print({trial._STARTED!r}, flush=True); time.sleep(600)"
    with pytest.raises(JobFailedError, match="did not end within 0 s"):
        tried(code, limit_s=0.4)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIG_DFL)


def test_process_that_does_not_get_as_far_as_the_device_is_no_defect_of_it():
    """All workers of a busy node load torch at once: another start may be quicker."""
    with pytest.raises(TryAgainError, match="the trial of hpu did not load torch within 0 s"):
        tried("import time; time.sleep(600)", start_s=0.1, limit_s=600)


def test_limit_counts_from_the_first_use_of_the_device():
    """However long the start has taken."""
    slow = f"import time; print('warning', flush=True); time.sleep(0.5); print({trial._STARTED!r}, flush=True)"
    found = json.dumps({"hardware": "one card", "software": "torch"})
    assert tried(f"{slow}; print({'trial: ' + found!r})", limit_s=60, start_s=60).hardware == "one card"
    with pytest.raises(JobFailedError, match="did not end within 0 s: warning"):
        tried(f"{slow}; time.sleep(600)", limit_s=0.1, start_s=60)


def test_refusal_of_the_device_is_passed_on():
    """A card without kernels is no defect of the node."""
    refusal = {"error": "cannot train on Tesla P100", "hint": "another image"}
    with pytest.raises(InputError, match="cannot train on Tesla P100") as refused:
        tried(f"print({'trial: ' + json.dumps(refusal)!r})")
    assert refused.value.hint == "another image"


def refuses(*_):
    raise InputError("no kernels", hint="an image")


def raises(*_):
    raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA to see more")


@pytest.mark.parametrize(
    ("changed", "code", "line"),
    [
        ({}, 0, 'trial: {"hardware": "'),
        ({"open": refuses}, 0, 'trial: {"error": "no kernels", "hint": "an image"}'),
        ({"open": raises}, 1, "RuntimeError: CUDA error: out of memory"),
        ({"hardware": raises}, 1, "RuntimeError: CUDA error: out of memory"),
    ],
)
def test_process_says_in_its_last_line_what_it_found(changed, code, line, monkeypatch, capsys):
    """Torch's errors have advice after the cause."""
    for name, act in changed.items():
        monkeypatch.setattr(cpu, name, act)
    assert trial.main(["cpu", "0", "1"]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(line)


def test_wrong_result_is_a_defect(monkeypatch, capsys):
    monkeypatch.setattr(trial, "_compute", lambda *_: 16777215.0)
    assert trial.main(["cpu", "0", "1"]) == 3
    assert capsys.readouterr().out.splitlines() == [trial._STARTED, "wrong result: 16777215 instead of 16777216"]
