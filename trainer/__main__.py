"""The trainer's commands; the one place of this package that prints results and maps errors to exit codes."""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from trainer import __version__
from trainer.config import Layout, TrainConfig, apply_preset, usage_problem
from trainer.errors import EXIT_CODE_HELP, InputError, InterruptedByUser, KnownError, PeerError
from trainer.gang import Verdict, await_verdict, earlier_verdict, give_verdict
from trainer.world import World, read_world

app = App(
    name="trainer",
    help="Train chest X-ray classifiers. --debug shows the traceback of an error.",
    help_epilogue=EXIT_CODE_HELP,
    version=__version__,
    config=[apply_preset],
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main tells of Ctrl-C
)


@app.command
def train(config: Annotated[TrainConfig, Parameter(name="*")]) -> None:
    """Train a classifier; under torchrun as one of its workers.

    A run that is started again on the same OUTPUT/NAME goes on from its newest checkpoint.
    """
    from trainer.console import Reporter
    from trainer.evaluate import as_table
    from trainer.ranklog import RankLog
    from trainer.train import train as train_run

    world = read_world()
    log = RankLog(world.rank)
    try:
        results = train_run(config, world, Reporter(world.rank, hear=log.add), log)
    except BaseException as problem:
        for line in _words(problem).splitlines():
            log.add(line)
        raise
    finally:
        log.close()
    if world.is_primary:
        if results.scores:
            sys.stdout.write(as_table(results.scores) + "\n\n")
        sys.stdout.write(f"best checkpoint  {results.checkpoint}\nresults          {results.results}\n")


@app.command
def probe(config: Annotated[TrainConfig, Parameter(name="*")]) -> None:
    """Look whether a run with these flags could work here: a line of JSON for each look; `launcher doctor --in-cluster` reads them.

    OUTPUT gets an object that is removed again.
    """
    from trainer.probe import probe as lines

    for line in lines(config):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


@app.command
def stats(
    *,
    data: Path,
    layout: Layout = "auto",
    split: str = "given",
    val_list: str | None = None,
    format: Literal["table", "csv", "json"] = "table",  # noqa: A002 - the flag's name
) -> None:
    """Print the prevalence of each finding in each split, and how many images and patients there are; needs no images.

    Parameters
    ----------
    data
        Directory of the data set.
    layout
        How the data set is laid out; `auto` looks.
    split
        `given` by the data set, or `patients:A/B/C[@SEED]`.
    val_list
        File with the names of the validation images (NIH layout).
    format
        How to print it.
    """
    from trainer.findings import as_csv, as_json, as_table, prevalence
    from trainer.sources import read_labels

    source = read_labels(data, layout=layout, split=split, val_list=val_list)
    form = {"table": as_table, "csv": as_csv, "json": as_json}[format]
    sys.stdout.write(form(prevalence(source.table)).rstrip("\n") + "\n")


@app.command
def synth(*, out: Path, images: int = 600, seed: int = 0, side: int = 256) -> None:
    """Draw a small data set of chest-like phantoms in the NIH layout, for trying things out without patient data.

    Parameters
    ----------
    out
        Directory to make; must not exist or be empty.
    images
        How many images, at least 30.
    seed
        The same seed draws the same images.
    side
        Width and height in pixels.
    """
    from trainer.console import Reporter
    from trainer.data.synthetic import write_phantoms

    with Reporter(0).progress("drawing", images) as advance:
        write_phantoms(out, images=images, seed=seed, side=side, progress=lambda done: advance(done, ""))
    sys.stdout.write(f"{out}\n")


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code."""
    verdict = earlier_verdict()
    if verdict is not None:
        return verdict.exit_code
    debug = "--debug" in argv
    try:
        _run([argument for argument in argv if argument != "--debug"])
    except (Exception, KeyboardInterrupt) as problem:  # noqa: BLE001 - whatever it is, the user gets one line
        if debug:
            traceback.print_exc()
        _tell(problem)
        return _exit_code(problem)
    return 0


def _run(argv: list[str]) -> None:
    """Parse, then act; flags are the same for all workers, so the first of each node says what is wrong with them."""
    try:
        command, bound, _ = app.parse_args(argv, exit_on_error=False, print_error=False)
    except (CycloptsError, InputError) as problem:
        if not read_world().is_first_on_node:
            raise PeerError(InputError.exit_code) from problem
        if isinstance(problem, InputError):
            raise
        raise InputError(usage_problem(problem), hint="--help lists commands and flags") from problem
    command(*bound.args, **bound.kwargs)


def _exit_code(problem: BaseException) -> int:
    if isinstance(problem, PeerError):
        if problem.on_this_node:
            await_verdict(problem.exit_code)
        else:
            give_verdict(Verdict(_worker().rank, problem.exit_code, told=False))
        return problem.exit_code
    code = InterruptedByUser.exit_code if isinstance(problem, KeyboardInterrupt) else 1
    if isinstance(problem, KnownError):
        code = problem.exit_code
    give_verdict(Verdict(_worker().rank, code))
    return code


def _tell(problem: BaseException) -> None:
    """Say what went wrong, as a worker with its rank before each line."""
    world = _worker()
    prefix = f"[rank {world.rank}] " if world.size > 1 else ""
    lines = _words(problem).splitlines()
    sys.stderr.write("".join(f"{prefix}{line}\n" for line in lines if line or not prefix))


def _words(problem: BaseException) -> str:
    """What went wrong; nothing where a peer says it."""
    if isinstance(problem, PeerError):
        return ""
    if isinstance(problem, KeyboardInterrupt):
        return "interrupted"
    if isinstance(problem, KnownError):
        return str(problem)
    return f"error: bug: {type(problem).__name__}: {problem}\n\nhint: run again with --debug for the traceback"


def _worker() -> World:
    try:
        return read_world()
    except InputError:
        return World()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if "torch" in sys.modules:
        from trainer.distributed import leave_process

        leave_process(code)
    sys.exit(code)
