"""A run's prefix as a start finds it: claimed, its log open, its newest whole checkpoint read, and ready to be written to."""

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
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.storage import Claim, Storage, open_storage

PATIENCE_S: Final = 180.0
"""How long a start waits for a bucket that does not answer."""

PUBLISHING_PATIENCE_S: Final = 15.0
"""The same for what is written beside training, which is tried again anyway: soon enough to keep the state on this node."""

CLAIM_PATIENCE_S: Final = 2.0
CLAIM_ANSWER_S: Final = 3.0
"""How long one look at the claim may take: a heartbeat that waits for an answer is none, and its end must not hold up the worker's."""


@dataclass
class EarlierState:
    """What earlier starts have left."""

    manifests: list[Manifest] = field(default_factory=list)
    state: bytes | None = None
    """Of the newest checkpoint; on the primary only."""


@dataclass(frozen=True)
class Prefix:
    """A run's prefix that this job is the only writer of."""

    storage: Storage
    writer: CheckpointWriter
    """What brings checkpoints to the storage; idle on all but the primary."""
    newest: Manifest | None
    """The checkpoint to go on from."""
    newest_state: bytes | None
    """Its state; on the primary only."""
    claim: Claim
    """Lost once another writes to the prefix, or it is gone."""
    ends_at_s: float
    """When the deadline is, in seconds of Unix time; infinite without one."""

    @property
    def has_failed(self) -> bool:
        """Whether the run may not go on: `check` says why."""
        return self.writer.has_failed or self.claim.lost() is not None

    def check(self) -> None:
        """Raises: KnownError where the run may not go on."""
        self.writer.check()
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

    Raises: InputError when another job writes to it, when it holds what is not of a run, when `--resume` or its settings say otherwise; JobFailedError when too many
    starts led nowhere; TimeLimitError when its deadline is over; RemoteError.
    """
    url = f"{config.output.rstrip('/')}/{config.name}"
    fallbacks = partial(Fallback, cache, url)
    with ExitStack() as held:
        storage = group.all_or_raise(lambda: open_storage(url, patience_s=PATIENCE_S))
        beside = group.all_or_raise(lambda: open_storage(url, patience_s=PUBLISHING_PATIENCE_S))
        claim: Claim = NO_CLAIM

        def take_claim() -> None:
            nonlocal claim
            # waits for a bucket that is down, as the claim, which is looked at beside training, must not
            ownership.check(storage, reporter.line)
            soon = open_storage(url, patience_s=CLAIM_PATIENCE_S, answers_within_s=CLAIM_ANSWER_S)
            claim = RunClaim(held.enter_context(soon.claim(group.world.job, reporter.line)), soon)
            storage.sweep("")

        def hold() -> None:
            storage.hold()
            beside.hold()

        group.on_rank0(take_claim)
        group.all_or_raise(hold)
        found = EarlierState()
        group.on_rank0(lambda: _catch_up(storage, fallbacks, reporter))
        group.on_rank0(lambda: _check_may_go_on(storage, config, identity))
        newest = group.on_rank0(lambda: _look(storage, config, reporter, found))
        group.all_or_raise(lambda: log.keep_in(beside))
        begun = group.on_rank0(lambda: attempts.begin(storage, config, newest["step"] if newest else 0, group.world))
        if group.world.is_rank0:
            held.enter_context(attempts.noted(storage, begun, claim))
        writer = CheckpointWriter(
            beside, Fallback(cache, url, begun["first_s"]), claim, reporter.line, keep_last=config.keep_last
        )
        writer.knows(found.manifests)
        if group.world.is_rank0:
            writer.tidy()
        yield Prefix(
            storage,
            writer,
            Manifest(**newest) if newest else None,
            found.state,
            claim,
            attempts.ends_at_s(config, begun),
        )


class _NoClaim:
    """Of a worker that writes no checkpoints."""

    def check(self) -> None:
        """Nothing can be refused."""

    def lost(self) -> None:
        """Nothing can be lost."""


NO_CLAIM: Final = _NoClaim()


def _check_may_go_on(storage: Storage, config: TrainConfig, identity: Mapping[str, Any]) -> None:
    """Raises: InputError when there are checkpoints and none is wanted, or they are of a run with other settings."""
    manifests = committed(storage)
    if manifests and config.resume == "never":
        raise InputError(
            f"cannot start a new run at `{storage.url}`: it has checkpoints up to step {manifests[-1].step} (`--resume never`)",
            hint="give another --name, or --resume auto to go on",
        )
    if manifests:
        record.check_same(storage, identity)


def _look(storage: Storage, config: TrainConfig, reporter: Reporter, found: EarlierState) -> dict[str, Any] | None:
    """The checkpoint to go on from, whose state is noted in `found`.

    Raises: InputError when `--resume` must find one, or none is whole.
    """
    newest = checkpoints.newest(storage, reporter.line)
    if newest is None:
        if config.resume == "must":
            raise InputError(
                f"cannot go on at `{storage.url}`: it has no checkpoint (`--resume must`)",
                hint="--resume auto starts a new run",
            )
        return None
    manifest, found.state = newest
    found.manifests = committed(storage)
    return vars(manifest)


def _catch_up(storage: Storage, fallbacks: Callable[[float], Fallback], reporter: Reporter) -> None:
    """Commit what an earlier start could only keep on this node."""
    first_s = attempts.first_s(storage)
    if first_s is not None:
        newest_step = max((manifest.step for manifest in committed(storage)), default=0)
        for step in fallbacks(first_s).hand_over(storage, newest_step):
            reporter.line(f"committed step {step}, which an earlier start had to keep on this node")
