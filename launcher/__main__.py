"""The launcher's commands; the one place of this package that prints and maps errors to exit codes."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from cyclopts import App, CycloptsError, Parameter

from launcher.settings import Sources, apply_settings
from launcher.spec import JobSpec
from trainer import __version__
from trainer.config import usage_problem
from trainer.errors import EXIT_CODE_HELP, InputError, InterruptedByUser, KnownError

USAGE: Final = "Usage: launcher {} --accelerator gaudi|cuda|cpu [OPTIONS] [-- TRAINER FLAGS]"

Job = Annotated[JobSpec, Parameter(name="*")]
From = Annotated[Sources, Parameter(name="*")]

app = App(
    name="launcher",
    help=(
        "Train chest X-ray classifiers on Kubernetes. What follows `--` are flags of `python -m trainer train`. "
        "--debug shows the traceback of an error."
    ),
    help_epilogue=EXIT_CODE_HELP,
    version=__version__,
    config=[apply_settings],
    result_action="return_value",
)


@app.command(usage=USAGE.format("render"))
def render(
    *,
    job: Job,
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    form: Annotated[Literal["yaml", "json", "name"], Parameter(name="-o")] = "yaml",
) -> None:
    """Print the Kubernetes objects of a job; talks to nobody.

    Parameters
    ----------
    form
        How to print them.
    """
    from launcher import manifest

    forms = {"yaml": manifest.to_yaml, "json": manifest.to_json, "name": manifest.to_name}
    sys.stdout.write(forms[form](manifest.render(job)))


@app.command(usage=USAGE.format("submit"))
def submit(
    *,
    job: Job,
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    local: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
) -> None:
    """Run a job, and print where its run lies.

    Parameters
    ----------
    local
        Run it on this machine, without a cluster: a process for each pod. Needs no image.
    """
    from launcher import local as here
    from launcher import manifest

    if not local:
        raise InputError(
            "cannot submit to a cluster: this version can't talk to one",
            hint="python -m launcher render … | kubectl create -f -",
        )
    here.check(job)
    here.run(manifest.render(job), scratch=here.cache_of(job), tell=_tell, python=sys.executable)
    sys.stdout.write(f"{job.run}\n")


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code."""
    flags, train_flags = _split(argv)
    debug = "--debug" in flags
    try:
        _dispatch([*(flag for flag in flags if flag != "--debug"), *(f"--train-flags={flag}" for flag in train_flags)])
        sys.stdout.flush()
    except KnownError as problem:
        if debug:
            sys.excepthook(type(problem), problem, problem.__traceback__)
        else:
            _tell(str(problem))
        return problem.exit_code
    except KeyboardInterrupt:
        _tell(str(InterruptedByUser("interrupted by Ctrl-C")))
        return InterruptedByUser.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as bug:
        if debug:
            raise
        _tell(f"error: bug: {type(bug).__name__}: {bug}\n\nhint: run again with --debug for the traceback")
        return 1
    return 0


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's flags, and the trainer's after `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:end]), list(argv[end + 1 :])


def _dispatch(argv: list[str]) -> None:
    try:
        app(argv, exit_on_error=False, print_error=False)
    except CycloptsError as problem:
        raise InputError(usage_problem(problem), hint="--help lists commands and flags") from problem


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
