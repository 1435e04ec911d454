"""The one place of the launcher that maps errors to exit codes; its commands are in `launcher.commands`."""

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
    """Run one command; its exit code. Nothing that it prints holds a secret, or what a terminal would obey."""
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
        interrupted = InterruptedByUser("interrupted by Ctrl-C", hint="jobs that run go on: launcher list")
        sys.stderr.write(f"{interrupted}\n")
        return interrupted.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as bug:  # noqa: BLE001 - whatever it is, the user gets one line
        if debug:
            sys.excepthook(type(bug), bug, bug.__traceback__)
        else:
            sys.stderr.write(f"{words(bug)}\n")
        return 1
    return 0


def _run(argv: Sequence[str]) -> None:
    """Answer, or load the parser and the command."""
    if list(argv) == ["--version"]:  # not worth a parser's start
        sys.stdout.write(f"{__version__}\n")
        return
    run = _loaded()  # a Ctrl-C may come in the middle of this
    flags, train_flags = _split(argv)
    run([*(flag for flag in flags if flag != "--debug"), *(f"--train-flags={flag}" for flag in train_flags)])


def _loaded() -> Callable[[Sequence[str]], None]:
    """What runs commands; to load it is most of a short command's time."""
    with uncollected():
        from launcher.commands import dispatch
    return dispatch


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's flags, and the trainer's after `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:end]), list(argv[end + 1 :])


def script() -> None:
    """The command `launcher`."""
    screen()  # for good: what escapes from main is shown as well
    code = main(sys.argv[1:])
    # In a background job of a script SIGINT is ignored, and stays so, as in any other program: Ctrl-C is meant for the foreground.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # else a second Ctrl-C would show tracebacks of the clean-up
    sys.exit(code)


if __name__ == "__main__":
    script()
