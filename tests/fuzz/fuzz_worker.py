"""The process that makes tries: `KIND NUMBER` on stdin, a line of JSON on stdout for each."""

import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from targets import Bench, FaultError, Kind  # noqa: E402 - found by the line above
from tries import MOST_BYTES  # noqa: E402

SPARE_BYTES = 1 << 30
"""How much more than may be taken can be taken, so that taking it is seen and not refused."""


def main(argv: list[str]) -> None:
    """Answer until stdin ends."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a reader prints is not an answer
    kinds: Mapping[str, Kind] = importlib.import_module(argv[0]).KINDS
    bench = Bench(Path(argv[1]), Path(argv[2]))
    _limit_memory()
    before = _contents(bench.corpus)
    _say(answers, "ready")
    for line in sys.stdin:
        kind, number = line.split()
        _say(answers, json.dumps(_tried(kinds[kind], bench, f"{argv[3]} {kind} {number}")))
        if int(number) % 50 == 0 and _contents(bench.corpus) != before:
            raise SystemExit("the corpus was changed by a reader")


def _tried(kind: Kind, bench: Bench, dice: str) -> dict[str, object]:
    """What comes of one try, and what it took."""
    shutil.rmtree(bench.work, ignore_errors=True)
    bench.work.mkdir(parents=True)
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    had = _memory("VmRSS")
    accepted, fault = False, None
    try:
        accepted = kind.attempt(bench, random.Random(dice))
    except FaultError as problem:
        fault = str(problem)
    except MemoryError:
        fault = f"takes more than {MOST_BYTES >> 20} MiB of memory: {traceback.format_exc()[-1200:]}"
    except Exception:  # noqa: BLE001 - the fuzzer is there to find it
        fault = traceback.format_exc()[-1500:]
    took = _memory("VmHWM") - had
    if fault is None and took > MOST_BYTES:
        fault = f"took {took >> 20} MiB of memory"
    return {"accepted": accepted and fault is None, "fault": fault}


def _limit_memory() -> None:
    most = _memory("VmData") + MOST_BYTES + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _memory(name: str) -> int:
    """A figure of this process, in bytes. Source: proc_pid_status(5)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise KeyError(name)


def _contents(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "cache/packs/." not in path.as_posix():
            digest.update(f"{path}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _say(answers: IO[str], text: str) -> None:
    answers.write(f"{text}\n")
    answers.flush()


main(sys.argv[1:])
