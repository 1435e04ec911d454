"""Terminal input and output of commands: messages and prompts on stderr."""

import re
import sys
import time
from collections.abc import Callable
from typing import Final

from trainer.errors import KnownError, as_block, on_one_line

WATCH_EVERY_S: Final = 2.0

_AGE: Final = r" *\b(\d+[smhdy])+\b *"
"""Ages change all the time; they do not count as a change of the output."""


def report(text: str) -> None:
    """Print a message on stderr; its further lines are indented."""
    sys.stderr.write(f"{as_block(text)}\n")


def report_error(problem: KnownError) -> None:
    """Print an error that does not end the command; its text is already redacted."""
    sys.stderr.write(f"{problem}\n")


def ask(question: str, default: str = "") -> str:
    """Prompt for an answer; an empty one is `default`."""
    sys.stderr.write(on_one_line(f"{question}{f' [{default}]' if default else ''}: "))
    sys.stderr.flush()
    return sys.stdin.readline().strip() or default


def confirm(question: str) -> bool:
    """Ask a question; whether the answer is yes. An empty answer is no."""
    sys.stderr.write(on_one_line(question))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def show(render: Callable[[], str], *, watch: bool) -> None:
    """Print the text of `render`; with `watch`, print it again after each change."""
    text = render()
    sys.stdout.write(text)
    while watch:
        sys.stdout.flush()
        time.sleep(WATCH_EVERY_S)
        before, text = text, render()
        if re.sub(_AGE, "", text) != re.sub(_AGE, "", before):
            sys.stdout.write(f"\n{text}")
