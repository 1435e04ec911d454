"""The launcher's commands: which there are, and where each lies. Only the one that is asked for is loaded."""

import itertools
from collections.abc import Sequence
from typing import Final

from cyclopts import App, ArgumentCollection, CycloptsError, MissingArgumentError, UnknownOptionError

from trainer import __version__
from trainer.errors import EXIT_CODE_HELP, InputError

_OF_A_JOB: Final = "Usage: launcher {} --accelerator gaudi|cuda|cpu [OPTIONS] [-- TRAINER FLAGS]"


def _settings(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Files and variables fill the flags that were not given, where a command has such flags."""
    if any("--namespace" in argument.names for argument in arguments):
        from launcher.settings.sources import apply_settings  # noqa: PLC0415 - --help and completion need no job

        apply_settings(app, commands, arguments)


app = App(
    name="launcher",
    help=(
        "Train chest X-ray classifiers on Kubernetes. What follows `--` are flags of `python -m trainer train`. "
        "--debug shows the traceback of an error."
    ),
    help_epilogue=EXIT_CODE_HELP,
    help_format="plaintext",
    version=__version__,
    config=[_settings],
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main tells of Ctrl-C
)

app.command(
    "launcher.commands.completion:completion",
    help="Print a shell completion script; `launcher completion bash > FILE` keeps it where the shell looks for it.",
)
app.command(
    "launcher.commands.config:init",
    help="Ask for the settings that stay, and write them to `launcher.yaml` here; print its path.",
)
app.command(
    "launcher.commands.config:config",
    help="Print each setting that has a value without flags, its origin, and why no job could use it.",
)
app.command(
    "launcher.commands.render:render",
    help="Print the Kubernetes objects of a job; talks to nobody.",
    usage=_OF_A_JOB.format("render"),
)
app.command(
    "launcher.commands.submit:submit",
    help=(
        "Create a job, and print its name; with `--local`, run it here and print where its run lies.\n\n"
        "Submitting a job that is there already, with the same spec, changes nothing and is no error."
    ),
    usage=_OF_A_JOB.format("submit"),
)
app.command(
    "launcher.commands.scale:scale",
    help=(
        "Run a job at several sizes, for one or several models, and print times, speed-up, efficiency and quality.\n\n"
        "The global batch stays the same unless `--weak`. The same again goes on: runs with results are not run again."
    ),
    usage=(
        "Usage: launcher scale --workers 1,2,4 --name NAME --to DIRECTORY --accelerator gaudi|cuda|cpu [OPTIONS] [-- TRAINER FLAGS]"
    ),
)
app.command(
    "launcher.commands.doctor:doctor",
    help="Check whether a job would run, before anything is spent: a row for each thing that has stopped one.",
    usage=_OF_A_JOB.format("doctor"),
)
app.command(
    "launcher.commands.status:list_",
    name="list",
    help="Print the jobs of a namespace, the newest first.",
)
app.command(
    "launcher.commands.status:status",
    help="Print how a job is: conditions, pods, last events, progress, and why it does not run.",
)
app.command(
    "launcher.commands.status:events",
    help="Print what the cluster noted about a job, its pods and its claim, the oldest first.",
)
app.command(
    "launcher.commands.wait:wait",
    help="Wait until a job is over, and print its state; its outcome is the exit code.",
)
app.command(
    "launcher.commands.delete:delete",
    help="End jobs and remove them, with their pods, Services, claims and volumes; the runs in the output stay.",
)
app.command(
    "launcher.commands.clone:clone",
    help="Submit a new job, and so a new run, with the settings of another.",
)
app.command(
    "launcher.commands.resume:resume",
    help=(
        "Submit a job that is over once more: its run goes on from the newest checkpoint.\n\n"
        "Where the job is gone, what the run tells of itself and today's settings make it again."
    ),
)
app.command(
    "launcher.commands.checkpoints:checkpoints",
    help="Print the checkpoints of a run, the newest first.",
)
app.command(
    "launcher.commands.checkpoints:pull",
    help=(
        "Fetch a run's checkpoint, model, scores and logs, verified; print their paths, the checkpoint's state first.\n\n"
        "The same again goes on where it stopped, and fetches only what is missing or different."
    ),
)
app.command(
    "launcher.commands.logs:logs",
    help=(
        "Print the log of a job: all its pods, each line with its rank, else with its pod.\n\n"
        "With `-f` go on until the job is over, across restarts; its outcome is the exit code."
    ),
)


def dispatch(argv: Sequence[str]) -> None:
    """Run the command that these words name. Raises: KnownError."""
    try:
        app(argv, exit_on_error=False, print_error=False)
    except CycloptsError as problem:
        raise refused(problem, argv) from problem


def refused(problem: CycloptsError, argv: Sequence[str] = ()) -> InputError:
    """The parser's complaint about these words as ours."""
    from trainer.config import is_flag, usage_problem  # noqa: PLC0415 - an error may take its time

    flag = problem.token.keyword if isinstance(problem, UnknownOptionError) else None
    takes_trainers = any("--train-flags" in argument.names for argument in getattr(problem, "argument_collection", ()))
    if flag and takes_trainers and is_flag(flag):
        return InputError(
            f"cannot use `{flag}` here: it is a flag of the trainer",
            hint=f"trainer flags follow --: … -- {_given(flag, argv)}",
        )
    if isinstance(problem, MissingArgumentError) and problem.argument and problem.argument.index is not None:
        name = problem.argument.name.removeprefix("--").upper()
        command = " ".join(problem.command_chain or ())
        return InputError(
            f"cannot run `{command}` without {name}", hint=f"launcher {command} {name}; --help lists flags"
        )
    return InputError(usage_problem(problem), hint="--help lists commands and flags")


def _given(flag: str, argv: Sequence[str]) -> str:
    """The flag with its value, as it stands in the words."""
    words = list(itertools.dropwhile(lambda word: word.partition("=")[0] != flag, argv))
    return " ".join([words[0], *itertools.takewhile(_is_value, words[1:2])]) if words else flag


def _is_value(word: str) -> bool:
    """Whether a word is no flag: a negative number is none."""
    return not word.startswith("-") or word[1:2].isdigit()
