"""Claims a run's prefix for this job, opens its log, and reads its newest complete checkpoint."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from trainer.config import TrainConfig
from trainer.errors import InputError
from trainer.runs import attempts, checkpoints, ownership, record
from trainer.runs.checkpoint_writer import CheckpointWriter
from trainer.runs.fallback import Fallback
from trainer.runs.manifest import Manifest, committed
from trainer.runs.ownership import RunClaim
from trainer.runs.rank_log import RankLog
from trainer.runs.retention import Retention
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.storage import Claim, Storage, open_storage

RETRY_S: Final = 180.0
"""How long a start retries requests to a bucket."""

WRITER_RETRY_S: Final = 15.0
"""The same for uploads beside training: short, as the writer retries them anyway and keeps the state on this node meanwhile."""

CLAIM_RETRY_S: Final = 2.0
CLAIM_ANSWER_S: Final = 3.0
"""The same for the claim: a heartbeat that waits for a response is late, and its end must not delay the worker's."""


@dataclass
class EarlierState:
    """What earlier attempts left in the prefix."""

    manifests: list[Manifest] = field(default_factory=list)
    state: bytes | None = None
    """Of the newest checkpoint; on rank 0 only, and until it is taken."""

    def take_state(self) -> bytes | None:
        """The state, which is not kept: it may be gigabytes, and a run takes days."""
        state, self.state = self.state, None
        return state


@dataclass(frozen=True)
class Prefix:
    """A run's prefix, with this job as its only writer."""

    storage: Storage
    writer: CheckpointWriter
    """Uploads checkpoints; idle on all ranks but 0."""
    newest: Manifest | None
    """The checkpoint to resume from."""
    earlier: EarlierState
    """With the state of that checkpoint."""
    claim: Claim
    """Lost when another job writes to the prefix, or the prefix is removed."""
    ends_at_s: float
    """Deadline in seconds of Unix time; infinite without one."""

    @property
    def has_failed(self) -> bool:
        """Whether the run must stop: `check` raises the reason."""
        return self.writer.has_failed or self.claim.lost() is not None

    def check(self) -> None:
        """Raises: KnownError when the run must stop."""
        self.writer.raise_if_failed()
        problem = self.claim.lost()
        if problem is not None:
            raise problem


@contextmanager
def claim_run(
    config: TrainConfig,
    group: WorkerGroup,
    reporter: Reporter,
    log: RankLog,
    *,
    cache: Path,
    identity: Mapping[str, Any],
) -> Iterator[Prefix]:
    """The prefix, for the block; all workers enter it together.

    Raises: InputError when another job writes to it, for foreign files in it, and when `--resume` or its settings contradict
    this start; JobFailedError after too many attempts without progress; TimeLimitError after its deadline; RemoteError.
    """
    url = f"{config.output.rstrip('/')}/{config.name}"
    fallbacks = partial(Fallback, cache, url)
    with ExitStack() as held:
        storage = group.all_or_raise(lambda: open_storage(url, patience_s=RETRY_S))
        beside = group.all_or_raise(lambda: open_storage(url, patience_s=WRITER_RETRY_S))
        claim = _claim(storage, url, group, reporter, held)
        for each in (storage, beside):
            group.all_or_raise(each.hold)
        group.on_rank0(lambda: _commit_fallback(storage, fallbacks, reporter))
        group.on_rank0(lambda: _check_resume(storage, config, identity))
        earlier = EarlierState()
        newest = group.on_rank0(lambda: _find_newest(storage, config, reporter, earlier))
        group.all_or_raise(lambda: log.keep_in(beside))
        begun = group.on_rank0(lambda: attempts.begin(storage, config, newest["step"] if newest else 0, group.world))
        retention = Retention(beside, claim, reporter.line, keep_last=config.keep_last)
        retention.add(earlier.manifests)
        if group.world.is_rank0:
            held.enter_context(attempts.noted(storage, begun, claim))
            retention.prune()  # an earlier attempt may have been killed during its pruning
        yield Prefix(
            storage,
            CheckpointWriter(beside, fallbacks(begun["first_s"]), claim, retention, reporter.line),
            Manifest(**newest) if newest else None,
            earlier,
            claim,
            attempts.ends_at_s(config, begun),
        )


def _claim(storage: Storage, url: str, group: WorkerGroup, reporter: Reporter, held: ExitStack) -> Claim:
    """Make this job the only writer of the prefix; the claim on rank 0, `NO_CLAIM` on the others."""
    claim: Claim = NO_CLAIM

    def take() -> None:
        nonlocal claim
        # The check waits for a bucket that is down. The claim must not: its heartbeat runs beside training.
        ownership.check(storage, reporter.line)
        soon = open_storage(url, patience_s=CLAIM_RETRY_S, answers_within_s=CLAIM_ANSWER_S)
        claim = RunClaim(held.enter_context(soon.claim(group.world.job, reporter.line)), soon)
        storage.sweep("")

    group.on_rank0(take)
    return claim


class _NoClaim:
    """The claim of a worker that writes no checkpoints."""

    def check(self) -> None:
        """Always held."""

    def lost(self) -> None:
        """Never lost."""


NO_CLAIM: Final = _NoClaim()


def _check_resume(storage: Storage, config: TrainConfig, identity: Mapping[str, Any]) -> None:
    """Raises: InputError for checkpoints with `--resume never`, and for checkpoints of a run with other settings."""
    manifests = committed(storage)
    if manifests and config.resume == "never":
        raise InputError(
            f"cannot start a new run at `{storage.url}`: it has checkpoints up to step {manifests[-1].step} (`--resume never`)",
            hint="give another --name, or --resume auto to continue",
        )
    if manifests:
        record.check_same(storage, identity)


def _find_newest(
    storage: Storage, config: TrainConfig, reporter: Reporter, found: EarlierState
) -> dict[str, Any] | None:
    """The manifest of the newest complete checkpoint, whose state is stored in `found`.

    Raises: InputError for `--resume must` without a checkpoint, and when all checkpoints are damaged.
    """
    newest = checkpoints.newest(storage, reporter.line)
    if newest is None:
        if config.resume == "must":
            raise InputError(
                f"cannot resume at `{storage.url}`: it has no checkpoint (`--resume must`)",
                hint="--resume auto starts a new run",
            )
        return None
    manifest, found.state = newest
    found.manifests = committed(storage)
    return vars(manifest)


def _commit_fallback(storage: Storage, fallbacks: Callable[[float], Fallback], reporter: Reporter) -> None:
    """Commit states that an earlier attempt could only keep on this node."""
    first_s = attempts.first_s(storage)
    if first_s is not None:
        newest_step = max((manifest.step for manifest in committed(storage)), default=0)
        for step in fallbacks(first_s).hand_over(storage, newest_step):
            reporter.line(f"committed step {step}, which an earlier attempt kept on this node")
