"""What commands say to whoever types them, on stderr, and what they ask."""

import re
import sys
import time
from collections.abc import Callable
from typing import Final

WATCH_EVERY_S: Final = 2.0

_AGE: Final = r" *\b(\d+[smhdy])+\b *"
"""What changes by itself is no change."""


def tell(text: str) -> None:
    """A line beside the result."""
    sys.stderr.write(f"{text}\n")


def ask(question: str, usual: str = "") -> str:
    """What is typed, or `usual` for an Enter."""
    sys.stderr.write(f"{question}{f' [{usual}]' if usual else ''}: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() or usual


def agreed(question: str) -> bool:
    """Whether the answer is yes; Enter is no."""
    sys.stderr.write(question)
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
