"""Table of the launcher's commands and their modules; only the module of the requested command is loaded."""

import itertools
from collections.abc import Sequence
from inspect import BoundArguments
from typing import Final

from cyclopts import App, ArgumentCollection, CycloptsError, MissingArgumentError, UnknownOptionError

from trainer import __version__
from trainer.errors import EXIT_CODE_HELP, InputError, InterruptedByUser, KnownError

_OF_A_JOB: Final = "Usage: launcher {} --accelerator gaudi|cuda|cpu [OPTIONS] [-- TRAINER FLAGS]"


def _settings(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill the flags that were not given from settings files and variables, for commands that have such flags."""
    if any("--namespace" in argument.names for argument in arguments):
        from launcher.settings.sources import apply_settings  # noqa: PLC0415 - --help and completion need no job

        apply_settings(app, commands, arguments)


app = App(
    name="launcher",
    help=(
        "Train chest X-ray classifiers on Kubernetes. Arguments after `--` are flags of `python -m trainer train`. "
        "Use --debug to print the traceback of an error."
    ),
    help_epilogue=EXIT_CODE_HELP,
    help_format="plaintext",
    version=__version__,
    config=[_settings],
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # main reports Ctrl-C
)

app.command(
    "launcher.commands.completion:completion",
    help="Print a shell completion script. Write it to where the shell looks for it: `launcher completion bash > FILE`.",
)
app.command(
    "launcher.commands.config:init",
    help="Prompt for settings, write them to `launcher.yaml` in the current directory, and print its path.",
)
app.command(
    "launcher.commands.config:config",
    help="Print the effective settings, the source of each value, and why a value is invalid.",
)
app.command(
    "launcher.commands.render:render",
    help="Print the Kubernetes objects of a job without contacting a cluster.",
    usage=_OF_A_JOB.format("render"),
)
app.command(
    "launcher.commands.submit:submit",
    help=(
        "Create a job and print its name. With `--local`, run it on this machine and print the location of the run.\n\n"
        "Submitting a job that already exists with the same spec succeeds and changes nothing."
    ),
    usage=_OF_A_JOB.format("submit"),
)
app.command(
    "launcher.commands.prepare:prepare",
    help=(
        "Prepare a data set for training with several pods, each of which decodes its share, and print the name of the job.\n\n"
        "Arguments after `--` are flags of `python -m trainer prepare`. Run it again after a failure; parts that are done are kept."
    ),
    usage="Usage: launcher prepare --data s3://BUCKET/PREFIX --out s3://BUCKET/PREFIX --pods N [OPTIONS] [-- FLAGS OF TRAINER PREPARE]",
)
app.command(
    "launcher.commands.scale:scale",
    help=(
        "Run a job at several sizes, for one or more models, and print times, speed-up, efficiency and quality.\n\n"
        "The global batch is constant unless `--weak` is given. Run the same command again to resume; finished runs are kept."
    ),
    usage=(
        "Usage: launcher scale --workers 1,2,4 --name NAME --to DIRECTORY --accelerator gaudi|cuda|cpu [OPTIONS] [-- TRAINER FLAGS]"
    ),
)
app.command(
    "launcher.commands.doctor:doctor",
    help="Check the prerequisites of a job without running it: one row for each known cause of failure.",
    usage=_OF_A_JOB.format("doctor"),
)
app.command(
    "launcher.commands.status:list_",
    name="list",
    help="List the jobs of a namespace, newest first.",
)
app.command(
    "launcher.commands.status:status",
    help="Print the status of a job: conditions, pods, recent events, progress, and why it is not running.",
)
app.command(
    "launcher.commands.status:events",
    help="Print the events of a job, its pods and its claim, oldest first.",
)
app.command(
    "launcher.commands.wait:wait",
    help="Wait until a job has finished and print its state; the exit code is the job's outcome.",
)
app.command(
    "launcher.commands.delete:delete",
    help="Delete jobs with their pods, Services, claims and volumes; the runs in the output are kept.",
)
app.command(
    "launcher.commands.clone:clone",
    help="Submit a new job, with a new run, using the settings of an existing job.",
)
app.command(
    "launcher.commands.resume:resume",
    help=(
        "Submit a finished job again; its run resumes from the newest checkpoint.\n\n"
        "A deleted job is created again from the record of its run and the current settings."
    ),
)
app.command(
    "launcher.commands.checkpoints:checkpoints",
    help="List the checkpoints of a run, newest first.",
)
app.command(
    "launcher.commands.checkpoints:pull",
    help=(
        "Download and verify a run's checkpoint, model, scores and logs; print their paths, the checkpoint's state first.\n\n"
        "Run the same command again to resume; only missing or different files are downloaded."
    ),
)
app.command(
    "launcher.commands.logs:logs",
    help=(
        "Print the logs of all pods of a job; each line has its rank, or else its pod.\n\n"
        "With `-f`, follow the logs across restarts until the job has finished; the exit code is the job's outcome."
    ),
)


def dispatch(argv: Sequence[str]) -> None:
    """Run the command that the arguments name. Raises: KnownError; commands in its hint have the flags of the cluster."""
    try:
        command, bound, _ = app.parse_args(argv, exit_on_error=False, print_error=False)
    except CycloptsError as problem:
        raise usage_error(problem, argv) from problem
    try:
        command(*bound.args, **bound.kwargs)
    except KnownError as problem:
        problem.hint = problem.hint and _in_commands(bound, problem.hint)
        raise
    except KeyboardInterrupt:
        hint = _in_commands(bound, "running jobs continue: launcher list")
        raise InterruptedByUser("interrupted by Ctrl-C", hint=hint) from None


def _in_commands(bound: BoundArguments, text: str) -> str:
    """The text with the flags of the cluster that this command was given."""
    from launcher.cluster.access import Access  # noqa: PLC0415 - loaded by commands that have such flags

    given = bound.arguments.values()
    access = next((each for each in given if isinstance(each, Access)), Access())
    namespace = next((named for each in given if isinstance(named := getattr(each, "namespace", None), str)), None)
    return access.in_commands(text, namespace)


def usage_error(problem: CycloptsError, argv: Sequence[str] = ()) -> InputError:
    """The parser's error for these arguments, in the launcher's form."""
    from trainer.config import is_flag, usage_problem  # noqa: PLC0415 - only errors need it

    flag = problem.token.keyword if isinstance(problem, UnknownOptionError) else None
    accepts_trainer_flags = any(
        "--train-flags" in argument.names for argument in getattr(problem, "argument_collection", ())
    )
    if flag and accepts_trainer_flags and is_flag(flag):
        return InputError(
            f"cannot use `{flag}` before `--`: it is a flag of the trainer",
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
    """The flag with its value, as given in the arguments."""
    words = list(itertools.dropwhile(lambda word: word.partition("=")[0] != flag, argv))
    return " ".join([words[0], *itertools.takewhile(_is_value, words[1:2])]) if words else flag


def _is_value(word: str) -> bool:
    """Whether a word is not a flag; a negative number is a value."""
    return not word.startswith("-") or word[1:2].isdigit()
