"""`trainer train`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from trainer.config import TrainConfig
from trainer.errors import words
from trainer.evaluation.scores import as_table
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import read_world
from trainer.training.loop import train as train_run


def train(config: Annotated[TrainConfig, Parameter(name="*")]) -> None:
    """Train a classifier; under torchrun, as one of its workers.

    Run the same OUTPUT/NAME again to resume from the newest checkpoint.
    """
    world = read_world()
    log = RankLog(world.rank)
    try:
        results = train_run(config, world, Reporter(world.rank, on_line=log.add), log)
    except BaseException as problem:
        for line in words(problem).splitlines():
            log.add(line)
        raise
    finally:
        log.close()
    if world.is_rank0:
        if results.scores:
            sys.stdout.write(as_table(results.scores) + "\n\n")
        outputs = {"best checkpoint": results.checkpoint, "report": results.report, "results": results.results}
        sys.stdout.write("".join(f"{title:<17}{place}\n" for title, place in outputs.items() if place is not None))
