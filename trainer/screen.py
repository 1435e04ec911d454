"""What programs print: without secrets, and without what a terminal would obey.

Messages escape foreign text where it is put into them (`errors.on_one_line`, `errors.as_block`), and leave secrets out. This is the
net below: it also catches what libraries warn of and tracebacks. Line breaks and tabs pass, for tables and documents are made of them.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from trainer.errors import on_one_line
from trainer.redaction import guarded


def visible(text: str) -> str:
    """The text with every character escaped that can't be seen, but for line breaks and tabs."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "\n".join("\t".join(map(on_one_line, line.split("\t"))) for line in text.split("\n"))


class _Screened:
    """A stream to which only visible text is written; in all else the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream
        """Where rich writes: its colours and bars are our own. Source: rich 13.9, Console.file."""

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self.rich_proxied_file, name)


@contextmanager
def screened() -> Iterator[None]:
    """For the block, stdout and stderr of this process show whatever is written to them, and obey nothing of it."""
    before = sys.stdout, sys.stderr
    screen()
    try:
        yield
    finally:
        meanwhile = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = before
        for stream in meanwhile:
            with suppress(OSError, ValueError):  # nobody reads, or it is closed
                stream.flush()  # what may have been a secret's beginning


def screen() -> None:
    """The same until the process ends."""
    # stdout holds documents, in which `NAME: VALUE` may name a Secret: there only what is known or looks like a secret is hidden.
    sys.stdout, sys.stderr = _screened(sys.stdout, assigned=False), _screened(sys.stderr, assigned=True)


def _screened(stream: TextIO, *, assigned: bool) -> TextIO:
    if isinstance(stream, _Screened):
        return stream
    return cast("TextIO", _Screened(guarded(stream, assigned=assigned)))  # rich's output, too, goes through the guard


def unscreened(stream: TextIO) -> TextIO:
    """The stream below, for who writes colours and has made foreign text visible himself."""
    while isinstance(stream, _Screened):
        stream = stream.rich_proxied_file
    return stream
