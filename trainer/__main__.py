"""The trainer's commands; the one place of this package that maps errors to exit codes."""

import sys
import traceback
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError

from trainer import __version__
from trainer.config import apply_preset, usage_problem
from trainer.errors import EXIT_CODE_HELP, InputError, InterruptedByUser, KnownError, PeerError, words
from trainer.loading import uncollected
from trainer.location import expanded_words
from trainer.redaction import learn_words
from trainer.runtime import failure_cause
from trainer.runtime.failure_report import (
    FailureReport,
    await_report,
    earlier_report,
    leave_cause,
    report_failure,
    reserve_cause,
    this_worker,
)
from trainer.runtime.parent_watch import end_with_parent
from trainer.runtime.world import read_world
from trainer.screen import screen, screened

_COMMANDS: Final = {
    "train": (
        "Train a classifier; under torchrun, as one of its workers.\n\n"
        "Run the same OUTPUT/NAME again to resume from the newest checkpoint."
    ),
    "evaluate": "Evaluate a model, or a file of predictions of any program.",
    "predict": (
        "Predict finding probabilities, or the class, of X-ray images. Not for clinical use.\n\n"
        "Unusable images are listed at the end, with exit code 2; the others are predicted."
    ),
    "explain": (
        "Show which regions of images a model's predictions depend on, and compare them with boxes drawn by radiologists.\n\n"
        "Unusable images are listed at the end, with exit code 2; the others are explained."
    ),
    "preflight": (
        "Check whether a run with these flags can work here: storage, data, labels, weights, this node and its device.\n\n"
        "Under torchrun, also compares the workers with each other. Writes an object to OUTPUT and deletes it again. Exit code 3 where a "
        "check fails."
    ),
    "report": "Write the report of a run again, or a report that compares several runs.",
    "export": (
        "Export a trained model to formats of other programs, with a model card.\n\n"
        "The ONNX model takes cropped gray images and is checked with onnxruntime before it is written."
    ),
    "stats": (
        "Print the prevalence of each finding, and the number of images and patients, per split. Reads no images."
    ),
    "prepare": (
        "Decode a data set once, from archives or image files, to records that `train` reads without decoding.\n\n"
        "The same command continues what an earlier start has left. --parts K/N prepares a share, for several pods."
    ),
    "bench": "Compare the time per batch of a model on several devices, one after the other. Needs no data.",
    "download": (
        "Download a public data set from its publisher's servers, verified, to a directory or straight into a bucket.\n\n"
        "Run the same command again to continue an interrupted download."
    ),
    "synth": (
        "Generate a small data set of chest phantoms in the NIH layout, to try the programs without patient data."
    ),
}
"""Help of each command; its module in `trainer.commands` is imported only when the command runs."""

app = App(
    name="trainer",
    help="Train chest X-ray classifiers. --debug shows the traceback of an error.",
    help_epilogue=EXIT_CODE_HELP,
    version=__version__,
    config=[apply_preset],
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main reports Ctrl-C
)


for _name, _help in _COMMANDS.items():
    app.command(f"trainer.commands.{_name}:{_name}", help=_help)
app.command("trainer.commands.preflight:probe", show=False)  # what launchers before `preflight` call


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code. Nothing that it prints holds a secret, or what a terminal would obey."""
    learn_words(argv)
    with screened():
        return _outcome(argv)


def _outcome(argv: Sequence[str]) -> int:
    report = earlier_report()
    if report is not None:
        return report.exit_code
    reserve_cause()
    debug = "--debug" in argv
    try:
        _run(expanded_words(argument for argument in argv if argument != "--debug"))
    except (Exception, KeyboardInterrupt) as problem:  # noqa: BLE001 - whatever it is, the user gets one line
        if debug:
            traceback.print_exc()
        _report(problem)
        leave_cause(failure_cause.of_exception(problem))
        return _exit_code(problem)
    return 0


def _run(argv: list[str]) -> None:
    """Parse, then act; flags are the same for all workers, so the first of each node says what is wrong with them."""
    try:
        with uncollected():  # the command's module is loaded for its flags
            command, bound, _ = app.parse_args(argv, exit_on_error=False, print_error=False)
    except (CycloptsError, InputError) as problem:
        if not read_world().is_local_rank0:
            raise PeerError(InputError.exit_code) from problem
        if isinstance(problem, InputError):
            raise
        raise InputError(usage_problem(problem), hint="--help lists commands and flags") from problem
    command(*bound.args, **bound.kwargs)


def _exit_code(problem: BaseException) -> int:
    if isinstance(problem, PeerError):
        if problem.on_this_node:
            await_report(problem.exit_code)
        else:
            report_failure(FailureReport(this_worker().rank, problem.exit_code, explained=False))
        return problem.exit_code
    code = InterruptedByUser.exit_code if isinstance(problem, KeyboardInterrupt) else 1
    if isinstance(problem, KnownError):
        code = problem.exit_code
    report_failure(FailureReport(this_worker().rank, code))
    return code


def _report(problem: BaseException) -> None:
    """Say what went wrong, as a worker with its rank before each line."""
    world = this_worker()
    prefix = f"[rank {world.rank}] " if world.size > 1 else ""
    lines = words(problem).splitlines()
    sys.stderr.write("".join(f"{prefix}{line}\n" for line in lines if line or not prefix))


if __name__ == "__main__":
    screen()  # for good: what is printed while the process ends, too
    end_with_parent()
    code = main(sys.argv[1:])
    if "torch" in sys.modules:
        from trainer.runtime.process_group import leave_process

        leave_process(code)
    sys.exit(code)
