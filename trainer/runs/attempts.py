"""How often a run was started without getting anywhere, and since when: `starts.json` in its prefix.

The training operator makes a pod anew that was killed as a whole, for want of memory for example, and never tires of it. Only the
run's prefix outlives the pods, so the count is kept there.
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
"""Starts in a row that neither reached a checkpoint nor ended in order, after which a job has failed."""

Starts = Mapping[str, Any]
"""`first_s`: Unix time of the run's first start; `step`: the newest checkpoint's; `without_progress`: starts from that step."""


def first_s(storage: Storage) -> float | None:
    """When the run was first started, in seconds of Unix time, by which one run tells itself from another of its name; None before."""
    value = _read(storage).get("first_s")
    return None if value is None else float(value)


def begin(storage: Storage, config: TrainConfig, step: int, world: World) -> dict[str, Any]:
    """Note this start of the run.

    Raises: JobFailedError when too many led nowhere; TimeLimitError when the run's deadline is over.
    """
    now_s = time.time()
    before = _read(storage)
    without_progress = before.get("without_progress", 0) if before.get("step") == step and world.in_pod else 0
    starts = {"first_s": before.get("first_s", now_s), "step": step, "without_progress": without_progress + 1}
    if now_s >= ends_at_s(config, starts):
        raise deadline_over(config, step)
    if without_progress >= MOST:
        _write(storage, starts | {"without_progress": 0})  # whoever starts it again by hand has seen this
        raise JobFailedError(
            f"cannot train: the run was started {without_progress} times in a row from step {step} and each time ended without a word",
            hint="most likely the container was killed for want of memory: see the pods' events, and give it more",
        )
    _write(storage, starts)
    return starts


@contextmanager
def noted(storage: Storage, starts: Starts, claim: Claim) -> Iterator[None]:
    """Note that the start ends in order when the block is left: with an error of its own too, which tells why.

    A peer that is lost is no such end: it may be the one that is killed again and again. Nor is a claim: the prefix is another's.
    """
    ended = {**starts, "without_progress": 0}
    try:
        yield
    except (TryAgainError, PeerError):
        raise
    except BaseException:
        with suppress(KnownError):  # the error that there is matters more
            claim.check()
            _write(storage, ended)
        raise
    with suppress(KnownError):  # a run that has ended well must not fail for a count
        claim.check()
        _write(storage, ended)


def ends_at_s(config: TrainConfig, starts: Starts) -> float:
    """When the deadline is, in seconds of Unix time; infinite without one."""
    if config.deadline is None:
        return math.inf
    return float(starts["first_s"]) + parse_duration(config.deadline, "--deadline")


def deadline_over(config: TrainConfig, step: int) -> TimeLimitError:
    """What to say once the deadline is over."""
    return TimeLimitError(
        f"cannot go on training: the deadline is over at step {step}, {config.deadline} after the run's first start (`--deadline`)",
        hint="a longer --deadline and the same --name go on from the newest checkpoint",
    )


class _Document(TypedDict, total=False):
    first_s: Seconds
    step: Step
    without_progress: Count


def _read(storage: Storage) -> _Document:
    try:
        return documents.read(storage, STARTS, _Document, hint="delete it: it only counts starts")
    except AbsentError:
        return {}


def _write(storage: Storage, starts: Starts) -> None:
    storage.write(STARTS, json.dumps(dict(starts)).encode())
