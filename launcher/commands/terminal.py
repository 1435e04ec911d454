"""What commands say to whoever types them, on stderr, and what they ask."""

import re
import sys
import time
from collections.abc import Callable
from typing import Final

from trainer.errors import KnownError, as_block, on_one_line

WATCH_EVERY_S: Final = 2.0

_AGE: Final = r" *\b(\d+[smhdy])+\b *"
"""What changes by itself is no change."""


def report(text: str) -> None:
    """A line beside the result, and the indented ones that belong to it."""
    sys.stderr.write(f"{as_block(text)}\n")


def report_error(problem: KnownError) -> None:
    """What went wrong and is not the end; its text is safe already."""
    sys.stderr.write(f"{problem}\n")


def ask(question: str, usual: str = "") -> str:
    """What is typed, or `usual` for an Enter."""
    sys.stderr.write(on_one_line(f"{question}{f' [{usual}]' if usual else ''}: "))
    sys.stderr.flush()
    return sys.stdin.readline().strip() or usual


def agreed(question: str) -> bool:
    """Whether the answer is yes; Enter is no."""
    sys.stderr.write(on_one_line(question))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def show(look: Callable[[], str], *, watch: bool) -> None:
    """Print what `look` sees, with `watch` again whenever it is another."""
    seen = look()
    sys.stdout.write(seen)
    while watch:
        sys.stdout.flush()
        time.sleep(WATCH_EVERY_S)
        before, seen = seen, look()
        if re.sub(_AGE, "", seen) != re.sub(_AGE, "", before):
            sys.stdout.write(f"\n{seen}")
