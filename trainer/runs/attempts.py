"""Attempts of a run without progress, and the time of the first: `starts.json` in the run's prefix.

The training operator recreates a pod that was killed as a whole, by the OOM killer for example, without any limit. Only
the run's prefix outlives the pods, so attempts are counted there.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypedDict

from trainer.config import TrainConfig, parse_duration
from trainer.errors import JobFailedError, KnownError, PeerError, TimeLimitError, TryAgainError
from trainer.formats import documents
from trainer.formats.documents import Count, Seconds, Step
from trainer.layout import STARTS
from trainer.runtime.world import World
from trainer.storage import AbsentError, Claim, Storage

MOST: Final = 10
"""Attempts in a row without a new checkpoint or an orderly end after which the job has failed."""

Counts = Mapping[str, Any]
"""`first_s`: Unix time of the first attempt; `step`: newest checkpoint; `without_progress`: attempts from that step."""


def first_s(storage: Storage) -> float | None:
    """Unix time of the run's first attempt, which distinguishes runs of the same name; None before."""
    value = _read(storage).get("first_s")
    return None if value is None else float(value)


def begin(storage: Storage, config: TrainConfig, step: int, world: World) -> dict[str, Any]:
    """Record this attempt.

    Raises: JobFailedError after too many attempts without progress; TimeLimitError when the run's deadline is over.
    """
    now_s = time.time()
    before = _read(storage)
    without_progress = before.get("without_progress", 0) if before.get("step") == step and world.in_pod else 0
    counts = {"first_s": before.get("first_s", now_s), "step": step, "without_progress": without_progress + 1}
    if now_s >= ends_at_s(config, counts):
        raise deadline_over(config, step)
    if without_progress >= MOST:
        _write(storage, counts | {"without_progress": 0})  # reset: a user who starts it again has seen this error
        raise JobFailedError(
            f"cannot train: the run was started {without_progress} times in a row from step {step} and each attempt ended without an error",
            hint="most likely the container ran out of memory: check the pods' events, and increase the memory",
        )
    _write(storage, counts)
    return counts


@contextmanager
def noted(storage: Storage, counts: Counts, claim: Claim) -> Iterator[None]:
    """Record at the end of the block that the attempt ended in order, also when it ended with an error that explains itself.

    A lost peer is not an orderly end: the peer may be the one that is killed each time. After a lost claim nothing is
    written, as the prefix belongs to another process.
    """
    ended = {**counts, "without_progress": 0}
    try:
        yield
    except (TryAgainError, PeerError):
        raise
    except BaseException:
        with suppress(KnownError):  # the original error matters more
            claim.check()
            _write(storage, ended)
        raise
    with suppress(KnownError):  # a successful run must not fail because of a count
        claim.check()
        _write(storage, ended)


def ends_at_s(config: TrainConfig, counts: Counts) -> float:
    """Unix time of the deadline; infinite without one."""
    if config.deadline is None:
        return math.inf
    return float(counts["first_s"]) + parse_duration(config.deadline, "--deadline")


def deadline_over(config: TrainConfig, step: int) -> TimeLimitError:
    """Error of a run whose deadline is over."""
    return TimeLimitError(
        f"cannot continue training: the deadline is over at step {step}, {config.deadline} after the run's first start (`--deadline`)",
        hint="use the same --name and a longer --deadline to continue from the newest checkpoint",
    )


class _Document(TypedDict, total=False):
    first_s: Seconds
    step: Step
    without_progress: Count


def _read(storage: Storage) -> _Document:
    try:
        return documents.read(storage, STARTS, _Document, hint="delete it: it only counts attempts")
    except AbsentError:
        return {}


def _write(storage: Storage, counts: Counts) -> None:
    storage.write(STARTS, json.dumps(dict(counts)).encode())
