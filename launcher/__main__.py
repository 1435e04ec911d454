"""Entry point of the launcher; maps errors to exit codes. The commands are in `launcher.commands`."""

import os
import signal
import sys
from collections.abc import Callable, Sequence

from trainer import __version__
from trainer.errors import InterruptedByUser, KnownError, words
from trainer.loading import uncollected
from trainer.redaction import learn_words
from trainer.screen import screen, screened


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code. Output is redacted, and terminal control characters are escaped."""
    learn_words(argv)
    with screened():
        return _outcome(argv)


def _outcome(argv: Sequence[str]) -> int:
    debug = "--debug" in _split(argv)[0]
    try:
        _run(argv)
        sys.stdout.flush()
    except KnownError as problem:
        if debug:
            sys.excepthook(type(problem), problem, problem.__traceback__)
        else:
            sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    except KeyboardInterrupt:
        interrupted = InterruptedByUser("interrupted by Ctrl-C", hint="running jobs continue: launcher list")
        sys.stderr.write(f"{interrupted}\n")
        return interrupted.exit_code
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as bug:  # noqa: BLE001 - any other exception is a bug, reported on one line
        if debug:
            sys.excepthook(type(bug), bug, bug.__traceback__)
        else:
            sys.stderr.write(f"{words(bug)}\n")
        return 1
    return 0


def _run(argv: Sequence[str]) -> None:
    if list(argv) == ["--version"]:  # without loading the parser
        sys.stdout.write(f"{__version__}\n")
        return
    run = _loaded()  # takes long enough to be interrupted by Ctrl-C
    run(arguments(argv))


def arguments(argv: Sequence[str]) -> list[str]:
    """The arguments as the commands take them: each of those after `--` in a flag of its own."""
    flags, trainer_flags = _split(argv)
    flags = [flag for flag in flags if flag != "--debug"]
    name = "--prepare-flags" if flags[:1] == ["prepare"] else "--train-flags"
    return [*flags, *(f"{name}={flag}" for flag in trainer_flags)]


def _loaded() -> Callable[[Sequence[str]], None]:
    """The dispatcher; loading it is most of the time of a short command."""
    with uncollected():
        from launcher.commands import dispatch
    return dispatch


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's flags, and the trainer's after `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:end]), list(argv[end + 1 :])


def script() -> None:
    """Console script `launcher`."""
    screen()  # for the whole process: also for exceptions that leave main
    code = main(sys.argv[1:])
    # In a background job of a script, SIGINT is ignored and stays so: Ctrl-C is meant for the foreground.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # otherwise a second Ctrl-C would print tracebacks of the clean-up
    sys.exit(code)


if __name__ == "__main__":
    script()
