"""The moments at which something is killed, drawn from a seed: the same seed and number are the same moment."""

import random
from dataclasses import dataclass
from itertools import product
from typing import Final

POINTS: Final = {
    "load": [
        "worker starts",
        "lease.Lease.take:before",
        "lease.Lease.take:after",
        "put .excludes:after",
        "put owner:middle",
        "attempts.begin:before",
        "attempts.begin:after",
        "put run:middle",
        "put split:after",
        "state.begin:before",
        "state.begin:after",
    ],
    "pack": [
        "building.build:before",
        "building._tasks:before",
        "decoding.decode:before",
        "decoding.decode:after",
        "building._write:after",
        "building.build:after",
    ],
    "step": ["loop.train_step:before", "loop.train_step:after", "loop.validate:before", "loop.validate:after"],
    "snapshot": [
        "loop.take_checkpoint:before",
        "state.ranks_of:after",
        "state.snapshot:after",
        "loop.take_checkpoint:after",
    ],
    "state": ["put state:before", "put state:middle", "put state:after"],
    "manifest": ["put manifest:before", "put manifest:middle", "put manifest:after"],
    "prune": ["checkpoints.prune:before", "delete manifest:after", "delete state:after", "checkpoints.prune:after"],
    "end": [
        "loop.finish:before",
        "put val:middle",
        "put model:middle",
        "put metrics:middle",
        "put results:before",
        "put results:middle",
        "put results:after",
        "loop.finish:after",
        "lease.Lease.release:before",
        "lease.Lease.release:after",
        "put rank:middle",
        "run.run:after",
        "tempfile.TemporaryDirectory.cleanup:before",
    ],
}
"""By phase, as tests/chaos/hook tells them."""

PARTS: Final = ["multipart._send:before", "multipart._send:after", "multipart._complete:after"]
"""The same of states that are sent in parts."""

SPOOL: Final = ["files.write_flushed:before", "files.write_flushed:after", "fallback.Fallback.keep:after"]
"""The same of a state that is kept on the node while the bucket is away."""

FOLDER: Final = [
    "attempts.begin:after",
    "state.begin:before",
    "loop.train_step:before",
    "loop.validate:before",
    "loop.take_checkpoint:after",
    "files.write_flushed:before",
    "files.write_flushed:after",
    "checkpoints.prune:before",
    "loop.finish:before",
]
"""Moments at which the folder of a run that is kept in a directory goes."""

DISK: Final = [
    "attempts.begin:before",
    "attempts.begin:after",
    "state.begin:after",
    "loop.train_step:before",
    "loop.validate:before",
    "loop.take_checkpoint:before",
    "loop.take_checkpoint:after",
    "files.write_flushed:before",
    "checkpoints.prune:before",
    "loop.finish:before",
]
"""Moments at which the disk of a run that is kept in a directory has no room any more."""

IN_DIRECTORY: Final = {"folder": FOLDER, "disk": DISK}

MANY: Final = {"step": 14, "snapshot": 8, "state": 3, "manifest": 4, "prune": 2, "pack": 2, "folder": 6, "disk": 6}
"""So often at least a point of this phase is met in a run; others once."""

KINDS: Final = ["rank", "torchrun", "all", "term", "server", "pack", "forks"]
"""A worker, torchrun alone, all at once, SIGTERM to torchrun, the bucket's server, all and the node's pack is damaged, what forks the workers."""

FOLDER_KINDS: Final = ["removed", "second"]
"""The run's folder is removed, or that and a second run is started under its name while the first still trains."""

DISK_KINDS: Final = ["full", "full but for the cache", "killed"]
"""The disk is full for the run and what is kept on the node, or for the run alone; or all of a run in a directory is killed."""

AWAY_S: Final = [0.0, 1.0, 5.0]
"""How long a killed server stays away: less and more than the publisher's patience, as tests/chaos/hook sets it."""


