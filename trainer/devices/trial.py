"""Trial of a device in a process of its own: a crash, a hang or a message of the driver ends that process, not the worker.

Run as `python -m trainer.devices.trial NAME LOCAL_RANK LOCAL_SIZE`, it opens the device, computes one product of matrices and
prints a line of JSON. It must have ended before the worker opens the device: some cards are locked by a process until its end.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import torch

from trainer import devices
from trainer.errors import InputError, JobFailedError, KnownError, TryAgainError, on_one_line
from trainer.limits import parsed_json
from trainer.runtime import parent_watch

LIMIT_S: Final = 90.0
"""Time limit from the first use of the device: seconds, tens of them where a driver starts. Below the limit for joining the workers, so
that this worker reports before the others give up."""

START_S: Final = 300.0
"""Time limit until then. To load torch takes seconds, but minutes where all workers of a busy node do it at once, which is no defect
of the device."""

POLL_S: Final = 0.2

KILL_S: Final = 5.0
"""Wait for the end of a killed process; one that waits in the driver does not end."""

SIDE: Final = 256
"""Side of the matrices of ones: 256 ** 3, the sum of their product's entries, is exact in fp32."""

SHOWN_BYTES: Final = 64 << 10
"""End of the output that is read."""

_MARK: Final = "trial: "

_STARTED: Final = "the device is opened"
"""Line of the process before it uses the device."""


@dataclass(frozen=True)
class Trial:
    """A device that works."""

    hardware: str
    software: str
    """Versions of the software and the driver."""
    seconds: float
    """Duration, with the start of the process."""


def run(
    name: str,
    local_rank: int,
    local_size: int,
    *,
    limit_s: float = LIMIT_S,
    start_s: float = START_S,
    program: Sequence[str] = (),
) -> Trial:
    """Open the device in a process of its own and compute on it; `program` replaces its command.

    Raises: InputError, as the device's `open` does; JobFailedError for a process that crashes, hangs or computes wrongly, with its
    last line; TryAgainError for one that does not get as far as the device.
    """
    command = [*(program or (sys.executable, "-m", __name__)), name, str(local_rank), str(local_size)]
    started_s = time.monotonic()
    with tempfile.TemporaryFile() as output:
        code = _ended(command, output, start_s, limit_s)
        started = _has_started(output)
        lines = _last_lines(output)
    found = next((line.removeprefix(_MARK) for line in reversed(lines) if line.startswith(_MARK)), None)
    if code == 0 and found is not None:
        return _passed(found, time.monotonic() - started_s)
    if code is None and not started:
        raise TryAgainError(
            f"the trial of {name} did not load torch within {start_s:.0f} s",
            hint="look for what else keeps the node's processors or disks busy; --preflight off starts without the trial",
        )
    raise JobFailedError(
        f"the trial of {name} {_how(code, limit_s)}{f': {on_one_line(lines[-1])[:300]}' if lines else ''}",
        hint="keep jobs off the node until its device, its driver, or what else holds the device is seen to",
    )


def _ended(command: Sequence[str], output: Any, start_s: float, limit_s: float) -> int | None:  # noqa: ANN401 - a temporary file has no public type
    """Exit code of the process; None if it did not end in time."""
    environment = os.environ | {parent_watch.PARENT: str(os.getpid())}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
    )
    try:
        return _waited(process, output, start_s, limit_s)
    finally:
        if process.poll() is None:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_S)


def _waited(process: "subprocess.Popen[bytes]", output: Any, start_s: float, limit_s: float) -> int | None:  # noqa: ANN401 - as above
    started, ends_s = False, time.monotonic() + start_s
    while time.monotonic() < ends_s:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(POLL_S)
        if not started and _has_started(output):
            started, ends_s = True, time.monotonic() + limit_s
    return None


def _has_started(output: Any) -> bool:  # noqa: ANN401 - as above
    """Whether the process has said that it uses the device; without moving the position at which it writes, which is shared."""
    return _STARTED.encode() in os.pread(output.fileno(), SHOWN_BYTES, 0)


def _last_lines(output: Any) -> list[str]:  # noqa: ANN401 - as above
    size = output.seek(0, 2)
    output.seek(max(0, size - SHOWN_BYTES))
    lines = output.read().decode(errors="replace").splitlines()
    return [line for line in lines if line.strip() and line != _STARTED]


def _how(code: int | None, limit_s: float) -> str:
    if code is None:
        return f"did not end within {limit_s:.0f} s"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"


def _passed(line: str, seconds: float) -> Trial:
    """The result of a trial that ended in order. Raises: InputError for a device that refused."""
    document = parsed_json(line.encode())
    if "error" in document:
        raise InputError(document["error"], hint=document["hint"])
    return Trial(document["hardware"], document["software"], seconds)


def main(argv: Sequence[str]) -> int:
    """Open the device and compute; prints the result, and returns the exit code."""
    name, local_rank, local_size = argv
    device = devices.load(name)
    sys.stdout.write(f"{_STARTED}\n")
    sys.stdout.flush()
    try:
        computed = _compute(device, int(local_rank), int(local_size))
        document = {"hardware": device.hardware(), "software": device.software()}
    except KnownError as problem:
        computed, document = SIDE**3, {"error": str(problem.args[0]), "hint": problem.hint or ""}
    except Exception as problem:  # noqa: BLE001 - whatever the vendor's library raises, its first line is the cause
        sys.stdout.write(f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]}\n")
        return 1
    if computed != SIDE**3:
        sys.stdout.write(f"wrong result: {computed:.0f} instead of {SIDE**3}\n")
        return JobFailedError.exit_code
    sys.stdout.write(f"{_MARK}{json.dumps(document)}\n")
    sys.stdout.flush()
    return 0


def _compute(device: devices.Device, local_rank: int, local_size: int) -> float:
    on = device.open(local_rank, local_size)
    ones = torch.ones(SIDE, SIDE, device=on)
    total = (ones @ ones).sum()
    device.flush()
    return float(total)


if __name__ == "__main__":
    parent_watch.end_with_parent()
    sys.exit(main(sys.argv[1:]))
