"""Tries one after the other in a process of their own, which is watched: for how long each takes, and for how much memory."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

HANG_S: Final = 120.0
"""A reader that has not answered for so long waits for something."""

BUSY_S: Final = 15.0
"""One that has worked for so long, in seconds of processor time, works without an end; the slowest takes less than two."""

MOST_BYTES: Final = 1 << 30
"""More memory than this, beyond what the process had before, no input may take."""

WORKER: Final = Path(__file__).with_name("fuzz_worker.py")


@dataclass(frozen=True)
class Outcome:
    """How a try ended."""

    kind: str
    number: int
    accepted: bool
    fault: str | None
    """What must not happen and did."""


class Worker:
    """A process that makes tries; one that hangs or ends is replaced, and the next try begins in a new one.

    `kinds` names the module whose `KINDS` are tried.
    """

    def __init__(
        self,
        corpus: Path,
        work: Path,
        seed: int,
        *,
        kinds: str = "targets",
        hang_s: float = HANG_S,
        busy_s: float = BUSY_S,
    ) -> None:
        self._arguments = [kinds, str(corpus), str(work), str(seed)]
        self._home, self._hang_s, self._busy_s = str(work), hang_s, busy_s
        self._process: subprocess.Popen[str] | None = None

    def attempt(self, kind: str, number: int) -> Outcome:
        """The outcome of the try of this kind and number."""
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(f"{kind} {number}\n")
        process.stdin.flush()
        answer = self._answer(process)
        if isinstance(answer, str):
            self.close()
            return Outcome(kind, number, accepted=False, fault=answer)
        return Outcome(kind, number, accepted=answer["accepted"], fault=answer["fault"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": self._home, "KUBECONFIG": os.devnull},
            )
            assert self._process.stdout is not None
            if self._process.stdout.readline() != "ready\n":
                raise RuntimeError("the worker of the fuzzer does not start")
        return self._process

    def _answer(self, process: "subprocess.Popen[str]") -> "dict[str, object] | str":
        """What the process says, or why it does not."""
        assert process.stdout is not None
        end_s, had_s = time.monotonic() + self._hang_s, _processor_s(process.pid)
        while not _is_readable(process.stdout, min(0.5, self._busy_s)):
            if _processor_s(process.pid) - had_s > self._busy_s:
                return f"works without an end: no answer in {self._busy_s:g} s of processor time"
            if time.monotonic() >= end_s:
                return f"hangs: no answer in {self._hang_s:g} s"
        line = process.stdout.readline()
        if not line:
            return f"ended the process, with {process.wait()}"
        return dict(json.loads(line))


def _processor_s(pid: int) -> float:
    """Processor time of a process so far. Source: proc_pid_stat(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _is_readable(pipe: IO[str], seconds: float) -> bool:
    return bool(select.select([pipe], [], [], max(0.0, seconds))[0])


@contextmanager
def worker(corpus: Path, work: Path, seed: int) -> Iterator[Worker]:
    """A worker for the block."""
    made = Worker(corpus, work, seed)
    try:
        yield made
    finally:
        made.close()


def rounds(making: Worker, kinds: Sequence[str], first: int, seconds: float) -> Iterator[Outcome]:
    """Tries of each kind in turn, for so long; each kind has had one at least."""
    end_s = time.monotonic() + seconds
    number = first
    while True:
        for kind in kinds:
            if number > first and time.monotonic() >= end_s:
                return
            yield making.attempt(kind, number)
        number += 1