@dataclass(frozen=True)
class Stage:
    """Something to kill, and when."""

    kind: str
    """One of `KINDS`, `FOLDER_KINDS` or `DISK_KINDS`, or `nothing`: the next stage is waited for from here on."""
    point: str | None
    """None: after `seconds`, wherever the run is then."""
    nth: int = 1
    told_by: int | None = None
    """The rank whose call counts; None is any."""
    rank: int = 0
    """The victim, where it is a rank."""
    seconds: float = 0.0
    away_s: float | None = 0.0
    """Of the server; None: until the next stage is over."""

    def __str__(self) -> str:
        when = f"{self.point} #{self.nth}" if self.point else f"after {self.seconds:.2f} s"
        by = f" of rank {self.told_by}" if self.told_by is not None else ""
        whom = {
            "rank": f"rank {self.rank}",
            "server": f"server for {self.away_s} s",
            "pack": "all, and the node's pack is damaged",
            "forks": "the fork server",
        }.get(self.kind, self.kind)
        return f"{when}{by}: {whom}"


@dataclass(frozen=True)
class Moment:
    """One or more kills in one run."""

    name: str
    phase: str
    stages: list[Stage]
    in_parts: bool = False
    """Whether states are sent in parts."""

    @property
    def in_directory(self) -> bool:
        """Whether the run is kept in a directory, and not in a bucket."""
        return self.phase in IN_DIRECTORY

    def __str__(self) -> str:
        return f"{self.phase:8}  " + ", then ".join(map(str, self.stages)) + (" (in parts)" if self.in_parts else "")


ONCE: Final = ("building.build", "building._tasks", "building._write", "attempts.begin", "state.begin", "loop.finish")

PHASES: Final = [*POINTS, "spool", "any time"]
PAIRS: Final = [
    *(pair for pair in product(PHASES, KINDS) if pair not in {("spool", "server"), ("load", "pack")}),
    *(("folder", kind) for kind in FOLDER_KINDS),
    *(("disk", kind) for kind in DISK_KINDS),
]


def drawn(seed: int, number: int) -> Moment:
    """The moment of this number; each pair of phase and victim comes once before one comes twice."""
    lap, place = divmod(number, len(PAIRS))
    pairs = PAIRS.copy()
    random.Random(f"{seed} lap {lap}").shuffle(pairs)
    phase, kind = pairs[place]
    dice = random.Random(f"{seed} moment {number}")
    in_parts = phase in {"state", "prune", "any time"} and dice.random() < 0.4
    name = f"k{seed}-{number}"
    if phase == "spool":
        away = Stage("server", "put state:before", nth=dice.randint(1, 3), away_s=None)
        return Moment(name, phase, [away, _stage(dice, kind, dice.choice(SPOOL), dice.randint(1, 3))])
    if phase == "any time":
        return Moment(name, phase, [_stage(dice, kind, None, 1)], in_parts)
    if phase in IN_DIRECTORY:
        return Moment(name, phase, [_stage(dice, kind, dice.choice(IN_DIRECTORY[phase]), dice.randint(1, MANY[phase]))])
    points = PARTS if phase == "state" and in_parts else POINTS[phase]
    most = MANY.get(phase, 1)
    return Moment(name, phase, [_stage(dice, kind, dice.choice(points), dice.randint(1, most))], in_parts)


def _stage(dice: random.Random, kind: str, point: str | None, nth: int) -> Stage:
    if point is not None and point.startswith(ONCE):
        nth = 1
    if point is not None and point.startswith("loop.validate"):
        nth = min(nth, 3)
    return Stage(
        kind=kind,
        point=point,
        nth=nth,
        told_by=dice.randrange(2) if point and point.startswith(("loop.train_step", "loop.take_checkpoint")) else None,
        rank=dice.randrange(2),
        seconds=dice.uniform(0.3, 8.0) if point is None else 0.0,
        away_s=dice.choice(AWAY_S),
    )
